"""Does a file hold the table's rows exactly, is it there only when it is whole, and is what cannot be done refused in a sentence?"""

import csv
import errno
import json
import os
import signal
import subprocess
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from lakehouse.domain import Domain
from lakehouse.domain_names import DOMAINS
from lakehouse.query import export_files
from lakehouse.query.export import Wanted, export
from lakehouse.query.export_files import Format
from lakehouse.query.reader import Reader
from lakehouse.query.time_columns import time_columns
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from tests.toy.tables import TOY
from tests.unit.lakehouse.conftest import House
from tests.unit.lakehouse.query.test_query_cli import WEIR, weir

ODD = Schema(
    NestedField(1, "id", LongType()),
    NestedField(2, "text", StringType()),
    NestedField(3, "seen_ts", TimestamptzType()),
    NestedField(4, "wall_time", TimestampType()),
    NestedField(5, "day", DateType()),
    NestedField(6, "amount", DecimalType(38, 18)),
    NestedField(7, "share", DoubleType()),
    NestedField(8, "is_good", BooleanType()),
    NestedField(9, "value", BinaryType()),
)
CSV_TYPES = ["BIGINT", "VARCHAR", "TIMESTAMPTZ", "TIMESTAMP", "DATE", "DECIMAL(38,18)", "DOUBLE", "BOOLEAN"]
LATE = datetime(2024, 1, 1, 23, 59, 59, 999_999, UTC)
ROWS: list[dict[str, Any]] = [
    {"id": 1, "text": 'a "quoted", text', "seen_ts": LATE, "day": date(2024, 1, 1), "amount": Decimal("0.000000000000000001")},
    {"id": 2, "text": "two\nlines\r\nand more", "seen_ts": datetime(2024, 1, 2, tzinfo=UTC), "share": float("nan"), "is_good": True},
    {"id": 3, "text": "", "wall_time": datetime(2024, 1, 2, 3, 4, 5), "day": date(1, 1, 1), "share": float("-inf"), "is_good": False},
    {"id": 4, "text": "Hà Nội ∅ NULL", "amount": Decimal("-12345678901234567890.5"), "share": 0.1, "value": "₿".encode()},
    {"id": 2**62, "text": None, "seen_ts": datetime(2024, 1, 3, tzinfo=UTC), "share": 1e300, "value": b"\xff\x00"},
]


@pytest.fixture
def odd(house: House) -> House:
    """Give a home with a table of odd values, in two data files."""
    house.create("silver.odd", ODD, "one row per oddity")
    house.append("silver.odd", ROWS[:3], {})
    house.append("silver.odd", ROWS[3:], {})
    return house


def stored(house: House, name: str) -> list[tuple[object, ...]]:
    with Reader(house.settings) as reader:
        return reader.query(f"SELECT * FROM {name} ORDER BY 1").rows


