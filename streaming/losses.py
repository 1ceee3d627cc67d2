"""Which messages did Kafka drop before bronze read them? Compared by offsets before the bronze query starts; recorded when accepted.

A loss counts as accepted when its range stands in `lh.ops.losses`: nothing else needs to be remembered.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from lakehouse.broker.offsets import TopicOffsets
from lakehouse.tables.schema import Column, Table, quote
from lakehouse.write.fenced_append import Mark
from lakehouse.write.merge import merge_rows
from lakehouse.write.plain_rows import relation
from streaming.checkpoints import Position, kafka_offsets
from streaming.errors import AheadOfTransaction, BrokerLostItsEnd, LostRange

LOSSES = Table(
    name="lh.ops.losses",
    grain="one row per range of messages that Kafka dropped before bronze read them, and that was accepted as lost",
    key=("topic", "partition", "first_offset"),
    columns=(
        Column("domain", "STRING", "the domain whose topic it is"),
        Column("topic", "STRING", "Kafka topic"),
        Column("partition", "INT", "Kafka partition"),
        Column("first_offset", "BIGINT", "first offset that is lost"),
        Column("last_offset", "BIGINT", "last offset that is lost"),
        Column("rows", "BIGINT", "how many messages that is at most"),
        Column("found_ts", "TIMESTAMP", "when the loss was accepted"),
    ),
)
Bounds = Mapping[int, tuple[int, int]]


def find_lost(
    topic: str, bounds: Bounds, held: Mapping[int, int], position: Position, recorded: Iterable[LostRange], query: str
) -> list[LostRange]:
    """Find what the broker no longer has and bronze does not hold, but for what was accepted before.

    A topic that was read once has been read from its beginning on, with every partition: one that neither bronze nor the checkpoint
    knows was added since, and what it lacks at its beginning is lost like any other message.

    Args:
        topic: whose.
        bounds: first offset and the one after the last that was written, by partition, as the broker has them.
        held: bronze's mark: the next offset by partition.
        position: the checkpoint's.
        recorded: ranges accepted before.
        query: named in an error.

    Raises:
        BrokerLostItsEnd: a partition ends before what bronze holds of it.
    """
    begun, planned = kafka_offsets(position.start, topic), kafka_offsets(position.planned, topic)
    cut = {p: (end, held[p]) for p, (_, end) in bounds.items() if held.get(p, 0) > end}
    if cut:
        raise BrokerLostItsEnd(query, topic, cut)
    if not held and not begun:
        return []  # never read: what the broker dropped before our time is no loss of ours
    lost = []
    for partition, (begin, end) in bounds.items():
        # The greater of the two: an offset may be no message, which only the checkpoint counts.
        following = max(held.get(partition, 0), begun.get(partition, 0))
        if following < begin:
            lost.append(LostRange(topic, partition, following, begin - 1))
        if planned.get(partition, 0) > max(end, following):
            lost.append(LostRange(topic, partition, max(end, following), planned[partition] - 1))
    known = list(recorded)
    return [rest for one in lost for rest in _without(one, known)]


def check_readable(topic: str, offsets: TopicOffsets, held: Mapping[int, int], position: Position, query: str) -> None:
    """Check that all that was read before can still be read: a version that read what was not committed may have been ahead.

    Raises:
        AheadOfTransaction: bronze or the checkpoint has passed a transaction that is still open.
    """
    begun = kafka_offsets(position.start, topic)
    passed = {p: max(held.get(p, 0), begun.get(p, 0)) for p in offsets.bounds}
    ahead = {p: (end, passed[p]) for p, (_, end) in offsets.bounds.items() if end < passed[p] <= offsets.written.get(p, end)}
    if ahead:
        raise AheadOfTransaction(query, topic, ahead)


def fits(topic: str, bounds: Bounds, position: Position) -> bool:
    """Return whether Spark can go on from a checkpoint: all offsets of its next micro-batch are there, an added partition's from 0 on."""
    begun, planned = kafka_offsets(position.start, topic), kafka_offsets(position.planned, topic)
    return all(
        begun.get(partition, 0) >= begin and max(begun.get(partition, 0), planned.get(partition, 0)) <= end
        for partition, (begin, end) in bounds.items()
    )


def starting_offsets(topics: Mapping[str, tuple[Bounds, Mapping[int, int]]]) -> str:
    """Return where a new checkpoint begins, as Spark's Kafka source takes it: after what bronze holds, as far as the broker still has it.

    Args:
        topics: of each topic the broker's bounds, and the next offset by partition that bronze holds; of a topic that was never read
            all that the broker has.
    """
    if not any(held for _, held in topics.values()):
        return "earliest"
    begins = {
        topic: {str(p): min(max(held.get(p, begin), begin), end) for p, (begin, end) in sorted(bounds.items())}
        for topic, (bounds, held) in topics.items()
    }
    return json.dumps(begins)


def held_by(mark: Mark, topic: str) -> dict[int, int]:
    """Return the next offset of each partition of a topic."""
    return {partition: following for (name, partition), following in mark.next_offsets.items() if name == topic}


def recorded_losses(spark: SparkSession, topic: str) -> list[LostRange]:
    """Read the ranges of a topic that were accepted as lost."""
    rows = spark.table(LOSSES.name).where(f"topic = {quote(topic)}").collect()
    return [LostRange(row["topic"], row["partition"], row["first_offset"], row["last_offset"]) for row in rows]


def record_losses(spark: SparkSession, domain: str, lost: Sequence[LostRange]) -> None:
    """Write ranges as accepted; repeating it changes nothing but the time."""
    found = datetime.now(UTC)
    rows = [(domain, one.topic, one.partition, one.first, one.last, one.rows, found) for one in lost]
    merge_rows(relation(spark, LOSSES, rows), LOSSES)


def _without(one: LostRange, known: Iterable[LostRange]) -> list[LostRange]:
    """Take known ranges out of one."""
    left = [one]
    for gone in known:
        if (gone.topic, gone.partition) != (one.topic, one.partition):
            continue
        pieces = []
        for part in left:
            if gone.last < part.first or gone.first > part.last:
                pieces.append(part)
                continue
            if part.first < gone.first:
                pieces.append(LostRange(part.topic, part.partition, part.first, gone.first - 1))
            if part.last > gone.last:
                pieces.append(LostRange(part.topic, part.partition, gone.last + 1, part.last))
        left = pieces
    return left
