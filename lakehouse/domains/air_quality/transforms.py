"""How do readings become clean hours, facts, days and episodes? Pure functions; the AQI's own formula is in `aqi.py`.

Their texts are read by Spark and by DuckDB alike: see `lakehouse/engine/functions.py`.

Each gold table states beside its transform how far a changed row reaches (`*_reach`): the span of rows that must be
recomputed when rows in a given span have changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

from lakehouse.domains.air_quality import aqi
from lakehouse.domains.air_quality.contract import MEASURES, PROVIDER_INDICES, AqiRuleName
from lakehouse.domains.dates.zones import local_seconds
from lakehouse.engine.functions import date_key, double, iso_text, mean, text
from lakehouse.engine.relation import Relation
from lakehouse.spans import Spans

MEASURE_NAMES = tuple(MEASURES.values())
PROVIDER_NAMES = tuple(PROVIDER_INDICES.values())
HOUR = timedelta(hours=1)
SUB_INDICES = {p: f"aqi_{p}" for p in aqi.POLLUTANTS}
PEAKS = [f"max({column}) AS peak_{p}" for p, column in SUB_INDICES.items()]
DOMINANT_PEAK = aqi.dominant({p: f"peak_{p}" for p in aqi.POLLUTANTS})
_LOWEST = (0, *(high + 1 for high in aqi.CATEGORIES.values()))
CATEGORY_CONDITIONS = {c: f"aqi BETWEEN {low} AND {high}" for low, (c, high) in zip(_LOWEST, aqi.CATEGORIES.items(), strict=False)} | {
    "hazardous": f"aqi >= {_LOWEST[-1]}"
}


@dataclass(frozen=True, slots=True)
class GoldRules:
    """What gold depends on beside the rows.

    Attributes:
        aqi_rule: edition of the index.
        episode_threshold: an hour whose AQI is at least this is flagged.
        episode_hours: least number of consecutive flagged hours that make an episode.
        timezones: IANA zone by location_key, for the local date and hour; UTC where a place has none.
    """

    aqi_rule: AqiRuleName = "us-epa-2024"
    episode_threshold: int = 151
    episode_hours: int = 4
    timezones: dict[str, str] = field(default_factory=dict)

    @property
    def rule_code(self) -> str:
        """The episode rule's code, such as `AQI>=151_4h`."""
        return f"AQI>={self.episode_threshold}_{self.episode_hours}h"

    @classmethod
    def of_edition(cls, edition: Mapping[str, str], timezones: dict[str, str]) -> "GoldRules":
        """Return the rules by which gold of an edition was made, as its tables' properties name it."""
        threshold, hours = edition["rule_code"].removeprefix("AQI>=").removesuffix("h").split("_")
        return cls(cast(AqiRuleName, edition["aqi_rule"]), int(threshold), int(hours), timezones)


def to_clean_hours(readings: Relation) -> Relation:
    """Shape accepted readings into silver. Row-wise.

    Returns:
        The readings' business columns with date_key (YYYYMMDD, UTC), time_key (0-23, UTC) and is_forecast: the hour began
        after the source was asked, so its values are a forecast.
    """
    return readings.select(
        "location_key",
        "ts_utc",
        "CAST(ts_utc AS DATE) AS date_utc",
        f"{date_key('ts_utc')} AS date_key",
        "CAST(hour(ts_utc) AS INT) AS time_key",
        "latitude",
        "longitude",
        *MEASURE_NAMES,
        *PROVIDER_NAMES,
        "model_domain",
        "request_timezone",
        "ts_utc > retrieved_ts AS is_forecast",
        "retrieved_ts",
    )


def hourly_reach(changed: Spans) -> Spans:
    """An hour's AQI looks back 24 hours, so a changed hour reaches the 24 after it."""
    return changed.widened(after=aqi.LOOK_BACK_HOURS * HOUR)


def hourly_reads(span: Spans) -> Spans:
    """The clean hours that the facts of a span are made of: those of the span and the 24 before."""
    return span.widened(before=aqi.LOOK_BACK_HOURS * HOUR)


def to_hourly_facts(clean_hours: Relation, rules: GoldRules) -> Relation:
    """Compute the hourly facts: measures, six sub-indices, the AQI and its dominant pollutant.

    Bounded input only: hand it each hour with the 24 hours before, or the means will be those of a part.

    Args:
        clean_hours: one row per (location_key, ts_utc).
        rules: edition of the index and the zones.

    Returns:
        One row per (location_key, ts_utc) that had passed when the source was asked; forecasts stay in silver. `aqi` is an
        integer, `aqi_*` are unrounded; null where the concentrations do not suffice. data_completeness: share of the ten
        measures that are not null, in %.
    """
    # The API answers with forecast hours too: silver keeps them, a fact is made of hours that had passed when we asked.
    measured = clean_hours.where("NOT is_forecast")
    indexed = aqi.with_sub_indices(measured, aqi.RULES[rules.aqi_rule])
    # Once: the zone is looked up among all places. Not by Spark's own zones: Java's database is of another release than ours.
    ahead = local_seconds("ts_utc", rules.timezones, "location_key")
    located = indexed.select("*", f"timestamp_seconds(unix_seconds(ts_utc) + {ahead}) AS _local_ts")
    present = " + ".join(f"CAST({m} IS NOT NULL AS INT)" for m in MEASURE_NAMES)
    return located.select(
        "location_key",
        "ts_utc",
        "date_utc",
        "date_key",
        "time_key",
        f"{date_key('_local_ts')} AS local_date_key",
        "CAST(hour(_local_ts) AS INT) AS local_time_key",
        *MEASURE_NAMES,
        f"{aqi.overall(list(SUB_INDICES.values()))} AS aqi",
        *SUB_INDICES.values(),
        f"{aqi.dominant(SUB_INDICES)} AS dominant_pollutant",
        f"({present}) * {double(100)} / {len(MEASURE_NAMES)} AS data_completeness",
        f"'{rules.aqi_rule}' AS aqi_rule",
        *PROVIDER_NAMES,
        "retrieved_ts",
    )


