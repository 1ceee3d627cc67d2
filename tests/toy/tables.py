"""Which tables has the toy, and how is each made?"""

from pathlib import Path

from lakehouse.domain import ByKey, ByTime, Derived, Domain, Source, Whole, all_of, by_key, looked_up, over_time
from lakehouse.rules import contract_rules
from lakehouse.tables.schema import SOURCE_COLUMNS, Column, Table, contract_columns
from tests.toy import transforms as t
from tests.toy.contract import ITEMS, MAKERS

ORACLE = (Path(__file__).parent / "oracle.sql").read_text(encoding="utf-8")
_MAKER = Column("maker_id", "BIGINT", "the maker")
_NAME = Column("maker_name", "STRING", "unknown while no record of the maker has come")
_COUNTRY = Column("country", "STRING", "likewise")

BRONZE_MAKERS = Table("lh.bronze.toy_makers", "one row per message that arrived", (), (*contract_columns(MAKERS), *SOURCE_COLUMNS))
BRONZE_ITEMS = Table(
    "lh.bronze.toy_items",
    "one row per message that arrived",
    (),
    (*contract_columns(ITEMS), Column("date_utc", "DATE", "UTC day of the sale"), *SOURCE_COLUMNS),
)
SILVER_MAKERS = Table(
    "lh.silver.toy_makers",
    "one row per maker, the latest change",
    ("maker_id",),
    contract_columns(MAKERS, ("maker_id", "maker_name", "country", "is_trusted", "is_gone", "changed_ts")),
)
SILVER_ITEMS = Table(
    "lh.silver.toy_items",
    "one row per item, the latest change",
    ("item_id",),
    (
        *contract_columns(ITEMS, ("item_id", "maker_id", "sold_ts")),
        Column("sold_date", "DATE", "UTC day of the sale"),
        *contract_columns(ITEMS, ("price", "is_new", "made_on", "remark", "is_gone", "changed_ts")),
    ),
)
# In the silver layer, since it needs another table than its source.
NAMED_ITEMS = Table(
    "lh.silver.toy_named_items",
    "one row per item that is there",
    ("item_id",),
    (
        Column("item_id", "STRING", "the item"),
        _MAKER,
        _NAME,
        _COUNTRY,
        Column("sold_date", "DATE", "UTC day of the sale"),
        Column("price", "DECIMAL(12, 2)", "what was paid [EUR]"),
        Column("is_new", "BOOLEAN", "whether it had no owner before"),
    ),
)
MAKER_DAYS = Table(
    "lh.gold.toy_maker_days",
    "one row per maker and UTC day with a sale",
    ("maker_id", "day"),
    (
        _MAKER,
        Column("day", "DATE", "UTC day"),
        Column("items", "BIGINT", "items sold"),
        Column("new_items", "BIGINT", "of these, new ones"),
        Column("revenue", "DECIMAL(22, 2)", "what was paid for them [EUR]; null where no price is known"),
    ),
)
MAKER_TOTALS = Table(
    "lh.gold.toy_makers",
    "one row per maker that is there",
    ("maker_id",),
    (
        _MAKER,
        _NAME,
        _COUNTRY,
        Column("is_trusted", "BOOLEAN", "whether the goods are let in unchecked"),
        Column("items", "BIGINT", "items sold"),
        Column("revenue", "DECIMAL(24, 2)", "what was paid for them [EUR]"),
        Column("last_day", "DATE", "the last UTC day with a sale"),
    ),
)
COUNTRIES = Table(
    "lh.gold.toy_countries",
    "one row per country with a maker",
    ("country",),
    (
        _COUNTRY,
        Column("makers", "BIGINT", "makers"),
        Column("trusted", "BIGINT", "of these, trusted ones"),
        Column("revenue", "DECIMAL(26, 2)", "what was paid for their goods [EUR]"),
        Column("place", "INT", "rank by revenue, from 1"),
    ),
)
HOURS = Table(
    "lh.gold.toy_hours",
    "one row per maker and UTC hour with a sale in it or in the three hours before",
    ("maker_id", "hour_ts"),
    (
        _MAKER,
        Column("hour_ts", "TIMESTAMP", "start of the hour"),
        Column("sold", "BIGINT", "items sold in the hour"),
        Column("sold_of_four", "BIGINT", "items sold in it and in the three before"),
    ),
    partitioned_by=("months(hour_ts)",),
)
RUNS = Table(
    "lh.gold.toy_runs",
    "one row per maker and run of hours without a gap",
    ("maker_id", "start_ts"),
    (
        _MAKER,
        Column("start_ts", "TIMESTAMP", "first hour"),
        Column("end_ts", "TIMESTAMP", "last hour"),
        Column("sold", "BIGINT", "items sold in the run"),
    ),
)

SOURCES = (
    Source(MAKERS, BRONZE_MAKERS, SILVER_MAKERS, contract_rules(MAKERS), t.to_makers),
    Source(ITEMS, BRONZE_ITEMS, SILVER_ITEMS, contract_rules(ITEMS), t.to_items),
)

TOY = Domain(
    name="toy",
    sources=SOURCES,
    derived=(
        Derived(
            NAMED_ITEMS,
            ByKey(),
            reads=(
                by_key(SILVER_ITEMS, reach={"item_id": "item_id"}, needs={"item_id": "item_id", "maker_id": "maker_id"}),
                looked_up(SILVER_MAKERS, reach={"maker_id": "maker_id"}, of=SILVER_ITEMS, names={"maker_id": "maker_id"}),
            ),
            to_rows=t.to_named_items,
        ),
        Derived(
            MAKER_DAYS, ByKey(), reads=(by_key(NAMED_ITEMS, reach={"maker_id": "maker_id", "day": "sold_date"}),), to_rows=t.to_maker_days
        ),
        Derived(
            MAKER_TOTALS,
            ByKey(),
            reads=(by_key(SILVER_MAKERS, reach={"maker_id": "maker_id"}), by_key(MAKER_DAYS, reach={"maker_id": "maker_id"})),
            to_rows=t.to_maker_totals,
        ),
        Derived(COUNTRIES, Whole(), reads=(all_of(MAKER_TOTALS),), to_rows=t.to_countries),
        Derived(
            HOURS,
            ByTime("maker_id", "hour_ts"),
            reads=(over_time(SILVER_ITEMS, "maker_id", "sold_ts", reach=t.hours_reach, needs=t.hours_need),),
            to_rows=t.to_hours,
        ),
        Derived(
            RUNS,
            ByTime("maker_id", "start_ts", "end_ts", grows=t.HOUR),
            reads=(over_time(HOURS, "maker_id", "hour_ts", reach=t.runs_reach, needs=t.runs_need),),
            to_rows=t.to_runs,
        ),
    ),
    oracle=ORACLE,
)
