"""How do bronze rows become silver and derived tables? By one function, which the streaming query and every batch program call.

rules -> rejects -> newest version per key -> MERGE into silver where newer -> changes -> for each derived table the part that they affect
-> recompute it whole -> replace it (`derive.py`). Every step is safe to repeat, so a crash anywhere followed by a replay of the rows
leaves the same tables: rejects are keyed by their offset, silver keeps the newer version, and a derived table never adds to a total.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse import failpoints
from lakehouse.changes import ChangedSpans, Changes
from lakehouse.codecs.unknown_fields import UNKNOWN, unknown_names
from lakehouse.counts import Applied, count_few, count_in_memory, count_many, touched_by_few, touched_part
from lakehouse.derive import Work, is_asked, pending_parts, plan_work, refresh
from lakehouse.domain import ByTime, Domain, Source
from lakehouse.engine.engine import DoesNotFit
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.judge import judge_rows
from lakehouse.locks.conflicts import until_accepted
from lakehouse.parts import Part
from lakehouse.phases import Phases
from lakehouse.rules import IS_REJECTED, REASON, RULE, TOMBSTONE, WARNINGS, with_reason, with_verdict
from lakehouse.spans import Spans
from lakehouse.tables.properties import (
    DEFERRED_PROPERTY,
    OFFSET_RANGE_PROPERTY,
    REJECTED_PROPERTY,
    ROWS_ACCEPTED_PROPERTY,
    ROWS_IN_PROPERTY,
)
from lakehouse.write.choose_store import fits, write_by_store
from lakehouse.write.merge import merge_rows
from lakehouse.write.merge_store import MergeStore
from lakehouse.write.small_batches.memory_store import Memory
from lakehouse.write.small_batches.session_tuning import BOUNDED, COMPILED_FROM_ROWS, SMALL_ROWS, conf_for_few, conf_for_many, session_conf
from lakehouse.write.store import Rows, Store, as_properties

log = structlog.get_logger("weir.stream")


def _accept(_: Applied) -> None:
    """Judge nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyOptions:
    """How one call of `apply` or `refresh_derived` works.

    Attributes:
        properties: go into the snapshot of every commit, such as query and batch id.
        judge: gets the counts of the rows before anything is written; what it raises leaves all tables as they were.
        memory: of a caller that calls again and again: what the last call left; a few rows are then written from there.
        phases: times `judge` (reading the rows and applying the rules), `rejects`, `reach`, `silver`, and each derived table by name.
        deferred: the name of the program that recomputes derived tables for these rows later, by `refresh_derived`; until then this call
            and other writers leave them as they are.
        arrived: the rows to apply, where the caller has them in memory too: with all columns of bronze.
        is_beside: whether the tables are the branches of a rebuild that is not published yet.
    """

    properties: Mapping[str, str] = field(default_factory=dict)
    judge: Callable[[Applied], None] = _accept
    memory: Memory | None = None
    phases: Phases = field(default_factory=Phases)
    deferred: str = ""
    arrived: pa.Table | None = None
    is_beside: bool = False


def apply(rows: DataFrame, source: Source, domain: Domain, options: ApplyOptions) -> Applied:
    """Apply a bounded set of bronze rows to rejects, silver and the derived tables. Safe to repeat, in whole or in part.

    Args:
        rows: bronze rows of the source, in any order, split and repeated in any way.
        source: whose rows.
        domain: whose tables.
        options: see `ApplyOptions`.

    Returns:
        The counts of the rows; empty when there were none.

    Raises:
        Py4JJavaError, PySparkException: Iceberg refused a commit several times, or Spark failed otherwise.
    """
    call = _Call(source, domain, options)
    return until_accepted(lambda: _apply(rows, call))


@dataclass(frozen=True, slots=True)
class _Call:
    """The arguments of `apply`."""

    source: Source
    domain: Domain
    options: ApplyOptions


