"""How do bronze rows get into silver and gold? One query per domain reads bronze as a stream and calls `apply`."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from lakehouse.apply import Applied, apply
from lakehouse.domain import Domain
from lakehouse.folders import HadoopFolder
from lakehouse.settings import Settings
from lakehouse.sinks.compact import Compactor
from lakehouse.sinks.stores import Memory
from lakehouse.sinks.tables import batch_properties, write_dimensions
from streaming.bronze import Body, named
from streaming.checkpoints import forget_start
from streaming.progress import BatchReport, timed


def query_name(domain: Domain) -> str:
    """The query's name, which its checkpoint carries: the silver table; gold is made in the same micro-batch."""
    return domain.silver.name.removeprefix("lh.")


def read_bronze(spark: SparkSession, domain: Domain, settings: Settings) -> DataFrame:
    """Read bronze as a stream. It is append-only; a rewrite of it by an overwrite is loud, compaction is read rightly.

    Deletes are passed over, as retention drops whole days: what a delete takes away was read from the append that brought it, which
    is kept until this query has committed it. So nothing is left out; and silver and gold keep what was made of it.
    """
    rows = (
        spark.readStream.format("iceberg")
        # Counts whole files; a file is at most one micro-batch of the bronze query.
        .option("streaming-max-rows-per-micro-batch", settings.max_offsets_per_trigger)
        .option("streaming-skip-delete-snapshots", "true")
        .load(domain.bronze.name)
    )
    # Backfilled rows are applied by the backfill: each bronze row has exactly one applier.
    return rows.where("source_run IS NULL")


def refine_body(
    build: Callable[[], Domain],
    report: Callable[[BatchReport], None],
    judge: Callable[[int, Applied], None] = lambda _, __: None,
    compact_after: int = 0,
    note: Callable[[Applied], Mapping[str, int]] = lambda _: {},
    turn: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Body:
    """Give the body of the query.

    Args:
        build: puts the domain together; called for every micro-batch, so that a place added while the query runs is known.
        report: is told what each micro-batch was.
        judge: is told a micro-batch's id and what its rows are before they are applied; raises when they must not be.
        compact_after: micro-batches into a table after which its small files are joined; 0 leaves them.
        note: is told the same before `judge`; gives the unknown fields that it counted.
        turn: keeps other programs from the tables while a micro-batch is written.
    """
    last = build()
    compactor = Compactor(last, compact_after)
    memory = Memory(last)

    def refine(rows: DataFrame, batch_id: int) -> None:
        nonlocal last
        domain = build()
        if [r for _, r in domain.dimensions] != [r for _, r in last.dimensions]:
            write_dimensions(rows.sparkSession, domain)
        last = domain
        with timed(query_name(domain), batch_id, report) as batch, ExitStack() as held:
            with batch.phases.timed("turn"):
                held.enter_context(turn())
            properties = batch_properties(query_name(domain), batch_id)

            def look(met: Applied) -> None:
                # First: unknown fields may be why too many rows are bad.
                batch.unknown = note(met)
                judge(batch_id, met)

            met = apply(rows, domain, properties, look, memory, batch.phases)
            batch.rows_in, batch.rows_out = met.rows_in, met.accepted
            batch.rejected, batch.tombstones, batch.warned, batch.late = met.rejected, met.tombstones, met.warned, met.late
            with batch.phases.timed("compact"):
                batch.compacted = compactor.after(rows.sparkSession, domain, met.touched)

    return refine


def start_refine(source: DataFrame, domain: Domain, settings: Settings, body: Body, available_now: bool) -> StreamingQuery:
    """Start the query; `source` is handed in, `body` comes from `refine_body`."""
    forget_start(HadoopFolder(source.sparkSession, settings.checkpoint(query_name(domain))))
    every = None if available_now else settings.silver_trigger_seconds
    return named(source.writeStream, query_name(domain), settings, every).foreachBatch(body).start()
