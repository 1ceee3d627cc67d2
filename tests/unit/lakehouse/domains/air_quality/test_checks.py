"""Does each check of the domain find what it is for? Good tables pass all of them; one statement a check breaks it."""

from collections.abc import Iterator
from datetime import date

import duckdb
import pytest

from lakehouse.domain import Check
from lakehouse.domains.air_quality.checks import OUTDATED_HOURS, quality_checks

SILVER, HOURS = "lh.silver.air_quality_hourly_clean", "lh.gold.fact_air_quality_hourly"
DAYS, EPISODES, PLACES = "lh.gold.fact_city_daily", "lh.gold.fact_episode", "lh.gold.dim_location"
DAY, LEAST_HOURS = date(2025, 3, 30), 4
INDICES = [f"{sent}aqi{of}" for sent in ("", "us_") for of in ("", "_pm25", "_pm10", "_no2", "_o3", "_so2", "_co")]

# A day of one place whose clock goes forward on it, with an episode of five hours.
GOOD = f"""
SET TimeZone = 'UTC'; ATTACH ':memory:' AS lh; CREATE SCHEMA lh.silver; CREATE SCHEMA lh.gold;
CREATE TABLE {PLACES} AS SELECT 'madrid' AS location_key, 'Europe/Madrid' AS timezone;
CREATE TABLE lh.gold.dim_zone_offset AS SELECT * FROM (VALUES
  ('Europe/Madrid', TIMESTAMPTZ '2024-10-27 01:00+00', 3600), ('Europe/Madrid', TIMESTAMPTZ '2025-03-30 01:00+00', 7200)
) AS z(timezone, from_ts, offset_seconds);
CREATE TABLE {SILVER} AS SELECT 'madrid' AS location_key, ts_utc, ts_utc::DATE AS date_utc, strftime(ts_utc, '%Y%m%d')::INT AS date_key,
  hour(ts_utc)::INT AS time_key, false AS is_forecast
  FROM (SELECT unnest(generate_series(TIMESTAMPTZ '{DAY} 00:00+00', TIMESTAMPTZ '{DAY} 23:00+00', INTERVAL 1 HOUR)) AS ts_utc);
CREATE TABLE {HOURS} AS SELECT * EXCLUDE is_forecast, 100.0::DOUBLE AS data_completeness, 40::INT AS aqi, 'us-epa-2024' AS aqi_rule,
  TIMESTAMPTZ '2026-08-01 00:00+00' AS retrieved_ts, {", ".join(f"40.0::DOUBLE AS {name}" for name in INDICES if name != "aqi")},
  strftime(ts_utc + to_seconds(CASE WHEN hour(ts_utc) < 1 THEN 3600 ELSE 7200 END), '%Y%m%d')::INT AS local_date_key,
  hour(ts_utc + to_seconds(CASE WHEN hour(ts_utc) < 1 THEN 3600 ELSE 7200 END))::INT AS local_time_key FROM {SILVER};
CREATE TABLE {DAYS} AS SELECT 'madrid' AS location_key, DATE '{DAY}' AS date_utc, 24 AS hours_measured, 20 AS hours_good,
  4 AS hours_moderate, 0 AS hours_usg, 0 AS hours_unhealthy, 0 AS hours_very_unhealthy,
  0 AS hours_hazardous, 100.0::DOUBLE AS data_completeness;
CREATE TABLE {EPISODES} AS SELECT 1 AS episode_id, 'madrid' AS location_key, TIMESTAMPTZ '{DAY} 02:00+00' AS start_ts,
  TIMESTAMPTZ '{DAY} 06:00+00' AS end_ts, 5 AS duration_hours, 5 AS hours_flagged;
"""
NOON = f"ts_utc = TIMESTAMPTZ '{DAY} 12:00+00'"
SECOND_EPISODE = f"INSERT INTO {EPISODES} SELECT 2, 'madrid', end_ts + INTERVAL 1 HOUR, end_ts + INTERVAL 4 HOURS, 4, 4 FROM {EPISODES}"

