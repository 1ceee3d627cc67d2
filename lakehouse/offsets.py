"""Where does a topic begin and end, and when did a message arrive? The one address for a broker's offsets."""

import base64
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from confluent_kafka import Consumer, KafkaException, TopicPartition

from lakehouse.topics import NoKafkaError

# The broker is on the same machine, or near: one that has not answered by then is down.
BROKER_SECONDS = 5.0
# A fetch gives whole record batches, whatever the bound; so one message costs little more than its batch.
FETCH_BYTES = 64 << 10

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TopicOffsets:
    """A topic at one moment: its id, and for each partition the first offset that is kept and the one after the last."""

    id: str
    bounds: Mapping[int, tuple[int, int]]


class Broker:
    """A broker that is asked for offsets. Its connections are kept between questions and made anew after a failure.

    Safe for several threads, which take turns. Use it in a `with`, or close it.
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
            NoKafkaError: the broker does not answer, or has no such topic.
        """
        return self._asked(lambda: self._topic(name))

    def arrival(self, topic: str, partition: int, offset: int) -> datetime:
        """Ask when the broker took the first message at or after an offset.

        Raises:
            NoKafkaError: the broker does not answer, or has no such message.
        """
        return self._asked(lambda: self._arrival(topic, partition, offset))

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

        admin = self._connected()
        found = [one for one in admin.describe_topics([name]) if one["partitions"]]
        if not found:
            raise NoKafkaError(
                self.bootstrap, f"it has no topic {name} yet: the producer or the stream makes it when it starts", BROKER_SECONDS
            )
        partitions = [TopicPartition(name, one["partition_index"]) for one in found[0]["partitions"]]
        first, end = (
            {where.partition: answer.offset for where, answer in admin.list_partition_offsets(dict.fromkeys(partitions, spec)).items()}
            for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST)
        )
        bounds = {partition: (first[partition], end[partition]) for partition in sorted(first)}
        return TopicOffsets(text_of_id(found[0]["topic_id"]), bounds)

    def _arrival(self, topic: str, partition: int, offset: int) -> datetime:
        if self._consumer is None:
            # Not kafka-python's: it reads no lz4, in which our producer sends.
            self._consumer = Consumer(
                {
                    "bootstrap.servers": self.bootstrap,
                    "group.id": "weir",  # has to be there; nothing is committed
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",  # where retention took the offset meanwhile
                    "queued.min.messages": 1,
                    "fetch.message.max.bytes": FETCH_BYTES,
                    "log_level": 2,
                }
            )
        self._consumer.assign([TopicPartition(topic, partition, offset)])
        try:
            found = self._consumer.poll(BROKER_SECONDS)
        finally:
            self._consumer.unassign()
        if found is None:
            raise NoKafkaError(self.bootstrap, f"it did not give {topic}[{partition}]@{offset}", BROKER_SECONDS)
        if found.error() is not None:
            raise NoKafkaError(self.bootstrap, f"{topic}[{partition}]@{offset}: {found.error()}", BROKER_SECONDS)
        return datetime.fromtimestamp(found.timestamp()[1] / 1000, UTC)

    def _connected(self) -> Any:  # noqa: ANN401 - kafka-python has no types
        from kafka import KafkaAdminClient

        if self._admin is None:
            self._reach()
            milliseconds = int(BROKER_SECONDS * 1000)
            self._admin = KafkaAdminClient(
                bootstrap_servers=self.bootstrap, request_timeout_ms=milliseconds, bootstrap_timeout_ms=milliseconds
            )
        return self._admin

    def _reach(self) -> None:
        """Try the port: kafka-python goes on trying for all of its time where nobody listens."""
        host, port = self.bootstrap.split(",")[0].rsplit(":", 1)
        socket.create_connection((host, int(port)), timeout=BROKER_SECONDS).close()


def topic_bounds(bootstrap: str, name: str) -> dict[int, tuple[int, int]]:
    """Ask once for the first offset of each partition, and the one after its last.

    Raises:
        NoKafkaError: no broker answers, or it has no such topic.
    """
    with Broker(bootstrap) as broker:
        return dict(broker.topic(name).bounds)


def end_offsets(bootstrap: str, name: str) -> dict[int, int]:
    """Ask once for the offset after the last message of each partition.

    Raises:
        NoKafkaError: no broker answers, or it has no such topic.
    """
    return {partition: end for partition, (_, end) in topic_bounds(bootstrap, name).items()}


def text_of_id(topic_id: object) -> str:
    """Write a topic's id, which kafka-python gives as a UUID, as bronze notes it from confluent-kafka: in the alphabet with + and /.

    Kafka's own tools write - and _ there. Of two spellings for one id, half of all topics would look made again.
    """
    return base64.b64encode(UUID(str(topic_id)).bytes).decode().rstrip("=")
