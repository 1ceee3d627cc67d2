"""How do bronze rows become silver and gold? One body with two callers: the streaming query and every batch program.

rules -> rejects -> newest version per key -> MERGE silver where newer -> spans touched -> recompute gold whole from silver ->
MERGE gold. Every step alone is safe to repeat, so a crash anywhere and a replay of the rows leaves the same tables: rejects
are keyed by their offset, silver keeps the newer version, and gold never adds to a total.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from lakehouse import failpoints
from lakehouse.domain import Domain, Gold
from lakehouse.phases import Phases
from lakehouse.rules import REASON, RULE, WARNINGS, with_verdict
from lakehouse.schema import REJECTS
from lakehouse.sinks.merge import latest_per_key, merge_newer, merge_rows, merge_whole, only_in
from lakehouse.spans import Spans

PROPERTY_PREFIX = "spark.sql.iceberg.snapshot-property."

# Up to this many rows a call is done by one task at a time: a second one costs more (exchanges, scheduling) than it works.
SMALL_ROWS = 5_000
ONE_TASK = {
    "spark.sql.shuffle.partitions": "1",
    # Without them Iceberg cuts a scan into a task for every core, and shuffles before it writes.
    "spark.sql.iceberg.read.adaptive-split-size.enabled": "false",
    "spark.sql.iceberg.read.split-size": str(1 << 30),
    "spark.sql.iceberg.distribution-mode": "none",
}


@dataclass(frozen=True, slots=True)
class Applied:
    """What one call of `apply` met.

    Attributes:
        rows_in: rows read.
        rejected: rows by the rule that rejected them.
        warned: accepted rows by the warning they broke.
        late: accepted rows that were behind the domain's watermark when Kafka took them.
        touched: the spans of silver that the accepted rows lie in.
        offsets: first and last offset of the rows, by topic and partition.
    """

    rows_in: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)
    late: int = 0
    touched: Spans = field(default_factory=lambda: Spans(()))
    offsets: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        """Rows that passed the rules."""
        return self.rows_in - sum(self.rejected.values())


def _let_through(_: Applied) -> None:
    """Judge nothing."""


def apply(
    rows: DataFrame,
    domain: Domain,
    properties: Mapping[str, str],
    judge: Callable[[Applied], None] = _let_through,
    phases: Phases | None = None,
) -> Applied:
    """Bring one bounded set of bronze rows into rejects, silver and gold. Safe to repeat, in whole or in part.

    Args:
        rows: bronze rows, in any order and cutting, with any repetition.
        domain: whose rows.
        properties: go into the snapshot of every MERGE, such as query and batch id.
        judge: is told what the rows are before anything is written; what it raises leaves all tables as they were.
        phases: times `judge` (reading the rows and applying the rules), `rejects`, `silver`, `reach`, and each gold table by name.

    Returns:
        What the rows were; empty when there were none.
    """
    phases = phases or Phases()
    judged = with_verdict(rows, domain.rules).persist()
    try:
        with phases.timed("judge"):
            met = _summarize(judged, domain)
        if met.rows_in == 0:  # the first micro-batch of an Iceberg stream may be empty
            return met
        judge(met)
        small = met.rows_in <= SMALL_ROWS
        with _conf(
            rows.sparkSession,
            {PROPERTY_PREFIX + name: value for name, value in _said(properties, met).items()} | (ONE_TASK if small else {}),
        ):
            if met.rejected:
                with phases.timed("rejects"):
                    merge_rows(_to_rejects(judged, domain.name), REJECTS)
            if met.touched:
                with phases.timed("silver"):
                    accepted = domain.to_silver(_sized(judged.where(f"{RULE} IS NULL"), small))
                    merge_newer(latest_per_key(accepted, domain.silver, domain.contract.version), domain, met.touched)
                failpoints.reach("silver.merged")
                refresh_gold(rows.sparkSession, domain, met.touched, small, phases)
        return met
    finally:
        judged.unpersist()


def refresh_gold(spark: SparkSession, domain: Domain, touched: Spans, small: bool = False, phases: Phases | None = None) -> None:
    """Recompute what a touched span of silver reaches in every gold table, whole, and merge it; by one task where it is `small`."""
    phases = phases or Phases()
    with phases.timed("reach"):
        touching = {gold.table.name: _touching(spark, gold, domain.entity, gold.reach(touched)) for gold in domain.gold}
    reached = {gold.table.name: gold.reach(touched).joined(touching[gold.table.name]) for gold in domain.gold}
    needed = _needed(domain, reached)
    made: dict[str, DataFrame] = {}
    try:
        for number, gold in enumerate(domain.gold):
            name, source = gold.table.name, gold.source.name
            from_table = source not in made
            if from_table:
                rows = _sized(only_in(spark.table(source), gold.reads(needed[name]), domain.entity, domain.event_time), small)
            else:
                rows = made[source]
            # What lies outside the span was computed without its look-back: it is nobody's.
            made[name] = only_in(gold.to_rows(rows), needed[name], domain.entity, gold.starts, gold.ends).persist()
            # Most micro-batches meet no episode: nothing to make and none to delete needs no commit.
            with phases.timed(name.removeprefix("lh.")):
                if gold.grows is None or touching[name] or not made[name].isEmpty():
                    merge_whole(
                        only_in(made[name], reached[name], domain.entity, gold.starts, gold.ends), gold, domain.entity, reached[name]
                    )
            if number == 0:
                failpoints.reach("gold.first_table")
    finally:
        for rows in made.values():
            rows.unpersist()
    failpoints.reach("gold.merged")


def _needed(domain: Domain, reached: Mapping[str, Spans]) -> dict[str, Spans]:
    """Find the span of each gold table that must be computed: what it writes, and what the tables made of it read."""
    needed = dict(reached)
    for gold in reversed(domain.gold):
        if gold.source.name in needed:
            needed[gold.source.name] = needed[gold.source.name].joined(gold.reads(needed[gold.table.name]).rows)
    return needed


def to_gold(domain: Domain, silver: DataFrame) -> dict[str, DataFrame]:
    """Compute every gold table from all of silver in one batch pass, without writing: the other side of stream = batch."""
    made = {domain.silver.name: silver}
    for gold in domain.gold:
        made[gold.table.name] = gold.to_rows(made[gold.source.name])
    del made[domain.silver.name]
    return made


def to_silver(rows: DataFrame, domain: Domain) -> DataFrame:
    """Compute silver from all bronze rows in one batch pass, without writing."""
    judged = with_verdict(rows, domain.rules)
    return latest_per_key(domain.to_silver(judged.where(F.col(RULE).isNull())), domain.silver, domain.contract.version)


def _summarize(judged: DataFrame, domain: Domain) -> Applied:
    """Count the rows and find what they touch, in one job: a row per partition, rule, entity and day."""
    event_time = F.col(domain.event_time)
    groups: list[Row] = (
        judged.groupBy("topic", "partition", RULE, WARNINGS, domain.entity, F.to_date(event_time).alias("day"))
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
    rejected: Counter[str] = Counter()
    warned: Counter[str] = Counter()
    touched = []
    late = 0
    offsets: dict[str, dict[str, tuple[int, int]]] = {}
    for group in groups:
        if group["topic"] is not None:
            partitions = offsets.setdefault(group["topic"], {})
            first, last = partitions.get(str(group["partition"]), (group["first_offset"], group["last_offset"]))
            partitions[str(group["partition"])] = (min(first, group["first_offset"]), max(last, group["last_offset"]))
        if group[RULE] is not None:
            rejected[group[RULE]] += group["rows"]
            continue
        late += group["late"]
        touched.append((group[domain.entity], _aware(group["first"]), _aware(group["last"])))
        for name in group[WARNINGS]:
            warned[name] += group["rows"]
    return Applied(sum(group["rows"] for group in groups), dict(rejected), dict(warned), late, Spans.of(touched), offsets)


def _aware(instant: datetime) -> datetime:
    """Spark hands out instants in the zone of this process, without saying so."""
    return instant.astimezone(UTC)


def _said(properties: Mapping[str, str], met: Applied) -> dict[str, str]:
    """What each snapshot of a call says of it."""
    return {
        **properties,
        "weir.rows-in": str(met.rows_in),
        "weir.rows-accepted": str(met.accepted),
        "weir.rejected": json.dumps(met.rejected),
        "weir.offset-range": json.dumps(met.offsets),
    }


@contextmanager
def _conf(spark: SparkSession, wanted: Mapping[str, str]) -> Iterator[None]:
    """Hold settings of a session for a block; a streaming micro-batch has a session of its own."""
    before = {name: spark.conf.get(name, None) for name in wanted}
    for name, value in wanted.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, held in before.items():
            if held is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, held)


def _sized(rows: DataFrame, small: bool) -> DataFrame:
    return rows.coalesce(1) if small else rows


def _to_rejects(judged: DataFrame, domain: str) -> DataFrame:
    rejected = judged.where(F.col(RULE).isNotNull()).select(
        F.lit(domain).alias("domain"),
        F.coalesce("topic", "source_run").alias("topic"),
        F.coalesce("partition", F.lit(0)).alias("partition"),
        F.coalesce("kafka_offset", "source_row").alias("kafka_offset"),
        "kafka_ts",
        F.col(RULE).alias("rule"),
        F.col(REASON).alias("reason"),
        "value",
    )
    return rejected.dropDuplicates(["topic", "partition", "kafka_offset"])


def _touching(spark: SparkSession, gold: Gold, entity: str, span: Spans) -> list[tuple[str, datetime, datetime]]:
    """Find the rows of a table that touch a span, which grows by them so that whole episodes are read; none where rows do not grow.

    Hours outside the span have not changed, so what reaches into it from outside is a row of the table as it stands, or
    shorter than a row.
    """
    if gold.grows is None:
        return []
    near = span.widened(before=gold.grows, after=gold.grows)
    rows = only_in(spark.table(gold.table.name), near, entity, gold.starts, gold.ends).select(entity, gold.starts, gold.ends).collect()
    return [(row[0], _aware(row[1]), _aware(row[2])) for row in rows]
