"""How do messages get from Kafka into bronze? One long-running query per domain; exactly once by the fenced append.

It reads the topics of all sources of the domain, and appends the messages of each to the source's own table, behind that table's own mark.
"""

from collections.abc import Callable, Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from lakehouse import failpoints
from lakehouse.broker.bootstrap import client_text
from lakehouse.codecs.parse import to_bronze
from lakehouse.decode import undecoded_by
from lakehouse.domain import Domain
from lakehouse.engine.engine import Engine
from lakehouse.settings import Settings
from lakehouse.storage.folders import Folder
from lakehouse.tables.schema import quote
from lakehouse.write.fenced_append import FencedAppend
from lakehouse.write.hand_over import Appended
from lakehouse.write.pending_offsets import FILE as PENDING_FILE
from lakehouse.write.plain_rows import batch_properties
from streaming.batch_report import BatchReport, timed
from streaming.checkpoints import planned_ends
from streaming.wake import TRIGGER_SECONDS, Waker

Body = Callable[[DataFrame, int], None]


def read_topics(spark: SparkSession, domain: Domain, settings: Settings, starting: str = "earliest") -> DataFrame:
    """Read what is committed of the domain's topics as a stream, failing when messages were lost.

    Args:
        spark: the session.
        domain: whose topics.
        settings: where Kafka is, and the bounds of a micro-batch.
        starting: where a new checkpoint begins, as Spark takes it: `earliest`, or JSON with an offset for every partition.
    """
    return (
        spark.readStream.format("kafka")
        # Java's client waits 30 s for an address that takes connections and does not answer.
        .option("kafka.bootstrap.servers", client_text(settings.kafka_bootstrap))
        # What its producer aborted is never read, nor what may still be aborted: a micro-batch ends at the last stable offset.
        .option("kafka.isolation.level", "read_committed")
        # A micro-batch reads what is known to be there, so a fetch never needs to wait for more (500 ms by default).
        .option("kafka.fetch.max.wait.ms", "10")
        .option("subscribe", ",".join(domain.topics))
        # Where a message is read by its writer's schema a header names it. Headers take a fifth more CPU time.
        .option("includeHeaders", any(source.contract.codec == "avro" for source in domain.sources))
        .option("startingOffsets", starting)
        .option("failOnDataLoss", "true")
        # Bounds the memory of a micro-batch and what a replay repeats.
        .option("maxOffsetsPerTrigger", settings.max_offsets_per_trigger)
        .option("minPartitions", settings.min_partitions)
        .load()
    )


def fenced_appends(
    domain: Domain, topic_ids: Mapping[str, str], checkpoint: Folder, tell: Callable[[Appended], None] = lambda _: None
) -> dict[str, FencedAppend]:
    """Return the fenced append of each topic's bronze table.

    Args:
        domain: whose topics and tables.
        topic_ids: the broker's id of each topic.
        checkpoint: the query's, in which pending offsets are noted.
        tell: gets each commit that was written from memory.
    """
    found = {}
    for source in domain.sources:
        topic = source.contract.topic
        file = PENDING_FILE if len(domain.sources) == 1 else f"weir-owed.{source.name}.json"
        found[topic] = FencedAppend(source.bronze, {topic: topic_ids[topic]}, checkpoint, pending_file=file, tell=tell)
    return found


def bronze_body(
    domain: Domain,
    topic_ids: Mapping[str, str],
    checkpoint: Folder,
    report: Callable[[BatchReport], None],
    bronze: Mapping[str, FencedAppend] | None = None,
    engine: Engine | None = None,
) -> Body:
    """Return the body of the query: type the messages of a micro-batch and append those that the tables do not hold yet.

    Args:
        domain: whose bronze.
        topic_ids: the broker's id of each topic.
        checkpoint: the query's, in which Spark has noted where a micro-batch ends before it begins.
        report: gets a report of each micro-batch.
        bronze: from `fenced_appends`; some of its own when left out.
        engine: decodes messages in memory; Spark when left out.
    """
    into = bronze or fenced_appends(domain, topic_ids, checkpoint)
    has_one = len(domain.sources) == 1

    def append(messages: DataFrame, batch_id: int) -> None:
        spark = messages.sparkSession
        with timed(domain.bronze_query, batch_id, report) as batch, batch.phases.timed("append"):
            properties = batch_properties(domain.bronze_query, batch_id)
            planned = planned_ends(checkpoint, batch_id)
            ends = {topic: None if planned is None else _of_topic(planned, topic) for topic in into}
            # A table that has all of its messages costs no pass over those of the others.
            behind = [topic for topic, end in ends.items() if has_one or end is None or into[topic].is_behind(spark, end)]
            if len(behind) > 1:
                messages.persist()
            try:
                for topic in behind:
                    rows = messages if has_one else messages.where(f"topic = {quote(topic)}")
                    contract = domain.source_of(topic).contract
                    batch.rows_in += into[topic].append(
                        to_bronze(rows, contract), properties, ends[topic], undecoded_by(rows, contract, engine)
                    )
                    failpoints.reach("bronze.table")
            finally:
                if len(behind) > 1:
                    messages.unpersist()
            batch.rows_out = batch.rows_in
        failpoints.reach("bronze.committed")

    return append


def _of_topic(ends: Mapping[tuple[str, int], int], topic: str) -> dict[tuple[str, int], int]:
    return {place: end for place, end in ends.items() if place[0] == topic}


def start_bronze(
    source: DataFrame, domain: Domain, settings: Settings, body: Body, available_now: bool, waker: Waker | None = None
) -> StreamingQuery:
    """Start the query.

    Args:
        source: messages as Kafka's source gives them, handed in: the topic when running, a folder of files in a test.
        domain: whose bronze.
        settings: for checkpoint and trigger.
        body: from `bronze_body`, possibly guarded by the supervisor.
        available_now: end when everything that is there now was read.
        waker: lets the query look for new messages; at fixed times when left out.
    """
    every = None if available_now else settings.trigger_seconds if waker is None else TRIGGER_SECONDS
    query = named(source.writeStream, domain.bronze_query, settings, every).foreachBatch(body).start()
    if waker is not None and not available_now:
        waker.attach(query)
    return query


def named(writer: DataStreamWriter, name: str, settings: Settings, every: float | None) -> DataStreamWriter:
    """Name a query, give it the checkpoint of that name, and its trigger: each so many seconds, or None for what is there now."""
    own = writer.queryName(name).option("checkpointLocation", settings.checkpoint(name))
    return own.trigger(availableNow=True) if every is None else own.trigger(processingTime=f"{every} seconds")
