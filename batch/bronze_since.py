"""From which day on can anything be made of bronze again? From all on, unless retention has dropped old arrivals."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.days import Days
from lakehouse.domain import Domain
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.spark import iceberg_table
from lakehouse.tables.notes import whole_since

# An AQI looks back a day, and a measured hour arrives after it began: what is two days younger than the first arrival is whole.
REACH = timedelta(days=2)


class NotWhole(LakehouseError, Fatal):
    """Bronze has dropped what the range that was asked for is made of."""

    def __init__(self, bronze: str, since: date, first: date) -> None:
        super().__init__(
            f"{bronze} was told to keep WEIR_BRONZE_DAYS, and holds what arrived from {since} on: silver and gold can be made again for "
            f"{first} and later, not before. `--since {first}` names these days."
        )


def whole_from(bronze: str, properties: Mapping[str, str], days: Days) -> date | None:
    """Find the first UTC day that bronze can tell of; None where it has dropped nothing.

    Args:
        bronze: its name.
        properties: of the table.
        days: that are asked for, both included.

    Raises:
        NotWhole: they begin before that day.
    """
    since = whole_since(properties)
    if since is None:
        return None
    first = since + REACH
    if days is not None and days[0] < first:
        raise NotWhole(bronze, since, first)
    return first


def check_whole(spark: SparkSession, domain: Domain, days: Days) -> None:
    """See that bronze holds all that silver of some days, or of all, is made of.

    Raises:
        NotWhole: it does not.
    """
    for source in domain.sources:
        name = source.bronze.name
        properties: Any = iceberg_table(spark, name).properties()
        whole_from(name, properties, days or (date.min, date.max))
