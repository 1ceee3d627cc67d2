"""What bronze holds goes through Kafka again: silver and gold stay as they were, however often."""

from contextlib import closing
from datetime import date
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession

from batch.consistent_snapshots import Heads
from batch.replay.replay import Messages, replay
from lakehouse.contract import Value
from lakehouse.days import Days
from lakehouse.settings import Settings
from producers.kafka_writer import KafkaWriter, connect
from tests.support.pipeline import Pipeline, reading, write_locations
from tests.support.services import Kafka

PLACES = ("a", "b")
BAD: list[bytes | None] = [b"not JSON", b'{"location_key":"a","ts_utc":1709251200000,"pm25":"high"}', b"\xff\xfe", None]


def published(pipeline: Pipeline, days: Days = None, speed: float | None = None) -> tuple[int, list[float]]:
    """Replay; give how many messages went, and the pauses."""
    pauses: list[float] = []
    (source,) = pipeline.domain.sources
    with Heads.look(pipeline.settings, pipeline.domain) as heads, closing(Messages(heads, source, days)) as messages:
        writer = KafkaWriter(connect(pipeline.settings.kafka_bootstrap, "test"), pipeline.domain.sources[0].contract, "replay", "test")
        with writer:
            sent = replay(messages, writer, speed, pauses.append, lambda: False)
        assert sent == len(messages)
    return sent, pauses


def tables(pipeline: Pipeline) -> dict[str, pa.Table]:
    names = [pipeline.domain.sources[0].silver, *(gold.table for gold in pipeline.domain.derived)]
    found = {}
    for table in names:
        rows = pipeline.table(table.name.removeprefix("lh."))
        found[table.name] = rows.sort_by([(name, "ascending") for name in table.key])
    return found


def test_silver_and_gold_end_as_they_were(spark: SparkSession, kafka: Kafka, tmp_path: Path) -> None:
    write_locations(tmp_path, PLACES)
    pipeline = Pipeline.open(spark, Settings(home=tmp_path, kafka_bootstrap=kafka.bootstrap), topic="replayed.hourly.v1").prepare()
    rows: list[dict[str, Value]] = [reading(place, hour, pm25=float(hour * 7 % 300)) for place in PLACES for hour in range(60)]
    revised = [reading("a", hour, version=1, pm25=250.0) for hour in range(10, 40)]
    messages = [*revised, *rows, *BAD, *rows[:5]]  # the older version comes later, and some come twice
    pipeline.publish(messages)
    pipeline.drain()
    before = tables(pipeline)
    rejected = pipeline.table("ops.rejects").num_rows
    assert before["lh.gold.fact_episode"].num_rows > 0

    sent, _ = published(pipeline)
    assert sent == len(rows) + len(revised) + len(BAD), "each message that differs, once"
    pipeline.drain()
    assert tables(pipeline) == before
    day = date(2024, 3, 2), date(2024, 3, 2)
    of_a_day, pauses = published(pipeline, day, speed=1000.0)
    assert of_a_day == sum(row["ts_utc"].date() == day[0] for row in [*rows, *revised])  # type: ignore[union-attr]
    assert all(pause >= 0 for pause in pauses)
    pipeline.drain(anew=False)
    assert tables(pipeline) == before
    bronze = pipeline.table("bronze.open_meteo_hourly")
    assert bronze.num_rows == len(messages) + sent + of_a_day
    places = bronze.select(["location_key", "partition"]).to_pylist()
    assert len({(row["location_key"], row["partition"]) for row in places if row["location_key"]}) == len(PLACES), (
        "a key keeps its partition"
    )
    assert pipeline.table("ops.rejects").num_rows == 2 * rejected, "what was rejected is rejected again, under its new offset"
    pipeline.assert_gold_is_right()