def daily_reach(changed: Spans) -> Spans:
    """A changed hour reaches the whole of its UTC day."""
    return changed.whole_days()


def to_city_days(hourly_facts: Relation) -> Relation:
    """Fold hourly facts into UTC days.

    Bounded input only: hand it whole days.

    Args:
        hourly_facts: one row per (location_key, ts_utc).

    Returns:
        One row per (location_key, date_utc) with at least one measured hour. Hours without an AQI are in hours_measured but
        in no category. dominant_pollutant: the one with the day's largest sub-index. data_completeness: measured hours of
        24, in %.
    """
    days = hourly_facts.group(
        ("location_key", "date_utc", "date_key", "aqi_rule"),
        f"{mean('pm25')} AS avg_pm25",
        "min(pm25) AS min_pm25",
        "max(pm25) AS max_pm25",
        "avg(aqi) AS avg_aqi",
        "max(aqi) AS max_aqi",
        *[
            f"CAST(count(CASE WHEN {condition} THEN 1 END) AS INT) AS hours_{category}"
            for category, condition in CATEGORY_CONDITIONS.items()
        ],
        "CAST(count(1) AS INT) AS hours_measured",
        *PEAKS,
    )
    return days.select(
        "location_key",
        "date_utc",
        "date_key",
        "avg_pm25",
        "min_pm25",
        "max_pm25",
        "avg_aqi",
        "max_aqi",
        *[f"hours_{category}" for category in CATEGORY_CONDITIONS],
        "hours_measured",
        f"{DOMINANT_PEAK} AS dominant_pollutant",
        f"hours_measured * {double(100)} / 24 AS data_completeness",
        "aqi_rule",
    )


def episode_reach(changed: Spans, rules: GoldRules) -> Spans:
    """Changed hourly facts may make an episode of runs beside them, each an hour too short to be one."""
    edge = (rules.episode_hours - 1) * HOUR
    return changed.widened(before=edge, after=edge)


def episode_reads(span: Spans) -> Spans:
    """The hourly facts that the episodes of a span are made of: the hour beside it tells whether a run ends there."""
    return span.widened(before=HOUR, after=HOUR)


def to_episodes(hourly_facts: Relation, rules: GoldRules) -> Relation:
    """Find the episodes: runs of consecutive hours whose AQI is at least the threshold, of at least the least length.

    Bounded input only: hand it whole runs. A missing hour and an hour without an AQI break a run.

    Args:
        hourly_facts: one row per (location_key, ts_utc).
        rules: threshold and least length.

    Returns:
        One row per (location_key, start_ts). end_ts is the last flagged hour. episode_id is an MD5 of location, start and
        rule, so every recomputation gives the same id.
    """
    flagged = hourly_facts.where(f"aqi >= {rules.episode_threshold}")
    # Within a run, hour minus rank is constant.
    rank = "row_number() OVER (PARTITION BY location_key ORDER BY ts_utc)"
    runs = flagged.select("*", f"CAST(floor(unix_seconds(ts_utc) / {aqi.HOUR}) AS BIGINT) - {rank} AS run").group(
        ("location_key", "run", "aqi_rule"),
        "min(ts_utc) AS start_ts",
        "max(ts_utc) AS end_ts",
        "CAST(count(1) AS INT) AS hours_flagged",
        "avg(aqi) AS avg_aqi",
        "max(aqi) AS peak_aqi",
        *PEAKS,
    )
    identity = f"concat_ws('|', location_key, {iso_text('start_ts')}, {text(rules.rule_code)})"
    severity = (
        f"CASE WHEN peak_aqi <= {aqi.CATEGORIES['unhealthy']} THEN 'unhealthy' "
        f"WHEN peak_aqi <= {aqi.CATEGORIES['very_unhealthy']} THEN 'very_unhealthy' ELSE 'hazardous' END"
    )
    return runs.where(f"hours_flagged >= {rules.episode_hours}").select(
        f"md5({identity}) AS episode_id",
        "location_key",
        "start_ts",
        "end_ts",
        "CAST(start_ts AS DATE) AS start_date_utc",
        f"CAST(floor((unix_seconds(end_ts) - unix_seconds(start_ts)) / {aqi.HOUR}) + 1 AS INT) AS duration_hours",
        "hours_flagged",
        "avg_aqi",
        "peak_aqi",
        f"{DOMINANT_PEAK} AS dominant_pollutant",
        f"{severity} AS severity_level",
        f"{text(rules.rule_code)} AS rule_code",
        "aqi_rule",
    )
