"""A domain that is not shaped like air quality: two sources without a time in their keys, joins, rows that move and rows that go.

Stream = batch = DuckDB's own SQL, whatever the order, repetition, cutting and crashes.
"""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession
from typing_extensions import override

from batch.consistent_snapshots import Heads
from batch.lineage import messages_of, trace
from lakehouse.apply import ApplyOptions, refresh_derived
from lakehouse.engine.choose import memory_engine
from lakehouse.engine.engine import DoesNotFit
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.engine.relation import Transform
from lakehouse.must_hold import RowsBreakCheck
from lakehouse.pending import changes_since
from lakehouse.spark import iceberg_table
from lakehouse.tables.properties import DEFERRED_PROPERTY, ENGINE_PROPERTY
from lakehouse.tables.schema import Table
from lakehouse.write.small_batches.memory_store import Memory
from tests.support.law import Crash, assert_law, crash_at
from tests.toy.home import NOON, ToyHome, item, maker, some_batch
from tests.toy.tables import TOY

Make = Callable[..., ToyHome]
WAYS = pytest.mark.parametrize("from_memory", [True, False], ids=["from memory", "by MERGE"])


@pytest.fixture
def make(session: SparkSession, tmp_path: Path) -> Make:
    return lambda **how: ToyHome(session, tmp_path, **how)


@pytest.mark.parametrize("seed", [1, 2])
def test_stream_equals_batch_and_duckdb_in_any_order_with_repeats_and_crashes(make: Make, seed: int) -> None:
    chance, serial = random.Random(seed), itertools.count()
    assert_law(make(), lambda number: some_batch(chance, number, serial), chance)


class FullForTransforms(DuckEngine):
    """DuckDB without room for any transform."""

    @override
    def compute(self, transform: Transform, inputs: Sequence[pa.Table], table: Table) -> pa.Table:
        """Refuse the rows."""
        raise DoesNotFit


class Full(DuckEngine):
    """DuckDB without room for anything, so that it cannot judge rows either."""

    @override
    def query(self, text: str, tables: Mapping[str, pa.Table]) -> pa.Table:
        """Refuse the rows."""
        raise DoesNotFit


@pytest.mark.parametrize("engine", [FullForTransforms, Full])
def test_what_does_not_fit_in_memory_is_computed_by_spark(make: Make, engine: type[DuckEngine]) -> None:
    home = make()
    home.memory = Memory(TOY, engine=engine())
    home.makers(maker(1), maker(2))
    home.items(item(1, 1), item(2, 2))
    home.assert_right()
    head = iceberg_table(home.session, "lh.gold.toy_maker_days").currentSnapshot()
    assert head.summary()[ENGINE_PROPERTY] == "spark"
    home.memory = Memory(TOY, engine=memory_engine(home.settings))
    home.items(item(3, 1, hour=2))
    home.assert_right()
    assert iceberg_table(home.session, "lh.gold.toy_maker_days").currentSnapshot().summary()[ENGINE_PROPERTY] == "duckdb"


@WAYS
def test_an_event_time_that_moves_leaves_one_row_and_its_old_group(make: Make, from_memory: bool) -> None:
    home = make(from_memory=from_memory)
    home.makers(maker(1))
    home.items(item(1, 1), item(2, 1))
    home.items(item(1, 1, hour=90 * 24, version=1))
    assert home.rows("silver.toy_items", "item_id") == [("i1",), ("i2",)]
    later = (NOON + timedelta(days=90)).date()
    assert home.rows("gold.toy_maker_days", "day", "items") == [(NOON.date(), 1), (later, 1)]
    home.assert_right()


@WAYS
def test_an_item_that_changes_its_maker_leaves_the_old_one(make: Make, from_memory: bool) -> None:
    home = make(from_memory=from_memory)
    home.makers(maker(1), maker(2))
    home.items(item(1, 1, price=Decimal("7.10")), item(2, 1), item(3, 2))
    home.items(item(1, 2, version=1, price=Decimal("7.10")))
    assert home.rows("gold.toy_makers", "maker_id", "items", "revenue") == [(1, 1, Decimal("10.25")), (2, 2, Decimal("17.35"))]
    home.items(item(2, 2, version=1))
    assert home.rows("gold.toy_makers", "maker_id", "items") == [(1, 0), (2, 3)]
    assert home.rows("gold.toy_maker_days", "maker_id") == [(2,)], "a group without a row is gone"
    home.assert_right()


