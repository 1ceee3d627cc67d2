"""Is streamed gold right? Against independent results over recorded answers, real revisions, and messages that are none."""

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from lakehouse.domains.air_quality.locations import locations_file, read_locations
from lakehouse.settings import Settings
from producers.sources.open_meteo.recorded import RecordedAnswer, read_recorded
from tests.support.pipeline import START, Pipeline, Record, reading, write_locations
from tests.support.services import Kafka

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "deploy/local/services/recorded/open_meteo.jsonl.gz"
GOLDEN = ROOT / "tests/golden/air_quality"
CATEGORIES = ("hours_good", "hours_moderate", "hours_usg", "hours_unhealthy", "hours_very_unhealthy", "hours_hazardous")

pytestmark = pytest.mark.timeout(1200)


def recorded(set_name: str) -> list[RecordedAnswer]:
    return read_recorded(RECORDED, set_name)


def records(answers: list[RecordedAnswer], settings: Settings) -> Iterator[Record]:
    known = read_locations(locations_file(settings.locations_path, settings.home))
    for answer in answers:
        for _, hours in answer.places(known):
            assert hours is not None
            yield from hours.readings()


def facts(name: str) -> list[dict[str, str]]:
    with (GOLDEN / name).open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_gold_of_a_recorded_year_agrees_with_the_independent_results(spark: SparkSession, kafka: Kafka, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap=kafka.bootstrap, aqi_rule="us-epa-2012", max_offsets_per_trigger=9_000)
    pipeline = Pipeline.open(spark, settings, topic="oracle.hourly.v1").prepare()
    assert pipeline.publish(records(recorded("responses"), settings)) == 24_552
    pipeline.drain()
    pipeline.assert_bronze_holds_the_topic()

    days = {(row["location_key"], str(row["date_utc"])): row for row in pipeline.table("gold.fact_city_daily").to_pylist()}
    expected = facts("upstream_city_daily_2024.csv")
    assert len(expected) == 1_005
    judged = [day for day in expected if day["date_utc"] != "2024-01-01"]  # its mean needs the hours of the year before
    agreeing = [
        day
        for day in judged
        if days[day["location_key"], day["date_utc"]]["max_aqi"] == int(day["aqi_daily_max"])
        and all(days[day["location_key"], day["date_utc"]][category] == int(day[category]) for category in CATEGORIES)
    ]
    assert len(agreeing) >= 0.995 * len(judged), f"{len(agreeing)} of {len(judged)} city-days agree"

    episodes = {(row["location_key"], row["start_ts"]): row for row in pipeline.table("gold.fact_episode").to_pylist()}
    told = facts("upstream_episode_2024.csv")
    assert len(told) == 181
    for episode in told:
        found = episodes[episode["location_key"], datetime.fromisoformat(episode["start_ts"]).replace(tzinfo=UTC)]
        assert (found["duration_hours"], found["peak_aqi"]) == (int(episode["duration_hours"]), int(episode["peak_aqi"])), episode
    pipeline.assert_gold_is_right()


@pytest.mark.parametrize("set_name", ["revised", "chunk_edge"])
@pytest.mark.parametrize("later_first", [False, True], ids=["in order", "later first"])
def test_the_later_retrieval_wins_in_whichever_order(
    spark: SparkSession, kafka: Kafka, tmp_path: Path, set_name: str, later_first: bool
) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap=kafka.bootstrap)
    pipeline = Pipeline.open(spark, settings, topic=f"{set_name.replace('_', '-')}.{int(later_first)}.v1").prepare()
    answers = recorded(set_name)
    if set_name == "chunk_edge":  # beside the answers whose span they cut
        answers += [a for a in recorded("responses") if a.cities == ("hanoi",) and "hanoi_2024-1" in f"hanoi_{_first_day(a)}"]
    answers.sort(key=lambda answer: answer.served_at, reverse=later_first)
    newest: dict[datetime, Record] = {}
    for record in sorted(records(answers, settings), key=lambda record: record["retrieved_ts"]):  # type: ignore[arg-type, return-value]
        newest[record["ts_utc"]] = record  # type: ignore[index]
    for answer in answers:
        pipeline.publish(records([answer], settings))
        pipeline.drain()

    def told() -> list[tuple[object, ...]]:
        rows = pipeline.table("silver.air_quality_hourly_clean").to_pylist()
        return sorted((row["ts_utc"], row["pm25"], row["co"], row["retrieved_ts"]) for row in rows)

    assert told() == sorted((ts, record.get("pm25"), record.get("co"), record["retrieved_ts"]) for ts, record in newest.items())
    if set_name == "revised":
        midnight = pipeline.table("gold.fact_air_quality_hourly").filter(pc.field("ts_utc") == datetime(2025, 9, 20, tzinfo=UTC))
        assert midnight["pm25"].to_pylist() == [130.9]
    pipeline.assert_gold_is_right()
    before = {gold.table.name: pipeline.table(gold.table.name.removeprefix("lh.")) for gold in pipeline.domain.derived}
    pipeline.publish(records(answers[:1], settings))  # an older one, replayed afterwards
    pipeline.drain()
    for name, rows in before.items():
        assert sorted(map(str, pipeline.table(name.removeprefix("lh.")).to_pylist())) == sorted(map(str, rows.to_pylist()))


def _first_day(answer: RecordedAnswer) -> str:
    hourly = answer.elements[0]["hourly"]
    assert isinstance(hourly, dict)
    return str(hourly["time"][0])[:10]