def read_back(sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.sql(sql).to_arrow_table()
    return list(zip(*[column.to_pylist() for column in found.columns], strict=True))


def export_to(house: House, table: str, out: Path, form: Format = "parquet", **more: Any) -> int:  # noqa: ANN401 - of Wanted
    return export(house.settings, Wanted(table, out, form, **more)).rows


def test_parquet_gives_back_every_value_with_the_types_of_the_table(odd: House, tmp_path: Path) -> None:
    out = tmp_path / "odd.parquet"
    assert export_to(odd, "silver.odd", out) == len(ROWS)
    assert repr(read_back(f"SELECT * FROM '{out}' ORDER BY id")) == repr(stored(odd, "silver.odd"))
    schema = pq.read_schema(out)
    assert schema.field("seen_ts").type == pa.timestamp("us", tz="UTC")
    assert schema.field("wall_time").type == pa.timestamp("us")
    assert schema.field("amount").type == pa.decimal128(38, 18)
    assert pq.ParquetFile(out).metadata.row_group(0).column(0).compression == "ZSTD"


def test_csv_gives_back_every_value(odd: House, tmp_path: Path) -> None:
    out = tmp_path / "odd's.csv"
    assert export_to(odd, "lh.silver.odd", out, "csv") == len(ROWS)
    types = {f.name: kind for f, kind in zip(ODD.fields, CSV_TYPES, strict=False)}
    typed = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
    path = str(out).replace("'", "''")
    found = read_back(f"SELECT * EXCLUDE value FROM read_csv('{path}', types = {{{typed}}}, allow_quoted_nulls = false) ORDER BY id")
    assert repr(found) == repr([row[:-1] for row in stored(odd, "silver.odd")])
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_id = {row["id"]: row for row in rows}
    assert list(rows[0]) == [f.name for f in ODD.fields]
    assert [by_id[n]["seen_ts"] for n in "123"] == ["2024-01-01T23:59:59.999999Z", "2024-01-02T00:00:00Z", ""]
    assert by_id["3"]["wall_time"] == "2024-01-02T03:04:05"
    assert by_id["1"]["amount"] == "0.000000000000000001"
    assert (by_id["4"]["value"], by_id[str(2**62)]["value"]) == ("₿", "/wA=")
    assert by_id["2"]["text"] == "two\nlines\r\nand more"


@pytest.mark.parametrize(
    ("first", "last", "column", "ids"),
    [
        (date(2024, 1, 1), date(2024, 1, 1), "seen_ts", {1}),
        (date(2024, 1, 2), date(2024, 1, 3), "seen_ts", {2, 2**62}),
        (date(2024, 1, 2), date(2024, 1, 2), "wall_time", {3}),
        (date(1, 1, 1), date(2024, 1, 1), "day", {1, 3}),
    ],
)
def test_days_are_utc_both_included_for_every_kind_of_time(
    odd: House, tmp_path: Path, first: date, last: date, column: str, ids: set[int]
) -> None:
    out = tmp_path / "some.parquet"
    export_to(odd, "silver.odd", out, days=(first, last), time_column=column)
    assert {row[0] for row in read_back(f"SELECT id FROM '{out}'")} == ids


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_table_without_rows_is_a_file_with_its_columns(house: House, tmp_path: Path, form: Format) -> None:
    out = tmp_path / f"none.{form}"
    assert export_to(house, "bronze.trades", out, form) == 0
    with duckdb.connect() as connection:
        assert connection.sql(f"FROM '{out}'").columns == ["symbol", "trade_ts", "price", "value"]


def test_a_tagged_day_is_exported_as_it_was(odd: House, tmp_path: Path) -> None:
    table = odd.catalog.load_table("silver.odd")
    first = table.history()[0].snapshot_id
    table.manage_snapshots().create_tag(first, "day-2024-02-01").commit()
    ran = weir(odd.settings.home, "export", "silver.odd", str(tmp_path / "then.csv"), "--as-of", "2024-02-01", "--json")
    told = json.loads(ran.stdout)
    assert (told["rows"], told["as_of"], told["format"]) == (3, "2024-02-01", "csv")
    assert told["bytes"] == (tmp_path / "then.csv").stat().st_size


def test_every_table_kept_by_time_is_filtered_by_what_its_domain_says() -> None:
    def of(domain: Domain) -> dict[str, str]:
        return {name.removeprefix("lh."): column for name, column in time_columns(domain).items()}

    assert of(build_domain("air_quality", Settings())) == {
        "bronze.open_meteo_hourly": "ts_utc",
        "silver.air_quality_hourly_clean": "ts_utc",
        "gold.fact_air_quality_hourly": "ts_utc",
        "gold.fact_city_daily": "date_utc",
        "gold.fact_episode": "start_ts",
    }
    assert of(TOY) == {
        "bronze.toy_items": "sold_ts",
        "silver.toy_items": "sold_ts",
        "gold.toy_hours": "hour_ts",
        "gold.toy_runs": "start_ts",
    }
    for name in DOMAINS:
        domain = build_domain(name, Settings())
        columns = {table.name: table.names for table in (*domain.merged, *(one.bronze for one in domain.sources))}
        assert all(column in columns[table] for table, column in time_columns(domain).items())


def test_the_command_takes_days_by_the_domains_column(house: House, tmp_path: Path) -> None:
    out = tmp_path / "day.csv"
    ran = weir(house.settings.home, "export", "gold.fact_city_daily", str(out), "--since", "2024-01-01", "--until", "2024-01-01", "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["rows"], told["time_column"], told["since"], told["until"]) == (2, "date_utc", "2024-01-01", "2024-01-01")
    assert ran.stderr.startswith("2 rows of lh.gold.fact_city_daily, ")
    assert out.read_text().splitlines()[0] == "location_key,date_utc,max_aqi,avg_aqi"


def test_stdout_gets_the_csv_alone(house: House) -> None:
    ran = weir(house.settings.home, "export", "gold.fact_city_daily", "-")
    assert sorted(ran.stdout.splitlines()) == [
        "danang,2024-01-01,,",
        "hanoi,2024-01-01,120,80.5",
        "hanoi,2024-01-02,151,nan",
        "location_key,date_utc,max_aqi,avg_aqi",
    ]
    assert ran.stderr.startswith("3 rows of lh.gold.fact_city_daily; ")


def test_a_reader_that_leaves_early_is_no_error_of_ours(house: House) -> None:
    table = house.catalog.load_table("silver.trades")
    plain = pa.schema([field.remove_metadata() for field in table.schema().as_arrow()])
    table.append(pa.Table.from_pylist([{"symbol": "S" * 200, "value": b"x" * 200}] * 20_000, schema=plain))
    line = f"'{WEIR}' export silver.trades - | head -n 1"
    environment = {**os.environ, "WEIR_HOME": str(house.settings.home)}
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("symbol,trade_ts,price,value\n", "")


def test_a_file_that_is_there_stays_unless_it_may_be_replaced(house: House, tmp_path: Path) -> None:
    out = tmp_path / "days.csv"
    out.write_text("mine")
    ran = weir(house.settings.home, "export", "gold.fact_city_daily", str(out))
    assert (ran.returncode, out.read_text()) == (1, "mine")
    assert ran.stderr == f"weir: {out} is there already. Choose another name, or replace it with --force.\n"
    assert weir(house.settings.home, "export", "gold.fact_city_daily", str(out), "--force").returncode == 0
    assert out.read_text().startswith("location_key,")


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_an_export_that_fails_on_the_way_leaves_what_was_there(odd: House, tmp_path: Path, form: Format) -> None:
    out = tmp_path / f"odd.{form}"
    out.write_text("before")
    last = odd.catalog.load_table("silver.odd").inspect.files()["file_path"].to_pylist()[0]
    Path(last.removeprefix("file://")).unlink()
    ran = weir(odd.settings.home, "export", "silver.odd", str(out), "--force")
    assert (ran.returncode, out.read_text()) == (1, "before")
    assert ran.stderr.startswith("weir: lh.silver.odd cannot be read: ") and "Traceback" not in ran.stderr
    assert [file.name for file in tmp_path.iterdir() if file.name != "home"] == [out.name]


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_an_export_that_is_stopped_leaves_nothing(house: House, tmp_path: Path, ended_by: signal.Signals) -> None:
    code = f"""
import time
from pathlib import Path
from lakehouse.query.export_files import whole_file
with whole_file(Path({str(tmp_path / "out.csv")!r})) as part:
    part.write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [WEIR.parent / "python", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[4]
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    process.send_signal(ended_by)
    assert process.wait(30) != 0
    process.stdout.close()
    assert [file.name for file in tmp_path.iterdir() if file.name != "home"] == []


def test_a_full_disk_is_one_sentence(house: House) -> None:
    out = house.settings.home / "x.csv"
    with pytest.raises(export_files.NotWritten, match=r"x\.csv was not written: No space left"), export_files.whole_file(out) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(house.settings.home.glob(".x.csv*"))
    schema = pa.schema([("a", pa.int64())])
    batches = [pa.RecordBatch.from_pydict({"a": list(range(100_000))}, schema=schema)] * 10
    with pytest.raises(OSError, match="No space left"):
        export_files.write_csv(batches, schema, "/dev/full")


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (("gold.fact_city_dayly", "x.csv"), 1, "did you mean lh.gold.fact_city_daily?"),
        (("ops.batches", "x.csv"), 1, 'Use: weir query "FROM lh.ops.batches" --json'),
        (("gold.fact_city_daily", "no/such/folder/x.csv"), 1, "the folder no/such/folder is not there"),
        (("gold.fact_city_daily", "."), 2, "expected --format parquet or --format csv"),
        (("gold.fact_city_daily", ".", "--format", "csv"), 1, "it is a folder. Name a file in it."),
        (("gold.fact_city_daily", "x.xlsx"), 2, "'x.xlsx' ends in neither .parquet nor .csv"),
        (("gold.fact_city_daily", "x.csv", "--format", "orc"), 2, "--format 'orc': expected"),
        (("gold.fact_city_daily", "-", "--format", "parquet"), 2, "- writes CSV to stdout"),
        (("gold.fact_city_daily", "x.csv", "--until", "2024-01-01"), 2, "--until needs --since"),
        (("gold.fact_city_daily", "x.csv", "--time-column", "date_utc"), 2, "--time-column needs --since"),
        (("silver.trades", "x.csv", "--since", "2024-01-01"), 1, "Choose one with --time-column: trade_ts."),
        (("silver.trades", "x.csv", "--since", "2024-01-01", "--time-column", "price"), 1, "no such date or instant; it has trade_ts."),
        (("gold.fact_city_daily", "x.csv", "--as-of", "2024-01-01"), 1, "It has no tagged days"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_leaves_no_file(
    house: House, tmp_path: Path, arguments: tuple[str, ...], status: int, text: str
) -> None:
    environment = {**os.environ, "WEIR_HOME": str(house.settings.home)}
    ran = subprocess.run(
        [WEIR, "export", *arguments], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (status, "")
    assert text in " ".join(ran.stderr.replace("│", " ").split())
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "x.csv").exists()
