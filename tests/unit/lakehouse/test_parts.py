"""Do parts name the rows that they should? Against asking each row about each tuple."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.changes import ChangedRows, ChangedSpans, NoChanges, WholeChanged
from lakehouse.domain import ByKey, Matching, all_of, by_key, looked_up
from lakehouse.parts import MOST_KEYS, WHOLE, Keys, Part, is_whole, join_parts
from lakehouse.spans import Spans, Times
from lakehouse.tables.schema import Column, Table
from lakehouse.write.merge import bounds_of, literal

ROWS = [{"a": a, "b": b} for a in (1, 2, None) for b in ("x", "y")]
values = st.sampled_from([1, 2, None])
texts = st.sampled_from(["x", "y"])
keys = st.one_of(
    st.just(WHOLE),
    st.builds(lambda rows: Keys.of(["a"], [(a,) for a in rows]), st.lists(values, max_size=3)),
    st.builds(lambda rows: Keys.of(["a", "b"], rows), st.lists(st.tuples(values, texts), max_size=3)),
)
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
TABLE = Table("lh.gold.x", "one row per a and b", ("a", "b"), (Column("a", "BIGINT"), Column("b", "STRING"), Column("c", "STRING")))


def named(part: Keys, row: Mapping[str, object]) -> bool:
    return any(tuple(row[column] for column in columns) in rows for columns, rows in part.tuples.items())


@given(keys, keys)
def test_joined_parts_name_what_one_or_the_other_names(one: Keys, other: Keys) -> None:
    both = join_parts(one, other)
    assert isinstance(both, Keys)
    assert [named(both, row) for row in ROWS] == [named(one, row) or named(other, row) for row in ROWS]
    assert bool(both) == (bool(one) or bool(other)) and is_whole(both) == (one.is_whole or other.is_whole)


@given(keys)
def test_a_part_of_another_table_names_at_least_its_rows(part: Keys) -> None:
    there = part.renamed({"a": "owner"})
    assert all(named(there, {"owner": row["a"]}) for row in ROWS if named(part, row))
    assert part.renamed({"b": "b", "a": "owner"}).is_whole == part.is_whole
    assert is_whole(part.renamed({"z": "z"})) == bool(part), "no column in common: every row"


def test_more_tuples_than_memory_should_hold_mean_the_whole_table() -> None:
    many = Keys.of(["a"], [(n,) for n in range(MOST_KEYS)])
    assert not many.is_whole
    assert many.joined(Keys.of(["a"], [(-1,)])).is_whole and Keys.of(["a"], [(n,) for n in range(MOST_KEYS + 1)]).is_whole


def test_spans_and_keys_together_mean_the_whole_table_and_nothing_adds_nothing() -> None:
    span, some = Spans.of([("a", NOON, NOON)]), Keys.of(["a"], [(1,)])
    nothing: list[Part] = [Spans(()), Keys()]
    for none in nothing:
        assert join_parts(none, span) == span and join_parts(some, none) == some
    assert join_parts(span, some) == WHOLE


def test_changed_rows_are_asked_for_both_sides() -> None:
    before = pa.table({"owner": [1], "day": [date(2025, 1, 1)], "at": pa.array([NOON], pa.timestamp("us", "UTC"))})
    after = pa.table({"owner": [2], "day": [date(2025, 1, 2)], "at": pa.array([NOON.replace(day=9)], pa.timestamp("us", "UTC"))})
    changed = ChangedRows(before, after)
    assert changed.keys({"maker": "owner"}) == Keys.of(["maker"], [(1,), (2,)])
    spans = changed.spans(Times("owner", "at"))
    assert isinstance(spans, Spans) and [row[0] for row in spans.rows] == [1, 2]
    only_spans = ChangedSpans(Spans.of([("a", NOON, NOON)]), Times("owner", "at"))
    assert only_spans.keys({"maker": "owner"}) == Keys.of(["maker"], [("a",)]) and only_spans.keys({"day": "day"}).is_whole
    assert is_whole(only_spans.spans(Times("owner", "day"))) and not NoChanges().keys({"a": "a"}) and is_whole(WholeChanged().keys({}))


def test_a_table_says_what_a_change_reaches_and_what_a_part_needs() -> None:
    items = Table("lh.silver.items", "one row per item", ("item",), (Column("item", "STRING"), Column("maker", "BIGINT")))
    rows = ChangedRows(pa.table({"item": ["i"], "maker": [1]}))
    read = by_key(items, reach={"item": "item"}, needs={"item": "item", "owner": "maker"})
    assert read.reach(rows) == Keys.of(["item"], [("i",)])
    assert read.needs(Keys.of(["owner"], [(7,)])) == Keys.of(["maker"], [(7,)])
    found = looked_up(TABLE, {"owner": "a"}, of=items, names={"maker": "a"})
    assert found.needs(Keys.of(["item"], [("i",)])) == Matching("lh.silver.items", {"maker": "a"}) and found.needs(WHOLE) == WHOLE
    assert is_whole(all_of(items).reach(rows)) and not all_of(items).reach(NoChanges())
    assert ByKey() == ByKey()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "NULL"),
        (True, "true"),
        (7, "7"),
        (1.5, "double(1.5)"),
        (Decimal("1.50"), "1.50BD"),
        (date(2025, 1, 2), "DATE '2025-01-02'"),
        (NOON, "TIMESTAMP '2025-01-01 12:00:00.000000+00:00'"),
        ("it's", r"'it\'s'"),
        (b"\x00\xff", "X'00ff'"),
    ],
)
def test_a_value_of_any_column_is_a_literal(value: object, text: str) -> None:
    assert literal(value) == text


def test_a_merge_is_bounded_by_columns_of_the_key_alone() -> None:
    assert bounds_of(Keys.of(["a"], [(1,)]), TABLE, None) == "((((t.a IN (1)))))"
    assert bounds_of(Keys.of(["c"], [("z",)]), TABLE, None) == "", "a row may change it, and would be inserted again"
    assert bounds_of(Spans.of([("x", NOON, NOON)]), TABLE, Times("b", "c")) == ""
    assert bounds_of(WHOLE, TABLE, None) == ""
