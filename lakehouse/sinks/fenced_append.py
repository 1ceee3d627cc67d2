"""How does a micro-batch get into bronze exactly once? By a mark in the table itself: the next offset of every partition.

Each append's snapshot carries, as the property `weir.offsets`, the next offset of every partition, by topic and topic id. Before
an append the newest such mark among the branch's ancestors is read, rows below it are dropped, and what is left is appended
with random file names. So repeating a micro-batch changes nothing, whether its checkpoint survived or not, however it is
cut into tasks, and whoever drives. Check and append are not one atomic step: the lease keeps a second driver out.

Why not Iceberg's native streaming append: it names files by partition, task, query and epoch, and overwrote committed files
when the replayed batch was the first of its driver (docs/design.md, "Bronze").
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.errors import Fatal, LakehouseError
from lakehouse.schema import Table
from lakehouse.spark import iceberg_table

MARK_PROPERTY = "weir.offsets"


class TopicRecreated(LakehouseError, Fatal):
    """The topic has another id than the one whose offsets the table holds."""

    def __init__(self, table: str, topic: str, found: str, expected: str) -> None:
        super().__init__(
            f"{table} holds offsets of topic {topic} with id {expected}, but the broker's topic has id {found}: it was deleted and "
            f"made again, so its offsets mean other messages, and going on would lose or mix rows. Nothing was written. Restore the "
            f"broker's data, or publish what is missing under a new WEIR_HOME."
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """The next offset of every partition that the table holds, and the ids of the topics they belong to."""

    topic_ids: Mapping[str, str] = field(default_factory=dict)
    next_offsets: Mapping[tuple[str, int], int] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write the mark as a snapshot property: {topic: {"id": …, "next": {partition: offset}}}."""
        topics = sorted({topic for topic, _ in self.next_offsets})
        return json.dumps(
            {
                topic: {
                    "id": self.topic_ids.get(topic, ""),
                    "next": {str(p): n for (t, p), n in sorted(self.next_offsets.items()) if t == topic},
                }
                for topic in topics
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Mark":
        """Read a snapshot property."""
        held: dict[str, Any] = json.loads(text)
        return cls(
            {topic: entry["id"] for topic, entry in held.items()},
            {(topic, int(p)): int(n) for topic, entry in held.items() for p, n in entry["next"].items()},
        )

    def check_topics(self, topic_ids: Mapping[str, str], table: str) -> None:
        """Raise TopicRecreated when the broker's topic is not the one whose offsets the table holds."""
        for topic, found in topic_ids.items():
            expected = self.topic_ids.get(topic, "")
            if expected and found != expected:
                raise TopicRecreated(table, topic, found, expected)


def newest_mark(spark: SparkSession, table: Table) -> Mark:
    """Read the mark of the newest append among the ancestors of the current snapshot.

    Other writers' snapshots (compaction, backfill) carry none and are walked past. Where none is left, the marks are the
    greatest offsets in the data, plus one.
    """
    held_table = iceberg_table(spark, table.name)
    snapshot = held_table.currentSnapshot()
    if snapshot is None:
        return Mark()
    while snapshot is not None:
        held = snapshot.summary().get(MARK_PROPERTY)
        if held:
            return Mark.from_json(held)
        parent = snapshot.parentId()
        snapshot = None if parent is None else held_table.snapshot(parent)
    rows = (
        spark.table(table.name).where("topic IS NOT NULL").groupBy("topic", "partition").agg(F.max("kafka_offset").alias("last")).collect()
    )
    return Mark({}, {(row["topic"], row["partition"]): row["last"] + 1 for row in rows})


def append_once(rows: DataFrame, table: Table, topic_ids: Mapping[str, str], properties: Mapping[str, str]) -> int:
    """Append those rows of a micro-batch that the table does not hold yet, in one commit with their mark.

    Args:
        rows: bronze rows with topic, partition and kafka_offset.
        table: the bronze table.
        topic_ids: the broker's id of each topic.
        properties: more properties for the snapshot.

    Returns:
        How many rows were appended; 0 when all were there, and then nothing is committed.

    Raises:
        TopicRecreated: the table holds offsets of another topic of that name.
    """
    mark = newest_mark(rows.sparkSession, table)
    mark.check_topics(topic_ids, table.name)
    fresh = rows
    for (topic, partition), next_offset in mark.next_offsets.items():
        below = (F.col("topic") == topic) & (F.col("partition") == partition) & (F.col("kafka_offset") < next_offset)
        fresh = fresh.where(~below)
    found = fresh.groupBy("topic", "partition").agg(F.max("kafka_offset").alias("last"), F.count(F.lit(1)).alias("rows")).collect()
    if not found:
        return 0
    next_offsets = {**mark.next_offsets, **{(row["topic"], row["partition"]): row["last"] + 1 for row in found}}
    count = sum(int(row["rows"]) for row in found)
    writer = fresh.writeTo(table.name).option(
        f"snapshot-property.{MARK_PROPERTY}", Mark({**mark.topic_ids, **topic_ids}, next_offsets).to_json()
    )
    for name, value in {**properties, "weir.rows-in": str(count)}.items():
        writer = writer.option(f"snapshot-property.{name}", value)
    writer.append()
    return count
