"""How do readings become clean hours, facts, days and episodes? Pure functions; the AQI's own formula is in `aqi.py`.

Each gold table states beside its transform how far a changed row reaches (`*_reach`): the span of rows that must be
recomputed when rows in a given span have changed.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from lakehouse.domains.air_quality import aqi
from lakehouse.domains.air_quality.contract import MEASURES, PROVIDER_INDICES, AqiRuleName
from lakehouse.spans import Spans

MEASURE_NAMES = tuple(MEASURES.values())
PROVIDER_NAMES = tuple(PROVIDER_INDICES.values())
HOUR = timedelta(hours=1)


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


def to_clean_hours(readings: DataFrame) -> DataFrame:
    """Shape accepted readings into silver. Row-wise.

    Returns:
        The readings' business columns with date_key (YYYYMMDD, UTC), time_key (0-23, UTC) and is_forecast: the hour began
        after the source was asked, so its values are a forecast.
    """
    return readings.select(
        "location_key",
        "ts_utc",
        F.to_date("ts_utc").alias("date_utc"),
        _date_key(F.col("ts_utc")).alias("date_key"),
        F.hour("ts_utc").alias("time_key"),
        "latitude",
        "longitude",
        *MEASURE_NAMES,
        *PROVIDER_NAMES,
        "model_domain",
        "request_timezone",
        (F.col("ts_utc") > F.col("retrieved_ts")).alias("is_forecast"),
        "retrieved_ts",
    )


def hourly_reach(changed: Spans) -> Spans:
    """An hour's AQI looks back 24 hours, so a changed hour reaches the 24 after it."""
    return changed.widened(after=aqi.LOOK_BACK_HOURS * HOUR)


def hourly_reads(span: Spans) -> Spans:
    """The clean hours that the facts of a span are made of: those of the span and the 24 before."""
    return span.widened(before=aqi.LOOK_BACK_HOURS * HOUR)


def to_hourly_facts(clean_hours: DataFrame, rules: GoldRules) -> DataFrame:
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
    measured = clean_hours.where(~F.col("is_forecast"))
    rule = aqi.RULES[rules.aqi_rule]
    indexed = measured.withColumns({f"aqi_{p}": aqi.sub_index(p, rule) for p in aqi.POLLUTANTS})
    sub_indices = {p: F.col(f"aqi_{p}") for p in aqi.POLLUTANTS}
    local_ts = F.from_utc_timestamp("ts_utc", _timezone(rules.timezones))
    present = sum((F.col(m).isNotNull().cast("int") for m in MEASURE_NAMES), F.lit(0))
    return indexed.select(
        "location_key",
        "ts_utc",
        "date_utc",
        "date_key",
        "time_key",
        _date_key(local_ts).alias("local_date_key"),
        F.hour(local_ts).alias("local_time_key"),
        *MEASURE_NAMES,
        aqi.overall(list(sub_indices.values())).alias("aqi"),
        *sub_indices.values(),
        aqi.dominant(sub_indices).alias("dominant_pollutant"),
        (present * F.lit(100.0) / F.lit(len(MEASURE_NAMES))).alias("data_completeness"),
        F.lit(rules.aqi_rule).alias("aqi_rule"),
        *PROVIDER_NAMES,
        "retrieved_ts",
    )


def daily_reach(changed: Spans) -> Spans:
    """A changed hour reaches the whole of its UTC day."""
    return changed.whole_days()


def to_city_days(hourly_facts: DataFrame) -> DataFrame:
    """Fold hourly facts into UTC days.

    Bounded input only: hand it whole days.

    Args:
        hourly_facts: one row per (location_key, ts_utc).

    Returns:
        One row per (location_key, date_utc) with at least one measured hour. Hours without an AQI are in hours_measured but
        in no category. dominant_pollutant: the one with the day's largest sub-index. data_completeness: measured hours of
        24, in %.
    """
    peaks = {p: F.col(f"peak_{p}") for p in aqi.POLLUTANTS}
    days = hourly_facts.groupBy("location_key", "date_utc", "date_key", "aqi_rule").agg(
        F.avg("pm25").alias("avg_pm25"),
        F.min("pm25").alias("min_pm25"),
        F.max("pm25").alias("max_pm25"),
        F.avg("aqi").alias("avg_aqi"),
        F.max("aqi").alias("max_aqi"),
        *[_count_hours(condition).alias(f"hours_{category}") for category, condition in _category_conditions().items()],
        F.count(F.lit(1)).cast("int").alias("hours_measured"),
        *[F.max(f"aqi_{p}").alias(f"peak_{p}") for p in aqi.POLLUTANTS],
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
        *[f"hours_{category}" for category in _category_conditions()],
        "hours_measured",
        aqi.dominant(peaks).alias("dominant_pollutant"),
        (F.col("hours_measured") * F.lit(100.0) / F.lit(24)).alias("data_completeness"),
        "aqi_rule",
    )


