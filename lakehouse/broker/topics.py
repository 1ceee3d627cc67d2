"""Is a contract's topic there, and which one is it? Asked of the broker by producers and streams before they begin."""

import functools
from collections.abc import Mapping
from datetime import datetime

import stamina
import structlog
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # exported, but not in its stubs' list
from confluent_kafka.cimpl import NewTopic

from lakehouse.broker.bootstrap import client_text, plain
from lakehouse.broker.topic_settings import OWN_SETTINGS, check_settings
from lakehouse.contract import Contract
from lakehouse.errors import Fatal, LakehouseError, Retryable

BROKER_SECONDS = 10.0

log = structlog.get_logger()


class NoKafkaAddressError(LakehouseError, Fatal):
    """No broker is configured, and no embedded one runs."""

    def __init__(self) -> None:
        super().__init__("no Kafka: run `weir up --services-only` or set WEIR_KAFKA_BOOTSTRAP")


class NoKafkaError(LakehouseError, Retryable):
    """No broker answers."""

    def __init__(self, bootstrap: str, why: str, seconds: float | None = None) -> None:
        super().__init__(
            f"no Kafka broker answers at {bootstrap} within {BROKER_SECONDS if seconds is None else seconds:g} s ({why}). "
            "Is it running (`weir status`)? Start it by `weir up --services-only`, or set WEIR_KAFKA_BOOTSTRAP."
        )


class NoTopicYet(NoKafkaError):
    """The broker answers, and has no such topic."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        super().__init__(bootstrap, f"it has no topic {topic} yet: the producer or the stream makes it when it starts")


class TopicError(LakehouseError, Fatal):
    """The topic can be neither found nor created."""


def ensure_topic(bootstrap: str, contract: Contract, partitions: int) -> str:
    """Create the contract's topic where it is missing, and give its id; an existing one is looked at and left as it is.

    A stream may start before its producer and the other way round, so both call this.

    Raises:
        NoKafkaAddressError, NoKafkaError: no address, or no broker answers there.
        BadBootstrapError: the addresses cannot be read.
        TopicError: the broker refuses.
        UnfitTopicError: somebody else made the topic, with settings that weir cannot work with.
    """
    if not bootstrap:
        raise NoKafkaAddressError
    admin = _admin(bootstrap)
    try:
        topics = admin.list_topics(timeout=BROKER_SECONDS).topics
        if contract.topic not in topics:
            _create(admin, bootstrap, contract.topic, partitions)
        found = _id(admin, contract.topic)
        check_settings(admin, plain(bootstrap), contract.topic, BROKER_SECONDS)
        return found
    except KafkaException as error:
        raise _no_kafka(bootstrap, error) from error


def topic_names(bootstrap: str) -> set[str]:
    """Ask which topics are there.

    Raises:
        NoKafkaError: no broker answers.
    """
    try:
        return set(_admin(bootstrap).list_topics(timeout=BROKER_SECONDS).topics)
    except KafkaException as error:
        raise _no_kafka(bootstrap, error) from error


def check_topic(bootstrap: str, name: str) -> dict[str, str] | None:
    """Check that weir can work with the settings of a topic that is there; None where the broker does not let us look.

    Raises:
        NoKafkaError: no broker answers, or it has no such topic.
        UnfitTopicError: it cannot.
    """
    try:
        return check_settings(_admin(bootstrap), plain(bootstrap), name, BROKER_SECONDS)
    except KafkaException as error:
        raise _no_kafka(bootstrap, error) from error


def topic_id(bootstrap: str, name: str) -> str:
    """Ask which topic bears a name now; the broker's answer at this moment.

    Raises:
        NoKafkaError: no broker answers, or it has no such topic.
    """
    try:
        return _id(_admin(bootstrap), name)
    except KafkaException as error:
        raise _no_kafka(bootstrap, error) from error


def offsets_at(bootstrap: str, name: str, moment: datetime) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
    """Ask for the bounds of a topic, and for the first offset of each partition that arrived at a moment or later.

    Returns:
        First and end offset of each partition; and by partition the first offset from the moment on, the end where there is none.

    Raises:
        NoKafkaError: no broker answers, or it has no such topic.
    """
    admin = _admin(bootstrap)
    try:
        topic = admin.list_topics(name, timeout=BROKER_SECONDS).topics[name]
        if topic.error is not None:
            raise KafkaException(topic.error)
        partitions = [TopicPartition(name, number) for number in topic.partitions]

        def ask(spec: OffsetSpec) -> dict[int, int]:
            # Read committed, as the stream reads: what lies behind an open transaction is not there yet.
            level = IsolationLevel.READ_COMMITTED
            asked = admin.list_offsets(dict.fromkeys(partitions, spec), isolation_level=level, request_timeout=BROKER_SECONDS)
            return {where.partition: future.result(timeout=2 * BROKER_SECONDS).offset for where, future in asked.items()}

        first, end = ask(OffsetSpec.earliest()), ask(OffsetSpec.latest())  # type: ignore[no-untyped-call]
        since = ask(OffsetSpec.for_timestamp(int(moment.timestamp() * 1000)))
    except KafkaException as error:
        raise _no_kafka(bootstrap, error) from error
    bounds = {partition: (first[partition], end[partition]) for partition in sorted(first)}
    return bounds, {partition: offset if offset >= 0 else end[partition] for partition, offset in since.items()}


def delete_before(bootstrap: str, name: str, offsets: Mapping[int, int]) -> None:
    """Let the broker drop the messages before an offset of each partition.

    Raises:
        NoKafkaError: it does not do so.
    """
    try:
        asked = _admin(bootstrap).delete_records([TopicPartition(name, p, offset) for p, offset in offsets.items()])
        for future in asked.values():
            future.result(timeout=2 * BROKER_SECONDS)
    except KafkaException as error:
        raise _no_kafka(bootstrap, error) from error


@functools.lru_cache(maxsize=4)
def _admin(bootstrap: str) -> AdminClient:
    """One client a broker: it is asked before every append, and its connection is what takes time."""
    return AdminClient({"bootstrap.servers": client_text(bootstrap), "log_level": 2})


def _no_kafka(bootstrap: str, error: KafkaException) -> NoKafkaError:
    """Raise that no broker answers; the next request looks for answering addresses again."""
    _admin.cache_clear()
    return NoKafkaError(bootstrap, _text(error))


def _create(admin: AdminClient, bootstrap: str, name: str, partitions: int) -> None:
    # LogAppendTime: kafka_ts is when the broker took the message, whatever a producer's clock says.
    topic = NewTopic(name, num_partitions=partitions, config=dict(OWN_SETTINGS))
    try:
        admin.create_topics([topic], operation_timeout=BROKER_SECONDS)[name].result(timeout=2 * BROKER_SECONDS)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise TopicError(f"topic {name} cannot be created at {bootstrap}: {_text(error)}") from error
    log.info("topic created", topic=name, partitions=partitions)


def _id(admin: AdminClient, name: str) -> str:
    """Ask for the topic's id; a topic that another program made a moment ago may not be known to the broker at once."""
    for attempt in stamina.retry_context(on=_is_not_known_yet, attempts=None, timeout=BROKER_SECONDS, wait_initial=0.1, wait_max=1):
        with attempt:
            described = admin.describe_topics(TopicCollection([name]), request_timeout=BROKER_SECONDS)
            return str(described[name].result(timeout=2 * BROKER_SECONDS).topic_id)
    raise AssertionError("a retry ends by an answer or an error")


def _is_not_known_yet(error: Exception) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def _text(error: KafkaException) -> str:
    return str(error.args[0].str())
