"""What would DuckDB alone do with the same answers? `python -m bench.duckdb_hours FOLDER FILE`: from JSON files to hours in Parquet.

The hours of the asked days, without those of the day at each edge, and without hours that have none of the ten measures: the rows that
a backfill brings. No check, no comparison with what is there, no index, no commit.
"""

import sys
from pathlib import Path

import duckdb

from bench.load import DAY_HOURS
from lakehouse.domains.air_quality.contract import MEASURES, VARIABLES


def hours_of(folder: Path) -> str:
    """Give the SQL that reads a folder of answers."""
    lists = ", ".join(f"{name} DOUBLE[]" for name in VARIABLES)
    columns = f"{{latitude: 'DOUBLE', longitude: 'DOUBLE', timezone: 'VARCHAR', hourly: 'STRUCT(time BIGINT[], {lists})'}}"
    kept = f"[{DAY_HOURS + 1}:len(hourly.time) - {DAY_HOURS}]"
    values = ", ".join(f"unnest(hourly.{theirs}{kept}) AS {ours}" for theirs, ours in VARIABLES.items())
    answers = f"read_json('{folder}/*.json', columns={columns}, maximum_object_size={1 << 28})"
    each = f"SELECT latitude, longitude, unnest(hourly.time{kept}) AS seconds, {values}, timezone AS request_timezone FROM {answers}"
    return (
        f"SELECT latitude, longitude, to_timestamp(seconds) AS ts_utc, * EXCLUDE (latitude, longitude, seconds) FROM ({each}) "
        f"WHERE coalesce({', '.join(MEASURES.values())}) IS NOT NULL"
    )


def main(folder: str, file: str) -> None:
    """Read the folder, and write the file."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET threads = 2; SET preserve_insertion_order = false")
        connection.execute(f"COPY ({hours_of(Path(folder))}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")


if __name__ == "__main__":
    main(*sys.argv[1:])
