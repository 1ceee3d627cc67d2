import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from lakehouse.query.reader import NotASelect, QueryFailed, Reader, UnknownTable, UnreadableTable
from lakehouse.settings import Settings
from lakehouse.tables.catalog import NoTables, UnreadableCatalog
from tests.unit.lakehouse.conftest import BRONZE_BATCH, House, settings_of


@pytest.fixture
def reader(house: House) -> Iterator[Reader]:
    with Reader(house.settings) as reader:
        yield reader


@pytest.mark.parametrize(
    "name", ["lh.gold.fact_city_daily", "gold.fact_city_daily", 'LH."GOLD".Fact_City_Daily', "gold.fact_city_daily AS f"]
)
def test_table_resolves_with_and_without_the_catalogs_name(reader: Reader, name: str) -> None:
    assert reader.query(f"SELECT count(*) AS n FROM {name}").rows == [(3,)]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("WITH t AS (FROM silver.trades) SELECT count(*) FROM t", [(3,)]),
        ("WITH trades AS (SELECT 1 AS x) SELECT x, count(*) FROM trades, silver.trades GROUP BY ALL", [(1, 3)]),
        ("SELECT (SELECT max(max_aqi) FROM gold.fact_city_daily), count(symbol) FROM lh.silver.trades", [(151, 3)]),
        ("SELECT symbol FROM silver.trades WHERE symbol IN (SELECT 'ETH' FROM gold.fact_city_daily)", [("ETH",)]),
        ("SELECT count(*) FROM gold.fact_city_daily d JOIN gold.fact_city_daily USING (location_key)", [(5,)]),
        ("SELECT count(*) FROM gold.fact_city_daily a NATURAL JOIN gold.fact_city_daily b", [(2,)]),
        ("SELECT #1 FROM gold.fact_city_daily ORDER BY ALL LIMIT 1", [("danang",)]),
        ("SELECT d.location_key FROM gold.fact_city_daily d WHERE d IS NOT NULL AND d.date_utc = '2024-01-02'", [("hanoi",)]),
        ("SELECT max(COLUMNS('max.*')) FROM gold.fact_city_daily", [(151,)]),
        ('SELECT min("Date_UTC") FROM gold.fact_city_daily', [(date(2024, 1, 1),)]),
        ("SELECT column_name FROM (DESCRIBE gold.fact_city_daily) LIMIT 1", [("location_key",)]),
        ("SELECT 1 AS a UNION ALL SELECT count(*) FROM bronze.trades", [(1,), (0,)]),
    ],
)
def test_every_way_to_name_tables_and_columns_is_understood(reader: Reader, sql: str, rows: list[tuple[object, ...]]) -> None:
    assert reader.query(sql).rows == rows


def test_whole_rows_and_types_come_as_they_are_stored(reader: Reader) -> None:
    answer = reader.query("SELECT * FROM silver.trades ORDER BY trade_ts, symbol")
    assert answer.columns == ("symbol", "trade_ts", "price", "value")
    assert answer.types == ("VARCHAR", "TIMESTAMP WITH TIME ZONE", "DECIMAL(38,18)", "BLOB")
    assert answer.rows[0] == ("BTC", datetime(2024, 1, 1, 23, 59, 59, 500_000, UTC), Decimal("67000.12"), b"\xff\x00")


