"""Rows kept in memory and written by row deltas: the table must hold what a dictionary holds, read by Spark and by PyIceberg."""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from lakehouse.settings import Settings
from lakehouse.spans import Spans, Times
from lakehouse.tables.catalog import open_catalog
from lakehouse.tables.create import create_missing
from lakehouse.tables.schema import Column, Table
from lakehouse.write.small_batches import row_delta
from lakehouse.write.small_batches.deletes import as_bits
from lakehouse.write.small_batches.recent_rows import RecentRows

START = datetime(2023, 12, 28, tzinfo=UTC)  # the months and years of the rows differ
HOURS = 24 * 10
PLACES = ("danang", "hanoi", "quoted'name")
Key = tuple[str, datetime]
Value = tuple[date, float | None, int | None]
COLUMNS = (Column("place", "STRING"), Column("ts", "TIMESTAMP"), Column("day", "DATE"), Column("value", "DOUBLE"), Column("count", "INT"))


def table(partitioned_by: tuple[str, ...] = ("months(ts)",), version: int = 2) -> Table:
    return Table(
        "lh.silver.recent", "one row per place and hour", ("place", "ts"), COLUMNS, partitioned_by, {"format-version": str(version)}
    )


def recent(table: Table) -> RecentRows:
    return RecentRows(table, Times("place", "ts"))


def at_once(work: Callable[[], None]) -> None:
    work()


def arrow(rows: dict[Key, Value]) -> pa.Table:
    types = [pa.string(), pa.timestamp("us", "UTC"), pa.date32(), pa.float64(), pa.int32()]
    columns = list(zip(*((*key, *value) for key, value in rows.items()), strict=True)) or [()] * len(types)
    return pa.table([pa.array(values, kind) for values, kind in zip(columns, types, strict=True)], [c.name for c in COLUMNS])


def read(session: SparkSession) -> dict[Key, Value]:
    rows = session.table("lh.silver.recent").collect()
    held = {(r["place"], r["ts"].astimezone(UTC)): (r["day"], r["value"], r["count"]) for r in rows}
    assert len(held) == len(rows), "a key twice"
    return held


def by_pyiceberg(home: Path) -> dict[Key, Value]:
    rows = open_catalog(Settings(home=home)).load_table("silver.recent").scan().to_arrow().to_pylist()
    return {(r["place"], r["ts"]): (r["day"], r["value"], r["count"]) for r in rows}


def within(rows: dict[Key, Value], span: Spans) -> dict[Key, Value]:
    return {key: value for key, value in rows.items() if any(key[0] == e and a <= key[1] <= b for e, a, b in span.rows)}


def some_span(chance: random.Random) -> Spans:
    starts = [(place, chance.randrange(HOURS)) for place in PLACES for _ in range(chance.randint(0, 2))] or [("hanoi", 0)]
    return Spans.of(
        ((place, START + timedelta(hours=h), START + timedelta(hours=h + chance.randint(0, 30))) for place, h in starts), timedelta(0)
    )


def some_rows(chance: random.Random, span: Spans) -> dict[Key, Value]:
    found: dict[Key, Value] = {}
    for place, first, last in span.rows:
        hour = first
        while hour <= last:
            if chance.random() < 0.7:
                found[place, hour] = (
                    hour.date(),
                    chance.choice([None, 1.5, -0.25, float(chance.randint(0, 3))]),
                    chance.choice([None, 0, 7]),
                )
            hour += timedelta(hours=1)
    return found


@pytest.mark.parametrize(
    ("version", "moved"), [(2, row_delta.MOVED_BYTES), (2, 0), (3, 0)], ids=["files written again", "delete files", "vectors"]
)
@pytest.mark.parametrize("seed", range(2))
def test_a_table_written_from_memory_holds_what_was_wanted(
    session: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, version: int, moved: int
) -> None:
    monkeypatch.setattr(row_delta, "MOVED_BYTES", moved)
    chance = random.Random(seed)
    target = table(version=version)
    create_missing(session, [target])
    rows, expected = recent(target), dict[Key, Value]()
    for _ in range(12):
        rows.begin(session)
        span = some_span(chance)
        wanted = some_rows(chance, span)
        vanishing = chance.random() < 0.5
        before = within(expected, span)
        come, gone = rows.replace(session, arrow(wanted), span, lambda: {"weir.said": "x"}, at_once, vanishing)
        changed = bool(come.num_rows or gone.num_rows)
        assert changed == any(before.get(key) != value for key, value in wanted.items()) or (vanishing and before.keys() - wanted.keys())
        if vanishing:
            expected = {key: value for key, value in expected.items() if key not in before}
        expected |= wanted
        other = chance.random()
        if other < 0.15:  # another writer
            session.sql("DELETE FROM lh.silver.recent WHERE place = 'danang'")
            expected = {key: value for key, value in expected.items() if key[0] != "danang"}
        elif other < 0.3:  # files joined, positions others
            session.sql("CALL lh.system.rewrite_data_files(table => 'lh.silver.recent', options => map('min-input-files', '2'))")
    assert read(session) == expected == by_pyiceberg(tmp_path)
    said = session.sql("SELECT summary['weir.said'] AS said FROM lh.silver.recent.snapshots").collect()
    assert any(row["said"] == "x" for row in said)
    # Each data file has at most one delete file, also where Spark wrote it: a new one replaces it.
    found = session.sql(
        "SELECT coalesce(referenced_data_file, CAST(lower_bounds[2147483546] AS STRING)) AS file FROM lh.silver.recent.delete_files"
    ).collect()
    files = [row["file"] for row in found]
    assert len(set(files)) == len(files)
    assert files or moved


