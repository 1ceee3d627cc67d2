"""How do bronze rows become silver and gold? One body with two callers: the streaming query and every batch program.

rules -> rejects -> newest version per key -> MERGE silver where newer -> spans touched -> recompute gold whole from silver ->
MERGE gold. Every step alone is safe to repeat, so a crash anywhere and a replay of the rows leaves the same tables: rejects
are keyed by their offset, silver keeps the newer version, and gold never adds to a total.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import structlog
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from lakehouse import failpoints
from lakehouse.conflicts import until_accepted
from lakehouse.domain import Domain
from lakehouse.few_rows import COMPILED_FROM_ROWS, SMALL_ROWS, conf_for_few, conf_for_many, session_conf
from lakehouse.phases import Phases
from lakehouse.rules import IS_REJECTED, REASON, RULE, TOMBSTONE, WARNINGS, with_reason, with_verdict
from lakehouse.sinks.data_files import NotFromMemory
from lakehouse.sinks.merge import latest_per_key, merge_rows
from lakehouse.sinks.stores import Memory, MergeStore, Rows, Store, Touching, aware
from lakehouse.spans import Spans
from lakehouse.unknown_fields import MOST_NAMES, UNKNOWN, unknown_names

log = structlog.get_logger("weir.stream")

PROPERTY_PREFIX = "spark.sql.iceberg.snapshot-property."
# The first and last offset of what a commit was made of, by topic and partition.
OFFSETS_PROPERTY = "weir.offset-range"


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
        touched: the spans of silver that the accepted rows lie in.
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
    domain: Domain,
    properties: Mapping[str, str],
    judge: Callable[[Applied], None] = _let_through,
    memory: Memory | None = None,
    phases: Phases | None = None,
    with_gold: bool = True,
) -> Applied:
    """Bring one bounded set of bronze rows into rejects, silver and gold. Safe to repeat, in whole or in part.

    Args:
        rows: bronze rows, in any order and cutting, with any repetition.
        domain: whose rows.
        properties: go into the snapshot of every commit, such as query and batch id.
        judge: is told what the rows are before anything is written; what it raises leaves all tables as they were.
        memory: for who calls again and again: what the last call left; a few rows are then written from there.
        phases: times `judge` (reading the rows and applying the rules), `rejects`, `reach`, `silver`, and each gold table by name.
        with_gold: False leaves gold as it is; whoever says so owes it a `refresh_gold` of what was touched.

    Returns:
        What the rows were; empty when there were none.

    Raises:
        Py4JJavaError, PySparkException: Iceberg refused a commit again and again; what else Spark raises, at once.
    """
    timed = phases or Phases()
    return until_accepted(lambda: _apply(rows, domain, properties, judge, memory, timed, with_gold))


def _apply(
    rows: DataFrame,
    domain: Domain,
    properties: Mapping[str, str],
    judge: Callable[[Applied], None],
    memory: Memory | None,
    phases: Phases,
    with_gold: bool,
) -> Applied:
    spark = rows.sparkSession
    judged = with_verdict(rows, domain.rules, f"{unknown_names(domain.contract)} AS {UNKNOWN}")
    for_few = conf_for_few(0 if memory is None else memory.calls)
    with phases.timed("judge"), session_conf(spark, for_few):
        few = judged.coalesce(1).limit(SMALL_ROWS + 1).toArrow()
    if few.num_rows == 0:  # the first micro-batch of an Iceberg stream may be empty
        return Applied()
    if few.num_rows <= SMALL_ROWS:
        met = _summarize(_each(few, domain), domain)
        judge(met)
        said = _said(properties, met)
        # Read and judged once: what follows starts from these rows.
        with session_conf(spark, for_few | as_properties(said)):
            rows_judged = spark.createDataFrame(few).coalesce(1)
            _from_memory_or_by_merge(
                spark, domain, memory, said, lambda store: _write(rows_judged, met, store, phases, with_gold), one_task=True
            )
        return met
    with session_conf(spark, conf_for_many(rows.limit(COMPILED_FROM_ROWS).count())):
        judged.persist()
        try:
            with phases.timed("judge"):
                met = replace(_summarize(_grouped(judged, domain), domain), unknown=_unknown(judged))
            judge(met)
            with session_conf(spark, as_properties(_said(properties, met))):
                _write(judged, met, MergeStore(spark, domain), phases, with_gold)
            return met
        finally:
            judged.unpersist()


def _from_memory_or_by_merge(
    spark: SparkSession,
    domain: Domain,
    memory: Memory | None,
    said: Mapping[str, str],
    work: Callable[[Store[Any]], None],
    conf: Mapping[str, str] = MappingProxyType({}),
    one_task: bool = False,
) -> None:
    """Write from memory where there is one and the tables allow it, by settings for that alone; by MERGE otherwise."""
    if memory is not None:
        try:
            with session_conf(spark, conf), memory.store(spark, domain, said) as store:
                work(store)
            return
        except NotFromMemory as reason:
            log.debug("merged", why=str(reason))
    work(MergeStore(spark, domain, one_task))


def _write(judged: DataFrame, met: Applied, store: Store[Rows], phases: Phases, with_gold: bool) -> None:
    """Write rejects, silver and gold, in this order; each step may be repeated. The session holds what every snapshot says."""
    domain = store.domain
    if met.rejected:
        with phases.timed("rejects"):
            merge_rows(to_rejects(judged, domain), domain.rejects)
    if met.touched:
        with phases.timed("reach"):
            reach = _Reach.of(store, met.touched) if with_gold else None
        with phases.timed("silver"):
            store.merge_silver(judged.where(f"{RULE} IS NULL"), met.touched, reach.silver if reach else met.touched)
        store.then(lambda: failpoints.reach("silver.merged"))
        if reach:
            _refresh(store, reach, phases)
        else:
            store.settle()


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far a touched span of silver reaches, by gold table.

    Attributes:
        touched: the span of silver.
        touching: rows of the table that touch the span and make it grow.
        written: the span that is recomputed and written.
        computed: the span that must be computed: `written`, and what the tables made of it read.
        silver: the span of silver that all is made of.
    """

    touched: Spans
    touching: Mapping[str, Touching]
    written: Mapping[str, Spans]
    computed: Mapping[str, Spans]
    silver: Spans

    @classmethod
    def of(cls, store: Store[Rows], touched: Spans) -> "_Reach":
        """Find it; reads those gold tables whose rows grow.

        Hours outside the span have not changed, so what reaches into it from outside is a row of the table as it stands, or
        shorter than a row.
        """
        touching: dict[str, Touching] = {}
        written: dict[str, Spans] = {}
        for gold in store.domain.gold:
            name, span = gold.table.name, gold.reach(touched)
            touching[name] = [] if gold.grows is None else store.touching(gold, span.widened(before=gold.grows, after=gold.grows))
            written[name] = span.joined(touching[name])
        computed = dict(written)
        silver = Spans(())
        for gold in reversed(store.domain.gold):
            read = gold.reads(computed[gold.table.name]).rows
            if gold.source.name in computed:
                computed[gold.source.name] = computed[gold.source.name].joined(read)
            else:
                silver = silver.joined(read)
        return cls(touched, touching, written, computed, silver)