def test_days_are_days_in_utc_wherever_the_machine_stands(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Ho_Chi_Minh")
    assert reader.query("SELECT trade_ts::DATE, count(*) FROM silver.trades GROUP BY 1 ORDER BY 1").rows == [
        (date(2024, 1, 1), 1),
        (date(2024, 1, 2), 2),
    ]


def test_repeated_column_names_are_numbered_so_that_none_is_lost(reader: Reader) -> None:
    assert reader.query("SELECT 1 AS a, 2 AS a, 3 AS a").columns == ("a", "a_1", "a_2")


def test_limit_gives_so_many_rows_and_says_that_there_are_more(reader: Reader) -> None:
    few = reader.query("SELECT x FROM range(50000) t(x)", limit=2)
    assert (few.rows, few.more) == ([(0,), (1,)], True)
    assert not reader.query("SELECT x FROM range(2) t(x)", limit=2).more
    assert len(reader.query("SELECT x FROM range(50000) t(x)").rows) == 50_000


def test_only_the_tables_and_columns_named_are_read(house: House) -> None:
    for file in Path(house.settings.home, "warehouse", "silver").rglob("*.parquet"):
        file.unlink()
    with Reader(house.settings) as reader:
        assert reader.query("SELECT sum(max_aqi) FROM gold.fact_city_daily").rows == [(271,)]
        with pytest.raises(UnreadableTable, match=r"lh\.silver\.trades cannot be read.*weir doctor"):
            reader.query("SELECT price FROM silver.trades")


def test_unknown_table_names_the_nearest_and_all_there_are(reader: Reader) -> None:
    with pytest.raises(UnknownTable) as caught:
        reader.query("SELECT * FROM gold.fact_city_dayly")
    assert str(caught.value) == (
        "No table gold.fact_city_dayly; did you mean lh.gold.fact_city_daily? "
        "There are: lh.bronze.trades, lh.gold.fact_city_daily, lh.ops.batches, lh.silver.trades."
    )
    with pytest.raises(UnknownTable, match=r"did you mean lh\.gold\.fact_city_daily\?"):
        reader.query("SELECT * FROM fact_city_daily")


def test_unknown_column_is_told_with_every_column_of_the_table_before_anything_is_read(house: House) -> None:
    for file in Path(house.settings.home).rglob("*.parquet"):
        file.unlink()
    with Reader(house.settings) as reader, pytest.raises(QueryFailed) as caught:
        reader.query("SELECT max_aqy FROM gold.fact_city_daily")
    assert '"max_aqy" not found' in str(caught.value)
    assert "Columns of lh.gold.fact_city_daily: location_key, date_utc, max_aqi, avg_aqi." in str(caught.value)


def test_syntax_error_comes_with_the_place_in_the_line(reader: Reader) -> None:
    with pytest.raises(QueryFailed) as caught:
        reader.query("SELECT a FRM gold.fact_city_daily WHERE")
    assert "LINE 1: SELECT a FRM" in str(caught.value)
    assert "^" in str(caught.value).splitlines()[-1]


def test_value_that_does_not_fit_is_an_error_in_duckdbs_words(reader: Reader) -> None:
    with pytest.raises(QueryFailed, match="Could not convert string 'hanoi'"):
        reader.query("SELECT location_key::INT FROM gold.fact_city_daily WHERE location_key = 'hanoi'")


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("DELETE FROM gold.fact_city_daily", "DELETE"),
        ("DROP TABLE gold.fact_city_daily", "DROP"),
        ("COPY gold.fact_city_daily TO 'out.csv'", "COPY"),
        ("INSERT INTO gold.fact_city_daily VALUES (1)", "INSERT"),
        ("SET TimeZone = 'Asia/Ho_Chi_Minh'", "SET"),
        ("INSTALL httpfs", "LOAD"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("  -- nothing", "nothing"),
        ("PIVOT gold.fact_city_daily ON location_key USING max(max_aqi)", "PIVOT; write it as GROUP BY with FILTER"),
        ("SHOW TABLES", "SHOW; `weir query` without SQL lists the tables and their columns"),
    ],
)
def test_anything_but_one_select_is_refused_in_one_sentence(reader: Reader, sql: str, found: str) -> None:
    with pytest.raises(NotASelect) as caught:
        reader.query(sql)
    assert str(caught.value) == f"The tables are read only here: expected one SELECT, found {found}."


