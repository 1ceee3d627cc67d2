"""A table with deletion vectors moves to format 2, and back; nobody's rows change."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from batch.maintain.table_format import FILES_FORMAT, format_of, move_to
from lakehouse.spans import Spans, Times
from lakehouse.spark import iceberg_table
from lakehouse.tables.create import create_missing
from lakehouse.tables.schema import Column, Table
from lakehouse.write.small_batches import row_delta
from lakehouse.write.small_batches.deletes import VECTORS_FORMAT
from lakehouse.write.small_batches.recent_rows import RecentRows
from tests.spark.test_recent_rows import START, arrow, at_once

NAME = "lh.silver.recent"
COLUMNS = (Column("place", "STRING"), Column("ts", "TIMESTAMP"), Column("day", "DATE"), Column("value", "DOUBLE"), Column("count", "INT"))
HOURS = [START + timedelta(hours=n) for n in range(48)]
SPAN = Spans.of([("hanoi", HOURS[0], HOURS[-1])])


def values(value: float) -> pa.Table:
    return arrow({("hanoi", hour): (hour.date(), value if n % 3 else 0.0, n) for n, hour in enumerate(HOURS)})


def write(session: SparkSession, table: Table, value: float) -> None:
    rows = RecentRows(table, Times("place", "ts"))
    rows.begin(session)
    rows.replace(session, values(value), SPAN, lambda: {"weir.said": str(value)}, at_once)


@pytest.fixture
def table(session: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Give a table of format 3 with deletion vectors, and two snapshots."""
    monkeypatch.setattr(row_delta, "MOVED_BYTES", 0)
    found = Table(NAME, "one row per place and hour", ("place", "ts"), COLUMNS, ("months(ts)",), {"format-version": "3"})
    create_missing(session, [found])
    write(session, found, 1.0)
    write(session, found, 2.0)
    kinds = session.sql(f"SELECT file_format FROM {NAME}.delete_files").collect()
    assert kinds and {row[0] for row in kinds} == {"PUFFIN"}
    return found


def test_a_table_moves_and_stays_what_it_was(session: SparkSession, table: Table) -> None:
    held = {"rows": session.table(NAME).orderBy("ts").toArrow(), "first": first_snapshot(session)}
    locked = []

    @contextmanager
    def lock() -> Iterator[None]:
        write(session, table, 3.0)  # a stream's last micro-batch before maintenance gets the lock: vectors again
        locked.append(True)
        yield

    assert move_to(session, NAME, FILES_FORMAT, lock) and locked
    assert format_of(session, NAME) == FILES_FORMAT
    assert session.table(NAME).orderBy("ts").toArrow()["value"].to_pylist() == values(3.0)["value"].to_pylist()
    assert first_snapshot(session) == held["first"], "snapshots, their notes and their rows stay"
    assert session.sql(f"SELECT summary['weir.said'] AS said FROM {NAME}.snapshots WHERE summary['weir.said'] IS NOT NULL").count() == 3
    for manifest in iceberg_table(session, NAME).currentSnapshot().allManifests(iceberg_table(session, NAME).io()):
        assert b"format-version\x02" in Path(str(manifest.path()).removeprefix("file:")).read_bytes()[:20_000]
    write(session, table, 4.0)
    session.sql(f"UPDATE {NAME} SET value = 5 WHERE count = 1")
    assert {row[0] for row in session.sql(f"SELECT file_format FROM {NAME}.delete_files").collect()} == {"PARQUET"}
    expected = [5.0 if n == 1 else 4.0 if n % 3 else 0.0 for n in range(len(HOURS))]
    assert session.table(NAME).orderBy("ts").toArrow()["value"].to_pylist() == expected
    assert move_to(session, NAME, VECTORS_FORMAT, lock) and format_of(session, NAME) == VECTORS_FORMAT
    write(session, table, 6.0)  # vectors over files that have delete files
    expected = [6.0 if n % 3 else 0.0 for n in range(len(HOURS))]
    assert session.table(NAME).orderBy("ts").toArrow()["value"].to_pylist() == expected


def test_another_writer_in_between_is_refused_and_loses_nothing(
    session: SparkSession, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    dumps = json.dumps

    def write_first(held: object) -> str:
        session.sql(f"DELETE FROM {NAME} WHERE count > 3")
        return dumps(held)

    @contextmanager
    def lock() -> Iterator[None]:
        yield
        raise AssertionError("the commit should have been refused")

    monkeypatch.setattr(json, "dumps", write_first)
    with pytest.raises(Py4JJavaError, match="CommitFailedException"):
        move_to(session, NAME, FILES_FORMAT, lock)
    assert format_of(session, NAME) == VECTORS_FORMAT and session.table(NAME).count() == 4


def first_snapshot(session: SparkSession) -> list[object]:
    oldest = session.sql(f"SELECT snapshot_id FROM {NAME}.snapshots ORDER BY committed_at LIMIT 1").collect()[0][0]
    return list(session.sql(f"SELECT * FROM {NAME} VERSION AS OF {oldest} ORDER BY ts").toArrow().to_pylist())
