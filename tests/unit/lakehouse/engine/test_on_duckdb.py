"""Does DuckDB mean what Spark means, within the memory that it is given? What both compute is compared in `tests/spark/`."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.engine.engine import DoesNotFit
from lakehouse.engine.functions import date_key, double, in_units, iso_text, text
from lakehouse.engine.on_duckdb import DuckEngine

NONE = pa.table({"n": [0]})


def value(engine: DuckEngine, sql: str) -> object:
    return engine.query(f"SELECT {sql} AS found FROM one", {"one": NONE})["found"].to_pylist()[0]


def test_an_instant_is_rounded_down_also_before_1970() -> None:
    engine = DuckEngine()
    instant = "TIMESTAMPTZ '1969-12-31 23:59:58.500+00'"
    assert value(engine, f"unix_seconds({instant})") == -2
    assert value(engine, f"unix_millis({instant})") == -1500
    assert value(engine, "timestamp_seconds(-2)") == datetime(1969, 12, 31, 23, 59, 58, tzinfo=UTC)
    assert value(engine, date_key(instant)) == 19691231
    assert value(engine, iso_text(instant)) == "1969-12-31T23:59:58Z"


@pytest.mark.parametrize("one", ["", "plain", "L'Aquila", "back\\slash", "tick`", "'\\`", "đà nẵng", "${x}"])
def test_any_text_is_a_literal(one: str) -> None:
    assert value(DuckEngine(), text(one)) == one


@pytest.mark.parametrize("one", [0.0, 1.0, -1.5, 1e-9, 1e300, 0.1])
def test_a_number_is_a_double(one: float) -> None:
    engine = DuckEngine()
    assert value(engine, double(one)) == one
    assert value(engine, f"typeof({double(one)})") == "DOUBLE"


def test_lists_count_from_zero_and_units_are_whole() -> None:
    engine = DuckEngine()
    assert value(engine, "get(split('a,b', ','), 1)") == "b"
    assert value(engine, "get(split('a,b', ','), 2)") is None
    assert value(engine, in_units("0.1e0")) == 100_000


def test_the_zone_is_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert value(DuckEngine(), "CAST(TIMESTAMPTZ '2024-01-01 20:00:00+00' AS DATE)").isoformat() == "2024-01-01"  # type: ignore[attr-defined]


def test_what_does_not_fit_says_so(tmp_path: Path) -> None:
    many = "SELECT list(n) AS found FROM range(20000000) AS rows(n)"
    with pytest.raises(DoesNotFit):
        DuckEngine("20MB").query(many, {})
    assert list(tmp_path.iterdir()) == []