def test_files_of_the_machine_and_python_variables_are_no_tables(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(QueryFailed, match="disabled by configuration"):
        reader.query(f"SELECT * FROM read_csv('{tmp_path / 'secret.csv'}')")
    for name in (f"'{tmp_path / 'secret.csv'}'", "connection", "rows"):
        with pytest.raises(UnknownTable):
            reader.query(f"SELECT * FROM {name}")


def test_every_table_is_described_and_counted(reader: Reader) -> None:
    found = {table.table: table for table in reader.tables()}
    daily, empty, batches = (found[f"lh.{name}"] for name in ("gold.fact_city_daily", "bronze.trades", "ops.batches"))
    assert (daily.layer, daily.rows, daily.grain) == ("gold", 3, "one row per place and UTC day with a measured hour")
    assert [(c.name, c.type, c.comment) for c in daily.columns][2] == ("max_aqi", "int", "greatest AQI of an hour")
    assert daily.last_commit is not None and daily.last_commit.tzinfo is UTC
    assert (empty.rows, empty.last_commit) == (0, None)
    assert (batches.rows, batches.columns[0].name) == (2, "table_name")


def test_rows_deleted_by_a_merge_are_not_counted(house: House) -> None:
    house.catalog.load_table("gold.fact_city_daily").delete("location_key = 'danang'")
    with Reader(house.settings) as reader:
        assert {table.table: table.rows for table in reader.tables()}["lh.gold.fact_city_daily"] == 2


def test_batches_tell_what_each_commit_of_a_micro_batch_was(house: House) -> None:
    house.append("bronze.trades", [{"symbol": "BTC"}, {"symbol": None}], BRONZE_BATCH)
    house.append("bronze.trades", [{"symbol": "by hand"}], {})  # no batch: not among them
    with Reader(house.settings) as reader:
        answer = reader.query(
            "SELECT query, batch_id, rows_in, rows_accepted, (rejected->>'no_key')::INT AS no_key, added_records, operation, "
            """(offsets->'market.trades.v1'->'next'->>'0')::INT AS "next" FROM lh.ops.batches WHERE table_name = 'lh.bronze.trades' """
            "OR table_name = 'lh.silver.trades' ORDER BY query"
        )
        assert answer.rows == [("bronze.trades", 7, 2, None, None, 2, "append", 12), ("silver.trades", 0, 4, 3, 1, 3, "append", None)]
        newest = reader.query("SELECT table_name, committed_ts <= now() FROM ops.batches ORDER BY committed_ts DESC LIMIT 1")
        assert newest.rows == [("lh.bronze.trades", True)]
        described = reader.query("SELECT column_name, column_type FROM (DESCRIBE ops.batches)")
        listed = {table.table: table for table in reader.tables()}["lh.ops.batches"]
        assert described.rows == [(column.name, column.type.upper()) for column in listed.columns]


def test_snapshot_that_was_rolled_back_is_no_batch(house: House) -> None:
    before = house.catalog.load_table("silver.trades").current_snapshot()
    assert before is not None
    house.append("silver.trades", [{"symbol": "X"}], {"weir.query": "silver.trades", "weir.batch-id": "1"})
    house.catalog.load_table("silver.trades").manage_snapshots().set_current_snapshot(before.snapshot_id).commit()
    with Reader(house.settings) as reader:
        batches = reader.query("SELECT batch_id FROM ops.batches WHERE table_name = 'lh.silver.trades'")
        assert batches.rows == [(0,)]


def test_home_without_tables_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(NoTables, match="weir up"):
        Reader(settings_of(tmp_path))
    assert not (tmp_path / "catalog.db").exists()
    sqlite3.connect(tmp_path / "catalog.db").close()
    os.truncate(tmp_path / "catalog.db", 0)
    with pytest.raises(NoTables, match="not there or empty"):
        Reader(settings_of(tmp_path))


def test_catalog_with_no_table_entered_is_no_tables_yet(tmp_path: Path) -> None:
    House(tmp_path / "home").catalog.close()
    with pytest.raises(NoTables):
        Reader(settings_of(tmp_path / "home"))


def test_file_that_is_no_catalog_is_said_to_be_unreadable(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"not a database" * 100)
    with pytest.raises(UnreadableCatalog, match="file is not a database"):
        Reader(settings_of(tmp_path))


def test_hadoop_catalog_whose_hdfs_does_not_answer_is_said_to_be_unreadable() -> None:
    with pytest.raises(UnreadableCatalog, match=r"hdfs://127.0.0.1:1/warehouse cannot be read"):
        Reader(Settings(catalog_uri="hdfs://127.0.0.1:1/warehouse"))