def refresh_gold(spark: SparkSession, domain: Domain, touched: Spans, properties: Mapping[str, str], memory: Memory | None = None) -> None:
    """Recompute what a touched span of silver reaches in every gold table, whole, and bring the tables to it. Safe to repeat.

    Args:
        spark: the session.
        domain: whose gold.
        touched: the spans of silver that have changed.
        properties: go into the snapshot of every commit.
        memory: for who calls again and again; what fits there is written from there, the rest by MERGE.
    """

    def work(store: Store[Any]) -> None:
        _refresh(store, _Reach.of(store, touched), Phases())

    with session_conf(spark, as_properties(properties)):
        for_few = {} if memory is None else conf_for_few(memory.calls)
        until_accepted(lambda: _from_memory_or_by_merge(spark, domain, memory, properties, work, for_few))


def _refresh(store: Store[Rows], reach: _Reach, phases: Phases) -> None:
    """Bring gold to silver as far as it reaches, and farther where gold was behind silver (a backfill owes it) and a row goes on."""
    try:
        while leaving := _refresh_once(store, reach, phases):
            with phases.timed("reach"):
                # Twice its length more on either side each time: a run of months is not followed day by day.
                wider = [(entity, start - 2 * (end - start), end + 2 * (end - start)) for entity, start, end in leaving]
                reach = _Reach.of(store, reach.touched.joined(wider))
    finally:
        store.close()
    failpoints.reach("gold.merged")


def _refresh_once(store: Store[Rows], reach: _Reach, phases: Phases) -> Touching:
    """Bring gold to silver; give the rows that leave their table's span, whose table, and those after it, are then left as they were."""
    made: dict[str, Rows] = {}
    leaving: Touching = []
    for number, gold in enumerate(store.domain.gold):
        name, source = gold.table.name, gold.source.name
        with phases.timed(name.removeprefix("lh.")):
            rows = made[source] if source in made else store.silver(gold.reads(reach.computed[name]))
            # What lies outside the span was computed without its look-back: it is nobody's.
            made[name] = store.make(gold, rows, reach.computed[name])
            extents = [] if gold.grows is None else store.extents(gold, made[name])
            if leaving := reach.written[name].crossed_by(extents):
                break
            # Most micro-batches meet no episode: nothing to make and none to delete needs no commit.
            if gold.grows is None or reach.touching[name] or extents:
                store.replace(gold, made[name], reach.written[name])
        if number == 0:
            store.then(lambda: failpoints.reach("gold.first_table"))
    with phases.timed("commit"):
        store.settle()
    return leaving


