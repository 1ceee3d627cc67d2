"""How do bronze rows get into silver and the derived tables? One query per domain reads its bronze tables and calls `apply`."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from lakehouse.apply import ApplyOptions, apply
from lakehouse.counts import Applied, touched_part
from lakehouse.domain import Domain, Source
from lakehouse.engine.engine import Engine
from lakehouse.parts import Part
from lakehouse.settings import Settings
from lakehouse.storage.folders import HadoopFolder
from lakehouse.write.compaction import Compactor
from lakehouse.write.dimensions import write_dimensions
from lakehouse.write.plain_rows import batch_properties
from lakehouse.write.small_batches.memory_store import Memory
from streaming.batch_report import BatchReport, ReadFrom, timed
from streaming.bronze import Body, named
from streaming.checkpoints import forget_start
from streaming.errors import RejectRateExceeded
from streaming.wake import TRIGGER_SECONDS, Waker


@dataclass(frozen=True, slots=True)
class AtHand:
    """The rows of a micro-batch by bronze table, without tables that have none, and where they are from."""

    rows: Mapping[str, pa.Table]
    read_from: ReadFrom


# Of which source a row is, where a query reads the bronze tables of several.
SOURCE = "_source"


def read_bronze(spark: SparkSession, domain: Domain, settings: Settings) -> DataFrame:
    """Read the bronze tables of a domain as one stream.

    They are append-only; a rewrite of one by an overwrite is loud, compaction is read rightly. Deletes are passed over, as retention
    drops whole days: what a delete takes away was read from the append that brought it, which is kept until this query has committed
    it. So nothing is left out; and silver and what is derived keep what was made of it.

    Returns:
        The rows of bronze; where there are several sources, one column of rows for each of them beside `_source`, see `rows_of`.
    """
    streams = [_read_table(spark, source, settings) for source in domain.sources]
    if len(streams) == 1:
        return streams[0]
    # One query for all of them: each query costs the driver a thread, a look five times a second, and a checkpoint.
    columns = [stream.selectExpr(f"{number} AS {SOURCE}", f"struct(*) AS {_column(number)}") for number, stream in enumerate(streams)]
    return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), columns)


def rows_of(rows: DataFrame, number: int) -> DataFrame:
    """Return the bronze rows of one source of several, by its number in the domain."""
    return rows.where(f"{SOURCE} = {number}").select(f"{_column(number)}.*")


def _column(number: int) -> str:
    return f"_rows_{number}"


def _read_table(spark: SparkSession, source: Source, settings: Settings) -> DataFrame:
    rows = (
        spark.readStream.format("iceberg")
        # Counts whole files; a file is at most one micro-batch of the bronze query.
        .option("streaming-max-rows-per-micro-batch", settings.max_offsets_per_trigger)
        .option("streaming-skip-delete-snapshots", "true")
        .load(source.bronze.name)
    )
    # Backfilled rows are applied by the backfill: each bronze row has exactly one applier.
    return rows.where("source_run IS NULL")


def _refuse(_: int, refused: Mapping[str, RejectRateExceeded]) -> None:
    raise next(iter(refused.values()))


def refine_body(
    build: Callable[[], Domain],
    report: Callable[[BatchReport], None],
    judge: Callable[[Source, int, Applied], None] = lambda *_: None,
    compact_after: int = 0,
    note: Callable[[Source, Applied], Mapping[str, int]] = lambda *_: {},
    lock: Callable[[], AbstractContextManager[object]] = nullcontext,
    engine: Engine | None = None,
    at_hand: Callable[[int], AtHand | None] = lambda _: None,
    after: Callable[[], None] = lambda: None,
    hold: Callable[[int, Mapping[str, RejectRateExceeded]], None] = _refuse,
    held: Collection[str] = (),
) -> Body:
    """Return the body of the query.

    Args:
        build: puts the domain together; called for every micro-batch, so that a place added while the query runs is known.
        report: gets a report of each micro-batch.
        judge: called per source with the micro-batch's id and the counts of its rows before they are applied; raises to refuse them.
        compact_after: micro-batches into a table after which its small files are joined; 0 leaves them.
        note: called before `judge` with the counts; returns the unknown fields that it counted.
        lock: keeps other programs from the tables while a micro-batch is written.
        engine: computes rows in memory; Spark when left out.
        at_hand: returns the rows of a micro-batch; None where Spark must read them.
        after: called when a micro-batch is written.
        hold: called with the micro-batch's id and the errors by source where `judge` refused some, once the others are written; holds these
            sources back, or raises.
        held: the names of the sources that are held back, whose rows are left in bronze; `hold` adds to it.
    """
    last = build()
    compactor = Compactor(last, compact_after)
    memory = Memory(last, engine=engine)

    def refine(rows: DataFrame, batch_id: int) -> None:
        nonlocal last
        domain = build()
        if [r for _, r in domain.dimensions] != [r for _, r in last.dimensions]:
            write_dimensions(rows.sparkSession, domain)
        last = domain
        with timed(domain.refine_query, batch_id, report) as batch, ExitStack() as opened:
            with batch.phases.timed("lock"):
                opened.enter_context(lock())
            properties = batch_properties(domain.refine_query, batch_id)
            touched: dict[str, Part] = {}
            refused: dict[str, RejectRateExceeded] = {}
            found = at_hand(batch_id)
            if found is not None:
                batch.read_from = found.read_from
            for source, of_source, arrived in _by_source(rows, domain, opened, None if found is None else found.rows):
                if source.name in held:
                    continue

                def look(met: Applied, source: Source = source) -> None:
                    # Before the breaker, since unknown fields may be why too many rows are bad.
                    batch.unknown = {**batch.unknown, **note(source, met)}
                    judge(source, batch_id, met)

                options = ApplyOptions(properties=properties, judge=look, memory=memory, phases=batch.phases, arrived=arrived)
                try:
                    met = apply(of_source, source, domain, options)
                except RejectRateExceeded as error:
                    refused[source.name] = error  # of this source nothing was written; the others go on
                    continue
                touched[source.silver.name] = touched_part(source, met)
                batch.add(met)
            if refused:
                hold(batch_id, refused)
            with batch.phases.timed("compact"):
                batch.compacted = compactor.after(rows.sparkSession, domain, touched)
        after()

    return refine


def _by_source(
    rows: DataFrame, domain: Domain, opened: ExitStack, handed: Mapping[str, pa.Table] | None
) -> Iterator[tuple[Source, DataFrame, pa.Table | None]]:
    """Return the rows of each source that has some, with those in memory where these are known; those of several are read once."""
    is_alone = len(domain.sources) == 1
    if handed is not None:
        for number, source in enumerate(domain.sources):
            if source.bronze.name in handed:
                yield source, rows if is_alone else rows_of(rows, number), handed[source.bronze.name]
        return
    if is_alone:
        yield domain.sources[0], rows, None
        return
    rows.persist()
    opened.callback(rows.unpersist)
    present = {row[0] for row in rows.select(SOURCE).distinct().collect()}
    for number, source in enumerate(domain.sources):
        if number in present:
            yield source, rows_of(rows, number), None


def start_refine(
    source: DataFrame, domain: Domain, settings: Settings, body: Body, available_now: bool, waker: Waker | None = None
) -> StreamingQuery:
    """Start the query.

    Args:
        source: from `read_bronze`, handed in.
        domain: whose silver and derived tables.
        settings: for checkpoint and trigger.
        body: from `refine_body`.
        available_now: end when everything that is there now was read.
        waker: lets the query look for new rows; at fixed times when left out.
    """
    forget_start(HadoopFolder(source.sparkSession, settings.checkpoint(domain.refine_query)), len(domain.sources))
    every = None if available_now else settings.silver_trigger_seconds if waker is None else TRIGGER_SECONDS
    query = named(source.writeStream, domain.refine_query, settings, every).foreachBatch(body).start()
    if waker is not None and not available_now:
        waker.attach(query)
    return query
