"""Does the stream take a topic as other programs use it? Transactions, tombstones, foreign settings, added partitions: on real Kafka."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not in its stubs' list
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic
from pyspark.sql import SparkSession

import streaming.driver
from batch.table_changes import applied_through
from deploy.local.status import collect, show
from lakehouse.broker.offsets import Broker, topic_offsets
from lakehouse.broker.topic_settings import UnfitTopicError
from lakehouse.contract import Value
from lakehouse.domain import Source
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.settings import Settings
from lakehouse.storage.folders import LocalFolder
from lakehouse.tables.catalog import ancestors, open_catalog
from lakehouse.write import fenced_append
from monitoring import lag
from monitoring.lag import TopicLag, bronze_lag, bronze_mark
from streaming.batch_report import BatchReport
from streaming.driver import Driver
from streaming.errors import DataLoss
from streaming.resume import Request, answered, ask
from tests.support.pipeline import Pipeline, reading, write_locations
from tests.support.services import Kafka
from tests.system.test_kafka_as_found import mute
from tests.system.test_supervisor import BRONZE, SILVER, drain, rows, running_driver

pytestmark = pytest.mark.timeout(300)
Make = Callable[..., Pipeline]


@pytest.fixture
def make(spark: SparkSession, kafka: Kafka, tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    """Give a home on a topic of the test's own: weir's, or one that somebody else has made with settings of theirs."""

    def made(partitions: int = 2, **config: str) -> Pipeline:
        home, topic = tmp_path / "home", request.node.name.replace("_", "-")[:120]
        write_locations(home, ["a"])
        settings = Settings(home=home, kafka_bootstrap=kafka.bootstrap, trigger_seconds=0.1, silver_trigger_seconds=0.1)
        if config:
            named = {name.replace("_", "."): value for name, value in config.items()}
            admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
            admin.create_topics([NewTopic(topic, num_partitions=partitions, config=named)])[topic].result(timeout=30)
        return Pipeline.unmade(spark, settings, topic) if config else Pipeline.open(spark, settings, topic)

    return made


class Transactions:
    """A transactional producer of another team; everything goes to one partition."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.topic, self._bootstrap = pipeline.domain.sources[0].contract.topic, pipeline.settings.kafka_bootstrap
        self.producer = Producer(
            {"bootstrap.servers": self._bootstrap, "transactional.id": f"{self.topic}-{time.time_ns()}", "log_level": 0}
        )
        self.producer.init_transactions(30)

    @contextmanager
    def begun(self, records: Iterator[dict[str, Value]]) -> Iterator[Producer]:
        self.producer.begin_transaction()
        for record in records:
            self.producer.produce(self.topic, HOURLY.encode(record), key=HOURLY.encode_key(record), partition=0)
        assert self.producer.flush(30) == 0
        before = self._written()
        yield self.producer
        limit = time.monotonic() + 30
        while self._written() == before:  # the broker writes the control record after it has said that the transaction ended
            assert time.monotonic() < limit
            time.sleep(0.02)

    def _written(self) -> int:
        return topic_offsets(self._bootstrap, self.topic).written[0]

    def commit(self, records: Iterator[dict[str, Value]]) -> None:
        with self.begun(records) as producer:
            producer.commit_transaction(30)

    def abort(self, records: Iterator[dict[str, Value]]) -> None:
        with self.begun(records) as producer:
            producer.abort_transaction(30)


def hours(first: int, last: int, pm25: float = 20.0) -> Iterator[dict[str, Value]]:
    return (reading("a", hour, pm25=pm25) for hour in range(first, last))


def lag_of(pipeline: Pipeline) -> TopicLag:
    return bronze_lag(pipeline.settings, pipeline.domain.sources[0])


def marked(pipeline: Pipeline) -> dict[int, int]:
    held: Mapping[str, int] = bronze_mark(pipeline.settings, pipeline.domain.sources[0])[pipeline.domain.sources[0].contract.topic]["next"]
    return {int(partition): offset for partition, offset in held.items()}


def commits_without_a_row(pipeline: Pipeline) -> int:
    table = open_catalog(pipeline.settings).load_table(BRONZE)
    summaries = [one.summary for one in ancestors(table) if one.summary is not None]
    return sum(said.additional_properties.get("added-records", "0") == "0" for said in summaries)


