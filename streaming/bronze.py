"""How do messages get from Kafka into bronze? One long-running query per domain; exactly once by the fenced append."""

from collections.abc import Callable, Mapping

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from lakehouse import failpoints
from lakehouse.bootstrap import client_text
from lakehouse.domain import Domain
from lakehouse.folders import Folder
from lakehouse.parse import to_bronze
from lakehouse.settings import Settings
from lakehouse.sinks.fenced_append import FencedAppend
from lakehouse.sinks.tables import batch_properties
from streaming.checkpoints import planned_ends
from streaming.progress import BatchReport, timed

Body = Callable[[DataFrame, int], None]


def query_name(domain: Domain) -> str:
    """The query's name, which its checkpoint carries: the table it writes."""
    return domain.bronze.name.removeprefix("lh.")


def read_topic(spark: SparkSession, domain: Domain, settings: Settings, starting: str = "earliest") -> DataFrame:
    """Read what is committed of the domain's topic as a stream, failing when messages were lost.

    Args:
        spark: the session.
        domain: whose topic.
        settings: where Kafka is, and the bounds of a micro-batch.
        starting: where a new checkpoint begins, as Spark takes it: `earliest`, or JSON with an offset for every partition.
    """
    return (
        spark.readStream.format("kafka")
        # Java's client waits 30 s for an address that takes connections and does not answer.
        .option("kafka.bootstrap.servers", client_text(settings.kafka_bootstrap))
        # What its producer aborted is never read, nor what may still be aborted: a micro-batch ends at the last stable offset.
        .option("kafka.isolation.level", "read_committed")
        .option("subscribe", domain.contract.topic)
        # Where a message is read by its writer's schema a header names it. Headers take a fifth more CPU time.
        .option("includeHeaders", domain.contract.codec == "avro")
        .option("startingOffsets", starting)
        .option("failOnDataLoss", "true")
        # Bounds the memory of a micro-batch and what a replay repeats.
        .option("maxOffsetsPerTrigger", settings.max_offsets_per_trigger)
        .option("minPartitions", settings.min_partitions)
        .load()
    )


def landing(domain: Domain, topic_ids: Mapping[str, str], checkpoint: Folder) -> FencedAppend:
    """Give the way into bronze, which notes in the query's checkpoint what it owes."""
    return FencedAppend(domain.bronze, topic_ids, checkpoint)


def bronze_body(
    domain: Domain,
    topic_ids: Mapping[str, str],
    checkpoint: Folder,
    report: Callable[[BatchReport], None],
    bronze: FencedAppend | None = None,
) -> Body:
    """Give the body of the query: type the messages of a micro-batch and append those that the table does not hold yet.

    Args:
        domain: whose bronze.
        topic_ids: the broker's id of its topic.
        checkpoint: the query's, in which Spark has noted where a micro-batch ends before it begins.
        report: is told what each micro-batch was.
        bronze: from `landing`; one of its own when left out.
    """
    into = bronze or landing(domain, topic_ids, checkpoint)

    def append(messages: DataFrame, batch_id: int) -> None:
        with timed(query_name(domain), batch_id, report) as batch:
            properties = batch_properties(query_name(domain), batch_id)
            with batch.phases.timed("append"):
                batch.rows_in = batch.rows_out = into.append(
                    to_bronze(messages, domain.contract), properties, planned_ends(checkpoint, batch_id)
                )
        failpoints.reach("bronze.committed")

    return append


def start_bronze(source: DataFrame, domain: Domain, settings: Settings, body: Body, available_now: bool) -> StreamingQuery:
    """Start the query.

    Args:
        source: messages as Kafka's source gives them, handed in: the topic when running, a folder of files in a test.
        domain: whose bronze.
        settings: for checkpoint and trigger.
        body: from `bronze_body`, possibly guarded by the supervisor.
        available_now: end when everything that is there now was read.
    """
    every = None if available_now else settings.trigger_seconds
    return named(source.writeStream, query_name(domain), settings, every).foreachBatch(body).start()


def named(writer: DataStreamWriter, name: str, settings: Settings, every: float | None) -> DataStreamWriter:
    """Name a query, give it the checkpoint of that name, and its trigger: each so many seconds, or None for what is there now."""
    own = writer.queryName(name).option("checkpointLocation", settings.checkpoint(name))
    return own.trigger(availableNow=True) if every is None else own.trigger(processingTime=f"{every} seconds")