def test_another_writer_within_the_span_is_a_conflict_and_its_rows_stay(session: SparkSession, tmp_path: Path) -> None:
    target = table()
    create_missing(session, [target])
    hour = START + timedelta(hours=3)
    span = Spans.of([("hanoi", START, START + timedelta(hours=5))])
    rows = recent(target)
    rows.begin(session)
    rows.replace(session, arrow({("hanoi", hour): (hour.date(), 1.0, 1)}), span, dict, at_once)
    rows.begin(session)
    session.sql("UPDATE lh.silver.recent SET value = 2")
    files = {file for file in (tmp_path / "warehouse").rglob("*") if file.suffix in (".parquet", ".puffin")}
    with pytest.raises(Py4JJavaError, match="ValidationException"):
        rows.replace(session, arrow({("hanoi", hour): (hour.date(), 3.0, 1)}), span, dict, at_once)
    assert read(session) == {("hanoi", hour): (hour.date(), 2.0, 1)}
    assert {file for file in (tmp_path / "warehouse").rglob("*") if file.suffix in (".parquet", ".puffin")} == files, "files left behind"
    rows.forget()
    rows.begin(session)
    assert rows.replace(session, arrow({("hanoi", hour): (hour.date(), 3.0, 1)}), span, dict, at_once)
    assert read(session) == {("hanoi", hour): (hour.date(), 3.0, 1)}


def test_a_row_that_another_writer_deleted_does_not_come_back_with_the_file_that_it_was_in(session: SparkSession) -> None:
    target = table()
    create_missing(session, [target])
    hours = [START + timedelta(hours=n) for n in range(3)]
    rows = recent(target)
    rows.begin(session)
    rows.replace(
        session, arrow({("hanoi", hour): (hour.date(), 1.0, 1) for hour in hours}), Spans.of([("hanoi", START, hours[-1])]), dict, at_once
    )
    rows.begin(session)
    session.sql(f"DELETE FROM lh.silver.recent WHERE ts = TIMESTAMP '{hours[2]:%Y-%m-%d %H:%M:%S}+00:00'")  # outside the span, in the file
    change = arrow({("hanoi", START): (START.date(), 2.0, 1)}), Spans.of([("hanoi", START, START)])
    with pytest.raises(Py4JJavaError, match="ValidationException"):
        rows.replace(session, *change, dict, at_once)
    rows.forget()
    rows.begin(session)
    rows.replace(session, *change, dict, at_once)
    assert {key[1]: value[1] for key, value in read(session).items()} == {hours[0]: 2.0, hours[1]: 1.0}


def test_another_writer_elsewhere_is_none_and_its_rows_are_seen_next(session: SparkSession) -> None:
    target = table()
    create_missing(session, [target])
    near, far = START, START + timedelta(days=70)
    rows = recent(target)
    rows.begin(session)
    session.sql(f"INSERT INTO lh.silver.recent VALUES ('hanoi', TIMESTAMP '{far:%Y-%m-%d %H:%M:%S}+00:00', DATE '2024-03-07', 5, 5)")
    assert rows.replace(session, arrow({("hanoi", near): (near.date(), 1.0, 1)}), Spans.of([("hanoi", near, near)]), dict, at_once)
    rows.begin(session)
    assert rows.read(session, Spans.of([("hanoi", far, far)]))["value"].to_pylist() == [5.0]
    assert len(read(session)) == 2


@pytest.mark.parametrize(
    "partitioned_by", [(), ("years(day)",), ("months(ts)",), ("days(ts)",), ("hours(ts)",), ("years(ts)", "days(day)")]
)
def test_rows_lie_in_the_partitions_that_spark_would_put_them_in(session: SparkSession, partitioned_by: tuple[str, ...]) -> None:
    target = table(partitioned_by)
    create_missing(session, [target])
    span = Spans.of([(place, START, START + timedelta(hours=HOURS)) for place in PLACES])
    wanted = some_rows(random.Random(1), span)
    wanted[PLACES[0], datetime(1969, 5, 6, 7, tzinfo=UTC)] = (date(1969, 5, 6), 1.0, 1)
    rows = recent(target)
    rows.begin(session)
    span = Spans.of([(place, datetime(1960, 1, 1, tzinfo=UTC), START + timedelta(hours=HOURS)) for place in PLACES])
    rows.replace(session, arrow(wanted), span, dict, at_once)
    parts = "partition" if partitioned_by else "1 AS partition"
    query = f"SELECT {parts}, sum(record_count) AS rows FROM lh.silver.recent.files GROUP BY 1 ORDER BY 1"
    ours = session.sql(query).collect()
    session.sql("CREATE TABLE lh.silver.copied USING iceberg AS SELECT * FROM lh.silver.recent")
    copied = session.table("lh.silver.copied")
    assert copied.count() == len(wanted)
    session.sql("DELETE FROM lh.silver.recent")
    copied.writeTo("lh.silver.recent").append()
    assert session.sql(query).collect() == ours


def test_tables_that_a_delta_must_not_write_are_refused(session: SparkSession) -> None:
    target = table()
    create_missing(session, [target])
    session.sql("ALTER TABLE lh.silver.recent ADD COLUMN more STRING")
    rows = recent(target)
    rows.begin(session)
    assert "columns" in rows.unfit()


def test_positions_become_bits() -> None:
    for positions in ([0], [7], [8], [1, 9, 15], [63, 64, 1_000]):
        bits = as_bits(pa.array(positions, pa.int64()))
        assert [n for n in range(8 * len(bits)) if bits[n // 8] >> n % 8 & 1] == positions
