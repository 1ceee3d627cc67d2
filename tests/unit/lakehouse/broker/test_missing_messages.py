"""Is what lies between two offsets found in bounded time, whatever a partition holds?"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, KafkaError, Message, TopicPartition

from lakehouse.broker.missing_messages import Missing, look_for_messages


@dataclass(frozen=True)
class One:
    """A message, or an error of a partition."""

    at: int
    offset_: int = 0
    kind: int = TIMESTAMP_LOG_APPEND_TIME
    code: int | None = None

    def partition(self) -> int:
        return self.at

    def offset(self) -> int:
        return self.offset_

    def timestamp(self) -> tuple[int, int]:
        return self.kind, 1000 * self.offset_

    def error(self) -> KafkaError | None:
        return None if self.code is None else KafkaError(self.code)


@dataclass
class Script:
    """A consumer that gives these one after the other, a tenth of a second each, and then nothing."""

    given: Sequence[One]
    now: float = 0.0
    paused: list[int] = field(default_factory=list)
    assigned: list[tuple[int, int]] = field(default_factory=list)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = [(one.partition, one.offset) for one in partitions]
        self._left = iter(self.given)

    def unassign(self) -> None:
        self.assigned = []

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused += [one.partition for one in partitions]

    def resume(self, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self.paused.remove(one.partition)

    def poll(self, timeout: float) -> Message | None:
        self.now += min(timeout, 0.1)
        return cast(Message | None, next(self._left, None))


def look(given: Sequence[One], wanted: dict[int, tuple[int, int]], seconds: float = 2.0) -> tuple[dict[int, Missing], Script]:
    script = Script(given)
    found = look_for_messages(script, "t", wanted, seconds, lambda: script.now)
    assert not script.paused and not script.assigned  # for the next look
    return found, script


def moment(offset: int) -> datetime:
    return datetime.fromtimestamp(offset, UTC)


def test_messages_are_counted_up_to_the_range_or_the_partitions_end() -> None:
    given = [One(0, 5), One(0, 7), One(0, 9), One(1, 3), One(1, 8), One(2, code=KafkaError._PARTITION_EOF)]
    found, script = look(given, {0: (5, 10), 1: (2, 6), 2: (0, 4)})
    assert found == {0: Missing(3, moment(5)), 1: Missing(1, moment(3)), 2: Missing(0)}
    assert script.now < 0.7  # no wait once all is known


def test_of_many_offsets_the_first_message_is_enough() -> None:
    found, script = look([One(0, 70)], {0: (0, 5000)})
    assert found == {0: Missing(5000, moment(70))}
    assert script.now < 0.2


def test_a_stamp_by_the_producer_tells_no_arrival() -> None:
    assert look([One(0, 3, TIMESTAMP_CREATE_TIME)], {0: (3, 4)})[0] == {0: Missing(1)}


def test_a_partition_that_cannot_be_read_holds_nothing_up() -> None:
    given = [One(0, code=KafkaError.TOPIC_AUTHORIZATION_FAILED), One(1, code=KafkaError._BAD_MSG), One(2, 0)]
    found, script = look(given, {0: (0, 7), 1: (1, 3), 2: (0, 1), 3: (4, 9)})
    # The fourth gives nothing at all: it is told by its offsets when the time is over.
    assert found == {0: Missing(7), 1: Missing(2), 2: Missing(1, moment(0)), 3: Missing(5)}
    assert 2.0 <= script.now < 2.3


def test_a_count_that_is_cut_off_is_no_count() -> None:
    assert look([One(0, n) for n in range(900)], {0: (0, 900)}, seconds=1.0)[0] == {0: Missing(900, moment(0))}
