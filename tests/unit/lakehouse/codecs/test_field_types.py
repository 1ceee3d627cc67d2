"""Does Python take for a value of a type what every table can hold, and nothing else?"""

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.codecs.field_types import Value, field_type, to_micros

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
NAMES = ("string", "long", "double", "boolean", "date", "timestamp", "timestamp_us", "decimal(5, 2)", "decimal(38, 18)", "decimal(3, 3)")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("string", ["", "Đà Nẵng"]),
        ("long", [0, -(2**63), 2**63 - 1]),
        ("double", [1, 1.5, -1.7e308, math.inf, 10**300]),  # an infinite one is a value, out of every range
        ("boolean", [True, False]),
        ("date", [date(1, 1, 1), date(9999, 12, 31)]),
        ("timestamp", [NOON]),
        ("timestamp_us", [NOON]),
        (
            "decimal(5, 2)",
            [Decimal(text) for text in ("0", "-0", "999.99", "-999.99", "1.5", "1.50000", "1E+2", "0E+9999", "0E-9999", "5E-2")],
        ),
        ("decimal(38, 18)", [Decimal("99999999999999999999.999999999999999999"), Decimal("-1E-18")]),
        ("decimal(3, 3)", [Decimal("0.999")]),
    ],
)
def test_value_of_a_type_is_one(name: str, values: list[Value]) -> None:
    assert [value for value in values if not field_type(name).holds(value)] == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("string", [1, b"a", True, date(2024, 1, 1)]),
        ("long", [1.0, "1", True, 2**63, -(2**63) - 1, Decimal(1)]),
        ("double", ["1", True, Decimal(1), 10**309, -(10**309)]),
        ("boolean", [0, 1, "true"]),
        ("date", ["2024-02-29", NOON, 19_000]),
        ("timestamp", [NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=7))), 0, date(2024, 1, 1)]),
        ("decimal(5, 2)", [Decimal(text) for text in ("1000", "999.995", "1.005", "0.001", "NaN", "sNaN", "Infinity", "1E+999999")]),
        ("decimal(5, 2)", [1, 1.5, "1.5", True]),
        ("decimal(38, 18)", [Decimal("100000000000000000000"), Decimal("1E-19")]),
        ("decimal(3, 3)", [Decimal(1)]),
    ],
)
def test_value_of_another_type_or_beyond_it_is_none(name: str, values: list[Value]) -> None:
    assert [value for value in values if field_type(name).holds(value)] == []


@pytest.mark.parametrize(
    "name", ["int", "decimal", "decimal(0, 0)", "decimal(39, 2)", "decimal(5, 6)", "decimal(5,-1)", "timestamp(3)", ""]
)
def test_type_that_no_table_has_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"there are string, long, double, boolean, date, timestamp, timestamp_us and decimal\(p, s\)"):
        field_type(name)


def test_a_type_has_one_name_whatever_the_blanks() -> None:
    assert field_type("decimal(10,2)").name == field_type("decimal(10, 2)").name == "decimal(10, 2)"
    assert (field_type("decimal(10,2)").sql, field_type("decimal(10,2)").duckdb) == ("DECIMAL(10, 2)", "DECIMAL(10, 2)")


@pytest.mark.parametrize("name", NAMES)
def test_only_a_decimal_may_become_another_type_and_only_with_more_digits_before_the_point(name: str) -> None:
    others = {"decimal(38, 2)"} if name == "decimal(5, 2)" else set()
    found = {other for other in (*NAMES, "decimal(4, 2)", "decimal(38, 2)") if field_type(name).may_become(field_type(other))}
    assert found == {name, *others}


@given(st.integers(1, 38).flatmap(lambda p: st.tuples(st.just(p), st.integers(0, p))), st.data())
def test_text_of_a_decimal_is_exact_and_the_same_for_equal_ones(digits: tuple[int, int], data: st.DataObject) -> None:
    precision, scale = digits
    kind = field_type(f"decimal({precision}, {scale})")
    whole = data.draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    value = Decimal((whole < 0, tuple(map(int, str(abs(whole)))), -scale))
    longer = Decimal((whole < 0, (*tuple(map(int, str(abs(whole)))), 0, 0), -scale - 2))
    assert kind.holds(value) and kind.holds(longer)
    text = kind.json.write(value)
    assert isinstance(text, str) and Decimal(text) == value and "E" not in text
    assert kind.json.write(longer) == text and kind.avro.write(longer) == kind.avro.write(value)
    bytes_ = kind.avro.write(value)
    assert isinstance(bytes_, bytes) and int.from_bytes(bytes_, "big", signed=True) == whole
    beyond = Decimal((0, (1,) + (0,) * precision, -scale))
    finer = Decimal((0, (1,), -scale - 1))
    for wrong in (beyond, -beyond, finer):
        assert not kind.holds(wrong)
        with pytest.raises(ValueError, match="is no decimal"):
            kind.json.write(wrong)


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999), timezones=st.just(UTC)))
def test_microseconds_lose_nothing(instant: datetime) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=to_micros(instant)) == instant
