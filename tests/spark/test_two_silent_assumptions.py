"""What goes wrong without a word where a key has no time in it? Both rows must be right for any domain; today neither is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse.apply import apply
from lakehouse.contract import Contract, Field, Value
from lakehouse.domain import Domain, Gold
from lakehouse.rules import contract_rules
from lakehouse.schema import SOURCE_COLUMNS, Column, Table, contract_columns
from lakehouse.sinks.lane import append_chunk, typed
from lakehouse.sinks.tables import ensure_tables

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)

ITEMS = Contract(
    topic="toy.items.v1",
    entity=("item_id",),
    key=("item_id",),
    version="changed_ts",
    fields=(
        Field("item_id", "string", required=True),
        Field("sold_ts", "timestamp", required=True),
        Field("maker_id", "string", required=True),
        Field("price", "double"),
        Field("changed_ts", "timestamp", required=True),
    ),
)
BRONZE = Table("lh.bronze.toy_items", "one row per message", (), (*contract_columns(ITEMS), Column("date_utc", "DATE"), *SOURCE_COLUMNS))
SILVER = Table("lh.silver.toy_items", "one row per item", ("item_id",), contract_columns(ITEMS))
SALES = Table(
    "lh.gold.toy_sales",
    "one row per maker and instant of a sale",
    ("maker_id", "sold_ts"),
    (Column("maker_id", "STRING"), Column("sold_ts", "TIMESTAMP"), Column("items", "BIGINT")),
)


def to_sales(items: DataFrame) -> DataFrame:
    return items.groupBy("maker_id", "sold_ts").agg({"*": "count"}).selectExpr("maker_id", "sold_ts", "`count(1)` AS items")


TOY = Domain(
    name="toy",
    contract=ITEMS,
    bronze=BRONZE,
    silver=SILVER,
    entity="maker_id",
    event_time="sold_ts",
    rules=contract_rules(ITEMS),
    to_silver=lambda rows: rows.select(*SILVER.names),
    gold=(Gold(SALES, source=SILVER, starts="sold_ts", reach=lambda span: span, to_rows=to_sales),),
)


def item(number: int, maker: str, sold: datetime, version: int) -> dict[str, Value]:
    return {"item_id": f"i{number}", "maker_id": maker, "sold_ts": sold, "price": 1.0, "changed_ts": NOON + timedelta(minutes=version)}


def apply_one(session: SparkSession, name: str, record: dict[str, Value]) -> None:
    rows = typed(session, [ITEMS.encode(record)], ITEMS, name)
    append_chunk(session, BRONZE, rows, {})
    apply(session.createDataFrame(rows), replace(TOY), {})


@pytest.mark.xfail(strict=True, reason="MERGE is bounded by the event time, which is not in the key: a second row is inserted")
def test_an_event_time_that_moves_leaves_one_row(session: SparkSession, tmp_path: Path) -> None:
    ensure_tables(session, TOY)
    apply_one(session, "first", item(1, "a", NOON, version=1))
    apply_one(session, "second", item(1, "a", NOON + timedelta(days=90), version=2))
    assert session.table(SILVER.name).count() == 1


@pytest.mark.xfail(strict=True, reason="only the groups of incoming rows are recomputed: the old owner keeps a sale that moved")
def test_an_item_that_changes_its_maker_leaves_the_old_one(session: SparkSession, tmp_path: Path) -> None:
    ensure_tables(session, TOY)
    apply_one(session, "first", item(1, "a", NOON, version=1))
    apply_one(session, "second", item(1, "b", NOON, version=2))
    assert [row["maker_id"] for row in session.table(SALES.name).collect()] == ["b"]
