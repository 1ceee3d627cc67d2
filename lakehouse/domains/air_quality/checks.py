"""What must hold in air quality's tables, whoever filled them? SQL of DuckDB, each giving the rows for which it does not."""

from collections.abc import Sequence

from lakehouse.days import Days
from lakehouse.domain import Check
from lakehouse.domains.air_quality.provider import provider_checks

_SILVER, _HOURS, _DAYS, _EPISODES = (
    "lh.silver.air_quality_hourly_clean",
    "lh.gold.fact_air_quality_hourly",
    "lh.gold.fact_city_daily",
    "lh.gold.fact_episode",
)
# Whose local keys are not what the offsets in force make of ts_utc.
_WRONG_LOCAL_HOURS = f"""FROM (
  SELECT h.location_key, h.ts_utc, h.local_date_key, h.local_time_key, h.ts_utc + to_seconds(z.offset_seconds) AS local_ts
  FROM {_HOURS} h JOIN lh.gold.dim_location d ON d.location_key = h.location_key
  ASOF JOIN lh.gold.dim_zone_offset z ON z.timezone = d.timezone AND h.ts_utc >= z.from_ts
) WHERE local_date_key <> strftime(local_ts, '%Y%m%d')::INT OR local_time_key <> hour(local_ts)"""
# They are those of another release of the zone database. `Domain.outdated` says what it gives.
OUTDATED_HOURS = f"""SELECT location_key AS entity, min(ts_utc) AS since, max(ts_utc) AS until, count(*) AS rows
{_WRONG_LOCAL_HOURS} GROUP BY ALL ORDER BY ALL"""
# The source lacks hours now and then, and so does gold; more than this share of them is ours to explain.
MISSING_SHARE = 0.05


def quality_checks(days: Days, episode_hours: int) -> Sequence[Check]:
    """Return the checks.

    Args:
        days: the grid that every place must fill, both included; from each place's first hour to its last without.
        episode_hours: least length of an episode.
    """
    return [
        Check("date_key and date_utc are those of ts_utc", _SILVER, _wrong_keys(_SILVER)),
        Check("date_key and date_utc are those of ts_utc", _HOURS, _wrong_keys(_HOURS)),
        Check(
            "local keys are those of ts_utc in the place's zone",
            _HOURS,
            f"SELECT location_key, ts_utc, local_date_key, local_time_key {_WRONG_LOCAL_HOURS}",
        ),
        Check("every hour of the grid is there", _HOURS, _missing_hours(days), MISSING_SHARE),
        Check(
            "every place is in dim_location",
            _HOURS,
            f"SELECT DISTINCT h.location_key FROM {_HOURS} h ANTI JOIN lh.gold.dim_location d ON d.location_key = h.location_key",
        ),
        Check(
            "every place of dim_location has hours",
            "lh.gold.dim_location",
            f"SELECT d.location_key FROM lh.gold.dim_location d ANTI JOIN {_HOURS} h ON d.location_key = h.location_key",
        ),
        Check(
            "measured hours of silver are in gold, and no others",
            _HOURS,
            f"SELECT coalesce(s.location_key, h.location_key) AS location_key, coalesce(s.ts_utc, h.ts_utc) AS ts_utc "
            f"FROM (SELECT location_key, ts_utc FROM {_SILVER} WHERE NOT is_forecast) s "
            f"FULL JOIN {_HOURS} h ON s.location_key = h.location_key AND s.ts_utc = h.ts_utc WHERE s.ts_utc IS NULL OR h.ts_utc IS NULL",
        ),
        Check(
            "hours_measured counts the day's hours, and so do the categories",
            _DAYS,
            f"SELECT d.location_key, d.date_utc, d.hours_measured, h.hours FROM {_DAYS} d LEFT JOIN "
            f"(SELECT location_key, date_utc, count(*) AS hours, count(aqi) AS judged FROM {_HOURS} GROUP BY ALL) h "
            "ON h.location_key = d.location_key AND h.date_utc = d.date_utc WHERE h.hours IS DISTINCT FROM d.hours_measured OR h.judged <> "
            "d.hours_good + d.hours_moderate + d.hours_usg + d.hours_unhealthy + d.hours_very_unhealthy + d.hours_hazardous",
        ),
        Check("data_completeness is 0 to 100", _HOURS, _not_percent(_HOURS, "ts_utc")),
        Check("data_completeness is 0 to 100", _DAYS, _not_percent(_DAYS, "date_utc")),
        Check(
            "an episode is as long as its hours, and long enough",
            _EPISODES,
            f"SELECT episode_id, duration_hours, hours_flagged FROM {_EPISODES} WHERE hours_flagged < {episode_hours} "
            "OR duration_hours <> hours_flagged OR date_diff('hour', start_ts, end_ts) + 1 <> duration_hours",
        ),
        Check(
            "episodes of a place do not touch",
            _EPISODES,
            "SELECT episode_id, location_key, start_ts, before FROM "
            f"(SELECT *, lag(end_ts) OVER (PARTITION BY location_key ORDER BY start_ts) AS before FROM {_EPISODES}) "
            "WHERE start_ts <= before + INTERVAL 1 HOUR",
        ),
        *provider_checks(_HOURS),
    ]


def _wrong_keys(table: str) -> str:
    return (
        f"SELECT location_key, ts_utc, date_utc, date_key, time_key FROM {table} WHERE date_utc <> ts_utc::DATE "
        "OR date_key <> strftime(ts_utc, '%Y%m%d')::INT OR time_key <> hour(ts_utc)"
    )


def _missing_hours(days: Days) -> str:
    if days is None:
        ends = f"SELECT location_key, min(ts_utc) AS first, max(ts_utc) AS last FROM {_HOURS} GROUP BY ALL"
    else:
        first, last = (f"TIMESTAMPTZ '{day} {hour}:00:00+00'" for day, hour in zip(days, ("00", "23"), strict=True))
        ends = f"SELECT location_key, {first} AS first, {last} AS last FROM lh.gold.dim_location"
    grid = f"SELECT location_key, unnest(generate_series(first, last, INTERVAL 1 HOUR)) AS ts_utc FROM ({ends})"
    return (
        f"SELECT g.location_key, g.ts_utc FROM ({grid}) g ANTI JOIN {_HOURS} h ON h.location_key = g.location_key AND h.ts_utc = g.ts_utc"
    )


def _not_percent(table: str, time: str) -> str:
    return f"SELECT location_key, {time}, data_completeness FROM {table} WHERE NOT coalesce(data_completeness BETWEEN 0 AND 100, false)"
