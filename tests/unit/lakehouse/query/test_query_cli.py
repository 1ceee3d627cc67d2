import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.tables.catalog import spark_catalog_conf
from tests.unit.lakehouse.conftest import House

WEIR = Path(sys.executable).parent / "weir"


def weir(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "WEIR_HOME": str(home), **settings}
    return subprocess.run([WEIR, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False)


def test_table_for_people_shows_nulls_aligns_numbers_and_counts(house: House) -> None:
    ran = weir(house.settings.home, "query", "SELECT location_key, date_utc, max_aqi, avg_aqi FROM gold.fact_city_daily ORDER BY ALL")
    assert (ran.returncode, ran.stderr) == (0, "")
    *rows, footer = ran.stdout.splitlines()
    assert rows == [
        "location_key  date_utc    max_aqi  avg_aqi",
        "danang        2024-01-01        ∅        ∅",
        "hanoi         2024-01-01      120     80.5",
        "hanoi         2024-01-02      151      NaN",
    ]
    assert footer.startswith("(3 rows; ") and footer.endswith(" s)")


def test_json_is_a_list_of_objects_that_any_program_reads(house: House) -> None:
    ran = weir(house.settings.home, "query", "SELECT * FROM silver.trades ORDER BY trade_ts, symbol", "--json")
    assert json.loads(ran.stdout) == [
        {"symbol": "BTC", "trade_ts": "2024-01-01T23:59:59.500000Z", "price": 67000.12, "value": "/wA="},
        {"symbol": "BTC", "trade_ts": "2024-01-02T00:00:00Z", "price": "0.123456789012345678", "value": '{"s":"₿"}'},
        {"symbol": "ETH", "trade_ts": "2024-01-02T00:00:00Z", "price": 3, "value": "\x1b[2Jgone"},
    ]
    ran = weir(house.settings.home, "query", "SELECT avg_aqi FROM gold.fact_city_daily WHERE max_aqi = 151", "--json")
    assert ran.stdout == '[\n{"avg_aqi": null}\n]\n'
    assert weir(house.settings.home, "query", "SELECT 1 WHERE false", "--json").stdout == "[]\n"


@pytest.mark.parametrize(
    ("value", "json_text", "text"),
    [
        ("TIMESTAMP '2024-01-01 01:02:03'", '"2024-01-01T01:02:03"', "2024-01-01 01:02:03"),
        ("INTERVAL '1 day 90 minutes'", '"P1DT1H30M"', "P1DT1H30M"),
        ("INTERVAL '0 days'", '"PT0S"', "PT0S"),
        ("-INTERVAL '2500 milliseconds'", '"PT-2.5S"', "PT-2.5S"),
        ("TIME '10:00'", '"10:00:00"', "10:00:00"),
        ("sum(170141183460469231731)", "170141183460469231731", "170141183460469231731"),
        ("[1.5, 'infinity'::DOUBLE]", "[1.5, null]", "[1.5, null]"),
        ("{'a': DATE '2024-01-01'}", '{"a": "2024-01-01"}', '{"a": "2024-01-01"}'),
        ("'{\"a\": [1]}'::JSON", '{"a": [1]}', '{"a": [1]}'),
        ("true", "true", "True"),
        ("0.1 + 0.2::DOUBLE", "0.30000000000000004", "0.3"),
        ("NULL", "null", "∅"),
    ],
)
def test_values_of_every_type_are_written_plainly(
    capsys: pytest.CaptureFixture[str], house: House, value: str, json_text: str, text: str
) -> None:
    from lakehouse.query import show
    from lakehouse.query.reader import Reader

    with Reader(house.settings) as reader:
        found = reader.query(f"SELECT {value} AS v")
    show.answer(found, as_json=True, seconds=lambda: 0)
    assert capsys.readouterr().out == f'[\n{{"v": {json_text}}}\n]\n'
    show.answer(found, as_json=False, seconds=lambda: 0)
    assert capsys.readouterr().out.splitlines()[1].strip() == text


def test_bytes_that_arrived_cannot_command_the_terminal(house: House) -> None:
    ran = weir(house.settings.home, "query", "SELECT value FROM silver.trades WHERE symbol = 'ETH'")
    assert "\x1b" not in ran.stdout
    assert r"\x1b[2Jgone" in ran.stdout


def test_rows_too_wide_for_the_terminal_are_printed_one_under_another(
    house: House, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from lakehouse.query import show
    from lakehouse.query.reader import Reader

    monkeypatch.setattr(show, "open_console", lambda: Console(width=30, highlight=False))
    with Reader(house.settings) as reader:
        found = reader.query("SELECT location_key, date_utc, max_aqi FROM gold.fact_city_daily ORDER BY ALL LIMIT 1")
    show.answer(found, as_json=False, seconds=lambda: 0.5)
    assert capsys.readouterr().out == "row 1\n  location_key  danang\n  date_utc      2024-01-01\n  max_aqi       ∅\n(1 row; 0.50 s)\n"


def test_limit_is_said_when_there_are_more_rows(house: House) -> None:
    ran = weir(house.settings.home, "query", "FROM range(5000)")
    assert "(1,000 rows, and more: --limit N shows more; " in ran.stdout
    assert len(json.loads(weir(house.settings.home, "query", "FROM range(5000)", "--json").stdout)) == 5000
    assert len(json.loads(weir(house.settings.home, "query", "FROM range(5000)", "--json", "--limit", "2").stdout)) == 2


def test_without_sql_every_table_is_listed_with_grain_rows_columns_and_comments(house: House) -> None:
    listed = weir(house.settings.home, "query").stdout
    assert "lh.gold.fact_city_daily  3 rows, last commit 20" in listed
    assert "  one row per place and UTC day with a measured hour\n" in listed
    assert "    max_aqi       int     greatest AQI of an hour\n" in listed
    assert "lh.bronze.trades  0 rows, nothing committed yet" in listed
    tables = {table["table"]: table for table in json.loads(weir(house.settings.home, "query", "--json").stdout)}
    assert list(tables) == ["lh.bronze.trades", "lh.gold.fact_city_daily", "lh.silver.trades", "lh.ops.batches"]
    assert {"layer": "gold", "rows": 3}.items() <= tables["lh.gold.fact_city_daily"].items()
    assert tables["lh.gold.fact_city_daily"]["columns"][0] == {"name": "location_key", "type": "string", "comment": "the place"}
    assert tables["lh.silver.trades"]["last_commit"].endswith("Z")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FROM gold.nope", "weir: No table gold.nope"),
        ("SELECT nope FROM gold.fact_city_daily", 'weir: Binder Error: Referenced column "nope" not found'),
        ("SELECT FROM", "weir: Parser Error"),
        ("DELETE FROM gold.fact_city_daily", "weir: The tables are read only here"),
    ],
)
def test_mistake_is_one_message_on_stderr_and_exit_1(house: House, sql: str, said: str) -> None:
    ran = weir(house.settings.home, "query", sql)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(said)
    assert "Traceback" not in ran.stderr


