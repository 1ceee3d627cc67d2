"""Does the independent reader see what was committed, and only that?"""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from bench.beside_stream import BACKFILL, QUERY, commits
from bench.catalog_reader import OFFSETS, CatalogReader, added_files, data_bytes, offset_ranges
from bench.freshness import TABLES, Found, _latencies, _look_at
from bench.load import Sent


def rows(*hours: int, retrieved: int = 0) -> pa.Table:
    """Rows of one place."""
    at = [datetime.fromtimestamp(hour * 3600, UTC) for hour in hours]
    got = [datetime.fromtimestamp(retrieved, UTC) for _ in hours]
    stamp = pa.timestamp("us", tz="UTC")
    return pa.table(
        {"location_key": pa.array(["a"] * len(hours), pa.string()), "ts_utc": pa.array(at, stamp), "retrieved_ts": pa.array(got, stamp)}
    )


@pytest.fixture
def catalog(tmp_path: Path) -> SqlCatalog:
    held = SqlCatalog("lh", uri=f"sqlite:///{tmp_path / 'catalog.db'}", warehouse=(tmp_path / "warehouse").as_uri())
    held.create_namespace("gold")
    return held


def said(first: int, last: int) -> dict[str, str]:
    return {OFFSETS: f'{{"t": {{"0": [{first}, {last}]}}}}'}


def test_reader_follows_the_catalog(tmp_path: Path, catalog: SqlCatalog) -> None:
    reader = CatalogReader(tmp_path / "catalog.db")
    name = TABLES[0]
    assert (reader.table(name), reader.records(name), reader.covers(name, {0: 1})) == (None, 0, False)
    table = catalog.create_table(name, rows().schema)
    assert reader.records(name) == 0
    table.append(rows(0, 1), snapshot_properties=said(0, 1))
    table.append(rows(2), snapshot_properties=said(2, 2))
    assert reader.records(name) == 3
    assert [reader.covers(name, {0: end}) for end in (2, 3, 4)] == [True, True, False]
    assert data_bytes(reader, name)[1] == 3
    found = reader.table(name)
    assert found is not None
    newest = found.snapshots()[-1]
    assert offset_ranges(newest) == {0: (2, 2)}
    (file,) = added_files(found, newest)
    assert Path(file).is_file()


def test_missing_catalog_is_no_tables(tmp_path: Path) -> None:
    assert CatalogReader(tmp_path / "catalog.db").table("gold.x") is None


def test_latency_is_told_by_the_row_and_by_the_offset(tmp_path: Path, catalog: SqlCatalog) -> None:
    reader, found = CatalogReader(tmp_path / "catalog.db"), Found({}, {name: [] for name in TABLES})
    for name in TABLES:
        catalog.create_table(name, rows().schema).append(rows(0, retrieved=5), snapshot_properties=said(0, 0))
        _look_at(reader, name, -1, found)
    sent = [Sent("a", 0, 5_000, partition=0, offset=0)]
    latencies = _latencies(sent, found)
    assert set(latencies) == set(TABLES)
    assert latencies[TABLES[0]] == [found.covered[TABLES[0]][0][0] - 5]
    with pytest.raises(RuntimeError, match="was not in gold"):
        _latencies([Sent("a", 0, 6_000, partition=0, offset=0)], found)
    with pytest.raises(RuntimeError, match="no snapshot of gold"):
        _latencies([Sent("a", 0, 5_000, partition=0, offset=1)], found)


def test_only_commits_of_backfills_within_the_time_are_counted(tmp_path: Path, catalog: SqlCatalog) -> None:
    reader = CatalogReader(tmp_path / "catalog.db")
    name = TABLES[0]
    assert commits(reader, name, (0, 1e12)) == 0
    table = catalog.create_table(name, rows().schema)
    table.append(rows(0), snapshot_properties={QUERY: BACKFILL})
    table.append(rows(1), snapshot_properties={QUERY: "silver.air_quality_hourly_clean"})
    assert commits(reader, name, (0, 1e12)) == 1
    assert commits(reader, name, (0, 1)) == 0