# (beginning of the check's name, its table): statements, each of which breaks it.
BREAKS: dict[tuple[str, str], list[str]] = {
    ("date_key and date_utc", SILVER): [
        f"UPDATE {SILVER} SET date_key = 20250331 WHERE {NOON}",
        f"UPDATE {SILVER} SET date_utc = DATE '2025-03-31' WHERE {NOON}",
        f"UPDATE {SILVER} SET time_key = 13 WHERE {NOON}",
    ],
    ("date_key and date_utc", HOURS): [
        f"UPDATE {HOURS} SET date_key = 20250331 WHERE {NOON}",
        f"UPDATE {HOURS} SET time_key = 1 WHERE {NOON}",
    ],
    ("local keys", HOURS): [
        f"UPDATE {HOURS} SET local_time_key = 13 WHERE {NOON}",  # as if the clock had not gone forward
        f"UPDATE {HOURS} SET local_date_key = 20250329 WHERE {NOON}",
    ],
    ("every hour of the grid", HOURS): [f"DELETE FROM {HOURS} WHERE {NOON}", f"DELETE FROM {HOURS} WHERE hour(ts_utc) = 23"],
    ("every place is in dim_location", HOURS): [f"UPDATE {HOURS} SET location_key = 'nowhere' WHERE {NOON}"],
    ("every place of dim_location", PLACES): [f"INSERT INTO {PLACES} VALUES ('oslo', 'Europe/Oslo')"],
    ("measured hours of silver", HOURS): [
        f"DELETE FROM {HOURS} WHERE {NOON}",
        f"DELETE FROM {SILVER} WHERE {NOON}",
        f"UPDATE {SILVER} SET is_forecast = true WHERE {NOON}",
    ],
    ("hours_measured counts", DAYS): [
        f"UPDATE {DAYS} SET hours_measured = 23",
        f"UPDATE {DAYS} SET hours_good = 21",
        f"DELETE FROM {HOURS}",
    ],
    ("data_completeness", HOURS): [
        f"UPDATE {HOURS} SET data_completeness = 100.1 WHERE {NOON}",
        f"UPDATE {HOURS} SET data_completeness = NULL WHERE {NOON}",
    ],
    ("data_completeness", DAYS): [f"UPDATE {DAYS} SET data_completeness = -1", f"UPDATE {DAYS} SET data_completeness = 'nan'"],
    ("an episode is as long", EPISODES): [
        f"UPDATE {EPISODES} SET duration_hours = 6",
        f"UPDATE {EPISODES} SET end_ts = end_ts + INTERVAL 1 HOUR",
        f"UPDATE {EPISODES} SET hours_flagged = 3, duration_hours = 3, end_ts = start_ts + INTERVAL 2 HOURS",
    ],
    ("episodes of a place", EPISODES): [SECOND_EPISODE],
    **{(f"{ours} is within", HOURS): [f"UPDATE {HOURS} SET us_{ours} = 46 WHERE {NOON}"] for ours in INDICES if not ours.startswith("us_")},
}


@pytest.fixture
def tables() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute(GOOD)
        yield connection


def bad(tables: duckdb.DuckDBPyConnection, check: Check) -> int:
    return int(tables.execute(f"SELECT count(*) FROM ({check.bad})").fetchall()[0][0])


def the(name: str, table: str) -> Check:
    (check,) = [one for one in quality_checks((DAY, DAY), LEAST_HOURS) if one.table == table and one.name.startswith(name)]
    return check


def test_good_tables_pass_all_checks(tables: duckdb.DuckDBPyConnection) -> None:
    assert {
        one.name: bad(tables, one) for days in ((DAY, DAY), None) for one in quality_checks(days, LEAST_HOURS) if bad(tables, one)
    } == {}
    assert tables.sql(OUTDATED_HOURS).fetchall() == []


def test_every_check_has_a_case_that_breaks_it() -> None:
    broken = {(one.name, one.table) for one in (the(*key) for key in BREAKS)}
    assert broken == {(one.name, one.table) for one in quality_checks((DAY, DAY), LEAST_HOURS)}


@pytest.mark.parametrize(
    ("name", "table", "statement"), [(*key, statement) for key, statements in BREAKS.items() for statement in statements]
)
def test_check_finds_what_breaks_it(tables: duckdb.DuckDBPyConnection, name: str, table: str, statement: str) -> None:
    tables.execute(statement)
    assert bad(tables, the(name, table)) > 0


def test_grid_ends_with_each_places_own_hours_where_no_days_are_asked(tables: duckdb.DuckDBPyConnection) -> None:
    (grid,) = [one for one in quality_checks(None, LEAST_HOURS) if one.name.startswith("every hour of the grid")]
    tables.execute(f"DELETE FROM {HOURS} WHERE hour(ts_utc) = 23")
    assert bad(tables, grid) == 0
    tables.execute(f"DELETE FROM {HOURS} WHERE {NOON}")
    assert bad(tables, grid) == 1
