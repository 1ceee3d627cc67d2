"""What should gold be, computed by somebody else? Runs `recompute.sql` in DuckDB over bronze; imports nothing of lakehouse/."""

from collections.abc import Mapping
from pathlib import Path

import duckdb
import pyarrow as pa

SQL = Path(__file__).with_name("recompute.sql")
TABLES = ("fact_air_quality_hourly", "fact_city_daily", "fact_episode")


def recompute(bronze: pa.Table, timezones: Mapping[str, str], aqi_rule: str, threshold: int, least_hours: int) -> dict[str, pa.Table]:
    """Recompute air quality's gold from the bytes that arrived.

    Args:
        bronze: value, topic, partition, kafka_offset, kafka_ts and source_run of every bronze row.
        timezones: IANA zone by location_key: the known places.
        aqi_rule: us-epa-2012 or us-epa-2024.
        threshold: least AQI of an hour of an episode.
        least_hours: least length of an episode.

    Returns:
        The three fact tables by name, all columns, in no order.
    """
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("bronze", bronze)
        connection.register("places", pa.table({"location_key": list(timezones), "timezone": list(timezones.values())}))
        connection.execute("SET VARIABLE aqi_rule = $1", [aqi_rule])
        connection.execute("SET VARIABLE threshold = $1", [threshold])
        connection.execute("SET VARIABLE least_hours = $1", [least_hours])
        connection.execute(SQL.read_text())
        return {name: connection.sql(f"FROM {name}").to_arrow_table() for name in TABLES}
