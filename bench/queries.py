"""Which parts of the product run alone in a benchmark? Each is the product's own function in the product's own session.

    python -m bench.queries bronze     the production bronze query over what is in the topic
    python -m bench.queries noop       the same read and the same parse, written nowhere
    python -m bench.queries land|refine|gold   the hourly job: three programs, one after the other

Each prints a JSON line for every micro-batch: rows, and when it was done (seconds since 1970).
"""

import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.apply import ApplyOptions, refresh_derived
from lakehouse.broker.topics import ensure_topic
from lakehouse.changes import ChangedSpans
from lakehouse.codecs.parse import to_bronze
from lakehouse.domain import ByTime, Domain
from lakehouse.engine.choose import memory_engine
from lakehouse.engine.newest import latest_per_key
from lakehouse.engine.on_spark import on_spark
from lakehouse.registry import build_domain
from lakehouse.rules import RULE, with_verdict
from lakehouse.settings import Settings
from lakehouse.spans import Spans
from lakehouse.spark import open_spark
from lakehouse.storage.folders import HadoopFolder
from lakehouse.tables.create import create_missing
from lakehouse.write.fenced_append import FencedAppend, newest_mark
from lakehouse.write.merge import bounds_of, merge_newer
from lakehouse.write.small_batches.session_tuning import COMPILED, session_conf
from streaming import bronze

TOUCHED = "touched.json"


def run_bronze(spark: SparkSession, domain: Domain, settings: Settings, ids: Mapping[str, str]) -> None:
    """Run the production query to the end of the topic."""
    create_missing(spark, [domain.sources[0].bronze])
    checkpoint = HadoopFolder(spark, settings.checkpoint(domain.bronze_query))
    # With the engine that the driver's own bronze query has.
    body = bronze.bronze_body(domain, dict(ids), checkpoint, lambda batch: _say(batch.rows_in), engine=memory_engine(settings))
    bronze.start_bronze(bronze.read_topics(spark, domain, settings), domain, settings, body, available_now=True).awaitTermination()


def run_noop(spark: SparkSession, domain: Domain, settings: Settings, _: Mapping[str, str]) -> None:
    """Read and parse as the bronze query does, in the same micro-batches, and drop the rows."""

    def drop(messages: DataFrame, _: int) -> None:
        to_bronze(messages, domain.sources[0].contract).write.format("noop").mode("overwrite").save()

    # As Spark is by itself, and as bronze is for so many rows.
    with session_conf(spark, COMPILED):
        query = bronze.start_bronze(bronze.read_topics(spark, domain, settings), domain, settings, drop, available_now=True)
        query.awaitTermination()
    for progress in query.recentProgress:
        began = time.mktime(time.strptime(progress["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
        at = began + float("0" + progress["timestamp"][19:23]) + progress["durationMs"]["triggerExecution"] / 1000
        print(json.dumps({"rows": progress["numInputRows"], "at": at}), flush=True)


def land(spark: SparkSession, domain: Domain, settings: Settings, ids: Mapping[str, str]) -> None:
    """Step one of the hourly job: what is new in the topic, into bronze."""
    held = newest_mark(spark, domain.sources[0].bronze).next_offsets
    starts = {str(partition): next_offset for (_, partition), next_offset in held.items()}
    messages = (
        spark.read.format("kafka")
        .option("kafka.bootstrap.servers", settings.kafka_bootstrap)
        .option("kafka.isolation.level", "read_committed")
        .option("subscribe", domain.sources[0].contract.topic)
        .option("startingOffsets", json.dumps({domain.sources[0].contract.topic: starts}) if starts else "earliest")
        .load()
    )
    _say(FencedAppend(domain.sources[0].bronze, ids).append(to_bronze(messages, domain.sources[0].contract), {}))


def refine(spark: SparkSession, domain: Domain, settings: Settings, _: Mapping[str, str]) -> None:
    """Step two: bronze's newest append into silver; what it touched is noted for step three."""
    history = spark.sql(
        f"SELECT snapshot_id, parent_id FROM {domain.sources[0].bronze.name}.snapshots ORDER BY committed_at DESC LIMIT 1"
    ).first()
    assert history is not None
    rows = spark.read.option("start-snapshot-id", history["parent_id"]).option("end-snapshot-id", history["snapshot_id"])
    source = domain.sources[0]
    assert isinstance(source.kind, ByTime)
    times, silver = source.kind.times, source.silver
    judged = with_verdict(rows.table(source.bronze.name), source.rules).persist()
    accepted = judged.where(F.col(RULE).isNull())
    spans = accepted.groupBy(times.entity).agg(F.min(times.starts).alias("a"), F.max(times.starts).alias("b")).collect()
    touched = Spans.of((row[0], row["a"].astimezone(), row["b"].astimezone()) for row in spans)
    newest = latest_per_key(on_spark(source.to_silver, accepted), silver, source.contract.version)
    merge_newer(newest, source, bounds_of(touched, silver, times))
    (settings.home / TOUCHED).write_text(json.dumps([(e, a.timestamp(), b.timestamp()) for e, a, b in touched.rows]))
    _say(judged.count())


def gold(spark: SparkSession, domain: Domain, settings: Settings, _: Mapping[str, str]) -> None:
    """Step three: gold of what silver's new rows reach."""
    touched = json.loads((settings.home / TOUCHED).read_text())
    source = domain.sources[0]
    assert isinstance(source.kind, ByTime)
    span = Spans.of((e, datetime.fromtimestamp(a, UTC), datetime.fromtimestamp(b, UTC)) for e, a, b in touched)
    refresh_derived(spark, domain, {source.silver.name: ChangedSpans(span, source.kind.times)}, ApplyOptions())
    _say(len(touched))


STEPS: dict[str, Callable[[SparkSession, Domain, Settings, Mapping[str, str]], None]] = {
    "bronze": run_bronze,
    "noop": run_noop,
    "land": land,
    "refine": refine,
    "gold": gold,
}


def _say(rows: int) -> None:
    print(json.dumps({"rows": rows, "at": time.time()}), flush=True)


def main(name: str) -> None:
    """Run one of them, with the settings of the environment."""
    settings = Settings()
    domain = build_domain("air_quality", settings)
    ids = {domain.sources[0].contract.topic: ensure_topic(settings.kafka_bootstrap, domain.sources[0].contract, settings.kafka_partitions)}
    spark = open_spark(settings, f"weir bench {name}")
    try:
        STEPS[name](spark, domain, settings, ids)
    finally:
        spark.stop()


def told(log: Path) -> list[tuple[int, float]]:
    """Read what such a program printed: rows of each micro-batch, and when it was done."""
    lines = [json.loads(line) for line in log.read_text(errors="replace").splitlines() if line.startswith('{"rows"')]
    return [(int(line["rows"]), float(line["at"])) for line in lines]


if __name__ == "__main__":
    main(sys.argv[1])