def _apply(rows: DataFrame, call: _Call) -> Applied:
    memory = call.options.memory
    if memory is None or not isinstance(memory.engine, DuckEngine):
        return _apply_by_spark(rows, call)
    spark, source, options = rows.sparkSession, call.source, call.options
    with options.phases.timed("judge"), session_conf(spark, BOUNDED):
        arrived = rows.limit(memory.most_rows + 1).toArrow() if options.arrived is None else options.arrived
    if not fits(memory, arrived.num_rows):
        return _apply_by_spark(rows, call)
    try:
        with options.phases.timed("judge"):
            judged = judge_rows(arrived, source.contract, source.rules, memory.engine, spark)
            met = count_in_memory(judged, source, memory.engine)
    except DoesNotFit as reason:
        log.debug("computed by Spark", why=str(reason))
        return _apply_by_spark(rows, call)
    del arrived
    if judged.num_rows == 0:  # the first micro-batch of an Iceberg stream may be empty
        return Applied()
    options.judge(met)
    split = _Split.of(judged, met, source)
    del judged  # with the bytes of all messages
    return _apply_judged(split, met, spark, call, {})


def _apply_by_spark(rows: DataFrame, call: _Call) -> Applied:
    spark, source, options = rows.sparkSession, call.source, call.options
    judged = with_verdict(rows, source.rules, f"{unknown_names(source.contract)} AS {UNKNOWN}")
    for_few = conf_for_few(0 if options.memory is None else options.memory.calls)
    with options.phases.timed("judge"), session_conf(spark, for_few):
        few = judged.coalesce(1).limit(SMALL_ROWS + 1).toArrow()
    if few.num_rows == 0:
        return Applied()
    if few.num_rows <= SMALL_ROWS:
        met = count_few(few, source)
        options.judge(met)
        # The rows are read and judged once; all that follows starts from these.
        return _apply_judged(_Split.of(few, met, source), met, spark, call, for_few)
    with session_conf(spark, conf_for_many(rows.limit(COMPILED_FROM_ROWS).count())):
        judged.persist()
        try:
            with options.phases.timed("judge"):
                met = count_many(judged, source)
            options.judge(met)
            # The keys of many rows are not collected; the tables tell which of them changed.
            touched = touched_part(source, met)
            store = MergeStore(spark, call.domain, _properties(call, met), is_beside=options.is_beside)
            _write(lambda: judged, judged.where(f"{RULE} IS NULL"), met, touched, store, call)
            return replace(met, engine=store.engine_name)
        finally:
            judged.unpersist()


@dataclass(frozen=True, slots=True)
class _Split:
    """Rows in memory by their verdict.

    Attributes:
        accepted: without their bytes, which are most of a message that was read, and which nothing asks for any more.
        rejected: with everything.
        touched: the part of silver in which accepted rows lie.
    """

    accepted: pa.Table
    rejected: pa.Table
    touched: Part

    @classmethod
    def of(cls, judged: pa.Table, met: Applied, source: Source) -> "_Split":
        """Split rows that have their verdicts."""
        rejected = judged.filter(pc.and_(pc.is_valid(judged[RULE]), pc.not_equal(judged[RULE], TOMBSTONE)))
        without_bytes = judged.drop_columns(["value", WARNINGS, UNKNOWN])
        accepted = without_bytes.filter(pc.is_null(without_bytes[RULE])).drop_columns([RULE])
        return cls(accepted, rejected, touched_by_few(source, met, judged))


def _apply_judged(split: _Split, met: Applied, spark: SparkSession, call: _Call, conf: Mapping[str, str]) -> Applied:
    """Write rows in memory that have their verdicts; return their counts, with the engine."""
    options = call.options

    def work(store: Store[Any]) -> None:
        _write(lambda: spark.createDataFrame(split.rejected).coalesce(1), store.held(split.accepted), met, split.touched, store, call)

    few = met.rows_in <= SMALL_ROWS
    with session_conf(spark, conf if few else conf_for_many(met.rows_in)):
        engine = write_by_store(spark, call.domain, options.memory, _properties(call, met), work, one_task=few, is_beside=options.is_beside)
    return replace(met, engine=engine)


