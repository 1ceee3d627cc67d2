"""From which day on can silver and gold be recomputed from bronze? From the first, unless retention has dropped old arrivals."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.days import Days
from lakehouse.domain import Domain
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.spark import iceberg_table
from lakehouse.tables.notes import whole_since

# An AQI looks back a day, and a measured hour arrives after its start, so hours two days after the first arrival are complete.
REACH = timedelta(days=2)


class NotWhole(LakehouseError, Fatal):
    """Bronze has dropped rows from which the requested range is computed."""

    def __init__(self, bronze: str, since: date, first: date) -> None:
        super().__init__(
            f"{bronze} keeps WEIR_BRONZE_DAYS and has only rows that arrived from {since} on, so silver and gold can be recomputed from "
            f"{first} on, not earlier. Use `--since {first}`."
        )


def whole_from(bronze: str, properties: Mapping[str, str], days: Days) -> date | None:
    """Return the first UTC day that can be recomputed from bronze; None where it has dropped nothing.

    Args:
        bronze: its name.
        properties: of the table.
        days: the requested days, both included.

    Raises:
        NotWhole: the requested days begin before that day.
    """
    since = whole_since(properties)
    if since is None:
        return None
    first = since + REACH
    if days is not None and days[0] < first:
        raise NotWhole(bronze, since, first)
    return first


def check_whole(spark: SparkSession, domain: Domain, days: Days) -> None:
    """Check that bronze has all rows from which silver is computed for some days, or for all.

    Raises:
        NotWhole: it has not.
    """
    for source in domain.sources:
        name = source.bronze.name
        properties: Any = iceberg_table(spark, name).properties()
        whole_from(name, properties, days or (date.min, date.max))