def take_away(pipeline: Pipeline, offsets: Mapping[int, int]) -> None:
    """Let the broker drop what lies before some offsets, as retention does."""
    admin = AdminClient({"bootstrap.servers": pipeline.settings.kafka_bootstrap})
    topic = pipeline.domain.sources[0].contract.topic
    for future in admin.delete_records([TopicPartition(topic, p, offset) for p, offset in offsets.items()]).values():
        future.result(timeout=30)


def alter(pipeline: Pipeline, **config: str) -> None:
    """Do what `kafka-configs.sh --alter --add-config` does."""
    entries = [ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()]
    resource = ConfigResource(ResourceType.TOPIC, pipeline.domain.sources[0].contract.topic, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": pipeline.settings.kafka_bootstrap})  # a client that is let go of takes its calls along
    admin.incremental_alter_configs([resource])[resource].result(timeout=30)


def add_partition(pipeline: Pipeline) -> int:
    """Add one; its number, once it can be written to."""
    topic = pipeline.domain.sources[0].contract.topic
    admin = AdminClient({"bootstrap.servers": pipeline.settings.kafka_bootstrap})
    count = len(admin.list_topics(topic, timeout=30).topics[topic].partitions)
    admin.create_partitions([NewPartitions(topic, count + 1)])[topic].result(timeout=30)
    return count


def send_to(pipeline: Pipeline, partition: int, records: Iterator[dict[str, Value]]) -> None:
    producer = Producer({"bootstrap.servers": pipeline.settings.kafka_bootstrap, "topic.metadata.refresh.interval.ms": 200, "log_level": 0})
    for record in records:
        producer.produce(
            pipeline.domain.sources[0].contract.topic, HOURLY.encode(record), key=HOURLY.encode_key(record), partition=partition
        )
    assert producer.flush(30) == 0


def test_transactions_only_what_is_committed_is_read_and_no_offset_without_a_message_is_lag_or_loss(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = make()

    def of_this_topic(settings: Settings, _: Source, address: str | None = None, broker: Broker | None = None) -> TopicLag:
        return bronze_lag(settings, pipeline.domain.sources[0], address, broker)

    monkeypatch.setattr(lag, "bronze_lag", of_this_topic)
    others, slow = Transactions(pipeline), Transactions(pipeline)
    others.commit(hours(0, 10))
    others.abort(hours(0, 10, pm25=777.0))
    with slow.begun(hours(10, 15)) as open_one:
        others.abort(hours(0, 5, pm25=777.0))
        drain(pipeline)  # ends, though there is more that cannot be read
        assert rows(pipeline, BRONZE) == rows(pipeline, SILVER) == 10
        found = lag_of(pipeline)
        # 10 and 10 messages with their control records, then the open transaction; behind it an aborted one with its own.
        assert (marked(pipeline), found.whole.messages, dict(found.waiting)) == ({0: 22, 1: 0}, 0, {0: 5 + 5 + 1, 1: 0})
        status = collect(pipeline.settings)
        bronze = next(query for query in status["queries"] if query["query"] == BRONZE)
        assert (bronze["lag_messages"], bronze["lag_seconds"], bronze["waiting_messages"]) == (0, 0.0, 11)
        show(status)
        assert "0 messages; 11 wait for an open transaction to end" in capsys.readouterr().out
        open_one.commit_transaction(30)
    assert lag_of(pipeline).whole.messages == 5
    with running_driver(pipeline) as running:
        running.until(lambda: rows(pipeline, SILVER) == 15)
        for n in range(4):  # micro-batches of control records alone
            others.abort(hours(0, 3, pm25=777.0))
            running.until(lambda: _planned(pipeline)[0] == pipeline.end_offsets()[0])
            assert lag_of(pipeline).whole.messages == 0, n
        assert commits_without_a_row(pipeline) <= 1
        assert marked(pipeline)[0] < pipeline.end_offsets()[0]  # pending, and it is no lag
        with monkeypatch.context() as minute:  # its minute is over: a timer writes it, without a message
            minute.setattr(fenced_append, "EMPTY_SECONDS", 0.1)
            running.until(lambda: marked(pipeline) == pipeline.end_offsets())
        others.abort(hours(0, 3, pm25=777.0))
        running.until(lambda: _planned(pipeline)[0] == pipeline.end_offsets()[0])
        assert marked(pipeline)[0] < pipeline.end_offsets()[0]
    assert running.error is None
    assert marked(pipeline) == pipeline.end_offsets()  # written at the stop
    take_away(pipeline, pipeline.end_offsets())
    drain(pipeline, new_checkpoint=True)
    assert rows(pipeline, "ops.losses") == 0
    assert rows(pipeline, BRONZE) == rows(pipeline, SILVER) == 15
    assert 777.0 not in pipeline.table(SILVER)["pm25"].to_pylist()
    pipeline.assert_gold_is_right()
    assert lag.silver_lag(pipeline.settings, pipeline.domain).messages == 0  # a snapshot without files is none


def test_what_a_killed_driver_owed_is_written_before_its_checkpoint_goes(make: Make) -> None:
    pipeline = make().prepare()
    others = Transactions(pipeline)
    others.commit(hours(0, 5))
    for _ in range(3):
        pipeline.drain()  # the queries alone: nobody settles at their end
        others.abort(hours(0, 3))
    pipeline.drain()
    assert commits_without_a_row(pipeline) == 1
    assert marked(pipeline)[0] < pipeline.end_offsets()[0]
    take_away(pipeline, pipeline.end_offsets())
    drain(pipeline, new_checkpoint=True)
    assert rows(pipeline, "ops.losses") == 0
    assert marked(pipeline) == pipeline.end_offsets()
    others.commit(hours(5, 7))
    drain(pipeline)
    assert rows(pipeline, SILVER) == 7
    # What a rebuild compares with: the newest snapshot whose messages are applied, though its mark ends behind a control record.
    state = open_catalog(pipeline.settings).load_table(BRONZE).current_snapshot()
    assert state is not None
    others.commit(hours(7, 9))
    pipeline.land([])
    assert applied_through(pipeline.spark, pipeline.domain, pipeline.domain.sources[0]) == state.snapshot_id


def test_topic_with_producers_stamps_is_refused_and_its_rows_have_no_arrival_once_it_is_altered(make: Make) -> None:
    pipeline = make(1, message_timestamp_type="CreateTime")
    # Stamped with the event's time, months before the retrieval: as an arrival it would reject every row.
    producer = Producer({"bootstrap.servers": pipeline.settings.kafka_bootstrap})
    for record in hours(0, 60):
        stamp = int(record["ts_utc"].timestamp() * 1000)  # type: ignore[union-attr]
        producer.produce(pipeline.domain.sources[0].contract.topic, HOURLY.encode(record), key=b"a", timestamp=stamp)
    assert producer.flush(30) == 0
    with pytest.raises(UnfitTopicError, match=r"kafka-configs\.sh .* --add-config message\.timestamp\.type=LogAppendTime"):
        drain(pipeline)
    assert rows(pipeline, BRONZE) == 0

    alter(pipeline, message_timestamp_type="LogAppendTime")
    pipeline.publish(hours(60, 72))
    pipeline.publish([None] * 200)  # tombstones: kept, counted apart, and no reason for the breaker
    told: list[BatchReport] = []
    with mute(None) as silent:  # an address that takes connections and never answers stands first
        listed = pipeline.settings.model_copy(update={"kafka_bootstrap": f"{silent}, PLAINTEXT://{pipeline.settings.kafka_bootstrap}"})
        Driver("air_quality", listed, told.append, build=lambda: pipeline.domain, spark=pipeline.spark).run(available_now=True)
    assert rows(pipeline, BRONZE) == 272
    assert rows(pipeline, "ops.rejects") == 0
    assert rows(pipeline, SILVER) == 72
    (refined,) = [one for one in told if one.query == SILVER and one.rows_in]
    assert (refined.tombstones, refined.rows_out, refined.rejected, refined.late) == (200, 72, {}, 12)
    arrivals = {row["kafka_offset"]: row["kafka_ts"] for row in pipeline.table(BRONZE).to_pylist()}
    assert [offset for offset, arrival in sorted(arrivals.items()) if arrival is None] == list(range(60))
    pipeline.assert_gold_is_right()


def test_partition_added_while_the_stream_is_down_and_cut_is_a_loss_that_is_accepted_and_one_added_beside_it_is_read_on(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make()
    home = pipeline.settings.home
    pipeline.publish(hours(0, 10))
    drain(pipeline)
    ask_id = ask(LocalFolder(home / "state"), "air_quality", Request(accept_loss=True))
    drain(pipeline)
    nothing = answered(LocalFolder(home / "state"), "air_quality", ask_id)
    assert nothing is not None
    assert list(nothing.says) == ["Nothing is lost, Kafka has all that bronze lacks: nothing was recorded."]
    assert rows(pipeline, "ops.losses") == 0

    added = add_partition(pipeline)
    send_to(pipeline, added, hours(10, 13))
    take_away(pipeline, {added: 2})
    named = f"{pipeline.domain.sources[0].contract.topic} partition {added} offsets 0 to 1 (2 messages at most)"
    with pytest.raises(DataLoss) as refused:
        drain(pipeline)
    assert named in str(refused.value)
    ask_id = ask(LocalFolder(home / "state"), "air_quality", Request(accept_loss=True))
    drain(pipeline)
    accepted = answered(LocalFolder(home / "state"), "air_quality", ask_id)
    assert accepted is not None
    assert list(accepted.says) == [f"Recorded as lost in lh.ops.losses: {named}."]
    (loss,) = pipeline.table("ops.losses").to_pylist()
    assert (loss["partition"], loss["first_offset"], loss["last_offset"]) == (added, 0, 1)
    assert rows(pipeline, SILVER) == 11

    monkeypatch.setattr(streaming.driver, "SETTINGS_SECONDS", 0.0)
    with running_driver(pipeline) as running:
        running.until(lambda: running.states().keys() == {BRONZE, SILVER})
        send_to(pipeline, add_partition(pipeline), hours(20, 23))
        running.until(lambda: rows(pipeline, SILVER) == 14)
        assert running.states()[BRONZE].restarts == 0
        newest = add_partition(pipeline)
        send_to(pipeline, newest, hours(30, 31))
        running.until(lambda: rows(pipeline, SILVER) == 15)

        # Somebody alters the topic under the stream.
        alter(pipeline, cleanup_policy="compact")
        stopped = running.until_stopped(BRONZE)
        assert "cleanup.policy is compact, expected delete" in stopped.reason
        assert running.states()[SILVER].state == "running"
        alter(pipeline, cleanup_policy="delete")
        ask(LocalFolder(home / "state"), "air_quality", Request())
        running.until(lambda: running.states()[BRONZE].state == "running")
    assert running.error is None
    assert marked(pipeline) == pipeline.end_offsets()
    pipeline.assert_gold_is_right()


def test_partition_added_to_a_topic_that_was_empty_so_far_and_cut_is_a_loss_too(make: Make) -> None:
    pipeline = make()
    drain(pipeline)  # nothing to read, and nothing to commit: only the checkpoint knows which partitions there were
    added = add_partition(pipeline)
    send_to(pipeline, added, hours(0, 3))
    take_away(pipeline, {added: 2})
    with pytest.raises(DataLoss, match=rf"partition {added} offsets 0 to 1 \(2 messages at most\)"):
        drain(pipeline)
    ask(LocalFolder(pipeline.settings.home / "state"), "air_quality", Request(accept_loss=True))
    drain(pipeline)
    assert rows(pipeline, "ops.losses") == rows(pipeline, SILVER) == 1


def _planned(pipeline: Pipeline) -> dict[int, int]:
    """Where the bronze query's last committed micro-batch ended."""
    folder = Path(pipeline.settings.checkpoint(BRONZE).removeprefix("file://"))
    done = max((int(file.name) for file in folder.glob("commits/[0-9]*")), default=-1)
    if done < 0:
        return {}
    text = (folder / "offsets" / str(done)).read_text().splitlines()[-1]
    return {int(p): offset for p, offset in json.loads(text)[pipeline.domain.sources[0].contract.topic].items()}