def _write(judged: Callable[[], DataFrame], accepted: Rows, met: Applied, touched: Part, store: Store[Rows], call: _Call) -> None:
    """Write rejects, silver and the derived tables, in this order; each step is safe to repeat."""
    source, domain, phases = call.source, call.domain, call.options.phases
    silver = source.silver.name
    if met.rejected:
        with phases.timed("rejects"), session_conf(store.spark, as_properties(store.properties)):
            merge_rows(to_rejects(judged(), source, domain), domain.rejects)
    work, plan = Work(), None
    with_derived = not call.options.deferred
    with phases.timed("reach"):
        if with_derived:
            work.parts |= pending_parts(store)
            if isinstance(source.kind, ByTime) and isinstance(touched, Spans) and touched:
                work.changes[silver] = ChangedSpans(touched, source.kind.times)
            plan = plan_work(store, work) if work.parts or work.changes else None
    if touched:
        with phases.timed("silver"):
            needed = touched if plan is None else plan.silver.get(silver, touched)
            changed = store.merge_silver(source, accepted, touched, needed, is_asked(domain, silver, plan))
        work.changes[silver] = changed
        store.then(lambda: failpoints.reach("silver.merged"))
    if with_derived and (work.changes or work.parts):
        refresh(store, work, plan, phases, note=not call.options.is_beside)
    else:
        store.settle()


def refresh_derived(spark: SparkSession, domain: Domain, changes: Mapping[str, Changes], options: ApplyOptions) -> None:
    """Recompute the part of every derived table that changes of silver affect, and replace it. Safe to repeat.

    Args:
        spark: the session.
        domain: whose tables.
        changes: by the name of the silver table.
        options: properties, memory and whether the tables are branches; nothing is judged, timed or deferred.
    """

    def work(store: Store[Any]) -> None:
        to_do = Work(changes=dict(changes))
        # Pending changes of other writers are not handled here, so no table is noted as complete.
        refresh(store, to_do, plan_work(store, to_do), Phases(), note=False)

    for_few = {} if options.memory is None else conf_for_few(options.memory.calls)
    until_accepted(lambda: write_by_store(spark, domain, options.memory, options.properties, work, for_few, is_beside=options.is_beside))


def _properties(call: _Call, met: Applied) -> dict[str, str]:
    """Return the properties of each snapshot of a call."""
    options = call.options
    return {
        **options.properties,
        **({DEFERRED_PROPERTY: options.deferred} if options.deferred else {}),
        ROWS_IN_PROPERTY: str(met.rows_in),
        ROWS_ACCEPTED_PROPERTY: str(met.accepted),
        REJECTED_PROPERTY: json.dumps(met.rejected),
        OFFSET_RANGE_PROPERTY: json.dumps(met.offsets),
    }


def to_rejects(judged: DataFrame, source: Source, domain: Domain, only_rejected: bool = True) -> DataFrame:
    """Return rows for the rejects table, one per message, from rows with their verdict; also of accepted rows if asked."""
    chosen = judged.where(IS_REJECTED) if only_rejected else judged
    rejected = with_reason(chosen, source.rules).select(
        F.lit(domain.name).alias("domain"),
        F.coalesce("topic", "source_run").alias("topic"),
        F.coalesce("partition", F.lit(0)).alias("partition"),
        F.coalesce("kafka_offset", "source_row").alias("kafka_offset"),
        "kafka_ts",
        F.col(RULE).alias("rule"),
        F.col(REASON).alias("reason"),
        "value",
    )
    return rejected.dropDuplicates(["topic", "partition", "kafka_offset"])
