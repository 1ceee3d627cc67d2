"""Two tables of one specification: every difference is found, and nothing else is one."""

import math
import random
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from batch.compare import FIRST, compare, total
from lakehouse.spans import Times
from lakehouse.tables.schema import Column, Table

TABLE = Table(
    "lh.gold.t",
    "one row per place and time",
    ("place", "ts"),
    (Column("place", "STRING"), Column("ts", "TIMESTAMP"), Column("mean", "DOUBLE"), Column("count", "INT"), Column("by", "STRING")),
)
SCHEMA = pa.schema(
    [("place", pa.string()), ("ts", pa.timestamp("us", "UTC")), ("mean", pa.float64()), ("count", pa.int32()), ("by", pa.string())]
)
Row = dict[str, Any]


def row(place: str = "a", hour: int = 0, mean: float | None = 1.5, count: int | None = 3, by: str | None = "pm25") -> Row:
    return {"place": place, "ts": datetime(2024, 1, 1, hour, tzinfo=UTC), "mean": mean, "count": count, "by": by}


def table(*rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), SCHEMA)


def test_equal_in_another_order_within_a_billionth_and_null_like_null() -> None:
    found = table(row(), row("b", mean=None, by=None), row("c", mean=1e6))
    expected = table(row("c", mean=math.nextafter(1e6, 2e6)), row("b", mean=None, by=None), row()).append_column("own", [["x", "y", "z"]])
    same = compare(TABLE, found, expected)
    assert (same.differences, same.rows, same.expected, same.first) == (0, 3, 3, ())


@pytest.mark.parametrize(
    ("found", "columns"),
    [
        ({"mean": 1.5000001}, {"mean": 1}),
        ({"mean": None}, {"mean": 1}),
        ({"count": 4, "by": None}, {"count": 1, "by": 1}),
        ({"by": "PM25"}, {"by": 1}),
    ],
)
def test_a_value_that_differs_is_told_with_its_key(found: Row, columns: dict[str, int]) -> None:
    told = compare(TABLE, table(row(), row("b", **found)), table(row(), row("b")))
    assert (told.missing, told.extra, told.doubled, told.different) == (0, 0, 0, 1)
    assert told.columns == columns
    (first,) = told.first
    assert (first.kind, first.key["place"]) == ("different", "b")
    assert first.columns == {name: (row("b", **found)[name], row("b")[name]) for name in columns}


def test_rows_that_lack_are_too_many_or_twice() -> None:
    told = compare(TABLE, table(row(), row(), row("c")), table(row(), row("b")))
    assert (told.missing, told.extra, told.doubled, told.different) == (1, 1, 1, 0)
    assert [(one.kind, one.key["place"]) for one in told.first] == [("missing", "b"), ("extra", "c")]


def test_where_nothing_is_nothing_differs_and_parts_add_up() -> None:
    nothing = compare(TABLE, table(), table())
    assert (nothing.rows, nothing.expected, nothing.missing, nothing.extra, nothing.doubled, nothing.different) == (0,) * 6
    some = compare(TABLE, table(row(), row(hour=1, mean=2.0)), table(row(hour=1), row(hour=2)))
    both = total([nothing, some, compare(TABLE, table(row(hour=5, mean=3.0)), table(row(hour=5)))])
    assert (both.rows, both.expected, both.missing, both.extra, both.different, dict(both.columns)) == (3, 3, 1, 1, 2, {"mean": 2})
    assert len(both.first) == 4


def test_only_the_days_asked_for_and_only_the_first_differences() -> None:
    chance = random.Random(1)
    rows = [row(f"p{n}", n % 24) for n in range(50)]
    worse = [one | {"count": chance.randrange(10, 20)} for one in rows]
    told = compare(TABLE, table(*worse), table(*rows))
    assert (told.different, len(told.first)) == (50, FIRST)
    assert compare(TABLE, table(*worse), table(*rows), (date(2024, 1, 2), date(2024, 1, 3)), Times("place", "ts")).rows == 0
    assert compare(TABLE, table(*worse), table(*rows), (date(2023, 12, 31), date(2024, 1, 1)), Times("place", "ts")).different == 50