def test_a_child_waits_for_no_parent_and_the_parent_reaches_it(make: Make) -> None:
    home = make()
    home.items(item(1, 7), item(2, 8))
    assert home.rows("silver.toy_named_items", "maker_name") == [("unknown",), ("unknown",)]
    home.makers(maker(7, maker_name="late", country="PT"))
    assert home.rows("silver.toy_named_items", "item_id", "maker_name") == [("i1", "late"), ("i2", "unknown")]
    assert home.rows("gold.toy_countries", "country", "makers", "revenue") == [("PT", 1, Decimal("10.25"))]
    home.makers(maker(7, 1, maker_name="renamed", country="NP"))
    assert home.rows("silver.toy_named_items", "item_id", "maker_name") == [("i1", "renamed"), ("i2", "unknown")]
    assert home.rows("gold.toy_countries", "country") == [("NP",)]
    home.assert_right()


def test_a_row_that_is_withdrawn_stays_away_from_an_older_message_and_comes_back_by_a_newer_one(make: Make) -> None:
    home = make()
    home.makers(maker(1))
    home.items(item(1, 1, version=1), item(2, 1))
    home.items(item(1, 1, version=5, is_gone=True))
    home.items(item(1, 1, version=3, price=Decimal("99.00")))
    assert home.rows("silver.toy_items", "item_id", "is_gone") == [("i1", True), ("i2", None)]
    assert home.rows("silver.toy_named_items", "item_id") == [("i2",)]
    assert home.rows("gold.toy_makers", "items") == [(1,)]
    home.makers(maker(1, 1, is_gone=True))
    assert home.rows("gold.toy_makers") == []
    assert home.rows("silver.toy_named_items", "maker_name") == [("unknown",)]
    home.assert_right()
    home.items(item(1, 1, version=6))
    home.makers(maker(1, 2))
    assert home.rows("gold.toy_makers", "items") == [(2,)]
    home.assert_right()


@WAYS
@pytest.mark.parametrize("repeats", [True, False], ids=["and repeats its micro-batch", "and goes on with other rows"])
def test_a_process_killed_between_silver_and_gold_forgets_no_old_owner(
    make: Make, monkeypatch: pytest.MonkeyPatch, from_memory: bool, repeats: bool
) -> None:
    home = make(from_memory=from_memory)
    home.makers(maker(1), maker(2), maker(3))
    home.items(item(1, 1), item(2, 1, hour=30), item(3, 2))
    items = TOY.sources[1]
    moved = home.land(items, [item(1, 2, version=1), item(2, 3, hour=30, version=1)])
    crash_at(monkeypatch, "silver.merged")
    with pytest.raises(Crash):
        home.take(moved, items)
    monkeypatch.undo()
    assert home.rows("silver.toy_items", "item_id", "maker_id") == [("i1", 2), ("i2", 3), ("i3", 2)], "silver was written"
    assert home.rows("gold.toy_makers", "maker_id", "items") == [(1, 2), (2, 1), (3, 0)], "and gold was not"
    home.restart()
    if repeats:
        home.take(moved, items)
    else:
        home.makers(maker(4))
    assert home.rows("gold.toy_makers", "maker_id", "items")[:3] == [(1, 0), (2, 2), (3, 1)]
    home.assert_right()


