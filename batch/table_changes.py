"""What has changed in a table since a snapshot, and how far is bronze applied? Read with Spark, which works with every kind of catalog."""

import json

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from batch.table_state import TableState
from lakehouse.broker.offset_types import PartitionOffsets
from lakehouse.changes import Changes
from lakehouse.domain import Domain, Source
from lakehouse.errors import LakehouseError, Retryable
from lakehouse.pending import changes_since
from lakehouse.spark import iceberg_table
from lakehouse.tables.notes import add_applied, applied_of
from lakehouse.tables.properties import MARK_PROPERTY, OFFSET_RANGE_PROPERTY
from lakehouse.tables.schema import quote
from lakehouse.write.fenced_append import Mark


class SnapshotGone(LakehouseError, Retryable):
    """The snapshot at which the work began is no longer in the table's history."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"{table}: the snapshot at which this began has expired, or the table was rolled back. Nothing was published. Start again; if "
            "it takes longer than snapshots are kept, raise WEIR_SNAPSHOT_HOURS."
        )


def applied(spark: SparkSession, domain: Domain) -> PartitionOffsets:
    """Return the last offset of each partition from which silver, gold or rejects were computed."""
    offsets: dict[tuple[str, int], int] = {}
    for table in (*domain.merged, domain.rejects):
        if not spark.catalog.tableExists(table.name):
            continue
        state = TableState.read(spark, table.name)
        for place, last in applied_of(state.properties).items():
            offsets[place] = max(offsets.get(place, -1), last)
        for one in state.ancestors():
            for topic in domain.topics:
                add_applied(offsets, one.summary.get(OFFSET_RANGE_PROPERTY), topic)
    return offsets


def applied_ranges(spark: SparkSession, domain: Domain) -> str:
    """Return the offsets that silver and gold contain, in the form in which `apply` notes its offsets."""
    ranges: dict[str, dict[str, tuple[int, int]]] = {}
    for (topic, partition), last in applied(spark, domain).items():
        ranges.setdefault(topic, {})[str(partition)] = (0, last)
    return json.dumps(ranges)


def applied_through(spark: SparkSession, domain: Domain, source: Source) -> int | None:
    """Find the newest snapshot of a source's bronze whose messages are all in silver and gold. Call it with the table lock held.

    Returns:
        Its id; bronze's newest where it is unknown, and None where bronze is empty.
    """
    bronze = TableState.read(spark, source.bronze.name)
    waiting = first_waiting(spark, source, applied(spark, domain))
    for one in bronze.ancestors():
        mark = one.summary.get(MARK_PROPERTY)
        if mark and all(waiting.get(place, end) >= end for place, end in Mark.from_json(mark).next_offsets.items()):
            return one.id
    return bronze.head


def first_waiting(spark: SparkSession, source: Source, held: PartitionOffsets) -> dict[tuple[str, int], int]:
    """Return the first message of each partition that is in bronze but not in silver and gold; partitions without one are left out.

    It reads bronze's rows, since bronze's marks also pass offsets without a message, which no `apply` notes.
    """
    rows = spark.table(source.bronze.name).where("topic IS NOT NULL AND value IS NOT NULL")
    for (topic, partition), last in held.items():
        if topic == source.contract.topic:
            rows = rows.where(f"NOT (topic = {quote(topic)} AND partition = {partition} AND kafka_offset <= {last})")
    return {(row[0], row[1]): row[2] for row in rows.groupBy("topic", "partition").agg(F.min("kafka_offset")).collect()}


def added_rows(spark: SparkSession, name: str, since: int, until: int) -> DataFrame | None:
    """Read the rows that were appended to a table after one snapshot and up to another; return None where the other is not newer.

    Raises:
        SnapshotGone: the first one is no longer an ancestor of the table's current snapshot.
    """
    newest_first = [one.id for one in TableState.read(spark, name).ancestors()]
    if since not in newest_first:
        raise SnapshotGone(name)
    if until not in newest_first[: newest_first.index(since)]:
        return None
    return spark.read.format("iceberg").option("start-snapshot-id", since).option("end-snapshot-id", until).load(name)


def changed_silver(spark: SparkSession, domain: Domain, source: Source, since: int) -> Changes:
    """Return the changes of a source's silver since a snapshot, by all writers.

    Raises:
        SnapshotGone: the snapshot is no longer an ancestor of silver's current one.
    """
    silver = source.silver
    changes = changes_since(spark, domain, silver, iceberg_table(spark, silver.name), since)
    if changes is None:
        raise SnapshotGone(silver.name)
    return changes