def episode_reads(span: Spans, rules: GoldRules) -> Spans:
    """The hourly facts that the episodes of a span are made of.

    The span already holds every longer episode that touches it (see `Gold.grows`), so what reaches out of it is a run
    shorter than an episode.
    """
    edge = (rules.episode_hours - 1) * HOUR
    return span.widened(before=edge, after=edge)


def to_episodes(hourly_facts: DataFrame, rules: GoldRules) -> DataFrame:
    """Find the episodes: runs of consecutive hours whose AQI is at least the threshold, of at least the least length.

    Bounded input only: hand it whole runs. A missing hour and an hour without an AQI break a run.

    Args:
        hourly_facts: one row per (location_key, ts_utc).
        rules: threshold and least length.

    Returns:
        One row per (location_key, start_ts). end_ts is the last flagged hour. episode_id is an MD5 of location, start and
        rule, so every recomputation gives the same id.
    """
    flagged = hourly_facts.where(F.col("aqi") >= F.lit(rules.episode_threshold))
    # Within a run, hour minus rank is constant.
    rank = F.row_number().over(Window.partitionBy("location_key").orderBy("ts_utc"))
    run = (F.unix_timestamp("ts_utc") / F.lit(aqi.HOUR)).cast("long") - rank
    peaks = {p: F.col(f"peak_{p}") for p in aqi.POLLUTANTS}
    runs = (
        flagged.withColumn("run", run)
        .groupBy("location_key", "run", "aqi_rule")
        .agg(
            F.min("ts_utc").alias("start_ts"),
            F.max("ts_utc").alias("end_ts"),
            F.count(F.lit(1)).cast("int").alias("hours_flagged"),
            F.avg("aqi").alias("avg_aqi"),
            F.max("aqi").alias("peak_aqi"),
            *[F.max(f"aqi_{p}").alias(f"peak_{p}") for p in aqi.POLLUTANTS],
        )
    )
    duration = ((F.unix_timestamp("end_ts") - F.unix_timestamp("start_ts")) / F.lit(aqi.HOUR) + F.lit(1)).cast("int")
    identity = F.concat_ws("|", "location_key", F.date_format("start_ts", "yyyy-MM-dd'T'HH:mm:ss'Z'"), F.lit(rules.rule_code))
    severity = (
        F.when(F.col("peak_aqi") <= F.lit(aqi.CATEGORIES["unhealthy"]), "unhealthy")
        .when(F.col("peak_aqi") <= F.lit(aqi.CATEGORIES["very_unhealthy"]), "very_unhealthy")
        .otherwise("hazardous")
    )
    return runs.where(F.col("hours_flagged") >= F.lit(rules.episode_hours)).select(
        F.md5(identity.cast("binary")).alias("episode_id"),
        "location_key",
        "start_ts",
        "end_ts",
        F.to_date("start_ts").alias("start_date_utc"),
        duration.alias("duration_hours"),
        "hours_flagged",
        "avg_aqi",
        "peak_aqi",
        aqi.dominant(peaks).alias("dominant_pollutant"),
        severity.alias("severity_level"),
        F.lit(rules.rule_code).alias("rule_code"),
        "aqi_rule",
    )


def _date_key(instant: Column) -> Column:
    return F.date_format(instant, "yyyyMMdd").cast("int")


def _timezone(timezones: dict[str, str]) -> Column:
    if not timezones:
        return F.lit("UTC")
    by_location = F.create_map(*[F.lit(part) for pair in sorted(timezones.items()) for part in pair])
    return F.coalesce(F.try_element_at(by_location, F.col("location_key")), F.lit("UTC"))


def _category_conditions() -> dict[str, Column]:
    conditions, low = {}, 0
    for category, high in aqi.CATEGORIES.items():
        conditions[category] = F.col("aqi").between(low, high)
        low = high + 1
    return conditions | {"hazardous": F.col("aqi") >= F.lit(low)}


def _count_hours(condition: Column) -> Column:
    return F.count_if(F.coalesce(condition, F.lit(False))).cast("int")
