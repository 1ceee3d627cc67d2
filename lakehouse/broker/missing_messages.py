"""What lies between two offsets of a partition: how many messages, and since when does the first one wait? In bounded time.

An offset need not be a message: it may be a transaction's control record, a record that was aborted, or one that compaction took.
So a consumer that reads what is committed looks for the first message, or for the partition's end. Where few offsets are asked for
it counts the messages; where many, the first one tells that there are some, and the offsets' difference is how many at most.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, Message, TopicPartition

# Of all partitions together.
LOOK_SECONDS = 2.0
# Up to so many offsets of a partition are read and counted.
COUNTED_OFFSETS = 1_000
# One poll's longest wait: the deadline is looked at in between.
POLL_SECONDS = 0.2


class Reader(Protocol):
    """What is needed of confluent-kafka's Consumer, which has `enable.partition.eof`."""

    def assign(self, partitions: list[TopicPartition], /) -> None:
        """Read these partitions from these offsets on."""

    def unassign(self) -> None:
        """Read nothing."""

    def pause(self, partitions: list[TopicPartition], /) -> None:
        """Fetch nothing more of these partitions."""

    def resume(self, partitions: list[TopicPartition], /) -> None:
        """Fetch these partitions again: a pause outlives its assignment."""

    def poll(self, timeout: float, /) -> Message | None:
        """Return the next message, error or end of a partition; None where none comes in time."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What is there from an offset of a partition on, before another one.

    Attributes:
        messages: how many; at most so many where they were not counted.
        since: when the broker took the first one; None where there is none, the broker did not stamp it, or it was not found in time.
    """

    messages: int
    since: datetime | None = None


@dataclass(slots=True)
class _Look:
    first: int
    end: int
    found: int = 0
    since: datetime | None = None
    is_done: bool = False
    is_whole: bool = field(default=False)

    @property
    def is_counted(self) -> bool:
        return self.end - self.first <= COUNTED_OFFSETS

    def take(self, message: Message) -> None:
        """Look at a message, at the partition's end or at an error."""
        error, offset = message.error(), message.offset()
        if error is not None:
            self.is_done, self.is_whole = True, error.code() == KafkaError._PARTITION_EOF
            return
        assert offset is not None
        if offset >= self.end:
            self.is_done = self.is_whole = True
            return
        if not self.found:
            kind, millis = message.timestamp()
            # A producer's own stamp says when something happened to it, not when it arrived.
            self.since = datetime.fromtimestamp(millis / 1000, UTC) if kind == TIMESTAMP_LOG_APPEND_TIME else None
        self.found += 1
        if not self.is_counted:
            self.is_done = True
        elif offset >= self.end - 1:
            self.is_done = self.is_whole = True

    def result(self) -> Missing:
        return Missing(self.found if self.is_whole else self.end - self.first, self.since)


def look_for_messages(
    reader: Reader,
    topic: str,
    wanted: Mapping[int, tuple[int, int]],
    seconds: float = LOOK_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> dict[int, Missing]:
    """Find what lies in ranges of a topic's partitions.

    Args:
        reader: reads committed messages, and reports the end of a partition.
        topic: its name.
        wanted: by partition, the first offset and the one after the last.
        seconds: for all of them; what was not counted by then is estimated by its offsets.
        clock: seconds, never back.
    """
    looks = {partition: _Look(first, end) for partition, (first, end) in wanted.items()}
    left = set(looks)
    deadline = clock() + seconds
    reader.assign([TopicPartition(topic, partition, look.first) for partition, look in looks.items()])
    try:
        while left and (rest := deadline - clock()) > 0:
            message = reader.poll(min(rest, POLL_SECONDS))
            partition = None if message is None else message.partition()
            if message is None or partition not in left:
                continue
            looks[partition].take(message)
            if looks[partition].is_done:
                left.discard(partition)
                reader.pause([TopicPartition(topic, partition)])
    finally:
        reader.resume([TopicPartition(topic, partition) for partition in looks.keys() - left])
        reader.unassign()
    return {partition: look.result() for partition, look in looks.items()}
