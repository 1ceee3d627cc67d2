"""Which tables does air quality have, and how is each made? Add a column here and in the transform that fills it."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from lakehouse.domain import ByTime, Derived, Domain, Fresh, Source, over_time
from lakehouse.domains.air_quality import transforms as t
from lakehouse.domains.air_quality.aqi import FORMULA
from lakehouse.domains.air_quality.checks import OUTDATED_HOURS, quality_checks
from lakehouse.domains.air_quality.contract import HOURLY, MEASURES, PROVIDER_INDICES
from lakehouse.domains.air_quality.locations import Location, Pollutant
from lakehouse.domains.air_quality.rules import reading_rules
from lakehouse.domains.dates import zones
from lakehouse.domains.dates.tables import DIM_DATE, DIM_TIME, date_rows, time_rows
from lakehouse.tables.schema import SOURCE_COLUMNS, Column, Table, contract_columns

ORACLE = (Path(__file__).parent / "oracle.sql").read_text(encoding="utf-8")

_MEASURES = tuple(MEASURES.values())
_PROVIDER = tuple(PROVIDER_INDICES.values())
_DATE_UTC = Column("date_utc", "DATE", "UTC date of the hour")
_DATE_KEY = Column("date_key", "INT", "UTC date as YYYYMMDD; dim_date")
_TIME_KEY = Column("time_key", "INT", "UTC hour, 0-23; dim_time")
_AQI_RULE = Column("aqi_rule", "STRING", "edition of the index that the row was computed by")
_DOMINANT = Column("dominant_pollutant", "STRING", "the largest sub-index; ties in the order pm25, pm10, o3, no2, so2, co")

BRONZE = Table(
    name="lh.bronze.open_meteo_hourly",
    grain="one row per message that arrived",
    key=(),
    columns=(
        *contract_columns(HOURLY, ("location_key", "ts_utc")),
        _DATE_UTC,
        *contract_columns(HOURLY, ("latitude", "longitude", *_MEASURES, *_PROVIDER, "model_domain", "request_timezone", "retrieved_ts")),
        *SOURCE_COLUMNS,
    ),
    partitioned_by=("days(kafka_ts)",),
    # An append of a micro-batch needs no shuffle: its rows arrive on one day.
    properties={"write.distribution-mode": "none", "write.spark.fanout.enabled": "true"},
)

SILVER = Table(
    name="lh.silver.air_quality_hourly_clean",
    grain="one row per place and hour, the latest retrieval",
    key=("location_key", "ts_utc"),
    columns=(
        *contract_columns(HOURLY, ("location_key", "ts_utc")),
        _DATE_UTC,
        _DATE_KEY,
        _TIME_KEY,
        *contract_columns(HOURLY, ("latitude", "longitude", *_MEASURES, *_PROVIDER, "model_domain", "request_timezone")),
        Column("is_forecast", "BOOLEAN", "the hour began after the source was asked"),
        *contract_columns(HOURLY, ("retrieved_ts",)),
    ),
    partitioned_by=("months(ts_utc)",),
)

FACT_HOURLY = Table(
    name="lh.gold.fact_air_quality_hourly",
    grain="one row per place and measured hour",
    key=("location_key", "ts_utc"),
    columns=(
        *contract_columns(HOURLY, ("location_key", "ts_utc")),
        _DATE_UTC,
        _DATE_KEY,
        _TIME_KEY,
        Column("local_date_key", "INT", "date in the place's zone as YYYYMMDD; dim_date"),
        Column("local_time_key", "INT", "hour in the place's zone, 0-23; dim_time"),
        *contract_columns(HOURLY, _MEASURES),
        Column("aqi", "INT", "the largest sub-index, rounded half up; null where no sub-index can be computed"),
        Column("aqi_pm25", "DOUBLE", "sub-index, mean of the 24 hours before"),
        Column("aqi_pm10", "DOUBLE", "sub-index, mean of the 24 hours before"),
        Column("aqi_o3", "DOUBLE", "sub-index, mean of the 8 hours before, and of the hour from 125 ppb"),
        Column("aqi_no2", "DOUBLE", "sub-index of the hour"),
        Column("aqi_so2", "DOUBLE", "sub-index of the hour, and of the 24 hours before above 304 ppb"),
        Column("aqi_co", "DOUBLE", "sub-index, mean of the 8 hours before"),
        _DOMINANT,
        Column("data_completeness", "DOUBLE", "share of the ten measures that are not null [%]"),
        _AQI_RULE,
        *contract_columns(HOURLY, (*_PROVIDER, "retrieved_ts")),
    ),
    partitioned_by=("months(ts_utc)",),
)

FACT_CITY_DAILY = Table(
    name="lh.gold.fact_city_daily",
    grain="one row per place and UTC day with a measured hour",
    key=("location_key", "date_utc"),
    columns=(
        *contract_columns(HOURLY, ("location_key",)),
        _DATE_UTC,
        _DATE_KEY,
        Column("avg_pm25", "DOUBLE", "mean over the measured hours [µg/m³]"),
        Column("min_pm25", "DOUBLE", "least hour [µg/m³]"),
        Column("max_pm25", "DOUBLE", "greatest hour [µg/m³]"),
        Column("avg_aqi", "DOUBLE", "mean of the hours' AQI"),
        Column("max_aqi", "INT", "greatest AQI of an hour"),
        Column("hours_good", "INT", "hours with AQI 0-50"),
        Column("hours_moderate", "INT", "hours with AQI 51-100"),
        Column("hours_usg", "INT", "hours with AQI 101-150, unhealthy for sensitive groups"),
        Column("hours_unhealthy", "INT", "hours with AQI 151-200"),
        Column("hours_very_unhealthy", "INT", "hours with AQI 201-300"),
        Column("hours_hazardous", "INT", "hours with AQI above 300"),
        Column("hours_measured", "INT", "measured hours of the day, with or without an AQI"),
        _DOMINANT,
        Column("data_completeness", "DOUBLE", "measured hours of 24 [%]"),
        _AQI_RULE,
    ),
    partitioned_by=("years(date_utc)",),
)

FACT_EPISODE = Table(
    name="lh.gold.fact_episode",
    grain="one row per run of consecutive hours with a high AQI",
    key=("episode_id",),
    columns=(
        Column("episode_id", "STRING", "MD5 of location_key|start_ts|rule_code"),
        *contract_columns(HOURLY, ("location_key",)),
        Column("start_ts", "TIMESTAMP", "first flagged hour"),
        Column("end_ts", "TIMESTAMP", "last flagged hour"),
        Column("start_date_utc", "DATE", "UTC date of start_ts"),
        Column("duration_hours", "INT", "hours from start_ts to end_ts, both included"),
        Column("hours_flagged", "INT", "hours with a high AQI; equals duration_hours, since a missing hour breaks a run"),
        Column("avg_aqi", "DOUBLE", "mean of the hours' AQI"),
        Column("peak_aqi", "INT", "greatest AQI of an hour"),
        _DOMINANT,
        Column("severity_level", "STRING", "by the peak: unhealthy to 200, very_unhealthy to 300, hazardous above"),
        Column("rule_code", "STRING", "threshold and least length, such as AQI>=151_4h"),
        _AQI_RULE,
    ),
    partitioned_by=("years(start_ts)",),
)

DIM_LOCATION = Table(
    name="lh.gold.dim_location",
    grain="one row per place",
    key=("location_key",),
    columns=(
        Column("location_key", "STRING", "the place's key, the same in every table"),
        Column("location_name", "STRING", "as its people write it"),
        Column("latitude", "DOUBLE", "as asked for [°]"),
        Column("longitude", "DOUBLE", "as asked for [°]"),
        Column("timezone", "STRING", "IANA zone of the local keys"),
    ),
)

DIM_ZONE_OFFSET = Table(
    name="lh.gold.dim_zone_offset",
    grain="one row per zone of a place and change of its offset from UTC",
    key=("timezone", "from_ts"),
    columns=(
        Column("timezone", "STRING", "IANA zone; dim_location"),
        Column("from_ts", "TIMESTAMP", "from this instant on, until the zone's next row"),
        Column("offset_seconds", "INT", "the zone's clocks are so far ahead of UTC [s]"),
        Column("tzdata", "STRING", "release of the zone database that says so"),
    ),
)

DIM_POLLUTANT = Table(
    name="lh.gold.dim_pollutant",
    grain="one row per measure",
    key=("pollutant_code",),
    columns=(
        Column("pollutant_code", "STRING", "the measure's column name in the facts"),
        Column("display_name", "STRING", "for people"),
        Column("unit_default", "STRING", "unit of the column"),
        Column("aqi_timespan", "STRING", "averaging time of its sub-index; null where it has none"),
    ),
)


def _zone_rows(names: Iterable[str]) -> list[tuple[object, ...]]:
    return [(name, one.since, one.seconds, zones.VERSION) for name in sorted(names) for one in zones.offsets(name)]


def air_quality(
    rules: t.GoldRules, locations: Sequence[Location], pollutants: Sequence[Pollutant], left_out: Collection[str] = ()
) -> Domain:
    """Put the domain together: its tables, rules and transforms, as `apply` needs them.

    Args:
        rules: the edition.
        locations: the places.
        pollutants: the measures.
        left_out: keys of places whose zone is unknown: their rows are rejected, and stop no others.
    """
    source = Source(
        contract=HOURLY,
        bronze=BRONZE,
        silver=SILVER,
        rules=reading_rules([place.location_key for place in locations], left_out),
        to_silver=t.to_clean_hours,
        kind=ByTime("location_key", "ts_utc"),
    )
    hours_of_days = over_time(FACT_HOURLY, "location_key", "ts_utc", reach=t.daily_reach)
    hours_of_episodes = over_time(
        FACT_HOURLY, "location_key", "ts_utc", reach=lambda span: t.episode_reach(span, rules), needs=t.episode_reads
    )
    return Domain(
        name="air_quality",
        sources=(source,),
        derived=(
            Derived(
                FACT_HOURLY,
                ByTime("location_key", "ts_utc"),
                reads=(over_time(SILVER, "location_key", "ts_utc", reach=t.hourly_reach, needs=t.hourly_reads),),
                to_rows=lambda hours: t.to_hourly_facts(hours, rules),
                vanishes=False,
            ),
            Derived(FACT_CITY_DAILY, ByTime("location_key", "date_utc"), reads=(hours_of_days,), to_rows=t.to_city_days, vanishes=False),
            Derived(
                FACT_EPISODE,
                ByTime("location_key", "start_ts", "end_ts", grows=t.HOUR),
                reads=(hours_of_episodes,),
                to_rows=lambda hours: t.to_episodes(hours, rules),
            ),
        ),
        dimensions=(
            (DIM_LOCATION, [(p.location_key, p.location_name, p.latitude, p.longitude, p.timezone) for p in locations]),
            (DIM_ZONE_OFFSET, _zone_rows({place.timezone for place in locations})),
            (DIM_POLLUTANT, [(p.pollutant_code, p.display_name, p.unit_default, p.aqi_timespan) for p in pollutants]),
            (DIM_DATE, date_rows()),
            (DIM_TIME, time_rows()),
        ),
        edition={"aqi_rule": rules.aqi_rule, "rule_code": rules.rule_code, "aqi_formula": FORMULA},
        edition_before={"aqi_formula": "1"},
        exact=(DIM_ZONE_OFFSET.name,),
        references={"tzdata": zones.VERSION},
        outdated=OUTDATED_HOURS,
        by_edition=lambda edition: air_quality(t.GoldRules.of_edition(edition, rules.timezones), locations, pollutants, left_out),
        checks=lambda days: quality_checks(days, rules.episode_hours),
        oracle=ORACLE,
        fresh=(
            Fresh(FACT_CITY_DAILY, "location_key", "date_utc"),
            Fresh(SILVER, "location_key", "ts_utc", but="is_forecast", asked="retrieved_ts"),
            Fresh(FACT_HOURLY, "location_key", "ts_utc", asked="retrieved_ts"),
        ),
        entities=[place.location_key for place in locations],
    )