def to_gold(domain: Domain, silver: DataFrame, keep: Callable[[str, DataFrame], DataFrame] = lambda _, rows: rows) -> dict[str, DataFrame]:
    """Compute every gold table from all of silver in one batch pass, without writing: the other side of stream = batch.

    Args:
        domain: whose.
        silver: all of its rows.
        keep: is given each table's name and rows, and gives the rows that the next tables are made of.
    """
    made = {domain.silver.name: silver}
    for gold in domain.gold:
        made[gold.table.name] = keep(gold.table.name, gold.to_rows(made[gold.source.name]))
    del made[domain.silver.name]
    return made


def to_silver(rows: DataFrame, domain: Domain) -> DataFrame:
    """Compute silver from all bronze rows in one batch pass, without writing."""
    judged = with_verdict(rows, domain.rules)
    return latest_per_key(domain.to_silver(judged.where(F.col(RULE).isNull())), domain.silver, domain.contract.version)


def _grouped(judged: DataFrame, domain: Domain) -> Iterable[Mapping[str, Any]]:
    """Count the rows and find what they touch, in one job: a row per partition, rule, entity and day."""
    event_time = F.col(domain.event_time)
    groups: list[Row] = (
        judged.groupBy("topic", "partition", RULE, WARNINGS, F.col(domain.entity).alias("entity"), F.to_date(event_time).alias("day"))
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.min(event_time).alias("first"),
            F.max(event_time).alias("last"),
            F.min("kafka_offset").alias("first_offset"),
            F.max("kafka_offset").alias("last_offset"),
            F.count_if(event_time < F.col("kafka_ts") - F.expr(f"INTERVAL {domain.watermark.total_seconds():.0f} SECONDS")).alias("late"),
        )
        .collect()
    )
    return [{**g.asDict(), **{name: g[name] and aware(g[name]) for name in ("first", "last")}} for g in groups]


def _each(few: pa.Table, domain: Domain) -> Iterable[Mapping[str, Any]]:
    """Give each row as a group of its own."""
    names = ["topic", "partition", RULE, WARNINGS, UNKNOWN, "entity", "first", "first_offset", "arrived"]
    rows = few.select(["topic", "partition", RULE, WARNINGS, UNKNOWN, domain.entity, domain.event_time, "kafka_offset", "kafka_ts"])
    return [
        {
            **row,
            "rows": 1,
            "last": row["first"],
            "last_offset": row["first_offset"],
            "late": bool(row["first"] and row["arrived"] and row["first"] < row["arrived"] - domain.watermark),
        }
        for row in rows.rename_columns(names).to_pylist()
    ]


def _unknown(judged: DataFrame) -> dict[str, int]:
    """Count the fields that the contract does not know; those that most messages hold, since a message may make up names."""
    names = judged.select(F.explode(UNKNOWN).alias("name")).groupBy("name").agg(F.count(F.lit(1)).alias("rows"))
    return {row["name"]: row["rows"] for row in names.orderBy(F.desc("rows"), "name").limit(2 * MOST_NAMES).collect()}


def _summarize(groups: Iterable[Mapping[str, Any]], domain: Domain) -> Applied:
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
        late += group["late"]
        touched.append((group["entity"], group["first"], group["last"]))
        for name in group[WARNINGS]:
            warned[name] += group["rows"]
    unjudged = sum(rejected[rule.name] for rule in domain.rules if not rule.is_judged)
    return Applied(rows_in, dict(rejected), dict(warned), late, Spans.of(touched), offsets, dict(unknown), tombstones, unjudged)


def _said(properties: Mapping[str, str], met: Applied) -> dict[str, str]:
    """What each snapshot of a call says of it."""
    return {
        **properties,
        "weir.rows-in": str(met.rows_in),
        "weir.rows-accepted": str(met.accepted),
        "weir.rejected": json.dumps(met.rejected),
        OFFSETS_PROPERTY: json.dumps(met.offsets),
    }


def as_properties(said: Mapping[str, str]) -> dict[str, str]:
    """Give the settings by which Spark writes properties into the snapshots of its MERGEs."""
    return {PROPERTY_PREFIX + name: value for name, value in said.items()}


def to_rejects(judged: DataFrame, domain: Domain, only_rejected: bool = True) -> DataFrame:
    """Give the rows of the rejects table that follow from rows with their verdict, one per message; those of accepted ones too if asked."""
    chosen = judged.where(IS_REJECTED) if only_rejected else judged
    rejected = with_reason(chosen, domain.rules).select(
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