def test_what_is_no_reading_is_a_reject_with_its_reason_and_stops_nothing(spark: SparkSession, kafka: Kafka, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap=kafka.bootstrap)
    pipeline = Pipeline.open(spark, settings, topic="poison.hourly.v1").prepare()
    good = reading(hour=5)
    wire = '{"location_key":"hanoi","ts_utc":1709251200000,"retrieved_ts":1717200000000,'
    cases: list[tuple[Record | bytes | None, str]] = [
        (b"\xff\xfe\x00", "unparsable"),
        (b'{"location_key":"hanoi","ts_utc":17092', "unparsable"),
        (b"[1, 2]", "unparsable"),
        (b"", "unparsable"),
        (b"{}", "no_key"),
        (b'{"location_key":"hanoi","pm25":3}', "no_key"),
        (b'{"location_key":"hanoi","ts_utc":9000000000000000000,"retrieved_ts":1717200000000}', "wrong_type"),
        ((wire + '"pm25":"high"}').encode(), "wrong_type"),
        ((wire + '"pm25":{"value":3}}').encode(), "wrong_type"),
        (b'{"location_key":"hanoi","ts_utc":"2024-03-01T00:00","retrieved_ts":1717200000000}', "wrong_type"),
        (reading(pm25=-1.0), "out_of_range"),
        (reading(pm10=1e9), "out_of_range"),
        (reading("atlantis"), "unknown_location"),
        ({**reading(), "ts_utc": START + timedelta(minutes=30)}, "off_hour"),
        ({**reading(), "ts_utc": datetime(2012, 12, 31, 23, tzinfo=UTC)}, "too_early"),
        ({**reading(), "ts_utc": datetime(2099, 1, 1, tzinfo=UTC)}, "beyond_forecast"),
        ({**reading(), "retrieved_ts": datetime(2099, 1, 1, tzinfo=UTC)}, "retrieved_in_future"),
    ]
    # One without a value (a tombstone) says nothing: it is neither accepted nor rejected.
    pipeline.publish([good, None, *(message for message, _ in cases), reading(hour=6)])
    for _ in range(2):  # the second time the same bytes again: other offsets, so other rejects
        reports = pipeline.drain()
        pipeline.publish([None, *(message for message, _ in cases)])
    assert sum(report.tombstones for report in reports) == 1
    assert sum(sum(report.rejected.values()) for report in reports) == len(cases)
    rejects = pipeline.table("ops.rejects").to_pylist()
    assert sorted(row["rule"] for row in rejects) == sorted(2 * [rule for _, rule in cases])
    assert all(row["reason"] for row in rejects)
    by_rule = {row["rule"]: row for row in rejects}
    assert by_rule["off_hour"]["reason"] == "ts_utc is 2024-03-01 00:30:00, expected a full hour"
    assert any(b'"high"' in row["value"] for row in rejects if row["rule"] == "wrong_type"), "the raw value is kept"
    assert pipeline.table("silver.air_quality_hourly_clean")["ts_utc"].to_pylist() == [
        START + timedelta(hours=5),
        START + timedelta(hours=6),
    ]
    assert pipeline.table("gold.fact_air_quality_hourly").num_rows == 2


def test_forecast_hours_stay_in_silver_until_they_have_passed(spark: SparkSession, kafka: Kafka, tmp_path: Path) -> None:
    write_locations(tmp_path, ["hanoi"])
    settings = Settings(home=tmp_path, kafka_bootstrap=kafka.bootstrap)
    pipeline = Pipeline.open(spark, settings, topic="forecast.hourly.v1").prepare()
    asked = START + timedelta(hours=10, minutes=30)
    pipeline.publish({**reading(hour=hour), "retrieved_ts": asked} for hour in range(24))
    pipeline.drain()
    assert pipeline.table("silver.air_quality_hourly_clean").num_rows == 24
    assert pipeline.table("gold.fact_air_quality_hourly").num_rows == 11
    pipeline.publish({**reading(hour=hour), "retrieved_ts": asked + timedelta(hours=2)} for hour in range(24))
    pipeline.drain()
    assert pipeline.table("gold.fact_air_quality_hourly").num_rows == 13
    pipeline.assert_gold_is_right()


def test_an_episode_that_a_revision_takes_away_is_deleted_and_one_that_it_splits_is_two(
    spark: SparkSession, kafka: Kafka, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap=kafka.bootstrap)
    pipeline = Pipeline.open(spark, settings, topic="vanish.hourly.v1").prepare()

    def no2(hour: int, level: float, version: int) -> Record:  # an index of the hour alone, so that a run is made by hand
        return reading(hour=hour, version=version, pm25=None, pm10=None, o3=None, co=None, so2=None, no2=level * 1.88)

    def episodes() -> list[int]:
        return sorted(pipeline.table("gold.fact_episode")["duration_hours"].to_pylist())

    pipeline.publish(no2(hour, 500.0, 0) for hour in (*range(5), *range(100, 111)))
    pipeline.drain()
    assert episodes() == [5, 11]
    pipeline.publish([no2(105, 10.0, 1)])
    pipeline.drain()
    assert episodes() == [5, 5, 5]
    pipeline.publish(no2(hour, 10.0, 1) for hour in range(5))  # the whole of the first lies inside what they reach
    pipeline.drain()
    assert episodes() == [5, 5]
    pipeline.assert_gold_is_right()
