"""What may be dropped from bronze and the topic? Whole days that are old enough by the settings and contained in silver, never more."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from batch.table_state import Snapshot, TableState
from lakehouse.broker.topics import delete_before, offsets_at
from lakehouse.settings import Settings
from lakehouse.spark import iceberg_table
from lakehouse.tables.properties import MARK_PROPERTY, RETENTION_PROPERTY, SINCE_PROPERTY
from lakehouse.tables.schema import quote
from lakehouse.tables.stream_positions import Position
from lakehouse.write.fenced_append import Mark

ARRIVAL = "kafka_ts"


def wholly_read(bronze: TableState, position: Position | None) -> Snapshot | None:
    """Return the newest snapshot that a reader has committed completely, with all before it; None where it is unknown."""
    if position is None or (at := bronze.snapshots.get(position.snapshot_id)) is None:
        return None
    is_partly = at.operation == "append" and position.files < at.number("added-data-files")
    read = bronze.snapshots.get(at.parent) if is_partly and at.parent is not None else None if is_partly else at
    return read if read is not None and any(one.id == read.id for one in bronze.ancestors()) else None


def droppable_before(spark: SparkSession, bronze: TableState, position: Position | None, today: date, keep_days: int) -> date | None:
    """Return the UTC day of arrival before which bronze may drop its rows; None where it may drop none.

    Args:
        spark: the session.
        bronze: the table.
        position: up to where silver contains it.
        today: the current UTC day.
        keep_days: number of days to keep, including today; 0 keeps all.
    """
    if not keep_days:
        return None
    read = wholly_read(bronze, position)
    if read is None:
        return None
    cut = today - timedelta(days=keep_days - 1)
    if read.id != bronze.head:
        waiting = (
            spark.read.format("iceberg").option("start-snapshot-id", read.id).option("end-snapshot-id", bronze.head or 0).load(bronze.name)
        )
        # Messages that waited in Kafka for days have their old time of arrival.
        oldest = waiting.where(f"{ARRIVAL} IS NOT NULL").selectExpr(f"CAST(min({ARRIVAL}) AS DATE)").collect()[0][0]
        cut = min(cut, oldest) if oldest is not None else cut
    return cut


def drop_before(spark: SparkSession, bronze: TableState, day: date) -> None:
    """Drop the files of days before one, in one commit that rewrites nothing. Before that, note in the table the first complete day.

    Raises:
        Py4JJavaError: Iceberg's ValidationException if a file has rows from before and after; then nothing is dropped.
    """
    jvm: Any = spark._jvm
    handle = iceberg_table(spark, bronze.name)
    handle.updateProperties().set(SINCE_PROPERTY, day.isoformat()).commit()
    handle.refresh()
    dropping = jvm.org.apache.iceberg.expressions.Expressions.lessThan(ARRIVAL, f"{day.isoformat()}T00:00:00+00:00")
    handle.newDelete().deleteFromRowFilter(dropping).set(RETENTION_PROPERTY, day.isoformat()).commit()


def droppable_offsets(
    bronze: TableState, position: Position | None, topic: str, young: Mapping[int, int], ends: Mapping[int, tuple[int, int]]
) -> dict[int, int]:
    """Return the offset of each partition before which Kafka may drop messages: those that are old, in bronze, and in silver.

    Args:
        bronze: the table; its marks have the offsets that each snapshot contains.
        position: up to where silver contains it.
        topic: its name.
        young: the first offset of each partition that is too young to be dropped.
        ends: first and end offset of each partition.
    """
    read = wholly_read(bronze, position)
    if read is None:
        return {}
    at_or_before = _from(bronze, read)
    marked = next((one for one in at_or_before if MARK_PROPERTY in one.summary), None)
    if marked is None:
        return {}
    applied = Mark.from_json(marked.summary[MARK_PROPERTY]).next_offsets
    droppable = {p: min(young.get(p, first), applied.get((topic, p), 0)) for p, (first, _) in ends.items()}
    return {p: offset for p, offset in droppable.items() if offset > ends[p][0]}


def unknown_arrivals(spark: SparkSession, bronze: TableState, topic: str, since: datetime) -> dict[int, int]:
    """Return the first message of each partition whose time of arrival is unknown and may be at or after a moment.

    Kafka finds offsets by a message's timestamp, even if the producer set it. A message before one that is known to be old is old too.
    """
    rows = spark.table(bronze.name).where(f"topic = {quote(topic)}")
    unknown = rows.where(f"{ARRIVAL} IS NULL")
    if unknown.isEmpty():
        return {}
    old = f"{ARRIVAL} < TIMESTAMP '{since.astimezone(UTC):%Y-%m-%d %H:%M:%S}+00:00'"
    last = rows.where(old).groupBy("partition").agg(F.max("kafka_offset").alias("last_old"))
    later = unknown.join(last, on="partition", how="left").where("last_old IS NULL OR kafka_offset > last_old")  # one row per partition
    return {row[0]: row[1] for row in later.groupBy("partition").agg(F.min("kafka_offset")).collect()}


def trim_topic(
    spark: SparkSession, settings: Settings, topic: str, bronze: TableState, position: Position | None, now: datetime
) -> dict[int, int]:
    """Drop the messages that are older than `topic_days`; return the new first offset of each partition that lost messages.

    Raises:
        NoKafkaError: no broker answers.
    """
    since = now.astimezone(UTC) - timedelta(days=settings.topic_days)
    bounds, young = offsets_at(settings.kafka_bootstrap, topic, since)
    unknown = unknown_arrivals(spark, bronze, topic, since)
    young = {partition: min(offset, unknown.get(partition, offset)) for partition, offset in young.items()}
    offsets = droppable_offsets(bronze, position, topic, young, bounds)
    if offsets:
        delete_before(settings.kafka_bootstrap, topic, offsets)
    return offsets


def _from(table: TableState, start: Snapshot) -> list[Snapshot]:
    chain = list(table.ancestors())
    return chain[next(n for n, one in enumerate(chain) if one.id == start.id) :]
