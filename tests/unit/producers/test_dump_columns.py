"""Does DuckDB read a dump's text, and write a message, as it should? Types from text, and JSON against the contract's own codec."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contract import Contract, Field, Value
from lakehouse.engine.on_duckdb import open_duckdb
from lakehouse.judge_columns import unjudged, verdict
from lakehouse.rules import Rule
from producers.dumps.csv_files import other_columns, to_typed, typed
from producers.dumps.description import MISFITS
from producers.dumps.wire import key, message

FORM = Contract(
    "toys.v1",
    entity=("number", "name"),
    key=("number", "name"),
    version="at",
    fields=(
        Field("number", "long", required=True),
        Field("name", "string"),
        Field("share", "double"),
        Field("is_new", "boolean"),
        Field("day", "date"),
        Field("at", "timestamp"),
        Field("amount", "decimal(18, 4)"),
        Field("same", "string"),
    ),
)


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with open_duckdb("200MB", None) as opened:
        yield opened


def rows_of(database: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    # By Arrow: the client itself reads instants with a library that weir does without.
    return [tuple(row.values()) for row in database.sql(query).to_arrow_table().to_pylist()]


def value_of(database: duckdb.DuckDBPyConnection, kind: str, text: str | None) -> Any:  # noqa: ANN401 - of any type
    # In a column, as in a dump: DuckDB folds what it is told of a constant.
    rows = pa.table({"given": pa.array([text, None], pa.string())})
    database.register("rows", rows)
    found = rows_of(database, f"SELECT {typed(kind, 'given')} AS v FROM rows")
    assert found[1] == (None,)
    return found[0][0]


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("long", "7", 7),
        ("long", "2188609.0", 2188609),
        ("long", " 2188609. ", 2188609),
        ("long", "-3", -3),
        ("long", "+3", 3),
        ("long", "007", 7),
        ("long", "1.5", None),
        ("long", "1e3", None),
        ("long", "1_000", None),
        ("long", "1,000", None),
        ("long", "NaN", None),
        ("long", "9223372036854775807", 2**63 - 1),
        ("long", "9223372036854775808", None),
        ("long", "9007199254740993.0", 2**53 + 1),
        ("long", "", None),
        ("boolean", "True", True),
        ("boolean", " FALSE", False),
        ("boolean", "1", True),
        ("boolean", "0.0", False),
        ("boolean", "yes", True),
        ("boolean", "maybe", None),
        ("timestamp", "04/07/2010 07:57:43", datetime(2010, 4, 7, 7, 57, 43, tzinfo=UTC)),
        ("timestamp", "03/24/2011", datetime(2011, 3, 24, tzinfo=UTC)),
        ("timestamp", "4/7/2010", datetime(2010, 4, 7, tzinfo=UTC)),
        ("timestamp", "2011-03-24", datetime(2011, 3, 24, tzinfo=UTC)),
        ("timestamp", "2011-03-24 01:02:03", datetime(2011, 3, 24, 1, 2, 3, tzinfo=UTC)),
        ("timestamp", "2011-03-24T01:02:03Z", datetime(2011, 3, 24, 1, 2, 3, tzinfo=UTC)),
        ("timestamp", "2011-03-24T01:02:03.250+07:00", datetime(2011, 3, 23, 18, 2, 3, 250_000, tzinfo=UTC)),
        ("timestamp", "24/03/2011", None),
        ("timestamp", "02/30/2011", None),
        ("timestamp", "2011", None),
        ("timestamp", "now", None),
        ("decimal(18, 4)", "1000.0000", Decimal(1000)),
        ("decimal(18, 4)", " 1000 ", Decimal(1000)),
        ("decimal(18, 4)", "+.5", Decimal("0.5")),
        ("decimal(18, 4)", "-0007.25000000", Decimal("-7.25")),
        ("decimal(18, 4)", "99999999999999.9999", Decimal("99999999999999.9999")),
        ("decimal(18, 4)", "100000000000000", None),
        ("decimal(18, 4)", "0.00001", None),
        ("decimal(18, 4)", "1e3", None),
        ("decimal(18, 4)", "1,000", None),
        ("decimal(18, 4)", "NaN", None),
        ("decimal(18, 4)", ".", None),
        ("decimal(18, 4)", "", None),
        ("string", " as it is ", " as it is "),
    ],
)
def test_text_is_read_as_its_type_or_not_at_all(database: duckdb.DuckDBPyConnection, kind: str, text: str, value: object) -> None:
    found = value_of(database, kind, text)
    assert found == value
    assert isinstance(found, bool) == isinstance(value, bool)


def test_type_that_no_dump_has_is_refused() -> None:
    with pytest.raises(ValueError, match="a dump's text is not read as double"):
        typed("double", "given")


def test_misfits_and_other_columns_are_kept_as_text(database: duckdb.DuckDBPyConnection) -> None:
    rows = pa.table({"a": ["7", "x\"'\\y", " "], "b": ["q", None, ""], "c": [None, 'ü"', None]})
    database.register("rows", rows)
    columns = {"number": ("long", "a"), "name": ("string", "b"), "rest": ("string", other_columns({'the "c"': "c", "b": "b"}))}
    found = rows_of(database, f"SELECT number, name, rest, {MISFITS} FROM ({to_typed('SELECT * FROM rows', columns)})")
    assert [row[:2] for row in found] == [(7, "q"), (None, None), (None, "")]
    assert [row[2] and json.loads(row[2]) for row in found] == [{"b": "q"}, {'the "c"': 'ü"'}, {"b": ""}]
    assert [row[3] and json.loads("{" + row[3] + "}") for row in found] == [None, {"number": "x\"'\\y"}, None]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "number": st.none() | st.integers(-(2**63), 2**63 - 1),
            "name": st.none() | TEXTS,
            "share": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "is_new": st.none() | st.booleans(),
            "day": st.none() | st.dates(date(1, 1, 1)),
            "at": st.none() | st.datetimes(datetime(1900, 1, 1), timezones=st.just(UTC)),
            "amount": st.none() | st.decimals(-(10**14) + 1, 10**14 - 1, places=4),
        }
    ),
    max_size=6,
)
TYPES = {
    "number": pa.int64(),
    "name": pa.string(),
    "share": pa.float64(),
    "is_new": pa.bool_(),
    "day": pa.date32(),
    "at": pa.timestamp("us", "UTC"),
    "amount": pa.decimal128(18, 4),
}


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, same=TEXTS)
def test_message_is_that_of_the_contracts_codec(database: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]], same: str) -> None:
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()}
    database.register("rows", pa.table(columns | {MISFITS: pa.array([None] * len(rows), pa.string())}))
    text = message(FORM, tuple(TYPES), {"same": same})
    found = rows_of(database, f"SELECT {text}, {key(FORM, 'number IS NOT NULL AND name IS NOT NULL')} FROM rows")
    for row, (value, name) in zip(rows, found, strict=True):
        assert json.loads(value) == json.loads(FORM.encode(row | {"same": same}))
        is_keyed = row["number"] is not None and row["name"] is not None
        assert name == (FORM.encode_key(row).decode() if is_keyed else None)


def test_plain_message_is_the_codecs_to_the_byte(database: duckdb.DuckDBPyConnection) -> None:
    row: dict[str, Value] = {"number": 7, "name": 'ü "x"', "is_new": False, "at": datetime(2025, 8, 1, tzinfo=UTC)}
    columns = {name: pa.array([row.get(name)], kind) for name, kind in TYPES.items()}
    database.register("rows", pa.table(columns | {MISFITS: pa.array([None], pa.string())}))
    ((value,),) = rows_of(database, f"SELECT {message(FORM, tuple(TYPES), {'same': 's'})} FROM rows")
    assert value.encode() == FORM.encode(row | {"same": "s"})


def test_first_broken_rule_is_the_verdict_and_only_judged_ones_count(database: duckdb.DuckDBPyConnection) -> None:
    rules = [
        Rule("of_bytes", "reject", "no such column", "''", reads_bytes=True),
        Rule("hint", "warn", "`number` > 0", "''"),
        Rule("small", "reject", "`number` < 10", "''"),
        Rule("tiny", "reject", "`number` < 5", "''", is_judged=False),
    ]
    database.register("rows", pa.table({"number": [3, 30, None], "odd": [False, False, True]}))
    found = rows_of(database, f"SELECT {verdict(rules, 'odd')} FROM rows")
    assert found == [("small",), (None,), ("wrong_type",)]
    assert unjudged(rules) == {"tiny"}
