"""Do Spark and DuckDB compute the same rows? Every transform of every domain, and the choice of the newest, column by column, exactly."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from lakehouse.domain import Derived, Domain, Source
from lakehouse.domains.air_quality.tables import FACT_HOURLY, air_quality
from lakehouse.domains.air_quality.transforms import GoldRules
from lakehouse.domains.kaggle.domain import kaggle
from lakehouse.domains.kaggle.tables import KAGGLE_DUMPS
from lakehouse.engine.engine import Engine
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.engine.on_spark import SparkEngine
from lakehouse.engine.relation import Transform
from lakehouse.tables.schema import Table
from tests.support.rows import arrow_rows
from tests.toy.tables import TOY

SEEDS = range(3)
ROWS = 400
# Hours side by side, so that windows and runs have rows, and instants that no source sends: before 1970, within a second.
HOURS = [datetime(2024, 2, 27, tzinfo=UTC) + timedelta(hours=n) for n in range(24 * 5)]
ODD = [
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1888, 2, 29, 12, 30, tzinfo=UTC),
    datetime(2024, 3, 31, 1, 0, 0, 1, tzinfo=UTC),
    datetime(2061, 6, 30, 23, 59, 59, tzinfo=UTC),
    datetime(9999, 12, 31, tzinfo=UTC),
]
TEXTS = ["hanoi", "ho-chi-minh-city", "L'Aquila", "back\\slash", "đà nẵng", "", "a|b", "Viet Nam", " TÜRKİYE\t", "Türkiye"]
EDITIONS = [
    GoldRules(timezones={"hanoi": "Asia/Ho_Chi_Minh", "a|b": "America/New_York"}),
    GoldRules("us-epa-2012", 101, 2, {"L'Aquila": "Europe/Rome", "back\\slash": "Asia/Kabul"}),
]


def domains() -> list[Domain]:
    return [*(air_quality(rules, [], []) for rules in EDITIONS), kaggle("names"), kaggle("strict"), TOY]


def made_up(table: Table, chance: random.Random, count: int = ROWS, key: Sequence[str] | None = None) -> pa.Table:
    """Make up rows of a table, one per key; any other column may be null."""
    unique = table.key if key is None else key
    found = {}
    for _ in range(count):
        row = {c.name: value(c.type, chance) for c in table.columns}
        if table == KAGGLE_DUMPS:  # facts are made for days of these tables alone
            row["table_name"] = chance.choice(["datasets", "dataset_tags"])
        row |= {name: None for name in table.names if name not in unique and chance.random() < 0.08}
        found[tuple(row[name] for name in unique)] = row
    rows = list(found.values())
    chance.shuffle(rows)
    return arrow_rows(table, rows)


def hours_on_end(table: Table, chance: random.Random) -> pa.Table:
    """Make up one row per place and hour of some days, as hourly facts are: runs of high and low AQI, some hours missing."""
    rows = []
    for place in TEXTS:
        level = 100
        for hour in HOURS:
            level = chance.randrange(300) if chance.random() < 0.1 else level
            row = {c.name: value(c.type, chance) for c in table.columns}
            keys = {"location_key": place, "ts_utc": hour, "date_utc": hour.date(), "date_key": int(f"{hour:%Y%m%d}"), "aqi_rule": "x"}
            rows += [row | keys | {"aqi": None if chance.random() < 0.02 else level}] if chance.random() < 0.95 else []
    return arrow_rows(table, rows)


def value(kind: str, chance: random.Random) -> Any:  # noqa: ANN401 - any value of a column
    match kind:
        case "STRING":
            return chance.choice(TEXTS)
        case "INT" | "BIGINT":
            return chance.choice([0, 1, 2, 150, 151, 152, 200, 301, chance.randrange(600)])
        case "DOUBLE":
            return chance.choice(
                [0.0, 9.1, 12.05, 0.1 + 0.2, chance.randrange(10_000) / 10, chance.uniform(0, 900), chance.uniform(0, 50_000)]
            )
        case "BOOLEAN":
            return chance.random() < 0.5
        case "DATE":
            return value("TIMESTAMP", chance).date()
        case "TIMESTAMP":
            return chance.choice(ODD) if chance.random() < 0.02 else chance.choice(HOURS)
        case "BINARY":
            return None
    assert kind.startswith("DECIMAL")
    return Decimal(chance.randrange(-1_000, 1_000_000)) / 100


def assert_same(table: Table, found: dict[str, pa.Table]) -> None:
    one, other = (found[name].select(list(table.names)) for name in ("spark", "duckdb"))
    assert [(f.name, f.type) for f in one.schema] == [(f.name, f.type) for f in other.schema]
    for left, right in zip(*(sorted(rows.to_pylist(), key=repr) for rows in (one, other)), strict=True):
        assert left == right, table.name


def by_both(engines: Sequence[Engine], transform: Transform, inputs: Sequence[pa.Table], table: Table) -> dict[str, pa.Table]:
    return {engine.name: engine.compute(transform, inputs, table) for engine in engines}


@pytest.fixture(scope="module")
def engines(spark: SparkSession) -> Iterator[list[Engine]]:
    duck = DuckEngine()
    yield [SparkEngine(spark), duck]
    duck.close()


DERIVED = [pytest.param(one, id=f"{one.table.name} {n}") for n, domain in enumerate(domains()) for one in domain.derived]
SOURCES = [pytest.param(one, id=one.silver.name) for domain in (domains()[0], kaggle("names"), TOY) for one in domain.sources]


@pytest.mark.parametrize("derived", DERIVED)
def test_derived_tables(engines: list[Engine], derived: Derived) -> None:
    rows = 0
    for seed in SEEDS:
        chance = random.Random(seed)
        inputs = [(hours_on_end if reads.table == FACT_HOURLY else made_up)(reads.table, chance) for reads in derived.reads]
        found = by_both(engines, derived.to_rows, inputs, derived.table.computed)
        assert_same(derived.table.computed, found)
        rows += found["spark"].num_rows
    assert rows > 0, "the rows made up give none of this table, so nothing was compared"


@pytest.mark.parametrize("source", SOURCES)
def test_silver_and_the_newest_of_each_key(engines: list[Engine], source: Source) -> None:
    version = source.contract.version
    for seed in SEEDS:
        chance = random.Random(seed)
        # Several rows of a key, some with equal versions; what silver requires is there.
        bronze = made_up(source.bronze, chance, 3 * ROWS, [*source.contract.key, version, "kafka_offset"])
        present = made_up(source.silver, chance, key=[*source.silver.key, version])
        present = engines[1].newest(lambda rows: rows, present, present.slice(0, 0), source.silver, version)
        newest = {engine.name: engine.newest(source.to_silver, bronze, present, source.silver, version) for engine in engines}
        assert_same(source.silver, newest)
        assert newest["spark"].num_rows > present.num_rows / 2
        assert_same(source.silver, by_both(engines, source.to_silver, [distinct_keys(bronze, source)], source.silver))


def distinct_keys(bronze: pa.Table, source: Source) -> pa.Table:
    """Keep one row of each key, so that rows can be compared by it."""
    found = {tuple(row[name] for name in source.silver.key): row for row in bronze.to_pylist()}
    return pa.Table.from_pylist(list(found.values()), bronze.schema)
