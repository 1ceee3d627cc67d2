"""How do bronze rows become silver and what is derived from it? One body with two callers: the streaming query and every batch program.

rules -> rejects -> newest version per key -> MERGE silver where newer -> changes -> for each derived table the part that they reach ->
recompute it whole -> replace it (`derive.py`). Every step alone is safe to repeat, so a crash anywhere and a replay of the rows leaves
the same tables: rejects are keyed by their offset, silver keeps the newer version, and a derived table never adds to a total.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from lakehouse import failpoints
from lakehouse.changes import ChangedSpans, Changes, distinct
from lakehouse.codecs.unknown_fields import MOST_NAMES, UNKNOWN, unknown_names
from lakehouse.derive import Work, is_asked, owed_parts, plan_work, refresh
from lakehouse.domain import ByTime, Domain, Source
from lakehouse.locks.conflicts import until_accepted
from lakehouse.parts import WHOLE, Keys, Part
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
from lakehouse.write.merge import merge_rows
from lakehouse.write.small_batches.data_files import NotFromMemory
from lakehouse.write.small_batches.session_tuning import COMPILED_FROM_ROWS, SMALL_ROWS, conf_for_few, conf_for_many, session_conf
from lakehouse.write.stores import Memory, MergeStore, Rows, Store, as_properties, aware

log = structlog.get_logger("weir.stream")


@dataclass(frozen=True, slots=True)
class Applied:
    """What one call of `apply` met.

    Attributes:
        rows_in: rows read.
        rejected: rows by the rule that rejected them.
        tombstones: messages without a value, which say nothing: neither accepted nor rejected.
        unjudged: rows that were rejected by a rule that says nothing of source or rules.
        warned: accepted rows by the warning they broke.
        late: accepted rows that were behind the domain's watermark when Kafka took them; one whose arrival nobody knows is not counted.
        touched: the spans of silver that the accepted rows lie in, where silver is kept by time.
        offsets: first and last offset of the rows, by topic and partition.
        unknown: messages by the field that they hold and the contract does not know.
    """

    rows_in: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)
    late: int = 0
    touched: Spans = field(default_factory=lambda: Spans(()))
    offsets: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    tombstones: int = 0
    unjudged: int = 0

    @property
    def judged(self) -> int:
        """Rows that say something of the source and the rules: what the breaker counts."""
        return self.rows_in - self.tombstones - self.unjudged

    @property
    def accepted(self) -> int:
        """Rows that passed the rules."""
        return self.rows_in - self.tombstones - sum(self.rejected.values())


def _let_through(_: Applied) -> None:
    """Judge nothing."""


def apply(
    rows: DataFrame,
    source: Source,
    domain: Domain,
    properties: Mapping[str, str],
    judge: Callable[[Applied], None] = _let_through,
    memory: Memory | None = None,
    phases: Phases | None = None,
    deferred: str = "",
    is_beside: bool = False,
) -> Applied:
    """Bring one bounded set of bronze rows into rejects, silver and the derived tables. Safe to repeat, in whole or in part.

    Args:
        rows: bronze rows of the source, in any order and cutting, with any repetition.
        source: whose rows.
        domain: whose tables.
        properties: go into the snapshot of every commit, such as query and batch id.
        judge: is told what the rows are before anything is written; what it raises leaves all tables as they were.
        memory: for who calls again and again: what the last call left; a few rows are then written from there.
        phases: times `judge` (reading the rows and applying the rules), `rejects`, `reach`, `silver`, and each derived table by name.
        deferred: the name of the work that makes derived tables of these rows later, by `refresh_derived`; they are left as they are
            then, by this call and by others.
        is_beside: whether the tables are the branches of a rebuild that is not published yet.

    Returns:
        What the rows were; empty when there were none.

    Raises:
        Py4JJavaError, PySparkException: Iceberg refused a commit again and again; what else Spark raises, at once.
    """
    timed = phases or Phases()
    call = _Call(source, domain, properties, judge, memory, timed, deferred, is_beside)
    return until_accepted(lambda: _apply(rows, call))


@dataclass(frozen=True, slots=True)
class _Call:
    """The arguments of `apply`."""

    source: Source
    domain: Domain
    properties: Mapping[str, str]
    judge: Callable[[Applied], None]
    memory: Memory | None
    phases: Phases
    deferred: str
    is_beside: bool


def _apply(rows: DataFrame, call: _Call) -> Applied:
    spark, source, memory = rows.sparkSession, call.source, call.memory
    judged = with_verdict(rows, source.rules, f"{unknown_names(source.contract)} AS {UNKNOWN}")
    for_few = conf_for_few(0 if memory is None else memory.calls)
    with call.phases.timed("judge"), session_conf(spark, for_few):
        few = judged.coalesce(1).limit(SMALL_ROWS + 1).toArrow()
    if few.num_rows == 0:  # the first micro-batch of an Iceberg stream may be empty
        return Applied()
    if few.num_rows <= SMALL_ROWS:
        met = _summarize(_each(few, source), source)
        call.judge(met)
        # Read and judged once: what follows starts from these rows.
        with session_conf(spark, for_few):
            rows_judged = spark.createDataFrame(few).coalesce(1)
            touched = _touched(source, met, few)
            _from_memory_or_by_merge(
                spark,
                call.domain,
                memory,
                _said(call, met),
                lambda store: _write(rows_judged, met, touched, store, call),
                one_task=True,
                is_beside=call.is_beside,
            )
        return met
    with session_conf(spark, conf_for_many(rows.limit(COMPILED_FROM_ROWS).count())):
        judged.persist()
        try:
            with call.phases.timed("judge"):
                met = replace(_summarize(_grouped(judged, source), source), unknown=_unknown(judged))
            call.judge(met)
            # Of many rows the keys are not brought into memory: the tables are asked which of them changed.
            touched = touched_part(source, met)
            store = MergeStore(spark, call.domain, _said(call, met), is_beside=call.is_beside)
            _write(judged, met, touched, store, call)
            return met
        finally:
            judged.unpersist()


def touched_part(source: Source, met: Applied) -> Part:
    """Name the part of silver that accepted rows lie in, by what is counted of them: every row where silver is kept by key."""
    if isinstance(source.kind, ByTime):
        return met.touched
    return WHOLE if met.accepted else Keys()


def _touched(source: Source, met: Applied, few: pa.Table) -> Part:
    """Name the part of silver that accepted rows lie in, by the rows themselves."""
    if isinstance(source.kind, ByTime):
        return met.touched
    key = list(source.silver.key)
    return Keys.of(key, distinct(few.filter(pc.is_null(few[RULE])), key))


def _from_memory_or_by_merge(
    spark: SparkSession,
    domain: Domain,
    memory: Memory | None,
    said: Mapping[str, str],
    work: Callable[[Store[Any]], None],
    conf: Mapping[str, str] = MappingProxyType({}),
    one_task: bool = False,
    is_beside: bool = False,
) -> None:
    """Write from memory where there is one and the tables allow it, by settings for that alone; by MERGE otherwise."""
    if memory is not None:
        try:
            with session_conf(spark, conf), memory.store(spark, domain, said) as store:
                work(store)
            return
        except NotFromMemory as reason:
            log.debug("merged", why=str(reason))
    work(MergeStore(spark, domain, said, one_task, is_beside))


def _write(judged: DataFrame, met: Applied, touched: Part, store: Store[Rows], call: _Call) -> None:
    """Write rejects, silver and the derived tables, in this order; each step may be repeated."""
    source, domain, phases = call.source, call.domain, call.phases
    silver = source.silver.name
    if met.rejected:
        with phases.timed("rejects"), session_conf(judged.sparkSession, as_properties(store.said)):
            merge_rows(to_rejects(judged, source, domain), domain.rejects)
    work, plan = Work(), None
    with_derived = not call.deferred
    with phases.timed("reach"):
        if with_derived:
            work.parts |= owed_parts(store)
            if isinstance(source.kind, ByTime) and isinstance(touched, Spans) and touched:
                work.changes[silver] = ChangedSpans(touched, source.kind.times)
            plan = plan_work(store, work) if work.parts or work.changes else None
    if touched:
        with phases.timed("silver"):
            needed = touched if plan is None else plan.silver.get(silver, touched)
            changed = store.merge_silver(source, judged.where(f"{RULE} IS NULL"), touched, needed, is_asked(domain, silver, plan))
        work.changes[silver] = changed
        store.then(lambda: failpoints.reach("silver.merged"))
    if with_derived and (work.changes or work.parts):
        refresh(store, work, plan, phases, note=not call.is_beside)
    else:
        store.settle()


def refresh_derived(
    spark: SparkSession,
    domain: Domain,
    changes: Mapping[str, Changes],
    properties: Mapping[str, str],
    memory: Memory | None = None,
    is_beside: bool = False,
) -> None:
    """Recompute what changes of silver reach in every derived table, whole, and bring the tables to it. Safe to repeat.

    Args:
        spark: the session.
        domain: whose tables.
        changes: what has changed, by the name of the silver table.
        properties: go into the snapshot of every commit.
        memory: for who calls again and again; what fits there is written from there, the rest by MERGE.
        is_beside: whether the domain's tables are branches, which nobody reads yet.
    """

    def work(store: Store[Any]) -> None:
        to_do = Work(changes=dict(changes))
        # What another writer owes is not done here, so nothing is noted as complete.
        refresh(store, to_do, plan_work(store, to_do), Phases(), note=False)

    for_few = {} if memory is None else conf_for_few(memory.calls)
    until_accepted(lambda: _from_memory_or_by_merge(spark, domain, memory, properties, work, for_few, is_beside=is_beside))


def _grouped(judged: DataFrame, source: Source) -> Iterable[Mapping[str, Any]]:
    """Count the rows and find what they touch, in one job: a row per partition, rule and, of rows kept by time, entity and day."""
    by = ["topic", "partition", RULE, WARNINGS]
    counts = [
        F.count(F.lit(1)).alias("rows"),
        F.min("kafka_offset").alias("first_offset"),
        F.max("kafka_offset").alias("last_offset"),
    ]
    if source.contract.event_time:
        event_time, bound = F.col(source.contract.event_time), f"INTERVAL {source.watermark.total_seconds():.0f} SECONDS"
        counts.append(F.count_if(event_time < F.col("kafka_ts") - F.expr(bound)).alias("late"))
    if not isinstance(source.kind, ByTime):
        groups: list[Row] = judged.groupBy(*by).agg(*counts).collect()
        return [group.asDict() for group in groups]
    starts = F.col(source.kind.starts)
    counts += [F.min(starts).alias("first"), F.max(starts).alias("last")]
    groups = judged.groupBy(*by, F.col(source.kind.entity).alias("entity"), F.to_date(starts).alias("day")).agg(*counts).collect()
    return [{**g.asDict(), **{name: g[name] and aware(g[name]) for name in ("first", "last")}} for g in groups]


def _each(few: pa.Table, source: Source) -> Iterable[Mapping[str, Any]]:
    """Give each row as a group of its own."""
    wanted = {name: name for name in ("topic", "partition", RULE, WARNINGS, UNKNOWN)} | {"first_offset": "kafka_offset"}
    if event_time := source.contract.event_time:
        wanted |= {"happened": event_time, "arrived": "kafka_ts"}
    if isinstance(source.kind, ByTime):
        wanted |= {"entity": source.kind.entity, "first": source.kind.starts}
    rows = pa.table([few[column] for column in wanted.values()], names=list(wanted))
    return [
        {
            **row,
            "rows": 1,
            "last": row.get("first"),
            "last_offset": row["first_offset"],
            "late": bool(row.get("happened") and row.get("arrived") and row["happened"] < row["arrived"] - source.watermark),
        }
        for row in rows.to_pylist()
    ]


def _unknown(judged: DataFrame) -> dict[str, int]:
    """Count the fields that the contract does not know; those that most messages hold, since a message may make up names."""
    names = judged.select(F.explode(UNKNOWN).alias("name")).groupBy("name").agg(F.count(F.lit(1)).alias("rows"))
    return {row["name"]: row["rows"] for row in names.orderBy(F.desc("rows"), "name").limit(2 * MOST_NAMES).collect()}


def _summarize(groups: Iterable[Mapping[str, Any]], source: Source) -> Applied:
    """Add up groups of rows that are alike: see `_grouped`."""
    rows_in = 0
    rejected: Counter[str] = Counter()
    warned: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    touched = []
    late = tombstones = 0
    offsets: dict[str, dict[str, tuple[int, int]]] = {}
    for group in groups:
        rows_in += group["rows"]
        if group["topic"] is not None:
            partitions = offsets.setdefault(group["topic"], {})
            first, last = partitions.get(str(group["partition"]), (group["first_offset"], group["last_offset"]))
            partitions[str(group["partition"])] = (min(first, group["first_offset"]), max(last, group["last_offset"]))
        unknown.update(group.get(UNKNOWN) or ())
        if group[RULE] == TOMBSTONE:
            tombstones += group["rows"]
            continue
        if group[RULE] is not None:
            rejected[group[RULE]] += group["rows"]
            continue
        late += group.get("late", 0)
        if isinstance(source.kind, ByTime):
            touched.append((group["entity"], group["first"], group["last"]))
        for name in group[WARNINGS]:
            warned[name] += group["rows"]
    unjudged = sum(rejected[rule.name] for rule in source.rules if not rule.is_judged)
    return Applied(rows_in, dict(rejected), dict(warned), late, Spans.of(touched), offsets, dict(unknown), tombstones, unjudged)


def _said(call: _Call, met: Applied) -> dict[str, str]:
    """What each snapshot of a call says of it."""
    return {
        **call.properties,
        **({DEFERRED_PROPERTY: call.deferred} if call.deferred else {}),
        ROWS_IN_PROPERTY: str(met.rows_in),
        ROWS_ACCEPTED_PROPERTY: str(met.accepted),
        REJECTED_PROPERTY: json.dumps(met.rejected),
        OFFSET_RANGE_PROPERTY: json.dumps(met.offsets),
    }


def to_rejects(judged: DataFrame, source: Source, domain: Domain, only_rejected: bool = True) -> DataFrame:
    """Give the rows of the rejects table that follow from rows with their verdict, one per message; those of accepted ones too if asked."""
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
