"""What were the rows of one call of `apply`? Counts by verdict, their offsets, and the part of silver in which they lie."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from lakehouse.changes import distinct
from lakehouse.codecs.unknown_fields import MOST_NAMES, UNKNOWN
from lakehouse.domain import ByTime, Source
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.parts import WHOLE, Keys, Part
from lakehouse.rules import RULE, TOMBSTONE, WARNINGS
from lakehouse.spans import Spans
from lakehouse.write.store import aware


@dataclass(frozen=True, slots=True)
class Applied:
    """The rows of one call of `apply`.

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
        engine: what computed the tables' rows, `duckdb` or `spark`; empty where there were none.
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
    engine: str = ""

    @property
    def judged(self) -> int:
        """Rows that say something of the source and the rules: what the breaker counts."""
        return self.rows_in - self.tombstones - self.unjudged

    @property
    def accepted(self) -> int:
        """Rows that passed the rules."""
        return self.rows_in - self.tombstones - sum(self.rejected.values())


def touched_part(source: Source, met: Applied) -> Part:
    """Name the part of silver that accepted rows lie in, by what is counted of them: every row where silver is kept by key."""
    if isinstance(source.kind, ByTime):
        return met.touched
    return WHOLE if met.accepted else Keys()


def touched_by_few(source: Source, met: Applied, few: pa.Table) -> Part:
    """Name the part of silver that accepted rows lie in, by the rows themselves."""
    if isinstance(source.kind, ByTime):
        return met.touched
    key = list(source.silver.key)
    return Keys.of(key, distinct(few.filter(pc.is_null(few[RULE])), key))


def count_few(few: pa.Table, source: Source) -> Applied:
    """Count rows in memory with their verdicts."""
    return _summarize(_each(few, source), source)


def count_in_memory(judged: pa.Table, source: Source, engine: DuckEngine) -> Applied:
    """Count rows in memory with their verdicts, by DuckDB."""
    keys, counts = ["topic", "partition", RULE, WARNINGS], ["count(*) AS rows"]
    counts += ["min(kafka_offset) AS first_offset", "max(kafka_offset) AS last_offset"]
    if source.contract.event_time:
        bound = f"INTERVAL {source.watermark.total_seconds():.0f} SECONDS"
        counts.append(f"count(CASE WHEN {source.contract.event_time} < kafka_ts - {bound} THEN 1 END) AS late")
    if isinstance(source.kind, ByTime):
        starts = source.kind.starts
        keys += [f"{source.kind.entity} AS entity", f"CAST({starts} AS DATE) AS day"]
        counts += [f"min({starts}) AS first", f"max({starts}) AS last"]
    groups = engine.query(f"SELECT {', '.join([*keys, *counts])} FROM judged GROUP BY ALL", {"judged": judged})
    names = engine.query(
        f"SELECT name, count(*) AS rows FROM (SELECT unnest({UNKNOWN}) AS name FROM judged) GROUP BY ALL "
        f"ORDER BY rows DESC, name LIMIT {2 * MOST_NAMES}",
        {"judged": judged},
    )
    unknown = dict(zip(names["name"].to_pylist(), names["rows"].to_pylist(), strict=True))
    return replace(_summarize(groups.to_pylist(), source), unknown=unknown)


def count_many(judged: DataFrame, source: Source) -> Applied:
    """Count rows that Spark holds with their verdicts, in two jobs."""
    return replace(_summarize(_grouped(judged, source), source), unknown=_unknown(judged))


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
    """Return each row as a group of its own."""
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
