"""How does an idle bronze query learn of a message at once? A consumer waits at the broker in a fetch, which is answered when one comes.

An idle query that asks every two seconds uses half of what an idle driver does, and takes the first message a second late on average. The
consumer only waits: bronze reads what came through its own query. It waits while the query is idle and no longer, so that no message of a
busy topic is sent twice. Where it cannot wait, the query asks as often as before.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from lakehouse.broker.bootstrap import client_text
from streaming.wake import Waker

# Answers of the broker without a message, and looks at whether the query is still idle [seconds].
_FETCH_SECONDS, _LOOK_SECONDS = 20.0, 2.0
_ANSWER_SECONDS = 5.0
# After an error, before it waits again.
_PAUSE_SECONDS = 10.0

log = structlog.get_logger("weir.stream")


class Arrivals:
    """Wakes the bronze query of a domain when a message comes while it is idle.

    Args:
        bootstrap: addresses of the broker.
        topics: that the query reads.
        waker: of the query.
    """

    def __init__(self, bootstrap: str, topics: Sequence[str], waker: Waker) -> None:
        self._bootstrap, self._topics, self._waker = bootstrap, topics, waker

    def watch(self, is_active: Callable[[], bool]) -> None:
        """Wait in a thread of its own until the query has ended.

        Args:
            is_active: whether the query runs; asked every two seconds.
        """
        threading.Thread(target=self._run, args=(is_active,), name="weir-arrivals", daemon=True).start()

    def _run(self, is_active: Callable[[], bool]) -> None:
        while is_active():
            if not self._waker.is_idle:
                time.sleep(_LOOK_SECONDS)
                continue
            try:
                self._wait(is_active)
            except KafkaException as error:  # the query itself says what is wrong with the broker
                log.debug("not waiting for messages", why=str(error)[:300])
                time.sleep(_PAUSE_SECONDS)
            finally:
                self._waker.is_told = False

    def _wait(self, is_active: Callable[[], bool]) -> None:
        """Wait until a message has come, or the query is no longer idle."""
        consumer: Any = Consumer(
            {
                "bootstrap.servers": client_text(self._bootstrap),
                "group.id": "weir",  # has to be there; nothing is committed
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": int(_FETCH_SECONDS * 1000),
                # One message tells enough.
                "queued.min.messages": 1,
                "fetch.message.max.bytes": 1024,
                "log_level": 2,
            }
        )
        try:
            consumer.assign(self._ends(consumer))
            self._waker.is_told = True
            # What came before the ends were known is found by this look, what comes after them by the fetch.
            self._waker.wake()
            while is_active() and self._waker.is_idle:
                message = consumer.poll(_LOOK_SECONDS)
                if message is not None:
                    if message.error() is not None:
                        raise KafkaException(message.error())
                    self._waker.found_rows()
                    self._waker.wake()
        finally:
            consumer.close()

    def _ends(self, consumer: Any) -> list[TopicPartition]:  # noqa: ANN401 - confluent-kafka has no types
        found = []
        for topic in self._topics:
            for partition in consumer.list_topics(topic, timeout=_ANSWER_SECONDS).topics[topic].partitions:
                place = TopicPartition(topic, partition)
                found.append(TopicPartition(topic, partition, consumer.get_watermark_offsets(place, timeout=_ANSWER_SECONDS)[1]))
        return found
