"""What has happened to a table since a snapshot, and how far is bronze applied? By Spark, on every kind of catalog."""

import json
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from batch.table_state import REPLACE, TableState
from lakehouse.apply import OFFSETS_PROPERTY
from lakehouse.domain import Domain
from lakehouse.errors import LakehouseError, Retryable
from lakehouse.notes import Applied, add_applied, applied_of
from lakehouse.schema import quote
from lakehouse.sinks.data_files import listed
from lakehouse.sinks.fenced_append import MARK_PROPERTY, Mark
from lakehouse.sinks.stores import aware
from lakehouse.spans import Spans
from lakehouse.spark import iceberg_table


class SnapshotGone(LakehouseError, Retryable):
    """The table's history no longer reaches back to where one looked first."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"{table}: its snapshots of when this began have expired, or somebody has set it back. Nothing was published. Begin again; if "
            "this took longer than snapshots are kept, raise WEIR_SNAPSHOT_HOURS."
        )


def applied(spark: SparkSession, domain: Domain) -> Applied:
    """Find the last offset of each partition that silver, gold or rejects were made of."""
    found: dict[tuple[str, int], int] = {}
    for table in (domain.silver, *(gold.table for gold in domain.gold), domain.rejects):
        if not spark.catalog.tableExists(table.name):
            continue
        state = TableState.read(spark, table.name)
        for place, last in applied_of(state.properties).items():
            found[place] = max(found.get(place, -1), last)
        for one in state.ancestors():
            add_applied(found, one.said.get(OFFSETS_PROPERTY), domain.contract.topic)
    return found


def applied_ranges(spark: SparkSession, domain: Domain) -> str:
    """Write the offsets that silver and gold hold as an `apply` writes those that it was given."""
    return json.dumps({domain.contract.topic: {str(partition): (0, last) for (_, partition), last in applied(spark, domain).items()}})


def applied_through(spark: SparkSession, domain: Domain) -> int | None:
    """Find the newest snapshot of bronze whose messages are all in silver and gold; in a turn.

    Returns:
        Its id; bronze's newest where that cannot be told, and None where bronze is empty.
    """
    bronze = TableState.read(spark, domain.bronze.name)
    waiting = first_waiting(spark, domain, applied(spark, domain))
    for one in bronze.ancestors():
        mark = one.said.get(MARK_PROPERTY)
        if mark and all(waiting.get(place, end) >= end for place, end in Mark.from_json(mark).next_offsets.items()):
            return one.id
    return bronze.head


def first_waiting(spark: SparkSession, domain: Domain, held: Applied) -> dict[tuple[str, int], int]:
    """Find the first message of each partition that bronze holds and silver and gold do not; partitions without one are left out.

    By its rows: bronze's marks pass over offsets without a message, of which no `apply` ever tells.
    """
    rows = spark.table(domain.bronze.name).where("topic IS NOT NULL AND value IS NOT NULL")
    for (topic, partition), last in held.items():
        rows = rows.where(f"NOT (topic = {quote(topic)} AND partition = {partition} AND kafka_offset <= {last})")
    return {(row[0], row[1]): row[2] for row in rows.groupBy("topic", "partition").agg(F.min("kafka_offset")).collect()}


def added_rows(spark: SparkSession, name: str, since: int, until: int) -> DataFrame | None:
    """Read the rows that were appended to a table after one snapshot up to another; None where that is not a newer one.

    Raises:
        SnapshotGone: the first is no longer among those that the table's rows come from.
    """
    newest_first = [one.id for one in TableState.read(spark, name).ancestors()]
    if since not in newest_first:
        raise SnapshotGone(name)
    if until not in newest_first[: newest_first.index(since)]:
        return None
    return spark.read.format("iceberg").option("start-snapshot-id", since).option("end-snapshot-id", until).load(name)


def changed_spans(spark: SparkSession, domain: Domain, since: int) -> Spans:
    """Find the spans of silver that have changed since a snapshot: those of the rows in the files that were written after it.

    Raises:
        SnapshotGone: it is no longer among those that silver's rows come from.
    """
    later: list[int] = []
    for one in TableState.read(spark, domain.silver.name).ancestors():
        if one.id == since:
            break
        if one.operation != REPLACE:
            later.append(one.id)
    else:
        raise SnapshotGone(domain.silver.name)
    files = _added_files(spark, domain.silver.name, later)
    if not files:
        return Spans(())
    day = F.to_date(domain.event_time)
    times = F.min(domain.event_time).alias("first"), F.max(domain.event_time).alias("last")
    # The files themselves: a row that has been replaced since lies in the same span.
    rows = spark.read.parquet(*files).groupBy(domain.entity, day).agg(*times).collect()
    return Spans.of((row[domain.entity], aware(row["first"]), aware(row["last"])) for row in rows)


def _added_files(spark: SparkSession, name: str, snapshots: Sequence[int]) -> list[str]:
    table = iceberg_table(spark, name)
    return [str(file.location()) for one in snapshots for file in listed(table.snapshot(one).addedDataFiles(table.io()))]
