"""Does one query's failure stay its own, is nothing lost in silence, and can an operator go on? The real driver on real Kafka."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from pyiceberg.exceptions import NoSuchTableError
from pyspark.sql import SparkSession

from lakehouse.contract import Value
from lakehouse.locks.lease import LeaseHeld
from lakehouse.settings import Settings
from lakehouse.storage.folders import LocalFolder
from lakehouse.tables.catalog import NoTables
from lakehouse.write.fenced_append import TopicRecreated
from streaming.batch_report import BatchReport
from streaming.driver import Driver
from streaming.errors import BadCheckpoint, RejectRateExceeded
from streaming.resume import Request, ask
from streaming.wake import IDLE_AFTER_SECONDS
from tests.support.pipeline import Pipeline, reading, write_locations
from tests.support.running import LIMIT_SECONDS, Running
from tests.support.services import Kafka

pytestmark = pytest.mark.timeout(300)
BRONZE, SILVER = "bronze.open_meteo_hourly", "silver.air_quality_hourly_clean"


def driver_of(pipeline: Pipeline, report: Callable[[BatchReport], None] = lambda _: None) -> Driver:
    return Driver("air_quality", pipeline.settings, report, build=lambda: pipeline.domain, spark=pipeline.spark)


def running_driver(pipeline: Pipeline, report: Callable[[BatchReport], None] = lambda _: None) -> Running:
    return Running(driver_of(pipeline, report), pipeline.settings, "air_quality")


def drain(pipeline: Pipeline, new_checkpoint: bool = False) -> None:
    driver_of(pipeline).run(available_now=True, new_checkpoint=new_checkpoint)


@pytest.fixture
def pipeline(spark: SparkSession, kafka: Kafka, tmp_path: Path, request: pytest.FixtureRequest) -> Pipeline:
    home = tmp_path / "home"
    write_locations(home, ["a"])
    topic = request.node.name.replace("_", "-")[:120]
    settings = Settings(home=home, kafka_bootstrap=kafka.bootstrap, trigger_seconds=0.1, silver_trigger_seconds=0.1)
    return Pipeline.open(spark, settings, topic=topic)


def hours(first: int, last: int, place: str = "a") -> Iterator[dict[str, Value]]:
    return (reading(place, hour) for hour in range(first, last))


def rows(pipeline: Pipeline, table: str) -> int:
    try:
        return int(pipeline.table(table).num_rows)
    except (NoTables, NoSuchTableError):  # the driver has not made it yet
        return 0


def test_a_query_that_fails_starts_again_and_the_other_goes_on(pipeline: Pipeline) -> None:
    failed = threading.Event()

    def fail_once(batch: BatchReport) -> None:
        if batch.query == SILVER and batch.rows_in and not failed.is_set():
            failed.set()
            raise RuntimeError("a test's")

    with running_driver(pipeline, fail_once) as running:
        pipeline.publish(hours(0, 30))
        running.until(lambda: failed.is_set() and running.states()[SILVER].restarts == 1)
        pipeline.publish(hours(30, 40))
        running.until(lambda: rows(pipeline, SILVER) == 40)
        assert running.states()[SILVER].state == running.states()[BRONZE].state == "running"
        assert running.states()[BRONZE].restarts == 0
    assert running.error is None
    assert running.states() == {}
    pipeline.assert_bronze_holds_the_topic()


def test_an_idle_query_is_told_by_the_broker_that_a_message_has_come(spark: SparkSession, kafka: Kafka, tmp_path: Path) -> None:
    write_locations(tmp_path, ["a"])
    # By itself it would look again after ten minutes.
    settings = Settings(home=tmp_path, kafka_bootstrap=kafka.bootstrap, trigger_seconds=0.1, idle_trigger_seconds=600)
    pipeline = Pipeline.open(spark, settings, topic="told-by-the-broker")
    with running_driver(pipeline) as running:
        pipeline.publish(hours(0, 5))
        running.until(lambda: rows(pipeline, SILVER) == 5)
        told = [thread for thread in threading.enumerate() if thread.name == "weir-arrivals"]
        assert told, "somebody waits at the broker"
        time.sleep(IDLE_AFTER_SECONDS + 5)
        pipeline.publish(hours(5, 6))
        running.until(lambda: rows(pipeline, SILVER) == 6)
    pipeline.assert_bronze_holds_the_topic()


def test_breaker_stops_silver_before_anything_is_written_and_resume_goes_on(pipeline: Pipeline) -> None:
    with running_driver(pipeline) as running:
        pipeline.publish([*hours(0, 80), *hours(0, 40, place="atlantis")])
        running.until(lambda: rows(pipeline, BRONZE) == 120)
        stopped = running.until_stopped(SILVER)
        assert "of air_quality break its rules" in stopped.reason
        assert "unknown_location" in stopped.reason
        refused = rows(pipeline, SILVER)
        assert rows(pipeline, "ops.rejects") + refused < 100  # at most a first micro-batch that was too small to judge
        pipeline.publish(hours(80, 90))
        running.until(lambda: rows(pipeline, BRONZE) == 130)
        assert running.states()[BRONZE].state == "running"

        ask(LocalFolder(pipeline.settings.home / "state"), "air_quality", Request())
        stopped = running.until_stopped(SILVER, but=stopped)
        assert rows(pipeline, SILVER) == refused
        ask(LocalFolder(pipeline.settings.home / "state"), "air_quality", Request(accept=True))
        running.until(lambda: rows(pipeline, SILVER) == 90)
        assert rows(pipeline, "ops.rejects") == 40
        # It held for what was there: what comes later is judged.
        pipeline.publish(hours(0, 120, place="atlantis"))
        running.until_stopped(SILVER, but=stopped)
        assert rows(pipeline, "ops.rejects") < 40 + 100
    with pytest.raises(RejectRateExceeded):
        drain(pipeline)
    ask(LocalFolder(pipeline.settings.home / "state"), "air_quality", Request(accept=True))
    drain(pipeline)
    assert rows(pipeline, "ops.rejects") == 160
    pipeline.assert_gold_is_right()


def test_topic_made_again_while_the_stream_runs_stops_bronze_alone(pipeline: Pipeline, kafka: Kafka) -> None:
    topic = pipeline.domain.sources[0].contract.topic
    with running_driver(pipeline) as running:
        pipeline.publish(hours(0, 20))
        running.until(lambda: rows(pipeline, SILVER) == 20)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})  # a client that is let go of takes its calls along
        admin.delete_topics([topic])[topic].result(timeout=30)
        stopped = running.until_stopped(BRONZE)
        assert "was deleted and created again" in stopped.reason
        assert running.states()[SILVER].state == "running"
    pipeline.publish(hours(0, 60))  # more than the old offset: Spark alone would go on in the middle
    with pytest.raises(TopicRecreated):
        drain(pipeline)
    assert rows(pipeline, BRONZE) == 20


def test_messages_that_kafka_dropped_stop_bronze_with_their_range_until_the_loss_is_accepted(pipeline: Pipeline, kafka: Kafka) -> None:
    topic, busy, dropped = pipeline.domain.sources[0].contract.topic, threading.Event(), threading.Event()

    def hold_up(batch: BatchReport) -> None:  # bronze, after its append, until Kafka has dropped what comes next
        if batch.query == BRONZE and batch.rows_in:
            busy.set()
            assert dropped.wait(LIMIT_SECONDS)

    with running_driver(pipeline, hold_up) as running:
        pipeline.publish(hours(0, 30))
        running.until(busy.is_set)
        before = rows(pipeline, BRONZE)  # the first micro-batch may hold a part of the thirty
        pipeline.publish(hours(30, 60))
        ends = pipeline.end_offsets()
        (partition,) = (p for p, end in ends.items() if end)  # one key, one partition
        first = before
        cut = TopicPartition(topic, partition, ends[partition] - 10)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        admin.delete_records([cut])[cut].result(timeout=30)
        dropped.set()

        stopped = running.until_stopped(BRONZE)  # by Spark's error, explained
        named = f"{topic} partition {partition} offsets {first} to {cut.offset - 1} ({cut.offset - first} messages at most)"
        assert named in stopped.reason
        assert running.states()[SILVER].state == "running"
        ask(LocalFolder(pipeline.settings.home / "state"), "air_quality", Request())
        assert named in running.until_stopped(BRONZE, but=stopped).reason  # found before the start
        assert rows(pipeline, BRONZE) == before
        ask(LocalFolder(pipeline.settings.home / "state"), "air_quality", Request(accept_loss=True))
        running.until(lambda: rows(pipeline, SILVER) == before + 10)
    (loss,) = pipeline.table("ops.losses").to_pylist()
    assert [loss[name] for name in ("domain", "topic", "partition", "first_offset", "last_offset", "rows")] == [
        "air_quality",
        topic,
        partition,
        first,
        cut.offset - 1,
        cut.offset - first,
    ]
    pipeline.publish(hours(60, 61))
    drain(pipeline)
    assert rows(pipeline, BRONZE) == before + 11


def test_checkpoint_that_is_not_whole_is_refused_and_a_new_one_goes_on_after_the_rows_in_bronze(pipeline: Pipeline) -> None:
    checkpoints = pipeline.settings.home / "checkpoints"
    pipeline.publish(hours(0, 30))
    drain(pipeline)
    (checkpoints / BRONZE / "metadata").unlink()
    (checkpoints / BRONZE / ".metadata.crc").unlink(missing_ok=True)
    pipeline.publish(hours(30, 40))
    with pytest.raises(BadCheckpoint, match=r"no file metadata.*--new-checkpoint"):
        drain(pipeline)
    assert rows(pipeline, BRONZE) == 30
    drain(pipeline, new_checkpoint=True)
    assert sorted(folder.name.partition(".old-")[0] for folder in checkpoints.glob("*.old-*")) == [BRONZE, SILVER]

    cut = max((checkpoints / BRONZE / "offsets").glob("[0-9]*"), key=lambda file: int(file.name))
    cut.write_bytes(cut.read_bytes()[:-5])
    with pytest.raises(BadCheckpoint, match=f"offsets/{cut.name} that is empty"):
        drain(pipeline)
    drain(pipeline, new_checkpoint=True)
    (checkpoints / BRONZE).rename(checkpoints / "kept")
    (checkpoints / SILVER).rename(checkpoints / BRONZE)
    with pytest.raises(BadCheckpoint, match=f"of query {SILVER}"):
        drain(pipeline)
    pipeline.publish(hours(40, 45))
    drain(pipeline, new_checkpoint=True)
    pipeline.assert_bronze_holds_the_topic()
    pipeline.assert_gold_is_right()


def test_newest_commit_that_is_missing_repeats_its_micro_batch_and_an_older_one_is_refused(pipeline: Pipeline) -> None:
    checkpoints = pipeline.settings.home / "checkpoints"

    def newest(query: str, kind: str) -> Path:
        return max((checkpoints / query / kind).glob("[0-9]*"), key=lambda file: int(file.name))

    for first in (0, 20, 40):
        pipeline.publish(hours(first, first + 20))
        drain(pipeline)
    gone = {(query, int(newest(query, "commits").name)) for query in (BRONZE, SILVER)}
    for query in (BRONZE, SILVER):
        newest(query, "commits").unlink()  # and its checksum stays: Spark would then refuse to write the commit once more
    repeated: list[BatchReport] = []
    driver_of(pipeline, repeated.append).run(available_now=True)
    assert {(batch.query, batch.batch_id) for batch in repeated} == gone
    assert [batch.rows_in for batch in repeated if batch.query == BRONZE] == [0]  # read again, and found in the table
    assert rows(pipeline, BRONZE) == rows(pipeline, SILVER) == 60

    older = newest(BRONZE, "commits").with_name(str(int(newest(BRONZE, "commits").name) - 1))
    kept = older.read_bytes()
    older.unlink()
    with pytest.raises(BadCheckpoint, match=rf"{BRONZE}.* no commits/{older.name} .*--new-checkpoint"):
        drain(pipeline)
    older.write_bytes(kept)  # put back, as the message says
    cut = newest(SILVER, "offsets")
    cut.write_bytes(cut.read_bytes()[:-5])
    pipeline.publish(hours(60, 70))
    with pytest.raises(BadCheckpoint, match=rf"{SILVER}.* offsets/{cut.name} that is empty"):
        drain(pipeline)
    drain(pipeline, new_checkpoint=True)
    pipeline.assert_bronze_holds_the_topic()
    pipeline.assert_gold_is_right()


def test_driver_of_another_home_on_the_same_catalog_is_refused_by_the_lease(pipeline: Pipeline, tmp_path: Path) -> None:
    with running_driver(pipeline) as running:
        running.until(lambda: running.states().keys() == {BRONZE, SILVER})
        other = Settings(
            home=tmp_path / "other", kafka_bootstrap=pipeline.settings.kafka_bootstrap, catalog_uri=pipeline.settings.catalog_uri
        )
        with pytest.raises(LeaseHeld, match=r"process .* on .*, started"):
            Driver("air_quality", other, lambda _: None, build=lambda: pipeline.domain, spark=pipeline.spark).run(available_now=True)
    drain(pipeline)  # the lease was given back
