"""A small lakehouse without Spark: tables written by PyIceberg, as the stream's own are laid out."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    DateType,
    DecimalType,
    DoubleType,
    IntegerType,
    NestedField,
    StringType,
    TimestamptzType,
)

from lakehouse.settings import Settings
from tests.support.services import Postgres

CITY_DAILY = Schema(
    NestedField(1, "location_key", StringType(), doc="the place"),
    NestedField(2, "date_utc", DateType(), doc="UTC date of the hour"),
    NestedField(3, "max_aqi", IntegerType(), doc="greatest AQI of an hour"),
    NestedField(4, "avg_aqi", DoubleType(), doc="mean of the hours' AQI"),
)
TRADES = Schema(
    NestedField(1, "symbol", StringType()),
    NestedField(2, "trade_ts", TimestamptzType(), doc="event time"),
    NestedField(3, "price", DecimalType(38, 18)),
    NestedField(4, "value", BinaryType(), doc="the message as it arrived"),
)
FIRST_BATCH = {
    "weir.query": "silver.trades",
    "weir.batch-id": "0",
    "weir.rows-in": "4",
    "weir.rows-accepted": "3",
    "weir.rejected": '{"no_key": 1}',
}
BRONZE_BATCH = {
    "weir.query": "bronze.trades",
    "weir.batch-id": "7",
    "weir.rows-in": "2",
    "weir.offsets": '{"market.trades.v1": {"id": "a", "next": {"0": 12}}}',
}


def settings_of(home: Path) -> Settings:
    return Settings(home=home)


class House:
    """A home whose tables a test fills."""

    def __init__(self, home: Path) -> None:
        home.mkdir(exist_ok=True)
        self.settings = settings_of(home)
        self.catalog = SqlCatalog("lh", uri=self.settings.catalog_uri, warehouse=self.settings.warehouse_uri)

    def create(self, name: str, schema: Schema, grain: str) -> None:
        self.catalog.create_namespace_if_not_exists(name.partition(".")[0])
        self.catalog.create_table(name, schema, properties={"weir.grain": grain})

    def append(self, name: str, rows: list[dict[str, Any]], said: Mapping[str, str]) -> None:
        table = self.catalog.load_table(name)
        table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()), snapshot_properties=dict(said))


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URI of an empty database for a catalog, one of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'home' / 'catalog.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Give a home with one gold table, one silver table and one empty one."""
    house = House(tmp_path / "home")
    house.create("gold.fact_city_daily", CITY_DAILY, "one row per place and UTC day with a measured hour")
    days = [("hanoi", 1, 120, 80.5), ("hanoi", 2, 151, float("nan")), ("danang", 1, None, None)]
    house.append(
        "gold.fact_city_daily",
        [{"location_key": key, "date_utc": date(2024, 1, day), "max_aqi": most, "avg_aqi": mean} for key, day, most, mean in days],
        {"weir.query": "silver.trades", "weir.batch-id": "0"},
    )
    house.create("silver.trades", TRADES, "one row per trade")
    trades = [
        ("BTC", datetime(2024, 1, 1, 23, 59, 59, 500_000, UTC), Decimal("67000.12"), b"\xff\x00"),
        ("BTC", datetime(2024, 1, 2, tzinfo=UTC), Decimal("0.123456789012345678"), '{"s":"₿"}'.encode()),
        ("ETH", datetime(2024, 1, 2, tzinfo=UTC), Decimal(3), b"\x1b[2Jgone"),
    ]
    columns = ("symbol", "trade_ts", "price", "value")
    house.append("silver.trades", [dict(zip(columns, trade, strict=True)) for trade in trades], FIRST_BATCH)
    house.create("bronze.trades", TRADES, "one row per message that arrived")
    house.catalog.close()
    return house