def test_what_is_owed_from_a_snapshot_that_has_expired_is_made_whole(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make()
    home.makers(maker(1), maker(2))
    home.items(item(1, 1))
    moved = home.land(TOY.sources[1], [item(1, 2, version=1)])
    crash_at(monkeypatch, "silver.merged")
    with pytest.raises(Crash):
        home.take(moved, TOY.sources[1])
    monkeypatch.undo()
    home.session.sql(
        "CALL lh.system.expire_snapshots(table => 'silver.toy_items', older_than => TIMESTAMP '2100-01-01 00:00:00', retain_last => 1)"
    )
    home.restart()
    home.makers(maker(3))
    assert home.rows("gold.toy_maker_days", "maker_id") == [(2,)]
    home.assert_right()


def test_a_derived_table_that_is_added_later_is_made_of_all_that_is_there(make: Make) -> None:
    before = replace(TOY, derived=TOY.derived[:2])
    home = make(domain=before)
    home.makers(maker(1), maker(2))
    home.items(item(1, 1), item(2, 2, hour=5), item(3, 2, hour=6))
    home.restart(TOY)
    home.items(item(4, 1, hour=9))
    home.assert_right()


def test_another_writer_in_between_changes_nothing_but_the_time_it_takes(make: Make) -> None:
    one = make()
    other = Memory(TOY)
    one.makers(maker(1), maker(2))
    for number in range(4):
        one.items(item(number, 1 + number % 2, hour=number))
        mine, one.memory = one.memory, None if number == 2 else other
        one.items(item(number, 1 + (number + 1) % 2, hour=number, version=1))
        one.memory = mine
    one.session.sql("CALL lh.system.rewrite_data_files(table => 'silver.toy_items', options => map('min-input-files', '2'))")
    one.makers(maker(1, 1, country="NP"))
    one.assert_right()


def test_what_a_backfill_owes_is_left_to_it_and_found_at_its_end(make: Make) -> None:
    home = make()
    home.makers(maker(1), maker(2))
    home.items(item(1, 1), item(2, 1))
    before = iceberg_table(home.session, "lh.silver.toy_items").currentSnapshot().snapshotId()
    home.items(item(1, 2, version=1), deferred="a backfill")
    home.items(item(3, 2))
    assert home.rows("gold.toy_maker_days", "maker_id", "items") == [(1, 2), (2, 1)], "the item that moved is the backfill's to move"
    home.restart()
    home.items(item(4, 2, hour=30))
    assert home.rows("gold.toy_maker_days", "maker_id", "items")[0] == (1, 2), "after a start too"
    silver = iceberg_table(home.session, "lh.silver.toy_items")
    changed = changes_since(
        home.session, TOY, TOY.sources[1].silver, silver, before, lambda one: one.summary.get(DEFERRED_PROPERTY) == "a backfill"
    )
    assert changed is not None
    refresh_derived(home.session, TOY, {"lh.silver.toy_items": changed}, ApplyOptions(memory=home.memory))
    assert home.rows("gold.toy_maker_days", "maker_id", "items") == [(1, 1), (2, 1), (2, 2)]
    home.assert_right()


@WAYS
def test_rows_that_break_what_must_hold_are_not_written_and_are_computed_once_that_is_mended(make: Make, from_memory: bool) -> None:
    home = make(from_memory=from_memory)
    home.makers(maker(1))
    home.items(item(1, 1))
    head = iceberg_table(home.session, "lh.gold.toy_maker_days").currentSnapshot().snapshotId()
    checked = replace(TOY.derived[1], must_hold={"a maker sells one item a day": "items > 1"})
    home.restart(replace(TOY, derived=(TOY.derived[0], checked, *TOY.derived[2:])))
    with pytest.raises(
        RowsBreakCheck, match=r"toy_maker_days .* a maker sells one item a day.* Found: maker_id=1, day=2025-03-01, items=2"
    ):
        home.items(item(2, 1))
    assert iceberg_table(home.session, "lh.gold.toy_maker_days").currentSnapshot().snapshotId() == head
    assert home.rows("silver.toy_items", "item_id") == [("i1",), ("i2",)]
    home.restart(TOY)
    home.makers(maker(2))
    assert home.rows("gold.toy_maker_days", "items") == [(2,)]
    home.assert_right()


def test_every_commit_says_of_what_the_derived_tables_are_made(make: Make) -> None:
    home = make()
    home.makers(maker(1))
    home.items(item(1, 1))
    said = iceberg_table(home.session, "lh.gold.toy_makers").currentSnapshot().summary()
    silver = iceberg_table(home.session, "lh.silver.toy_makers").currentSnapshot().snapshotId()
    assert f'"lh.silver.toy_makers": {silver}' in said["weir.made-of"]


def test_a_row_is_followed_through_joins_down_to_the_messages_of_both_sources(make: Make) -> None:
    home = make()
    home.makers(maker(1), maker(2), maker(1, 1))
    home.items(item(1, 1), item(2, 2))
    with Heads.look(home.settings, home.domain) as heads:
        totals = heads.rows("lh.gold.toy_makers")
        wide = trace(heads, "lh.gold.toy_makers", totals.filter(pc.equal(totals["maker_id"], 1)))
        name = "lh.silver.toy_named_items"
        rows = heads.rows(name)
        found = trace(heads, name, rows.filter(pc.equal(rows["item_id"], "i1")))
    assert [(level.table.removeprefix("lh."), level.rows.num_rows) for level in found] == [
        ("silver.toy_named_items", 1),
        ("silver.toy_items", 1),
        ("silver.toy_makers", 1),
        ("bronze.toy_makers", 2),
        ("bronze.toy_items", 1),
    ]
    assert messages_of(found) == {"toy.items.v1/0": [(3, 3)], "toy.makers.v1/0": [(0, 0), (2, 2)]}
    assert {level.table: level.rows.num_rows for level in wide}["lh.silver.toy_makers"] == 1, "read on two ways, each row once"
    assert messages_of(wide) == messages_of(found)
