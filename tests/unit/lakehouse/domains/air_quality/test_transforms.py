"""Do the transforms compute what the EPA's tables and the definitions say? Cases worked out by hand."""

import hashlib
import random
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.domains.air_quality.contract import AqiRuleName
from lakehouse.domains.air_quality.tables import FACT_CITY_DAILY, FACT_EPISODE, FACT_HOURLY, SILVER
from lakehouse.domains.air_quality.transforms import GoldRules, to_city_days, to_clean_hours, to_episodes, to_hourly_facts
from lakehouse.domains.dates.zones import offsets, zone
from lakehouse.engine.on_duckdb import DuckEngine
from tests.support.rows import arrow_rows
from tests.unit.lakehouse.domains.dates.test_zones import ODD

START = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckEngine]:
    """Give DuckDB; that Spark computes the same is shown in `tests/spark/test_both_engines.py`."""
    engine = DuckEngine()
    yield engine
    engine.close()


def clean_hours(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Build clean hours; a row names its hour after START and what matters to the case, the rest is null."""
    filled = []
    for row in rows:
        ts = START + timedelta(hours=row["hour"])
        known = {
            "location_key": "hanoi",
            "ts_utc": ts,
            "date_utc": ts.date(),
            "date_key": int(ts.strftime("%Y%m%d")),
            "time_key": ts.hour,
            "is_forecast": False,
            "retrieved_ts": START + timedelta(days=90),
        }
        filled.append({**known, **row})
    return arrow_rows(SILVER, filled)


def facts(engine: DuckEngine, rows: Iterable[Mapping[str, Any]], rule: AqiRuleName = "us-epa-2012") -> dict[int, dict[str, Any]]:
    rules = GoldRules(aqi_rule=rule, timezones={"hanoi": "Asia/Ho_Chi_Minh"})
    made = engine.compute(lambda hours: to_hourly_facts(hours, rules), [clean_hours(rows)], FACT_HOURLY)
    return {int((row["ts_utc"] - START) / timedelta(hours=1)): row for row in made.to_pylist()}


@pytest.mark.parametrize(
    ("rule", "concentration", "index"),
    [
        ("us-epa-2012", 12.0, 50),
        ("us-epa-2012", 35.5, 100),
        ("us-epa-2012", 6.0, 25),
        ("us-epa-2012", 45.5, 125),
        ("us-epa-2012", 2.76, 12),  # 11.5 exactly: half up
        ("us-epa-2012", 650.5, 600),  # beyond the last point the last segment goes on
        ("us-epa-2024", 9.0, 50),
        ("us-epa-2024", 9.1, 51),
        ("us-epa-2024", 35.5, 101),
        ("us-epa-2024", 125.5, 201),
        ("us-epa-2024", 325.5, 500),
    ],
)
def test_pm25_index_at_the_points_of_each_edition(engine: DuckEngine, rule: AqiRuleName, concentration: float, index: int) -> None:
    made = facts(engine, [{"hour": hour, "pm25": concentration} for hour in range(25)], rule)
    assert (made[24]["aqi"], made[24]["dominant_pollutant"], made[24]["aqi_rule"]) == (index, "pm25", rule)


def test_mean_is_of_the_hours_before_and_needs_three_quarters_of_them(engine: DuckEngine) -> None:
    rows = [{"hour": hour, "pm25": 12.0} for hour in range(18)] + [{"hour": 18, "pm25": 900.0}]
    made = facts(engine, rows)
    assert made[17]["aqi"] is None, "17 of 24 hours before are not enough"
    assert made[18]["aqi"] == 50, "18 are, and the hour itself does not count"
    assert made[17]["dominant_pollutant"] is None


@pytest.mark.parametrize(
    ("measures", "index", "pollutant"),
    [
        ({"no2": 54 * 1.88}, 50, "no2"),
        ({"so2": 75 * 2.62}, 100, "so2"),
        ({"so2": 1000 * 2.62}, 200, "so2"),  # an hour alone counts as 200 at most
        ({"o3": 125 * 1.96}, 100, "o3"),
        ({"no2": 100 * 1.88, "so2": 75 * 2.62}, 100, "no2"),  # a tie goes to the first
    ],
)
def test_index_of_the_hour_itself(engine: DuckEngine, measures: dict[str, float], index: int, pollutant: str) -> None:
    made = facts(engine, [{"hour": 0, **measures}])
    assert (made[0]["aqi"], made[0]["dominant_pollutant"]) == (index, pollutant)


def test_ozone_below_125_ppb_has_no_hourly_index(engine: DuckEngine) -> None:
    assert facts(engine, [{"hour": 0, "o3": 100 * 1.96}])[0]["aqi"] is None


def test_local_keys_follow_the_places_zone_and_completeness_counts_ten_measures(engine: DuckEngine) -> None:
    row = facts(engine, [{"hour": 20, "pm25": 1.0, "aod": 0.1, "co2": 420.0}])[20]
    assert (row["date_key"], row["time_key"]) == (20240301, 20)
    assert (row["local_date_key"], row["local_time_key"]) == (20240302, 3)
    assert row["data_completeness"] == 30.0


def test_forecast_hours_are_no_facts_and_do_not_enter_a_mean(engine: DuckEngine) -> None:
    rows: list[dict[str, Any]] = [{"hour": hour, "pm25": 12.0, "is_forecast": hour == 5} for hour in range(19)]
    made = facts(engine, rows)
    assert 5 not in made
    assert made[18]["aqi"] is None, "17 measured hours before"


def test_city_day_counts_the_hours_of_each_category(engine: DuckEngine) -> None:
    indices = [50, 51, 100, 101, 150, 151, 200, 201, 300, 301, None]
    known = {"location_key": "hanoi", "date_utc": START.date(), "date_key": 20240301, "aqi_rule": "us-epa-2012"}
    hours = arrow_rows(FACT_HOURLY, ({**known, "pm25": float(n), "aqi": aqi, "aqi_o3": aqi} for n, aqi in enumerate(indices)))
    (day,) = engine.compute(to_city_days, [hours], FACT_CITY_DAILY).to_pylist()
    counts = [day[f"hours_{c}"] for c in ("good", "moderate", "usg", "unhealthy", "very_unhealthy", "hazardous")]
    assert counts == [1, 2, 2, 2, 2, 1]
    assert (day["hours_measured"], day["max_aqi"], day["dominant_pollutant"], day["avg_pm25"]) == (11, 301, "o3", 5.0)


def test_episode_needs_consecutive_hours_and_a_missing_one_breaks_it(engine: DuckEngine) -> None:
    high = [*range(0, 4), *range(5, 8), *range(10, 16)]  # 4 hours, 3 hours, 6 hours; hours 4, 8 and 9 are missing
    known = {"location_key": "hanoi", "aqi_rule": "us-epa-2012"}
    hours = arrow_rows(FACT_HOURLY, ({**known, "ts_utc": START + timedelta(hours=n), "aqi": 151 + n, "aqi_pm10": 151.0 + n} for n in high))

    def episodes() -> list[dict[str, Any]]:
        made = engine.compute(lambda rows: to_episodes(rows, GoldRules()), [hours], FACT_EPISODE)
        return sorted(made.to_pylist(), key=lambda row: row["start_ts"])

    assert [(row["duration_hours"], row["peak_aqi"], row["avg_aqi"], row["severity_level"]) for row in episodes()] == [
        (4, 154, 152.5, "unhealthy"),
        (6, 166, 163.5, "unhealthy"),
    ]
    identity = "hanoi|2024-03-01T00:00:00Z|AQI>=151_4h"
    assert episodes()[0]["episode_id"] == hashlib.md5(identity.encode()).hexdigest(), "a rebuild gives the same ids"


def test_mean_does_not_depend_on_the_order_of_the_hours(engine: DuckEngine) -> None:
    chance = random.Random(3)
    values = [chance.choice((0.1, 0.7, 123.4, 999.9)) for _ in range(24)]
    known = {"location_key": "hanoi", "date_utc": START.date(), "date_key": 20240301, "aqi_rule": "us-epa-2012"}
    means = set()
    for _ in range(20):
        chance.shuffle(values)
        (day,) = engine.compute(
            to_city_days, [arrow_rows(FACT_HOURLY, ({**known, "pm25": v} for v in values))], FACT_CITY_DAILY
        ).to_pylist()
        means.add(day["avg_pm25"])
    assert means == {float(sum(map(Fraction, map(str, values))) / 24)}


def test_of_two_rows_retrieved_at_one_time_the_order_of_arrival_does_not_decide(engine: DuckEngine) -> None:
    one, other = {"hour": 0, "pm25": 10.0}, {"hour": 0, "pm25": 20.0}
    for rows, present in ([one, other], []), ([other, one], []), ([one], [other]), ([other], [one]):
        newest = engine.newest(to_clean_hours, clean_hours(rows), clean_hours(present), SILVER, "retrieved_ts")
        assert newest["pm25"].to_pylist() == [20.0]


def test_local_keys_are_the_zone_databases_in_every_zone_and_year(engine: DuckEngine) -> None:
    zones = {zone.replace("/", "-").lower(): zone for zone in ODD}
    chance = random.Random(7)
    changes = {key: [one.since for one in offsets(zone)[1:]] for key, zone in zones.items()}
    instants = {
        key: [
            *(datetime(2013, 1, 1, tzinfo=UTC) + timedelta(hours=chance.randrange(24 * 365 * 20)) for _ in range(60)),
            *(one.replace(minute=0, second=0) + timedelta(hours=h) for one in changes[key] if one.year >= 2013 for h in (-1, 0, 1)),
        ]
        for key in zones
    }
    rows = [
        {"location_key": key, "hour": int((ts - START) / timedelta(hours=1)), "pm25": 1.0}
        for key, all_of in instants.items()
        for ts in set(all_of)
    ]
    made = engine.compute(lambda hours: to_hourly_facts(hours, GoldRules(timezones=zones)), [clean_hours(rows)], FACT_HOURLY)
    found = made.select(["location_key", "ts_utc", "local_date_key", "local_time_key"]).to_pylist()
    assert len(found) == len(rows) > 1000
    for row in found:
        local = row["ts_utc"].astimezone(zone(zones[row["location_key"]]))
        assert (row["local_date_key"], row["local_time_key"]) == (int(f"{local:%Y%m%d}"), local.hour), row
