"""The air-quality pipeline in a test: real Kafka, the production queries, one home folder; and the two other ways to make its gold."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from confluent_kafka import Consumer, Producer, TopicPartition
from pyspark.sql import SparkSession

from batch.prove.oracle.recompute import recompute
from batch.prove.prove import dimensions_of
from lakehouse.broker.topics import ensure_topic
from lakehouse.contract import Value
from lakehouse.derive import to_gold, to_silver
from lakehouse.domain import Domain
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.domains.air_quality.tables import BRONZE, SILVER
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.storage.folders import HadoopFolder
from lakehouse.tables.catalog import open_catalog, spark_catalog_conf
from lakehouse.tables.create import ensure_tables
from lakehouse.write.dimensions import write_dimensions
from streaming import bronze, refine
from streaming.batch_report import BatchReport
from tests.support.frames import assert_rows

START = datetime(2024, 3, 1, tzinfo=UTC)
RETRIEVED = datetime(2024, 6, 1, tzinfo=UTC)
Record = Mapping[str, Value]


def reading(location: str = "hanoi", hour: int = 0, *, version: int = 0, **measures: float | None) -> dict[str, Value]:
    """Build a reading of an hour after START; a greater `version` was retrieved later."""
    base: dict[str, Value] = {"pm25": 20.0, "pm10": 40.0, "o3": 60.0, "no2": 20.0, "so2": 10.0, "co": 400.0}
    return {
        "location_key": location,
        "ts_utc": START + timedelta(hours=hour),
        "latitude": 21.0,
        "longitude": 105.8,
        "model_domain": "cams_global",
        "request_timezone": "GMT",
        "retrieved_ts": RETRIEVED + timedelta(minutes=version),
        **base,
        **measures,
    }


def on_topic(domain: Domain, topic: str) -> Domain:
    """Give the domain of one source on another topic."""
    (source,) = domain.sources
    return replace(domain, sources=(replace(source, contract=replace(source.contract, topic=topic)),))


def session_of(spark: SparkSession, settings: Settings) -> SparkSession:
    """Open a session whose catalog `lh` is that of a home."""
    session = spark.newSession()
    for name, value in spark_catalog_conf(settings).items():
        session.conf.set(name, value)
    return session


class Pipeline:
    """One home with its topic.

    Attributes:
        settings: of the home.
        spark: a session of its own, whose catalog `lh` is the home's.
        domain: air quality, on a topic of its own unless a separate process reads it.
    """

    def __init__(self, settings: Settings, spark: SparkSession, domain: Domain) -> None:
        self.settings, self.spark, self.domain = settings, spark, domain
        self._refine: bronze.Body | None = None
        self._told: list[BatchReport] = []

    @classmethod
    def open(cls, spark: SparkSession, settings: Settings, topic: str = HOURLY.topic) -> "Pipeline":
        """Make the tables and the topic of a home."""
        pipeline = cls.unmade(spark, settings, topic)
        ensure_topic(settings.kafka_bootstrap, pipeline.domain.sources[0].contract, 2)
        return pipeline

    @classmethod
    def unmade(cls, spark: SparkSession, settings: Settings, topic: str) -> "Pipeline":
        """Open a home on a topic that is somebody else's."""
        session = session_of(spark, settings)
        domain = build_domain("air_quality", settings)
        return cls(settings, session, on_topic(domain, topic))

    def prepare(self) -> "Pipeline":
        """Make the tables, as the driver does at its start."""
        ensure_tables(self.spark, self.domain)
        write_dimensions(self.spark, self.domain)
        return self

    def publish(self, records: Iterable[Record | bytes | None]) -> int:
        """Send records, or raw bytes that are none, keyed as the producer keys them."""
        producer = Producer({"bootstrap.servers": self.settings.kafka_bootstrap, "partitioner": "murmur2_random"})
        sent = 0
        for record in records:
            if record is None or isinstance(record, bytes):
                producer.produce(self.domain.sources[0].contract.topic, record)
            else:
                producer.produce(self.domain.sources[0].contract.topic, HOURLY.encode(record), key=HOURLY.encode_key(record))
            sent += 1
        assert producer.flush(30) == 0
        return sent

    def drain(self, anew: bool = True) -> list[BatchReport]:
        """Start both production queries from their checkpoints, and let each run to the end of what is there.

        Args:
            anew: as a new driver would; otherwise the refine query goes on with what it remembers of its last micro-batch.
        """
        reports: list[BatchReport] = []
        self.land(reports)
        rows = refine.read_bronze(self.spark, self.domain, self.settings)
        if anew or self._refine is None:
            self._refine = refine.refine_body(lambda: self.domain, lambda report: self._told.append(report), compact_after=4)
        self._told = reports
        refine.start_refine(rows, self.domain, self.settings, self._refine, available_now=True).awaitTermination()
        return reports

    def land(self, reports: list[BatchReport]) -> None:
        """Let the bronze query alone run to the end of what is there."""
        ids = {self.domain.sources[0].contract.topic: ensure_topic(self.settings.kafka_bootstrap, self.domain.sources[0].contract, 2)}
        source = bronze.read_topics(self.spark, self.domain, self.settings)
        checkpoint = HadoopFolder(self.spark, self.settings.checkpoint(self.domain.bronze_query))
        body = bronze.bronze_body(self.domain, ids, checkpoint, reports.append)
        bronze.start_bronze(source, self.domain, self.settings, body, available_now=True).awaitTermination()

    def table(self, name: str, places: Iterable[str] | None = None) -> pa.Table:
        """Read a table by PyIceberg, such as `gold.fact_city_daily`; only rows of some places where named."""
        rows = open_catalog(self.settings).load_table(name).scan().to_arrow()
        return rows if places is None else rows.filter(pc.is_in(rows["location_key"], pa.array(list(places))))

    def assert_gold_is_right(self, places: Iterable[str] | None = None, beyond: Iterable[str] = ()) -> None:
        """Compare every column of every fact table with one batch pass and with DuckDB's recomputation, which lacks those `beyond`."""
        beyond, chosen = set(beyond), None if places is None else sorted(places)
        rows = self.spark.table(BRONZE.name)
        if chosen is not None:
            rows = rows.where(rows["location_key"].isin(chosen))
        by_batch = to_gold(self.domain, {SILVER.name: to_silver(rows, self.domain.sources[0]).localCheckpoint()})
        arrived = {self.domain.sources[0].name: self.table("bronze.open_meteo_hourly", chosen)}
        by_duckdb = recompute(self.domain.oracle, arrived, dimensions_of(self.domain), self.domain.edition)
        for gold in self.domain.derived:
            streamed = self.table(gold.table.name.removeprefix("lh."), chosen)
            assert_rows(streamed, by_batch[gold.table.name].toArrow(), gold.table.key)
            known = [name for name in streamed.column_names if name not in beyond]
            assert_rows(streamed.select(known), by_duckdb[gold.table.name.rpartition(".")[2]], gold.table.key)

    def assert_bronze_holds_the_topic(self) -> None:
        """Every offset of the topic stands in bronze once, and every data file is the one that its manifest describes."""
        held = self.table("bronze.open_meteo_hourly").select(["partition", "kafka_offset"]).to_pylist()
        offsets = sorted((row["partition"], row["kafka_offset"]) for row in held)
        assert offsets == [(partition, offset) for partition, end in sorted(self.end_offsets().items()) for offset in range(end)]
        for name in (BRONZE.name, SILVER.name, *(gold.table.name for gold in self.domain.derived)):
            assert_files_are_whole(self.settings, name.removeprefix("lh."))

    def end_offsets(self) -> dict[int, int]:
        """Ask the broker for the end of every partition."""
        consumer = Consumer({"bootstrap.servers": self.settings.kafka_bootstrap, "group.id": "test", "enable.auto.commit": False})
        try:
            topic = self.domain.sources[0].contract.topic
            partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
            return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}
        finally:
            consumer.close()


def assert_files_are_whole(settings: Settings, name: str) -> None:
    """Open each file that the table's snapshot refers to, and compare its size and rows with the manifest."""
    table = open_catalog(settings).load_table(name)
    if table.current_snapshot() is None:
        return
    for entry in table.inspect.files().select(["file_path", "file_format", "file_size_in_bytes", "record_count"]).to_pylist():
        path = Path(entry["file_path"].removeprefix("file:"))
        assert path.stat().st_size == entry["file_size_in_bytes"], path
        if entry["file_format"] == "PUFFIN":  # deletion vectors of one commit; whether they are right is seen in the rows
            assert path.read_bytes()[:4] == path.read_bytes()[-4:] == b"PFA1", path
        else:
            assert pq.read_metadata(path).num_rows == entry["record_count"], path


def write_locations(home: Path, keys: Iterable[str]) -> None:
    """Write a list of places with these keys, in different zones."""
    zones = ("Asia/Ho_Chi_Minh", "America/New_York", "Asia/Kathmandu")
    home.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"location_key": key, "location_name": key, "latitude": 21.0, "longitude": 105.8, "timezone": zones[n % len(zones)]})
        for n, key in enumerate(keys)
    ]
    (home / "locations.jsonl").write_text("\n".join(lines))
