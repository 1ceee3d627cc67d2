"""Which rows did the commits between two positions append to a table? Read from their files with Arrow, without a Spark job.

A backlog is not handed over in memory (`hand_over.py`), and Spark takes six times as long as Arrow to read its files and bring the rows to
Python (docs/benchmarks.md). The files are chosen as Iceberg's streaming source chooses them: those that appends added, in order; rewrites
and deletes are passed over.
"""

from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from lakehouse.spark import iceberg_table, java_list
from lakehouse.tables.arrow_types import arrow_schema
from lakehouse.tables.schema import Table
from lakehouse.tables.stream_positions import Position
from lakehouse.write.small_batches.data_files import DataFileWriter
from lakehouse.write.small_batches.local_rows import FILE, POSITION, read_local

_MOST = (1 << 63) - 1


def read_appended(spark: SparkSession, table: Table, start: Position, end: Position, most_rows: int) -> pa.Table | None:
    """Read the rows that a stream over a table finds between two positions.

    Args:
        spark: any session of the driver.
        table: whose rows; rows are only appended to it, and compaction and retention rewrite or drop whole files.
        start: the rows begin behind it.
        end: the rows end here.
        most_rows: more are not read.

    Returns:
        The rows with the table's columns; None where Spark must read them: a snapshot between the positions is gone or no append, a file
        is not on this machine or is gone, or there are too many rows.
    """
    if start == end:  # of several sources most have nothing new
        return arrow_schema(table).empty_table()
    handle = iceberg_table(spark, table.name)
    snapshots = _between(handle, start, end)
    if snapshots is None:
        return None
    micro_batches: Any = spark._jvm.org.apache.iceberg.MicroBatches  # type: ignore[union-attr]  # a session that runs has one
    files: dict[str, list[str]] = {}
    rows = 0
    for snapshot in snapshots:
        number = snapshot.snapshotId()
        first = max(start.files, 0) if number == start.snapshot_id else 0
        last = end.files if number == end.snapshot_id else _MOST
        if last <= first:
            continue
        added = getattr(micro_batches, "from")(snapshot, handle.io())
        for task in java_list(added.caseSensitive(True).specsById(handle.specs()).generate(first, last, _MOST, False).tasks()):
            if task.deletes().size():
                return None
            files[task.file().location()] = []
            rows += task.file().recordCount()
    if rows > most_rows:
        return None
    try:
        found = read_local(files, arrow_schema(table), DataFileWriter(spark, handle, ()).ids())
    except FileNotFoundError:
        return None
    return None if found is None else found.drop_columns([FILE, POSITION])


def _between(handle: Any, start: Position, end: Position) -> list[Any] | None:  # noqa: ANN401 - the JVM's objects
    """Return the appends from the snapshot of `start` to that of `end`, oldest first; None where they are not all known."""
    found: list[Any] = []
    number: int | None = end.snapshot_id
    while number is not None:
        snapshot = handle.snapshot(number)
        if snapshot is None:
            # A stream that began at the beginning starts with the oldest snapshot there is.
            return found[::-1] if start.snapshot_id < 0 and number != end.snapshot_id else None
        operation = snapshot.operation()
        if operation == "append":
            found.append(snapshot)
        elif operation not in ("replace", "delete"):
            return None
        if number == start.snapshot_id:
            return found[::-1]
        number = snapshot.parentId()
    return found[::-1] if start.snapshot_id < 0 else None
