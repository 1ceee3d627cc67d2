"""What has happened to a table since a snapshot, and how far is bronze applied? By Spark, on every kind of catalog."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from batch.heads import Applied, applied_of
from lakehouse.apply import OFFSETS_PROPERTY
from lakehouse.domain import Domain
from lakehouse.errors import LakehouseError, Retryable
from lakehouse.sinks.data_files import listed
from lakehouse.sinks.fenced_append import MARK_PROPERTY, Mark
from lakehouse.sinks.publishing import branch_head
from lakehouse.sinks.stores import aware
from lakehouse.spans import Spans
from lakehouse.spark import iceberg_table


class SnapshotGone(LakehouseError, Retryable):
    """The table's history no longer reaches back to where one looked first."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"{table}: its snapshots of when this began have expired, or somebody has set it back. Nothing was published. Begin again; if "
            "this took longer than snapshots are kept, let them be kept longer."
        )


@dataclass(frozen=True, slots=True)
class Commit:
    """A snapshot of a table's main branch: its id, Iceberg's name of what was done, and one of its properties."""

    snapshot_id: int
    operation: str
    said: str | None


def commits(spark: SparkSession, name: str, said: str) -> list[Commit]:
    """List the snapshots that a table's rows come from, newest first, as far back as they are kept.

    Args:
        spark: the session.
        name: the table.
        said: which property of the snapshots is wanted.
    """
    columns = f"snapshot_id, parent_id, operation, summary['{said}'] AS said"
    rows = {row["snapshot_id"]: row for row in spark.sql(f"SELECT {columns} FROM {name}.snapshots").toArrow().to_pylist()}
    found, at = [], branch_head(spark, name)
    while at is not None and at in rows:
        found.append(Commit(at, rows[at]["operation"], rows[at]["said"]))
        at = rows[at]["parent_id"]
    return found


def applied_through(spark: SparkSession, domain: Domain) -> int | None:
    """Find the newest snapshot of bronze whose messages are all in silver and gold; in a turn.

    Returns:
        Its id; bronze's newest where that cannot be told, and None where bronze is empty.
    """
    applied = _applied(spark, domain)
    for one in commits(spark, domain.bronze.name, MARK_PROPERTY):
        if one.said and all(end - 1 <= applied.get(place, -1) for place, end in Mark.from_json(one.said).next_offsets.items()):
            return one.snapshot_id
    return branch_head(spark, domain.bronze.name)


def applied_ranges(spark: SparkSession, domain: Domain) -> str:
    """Write the offsets that silver and gold hold as an `apply` writes those that it was given."""
    partitions = {str(partition): (0, last) for (_, partition), last in _applied(spark, domain).items()}
    return json.dumps({domain.contract.topic: partitions})


def _applied(spark: SparkSession, domain: Domain) -> Applied:
    tables = [domain.silver, *(gold.table for gold in domain.gold), domain.rejects]
    ranges = (one.said for table in tables for one in commits(spark, table.name, OFFSETS_PROPERTY))
    return applied_of(domain.contract.topic, ranges)


def added_rows(spark: SparkSession, name: str, since: int, until: int) -> DataFrame:
    """Read the rows that were appended after one snapshot up to another; SnapshotGone as in `changed_spans`."""
    if since not in [one.snapshot_id for one in commits(spark, name, MARK_PROPERTY)]:
        raise SnapshotGone(name)
    return spark.read.format("iceberg").option("start-snapshot-id", since).option("end-snapshot-id", until).load(name)


def changed_spans(spark: SparkSession, domain: Domain, since: int) -> Spans:
    """Find the spans of silver that have changed since a snapshot: those of the rows in the files that were written after it.

    Raises:
        SnapshotGone: it is no longer among those that silver's rows come from.
    """
    name = domain.silver.name
    later: list[Commit] = []
    for one in commits(spark, name, OFFSETS_PROPERTY):
        if one.snapshot_id == since:
            break
        later.append(one)
    else:
        raise SnapshotGone(name)
    files = _added_files(spark, name, [one.snapshot_id for one in later if one.operation != "replace"])
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
