"""Is the AQI the EPA's, in both editions, by the transform and by the oracle? Vectors of others, the table's edges, and random hours."""

import csv
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest

from batch.prove.oracle.recompute import recompute
from lakehouse.domains.air_quality.aqi import UG_PER_PPB
from lakehouse.domains.air_quality.tables import FACT_HOURLY, ORACLE, SILVER
from lakehouse.domains.air_quality.transforms import GoldRules, to_hourly_facts
from lakehouse.engine.on_duckdb import DuckEngine
from tests.support.rows import arrow_rows

VECTORS = Path(__file__).parents[4] / "golden/air_quality/aqi_vectors.csv"
START = datetime(2024, 3, 1, tzinfo=UTC)
LAST = 24
# µg/m³ for one unit of the EPA's table: ppb of gases, ppm of carbon monoxide.
UNIT = {"pm25": 1.0, "pm10": 1.0, "o3": UG_PER_PPB["o3"], "no2": UG_PER_PPB["no2"], "so2": UG_PER_PPB["so2"], "co": UG_PER_PPB["co"] * 1000}
Edition = Literal["us-epa-2012", "us-epa-2024"]
Hour = Mapping[str, float | None]
EDITIONS: tuple[Edition, ...] = ("us-epa-2012", "us-epa-2024")


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckEngine]:
    """Give DuckDB; that Spark computes the same is shown in `tests/spark/test_both_engines.py`."""
    engine = DuckEngine()
    yield engine
    engine.close()


def by_transform(engine: DuckEngine, places: Mapping[str, Sequence[Hour]], edition: Edition) -> dict[tuple[str, int], dict[str, Any]]:
    hours = arrow_rows(SILVER, (row(place, number, hour) for place, hours in places.items() for number, hour in enumerate(hours)))
    rules = GoldRules(aqi_rule=edition)
    return keyed(engine.compute(lambda rows: to_hourly_facts(rows, rules), [hours], FACT_HOURLY))


def by_oracle(places: Mapping[str, Sequence[Hour]], edition: Edition) -> dict[tuple[str, int], dict[str, Any]]:
    values = []
    for place, hours in places.items():
        for number, hour in enumerate(hours):
            ts = int((START + timedelta(hours=number)).timestamp() * 1000)
            said = {"location_key": place, "ts_utc": ts, "retrieved_ts": ts + 90 * 86_400_000, **hour}
            values.append(json.dumps({name: value for name, value in said.items() if value is not None}).encode())
    count = len(values)
    arrived = pa.array([START + timedelta(days=100)] * count, pa.timestamp("us", "UTC"))
    bronze = pa.table(
        {
            "value": pa.array(values, pa.binary()),
            "topic": ["t"] * count,
            "partition": pa.array([0] * count, pa.int32()),
            "kafka_offset": pa.array(range(count), pa.int64()),
            "kafka_ts": arrived,
            "source_run": pa.array([None] * count, pa.string()),
        }
    )
    since = pa.array([datetime(2000, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    dimensions = {
        "dim_location": pa.table({"location_key": list(places), "timezone": ["UTC"] * len(places)}),
        "dim_zone_offset": pa.table({"timezone": ["UTC"], "from_ts": since, "offset_seconds": [0]}),
    }
    made = recompute(ORACLE, {"hours": bronze}, dimensions, {"aqi_rule": edition, "rule_code": "AQI>=151_4h"})
    return keyed(made["fact_air_quality_hourly"])


def row(place: str, number: int, hour: Hour) -> dict[str, Any]:
    ts = START + timedelta(hours=number)
    known = {"location_key": place, "ts_utc": ts, "date_utc": ts.date(), "is_forecast": False, "retrieved_ts": START + timedelta(days=90)}
    return {**known, "date_key": int(f"{ts:%Y%m%d}"), "time_key": ts.hour, **dict.fromkeys(UNIT), **hour}


def keyed(facts: pa.Table) -> dict[tuple[str, int], dict[str, Any]]:
    names = ["location_key", "ts_utc", "aqi", "dominant_pollutant", *(f"aqi_{p}" for p in UNIT)]
    return {(one["location_key"], int((one["ts_utc"] - START) / timedelta(hours=1))): one for one in facts.select(names).to_pylist()}


def test_vectors_of_others_and_the_edges_of_the_table(engine: DuckEngine) -> None:
    vectors = list(csv.DictReader(VECTORS.read_text().splitlines()))
    for edition in EDITIONS:
        chosen = {f"p{n}": one for n, one in enumerate(vectors) if one["edition"] == edition}
        places = {}
        for place, one in chosen.items():
            unit, pollutant = UNIT[one["pollutant"]], one["pollutant"]
            before = {pollutant: float(one["mean"]) * unit} if one["mean"] else {}
            places[place] = [before] * LAST + [{pollutant: float(one["hour"]) * unit} if one["hour"] else {}]
        assert len(places) > 10
        for text, made in (("transform", by_transform(engine, places, edition)), ("oracle", by_oracle(places, edition))):
            for place, one in chosen.items():
                found, wanted = made[place, LAST], float(one["index"])
                sub_index = found[f"aqi_{one['pollutant']}"]
                told = f"{text}: {one} gave {sub_index}"
                if one["source"] == "open-meteo":  # it gives the index unrounded, as a float of 32 bits
                    assert sub_index == pytest.approx(wanted, abs=1e-3), told
                else:
                    assert (found["aqi"], found["dominant_pollutant"]) == (wanted, one["pollutant"]), told


def test_ozone_that_neither_scale_speaks_of_has_no_index(engine: DuckEngine) -> None:
    places = {"p": [{"o3": 210 * UNIT["o3"]}] * LAST + [{"o3": 100 * UNIT["o3"]}]}
    for edition in EDITIONS:
        for made in (by_transform(engine, places, edition), by_oracle(places, edition)):
            assert made["p", LAST]["aqi_o3"] is None


def test_transform_and_oracle_give_the_same_index_for_any_hours(engine: DuckEngine) -> None:
    chance = random.Random(13)
    # Values as the API gives them, with one decimal, around the edges of every scale and far beyond; a tenth are missing.
    most = {"pm25": 900, "pm10": 900, "o3": 1300, "no2": 4500, "so2": 3000, "co": 70_000}

    def value(pollutant: str) -> float | None:
        if chance.random() < 0.1:
            return None
        return round(chance.choice((chance.uniform(0, most[pollutant]), chance.uniform(0, most[pollutant] / 20))), 1)

    places = {f"p{n}": [{p: value(p) for p in UNIT} for _ in range(60)] for n in range(25)}
    for edition in EDITIONS:
        computed, recomputed = by_transform(engine, places, edition), by_oracle(places, edition)
        assert computed.keys() == recomputed.keys()
        for key, found in computed.items():
            for name, one in found.items():
                other = recomputed[key][name]
                assert one == (pytest.approx(other, rel=1e-9) if isinstance(other, float) else other), (edition, key, name)