def test_no_tables_yet_is_exit_1_with_the_way_on(tmp_path: Path) -> None:
    for verb in ("query", "connect"):
        ran = weir(tmp_path, verb, WEIR_JARS_PATH=str(_jars(tmp_path)))
        assert ran.returncode == 1
        assert ran.stderr.startswith("weir: No tables yet: ") and "`weir up`" in ran.stderr


@pytest.mark.parametrize(("engine", "shown"), [("duckdb", "│ danang       │ 2024-01-01 │"), ("pyiceberg", "greatest AQI of an hour")])
def test_printed_text_runs_when_pasted(house: House, engine: str, shown: str) -> None:
    text = weir(house.settings.home, "connect", engine, WEIR_JARS_PATH=str(_jars(house.settings.home))).stdout
    ran = subprocess.run([sys.executable, "-W", "error", "-"], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert shown in ran.stdout


def test_texts_for_spark_name_every_setting_of_the_catalog_and_every_jar(house: House) -> None:
    jars = _jars(house.settings.home)
    texts = json.loads(weir(house.settings.home, "connect", "--json", WEIR_JARS_PATH=str(jars)).stdout)
    assert list(texts) == ["duckdb", "pyiceberg", "spark", "spark-sql"]
    compile(texts["spark"], "spark", "exec")
    for key, value in spark_catalog_conf(house.settings).items():
        assert json.dumps(key) in texts["spark"] and json.dumps(value) in texts["spark"]
        assert f"{key}={value}" in texts["spark-sql"]
    for text in (texts["spark"], texts["spark-sql"]):
        assert str(jars / "spark" / "one.jar") in text
        assert "IcebergSparkSessionExtensions" in text
    environment, program = texts["spark-sql"].splitlines()[1].split()[:2]
    assert Path(program).is_file() and program.startswith(environment.removeprefix("SPARK_HOME="))


def test_unknown_engine_is_wrong_usage(house: House) -> None:
    ran = weir(house.settings.home, "connect", "trino", WEIR_JARS_PATH=str(_jars(house.settings.home)))
    assert ran.returncode == 2
    assert "there are duckdb, pyiceberg, spark, spark-sql" in " ".join(ran.stderr.replace("│", " ").split())


def test_two_hundred_small_files_cost_less_than_starting_the_command(house: House) -> None:
    """As a stream leaves them. Processor time against that of a query without files: a busy machine stretches both."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = house.catalog.load_table("silver.trades")
    files = [str(house.settings.home / f"{part}.parquet") for part in range(200)]
    plain = pa.schema([field.remove_metadata() for field in table.schema().as_arrow()])
    for file in files:
        pq.write_table(pa.Table.from_pylist([{"symbol": "S", "value": b"x" * 200}] * 125, schema=plain), file)
    table.add_files(files)

    def processor_seconds(sql: str) -> float:
        before = os.times()
        ran = weir(house.settings.home, "query", sql, "--json")
        after = os.times()
        assert json.loads(ran.stdout) == [{"n": 25_003}]
        return after.children_user + after.children_system - before.children_user - before.children_system

    start = min(processor_seconds("SELECT 25003 AS n") for _ in range(2))
    assert min(processor_seconds("SELECT count(symbol) AS n FROM silver.trades") for _ in range(2)) < 2 * start


def _jars(folder: Path) -> Path:
    (folder / "jars" / "spark").mkdir(parents=True, exist_ok=True)
    (folder / "jars" / "spark" / "one.jar").touch()
    return folder / "jars"
