"""Does a backfill leave the tables of one pass, wherever it is killed, and beside a stream that writes the same tables? Real processes."""

import json
import random
import signal
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from pyspark.sql import SparkSession

from deploy.local.services.open_meteo_server import OpenMeteoServer
from lakehouse.domains.air_quality.contract import HOURLY
from tests.support.faults import LIMIT_SECONDS, Broker, StreamProcess
from tests.support.homes import Home
from tests.support.pipeline import Pipeline, reading

pytestmark = pytest.mark.timeout(900)
PLACES = ("danang", "hanoi", "hcmc")


def test_sigkill_at_every_point_and_then_on_is_one_pass(spark: SparkSession, tmp_path: Path, api: OpenMeteoServer) -> None:
    home = Home(spark, tmp_path / "home", api)
    begin = ("backfill", "air_quality", "--since", "2024-01-10", "--until", "2024-04-20")
    planned = home.weir(*begin, "--dry-run", "--json")
    plan = json.loads(planned.stdout)
    assert [(chunk["since"], chunk["until"]) for chunk in plan["chunks"]][:2] == [
        ("2024-01-10", "2024-01-31"),
        ("2024-02-01", "2024-02-29"),
    ]
    assert not (tmp_path / "home" / "catalog.db").exists(), "a plan writes nothing"

    arguments: tuple[str, ...] = begin
    standing: list[tuple[int, set[str]]] = []
    for failpoint in ("chunk.appended:2", "silver.merged", "chunk.applied", "chunk.noted", "gold.first_table", "gold.merged"):
        killed = home.weir(*arguments, WEIR_FAILPOINT=failpoint)
        assert killed.returncode == -signal.SIGKILL, f"{failpoint}: {killed.stdout}\n{killed.stderr}"
        arguments = ("backfill", "air_quality", "--resume")
        there = {int(run.rpartition("/")[2]) for run, _ in home.bronze_lane()}
        standing.append((len(api.requests), {plan["chunks"][number - 1]["since"] for number in there}))
    done = home.weir(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["gold"] == "done"
    assert [chunk["state"] for chunk in told["chunks"]] == ["done"] * 4
    asked = [(request["start_date"], request["end_date"]) for request in api.requests]
    assert len(set(asked)) == plan["calls"]
    assert len(asked) <= plan["calls"] + len(standing), "a kill costs the chunk that was being fetched, and no other"
    for before, since in standing:
        again = {first for first, _ in asked[before:]} & since
        assert not again, f"a chunk that stands in bronze is not fetched again: {again}"
    assert standing[-1][1] == {chunk["since"] for chunk in plan["chunks"]}
    days = (date(2024, 4, 20) - date(2024, 1, 10)).days + 1
    lane = home.bronze_lane()
    assert len(lane) == len(set(lane)) == sum(chunk["rows_in"] for chunk in told["chunks"]) == len(PLACES) * days * 24
    home.pipeline.assert_gold_is_right()

    assert home.weir("backfill", "air_quality", "--resume").returncode == 1, "nothing is left"
    latest = home.weir("backfill", "air_quality", "--since", "latest", "--until", "2024-04-22", "--json")
    assert latest.returncode == 0, latest.stderr
    assert [chunk["since"] for chunk in json.loads(latest.stdout)["chunks"]] == ["2024-04-20"]
    fast = home.weir("prove", "air_quality", "--witness", "duckdb")
    assert fast.returncode == 0, fast.stderr
    assert "DuckDB's SQL" in fast.stdout and "one batch pass" not in fast.stdout
    proved = home.weir("prove", "air_quality", "--json")
    assert proved.returncode == 0, proved.stdout + proved.stderr
    assert [proof["is_equal"] for proof in json.loads(proved.stdout)] == [True]
    assert home.weir("check", "air_quality", "--since", "2024-01-10", "--until", "2024-04-22").returncode == 0
    assert home.weir("check", "air_quality", "--since", "2023-01-10", "--until", "2024-04-22").returncode == 1, "a year is missing"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Broker(folder)
    try:
        yield broker
    finally:
        broker.stop()


def test_it_runs_beside_a_stream_that_writes_the_same_hours(
    spark: SparkSession, tmp_path: Path, api: OpenMeteoServer, broker: Broker
) -> None:
    home = Home(spark, tmp_path / "home", api, broker.bootstrap)
    home.pipeline = Pipeline.open(home.pipeline.spark, home.settings)
    driver = StreamProcess(home.settings, home.environment, tmp_path / "stream.log")
    ending = threading.Event()
    sent: list[dict[str, Any]] = []

    def publish() -> None:
        """Hours that the backfill writes too, in its own order and values; some told again later."""
        producer, chance, version = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"}), random.Random(7), 0
        while not ending.is_set():
            version += 1
            place, hour = chance.choice(PLACES), chance.randrange(-144, 288)
            one = reading(place, hour, version=version, pm25=float(chance.randrange(5, 300)))
            sent.append(one)
            producer.produce(HOURLY.topic, HOURLY.encode(one), key=HOURLY.encode_key(one))
            producer.poll(0)
            ending.wait(0.05)
        assert producer.flush(30) == 0

    publishing = threading.Thread(target=publish)
    try:
        driver.until_ready()
        publishing.start()
        done = home.weir("backfill", "air_quality", "--since", "2024-02-24", "--until", "2024-03-12", "--chunk", "day", "--json")
        assert done.returncode == 0, done.stderr
        ending.set()
        publishing.join()
        driver.until(lambda: len(home.pipeline.table("bronze.open_meteo_hourly")) == len(home.bronze_lane()) + len(sent), every=1)
        # What is in bronze last is in gold with the micro-batch that follows.
        assert driver.stop() == 0
        last = StreamProcess(home.settings, home.environment, tmp_path / "last.log", "--available-now")
        assert last.process.wait(LIMIT_SECONDS) == 0, last.said()
    finally:
        ending.set()
        for one in (driver,):
            if one.process.poll() is None:
                one.kill()
    assert "failed" not in driver.said(), driver.said()
    lane = home.bronze_lane()
    assert len(lane) == len(set(lane)) > 0
    assert sent, "the stream had something to do"
    home.pipeline.assert_gold_is_right()
    proved = home.weir("prove", "air_quality")
    assert proved.returncode == 0, proved.stdout + proved.stderr
