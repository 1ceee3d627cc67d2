"""Where does a topic begin and end, and what lies between two offsets? The one address for a broker's offsets.

A partition ends where a reader of committed data gets to: at its last stable offset. What lies behind that was written within a
transaction that is still open, or after the begin of one; nobody can read it yet, so it waits and is no lag.
"""

import base64
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from confluent_kafka import Consumer, KafkaException

from lakehouse.broker.bootstrap import Address, bootstrap_text, parse_bootstrap, usable
from lakehouse.broker.missing_messages import Missing, look_for_messages
from lakehouse.broker.topics import NoKafkaError, NoTopicYet

# The broker is on the same machine, or near: one that has not answered by then is down.
BROKER_SECONDS = 5.0
# By partition: small enough to ask for one message, large enough to pass over a long transaction that was aborted.
FETCH_BYTES = 512 << 10

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TopicOffsets:
    """A topic at one moment.

    Attributes:
        id: the topic's.
        bounds: by partition, the first offset that is kept and the one after the last that can be read: the last stable offset.
        written: by partition, the offset after the last that was written (the high watermark); where it is left out, the bounds' end.
    """

    id: str
    bounds: Mapping[int, tuple[int, int]]
    written: Mapping[int, int] = field(default_factory=dict)

    @property
    def waiting(self) -> dict[int, int]:
        """Offsets of each partition behind an open transaction: written, and not to be read before it ends."""
        return {partition: max(0, self.written.get(partition, end) - end) for partition, (_, end) in self.bounds.items()}

    @property
    def written_bounds(self) -> dict[int, tuple[int, int]]:
        """By partition, the first offset that is kept and the one after the last that was written."""
        return {partition: (first, self.written.get(partition, end)) for partition, (first, end) in self.bounds.items()}


class Broker:
    """A broker that is asked for offsets. Its connections are kept between requests and reopened after a failure.

    Thread-safe; requests run one after the other. Use it in a `with`, or close it.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._lock = threading.Lock()
        self._admin: Any = None
        self._consumer: Any = None

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def topic(self, name: str) -> TopicOffsets:
        """Ask for a topic's id and bounds.

        Raises:
            NoTopicYet: the broker has no such topic.
            NoKafkaError: it does not answer.
        """
        return self._asked(lambda: self._topic(name))

    def missing(self, topic: str, wanted: Mapping[int, tuple[int, int]]) -> dict[int, Missing]:
        """Ask what lies in ranges of a topic's partitions, in two seconds at most for all of them.

        Args:
            topic: its name.
            wanted: by partition, the first offset and the one after the last.

        Raises:
            NoKafkaError: the broker cannot be asked at all.
        """
        return self._asked(lambda: look_for_messages(self._reading(), topic, wanted)) if wanted else {}

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            self._close()

    def _asked(self, question: Callable[[], _T]) -> _T:
        from kafka.errors import KafkaError

        with self._lock:
            try:
                return question()
            except (KafkaError, KafkaException, OSError) as error:
                self._close()
                raise NoKafkaError(self.bootstrap, str(error), BROKER_SECONDS) from error
            except NoTopicYet:
                raise
            except NoKafkaError:
                self._close()
                raise

    def _close(self) -> None:
        for client in (self._admin, self._consumer):
            if client is not None:
                client.close()
        self._admin = self._consumer = None

    def _topic(self, name: str) -> TopicOffsets:
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec
        from kafka.protocol.consumer.offsets import IsolationLevel

        deadline = time.monotonic() + BROKER_SECONDS
        admin = self._connected()
        found = [one for one in admin.describe_topics([name]) if one["partitions"]]
        if not found:
            raise NoTopicYet(self.bootstrap, name)
        partitions = [TopicPartition(name, one["partition_index"]) for one in found[0]["partitions"]]

        def ask(spec: Any, level: Any) -> dict[int, int]:  # noqa: ANN401 - kafka-python has no types
            left = max(1, int((deadline - time.monotonic()) * 1000))
            answers = admin.list_partition_offsets(dict.fromkeys(partitions, spec), isolation_level=level, timeout_ms=left)
            return {where.partition: answer.offset for where, answer in answers.items()}

        # What can be read before what was written: between the two questions the difference can only seem to grow.
        first, end = ask(OffsetSpec.EARLIEST, IsolationLevel.READ_UNCOMMITTED), ask(OffsetSpec.LATEST, IsolationLevel.READ_COMMITTED)
        written = ask(OffsetSpec.LATEST, IsolationLevel.READ_UNCOMMITTED)
        bounds = {partition: (first[partition], end[partition]) for partition in sorted(first)}
        return TopicOffsets(text_of_id(found[0]["topic_id"]), bounds, written)

    def _reading(self) -> Any:  # noqa: ANN401 - as the admin client
        if self._consumer is None:
            # Not kafka-python's: it reads no lz4, in which our producer sends.
            self._consumer = Consumer(
                {
                    "bootstrap.servers": bootstrap_text(self._addresses()),
                    "group.id": "weir",  # has to be there; nothing is committed
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",  # where retention took the offset meanwhile
                    "isolation.level": "read_committed",
                    "enable.partition.eof": True,
                    "fetch.wait.max.ms": 50,
                    "fetch.queue.backoff.ms": 10,
                    "queued.min.messages": 1000,
                    "fetch.message.max.bytes": FETCH_BYTES,
                    "fetch.max.bytes": 32 * FETCH_BYTES,
                    "log_level": 2,
                }
            )
        return self._consumer

    def _connected(self) -> Any:  # noqa: ANN401 - kafka-python has no types
        from kafka import KafkaAdminClient

        if self._admin is None:
            milliseconds = int(BROKER_SECONDS * 1000)
            self._admin = KafkaAdminClient(
                bootstrap_servers=[str(one) for one in self._addresses()],
                request_timeout_ms=milliseconds,
                bootstrap_timeout_ms=milliseconds,
            )
        return self._admin

    def _addresses(self) -> list[Address]:
        """Find the addresses to ask: kafka-python goes on trying for all of its time where nobody listens."""
        found = usable(parse_bootstrap(self.bootstrap))
        if not found:
            raise NoKafkaError(self.bootstrap, "none of its addresses takes a connection", BROKER_SECONDS)
        return found


def topic_offsets(bootstrap: str, name: str) -> TopicOffsets:
    """Ask once for a topic's id and bounds.

    Raises:
        NoKafkaError: no broker answers, or it has no such topic.
    """
    with Broker(bootstrap) as broker:
        return broker.topic(name)


def end_offsets(bootstrap: str, name: str) -> dict[int, int]:
    """Ask once for the offset after the last that can be read of each partition.

    Raises:
        NoKafkaError: no broker answers, or it has no such topic.
    """
    return {partition: end for partition, (_, end) in topic_offsets(bootstrap, name).bounds.items()}


def text_of_id(topic_id: object) -> str:
    """Write a topic's id, which kafka-python gives as a UUID, as bronze notes it from confluent-kafka: in the alphabet with + and /.

    Kafka's own tools write - and _ there. Of two spellings for one id, half of all topics would look made again.
    """
    return base64.b64encode(UUID(str(topic_id)).bytes).decode().rstrip("=")
