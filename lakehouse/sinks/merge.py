"""How do rows get into silver, gold and rejects? By MERGE on their key, repeatable, with literal bounds on what is scanned."""

from collections.abc import Iterable
from datetime import datetime

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.domain import Domain, Gold
from lakehouse.schema import Table, quote
from lakehouse.spans import Spans

INSTANT = pa.timestamp("us", tz="UTC")
GONE = "_gone"
# Above this many, a list of literals costs more to plan than it saves to scan.
MOST_LITERALS = 100
MOST_PREDICATES = 16


def latest_per_key(rows: DataFrame, table: Table, version: str) -> DataFrame:
    """Keep one row per key of the table: the newest version. Bounded input only.

    Of two rows with equal versions the one whose columns compare greater wins, column by column in the order of the table:
    a choice that depends on the rows alone, not on the order, the offsets or the lane in which they came. So silver is a
    function of the set of bronze rows, and a replay under new offsets cannot change it.
    """
    others = [name for name in table.names if name not in (*table.key, version)]
    newest = rows.groupBy(*table.key).agg(F.expr(f"max(struct({', '.join([version, *others])})) AS newest"))
    return newest.selectExpr(*[name if name in table.key else f"newest.{name}" for name in table.names])


def merge_newer(rows: DataFrame, domain: Domain, changed: Spans) -> None:
    """MERGE rows, one per key, into silver where they are new or newer; an equal or older row changes nothing.

    Args:
        rows: of silver's columns, from `latest_per_key`.
        domain: whose silver.
        changed: what the rows span, for pruning.
    """
    table, version = domain.silver, domain.contract.version
    others = [name for name in table.names if name not in (*table.key, version)]

    def rank(alias: str) -> str:
        return f"struct({', '.join(f'{alias}.{name}' for name in (version, *others))})"

    bounds = _bounds(changed, domain.entity, domain.event_time)
    _merge(rows, table, bounds, [f"WHEN MATCHED AND {rank('s')} > {rank('t')} THEN {_update(table)}"])


def merge_rows(rows: DataFrame, table: Table, bounds: str = "") -> None:
    """MERGE rows, one per key: insert the new, update those in which a column differs."""
    _merge(rows, table, bounds, [f"WHEN MATCHED AND NOT ({_same(table)}) THEN {_update(table)}"])


def merge_whole(rows: DataFrame, gold: Gold, entity: str, span: Spans) -> None:
    """MERGE the recomputed rows of a span into a gold table; rows of the span that were not made again are deleted if they can vanish."""
    if gold.grows is None and not gold.vanishes:
        merge_rows(rows, gold.table, _bounds(span, entity, gold.starts))
    else:
        replace_span(rows, gold.table, entity, span, gold.starts, gold.ends)


def replace_span(rows: DataFrame, table: Table, entity: str, span: Spans, starts: str, ends: str = "") -> None:
    """Bring the rows of a span to those given, one per key and all within it, in one MERGE: what is not among them is deleted."""
    present = only_in(rows.sparkSession.table(table.name), span, entity, starts, ends)
    # A row that is as long as its data may begin before the span that it overlaps.
    replace_rows(rows, table, present, "" if ends else _bounds(span, entity, starts))


def replace_rows(rows: DataFrame, table: Table, present: DataFrame, bounds: str = "") -> None:
    """Bring some rows of a table to those given, one per key, in one MERGE: what is not among them is deleted.

    Args:
        rows: as they should be.
        table: whose.
        present: the rows of the table that are to be replaced.
        bounds: what rows are looked for within, as SQL.
    """
    gone = present.join(rows.select(*table.key), on=list(table.key), how="left_anti").withColumn(GONE, F.lit(True))
    source = rows.withColumn(GONE, F.lit(False)).unionByName(gone.select(*table.names, GONE))
    _merge(
        source,
        table,
        bounds,
        [f"WHEN MATCHED AND s.{GONE} THEN DELETE", f"WHEN MATCHED AND NOT ({_same(table)}) THEN {_update(table)}"],
        unless=f"s.{GONE}",
    )


def only_in(rows: DataFrame, span: Spans, entity: str, starts: str, ends: str = "") -> DataFrame:
    """Keep the rows that overlap a span of their entity, both ends included.

    A few distinct spans become literals, which Iceberg prunes by and which cost no join; many become a small table beside
    literal bounds.
    """
    ends = ends or starts
    pruned = rows.where(overlap(span.ranges, starts, ends))
    if len(span.alike) <= MOST_PREDICATES:
        return pruned.where(_any(f"{_one_of(entity, who)} AND {overlap(times, starts, ends)}" for times, who in span.alike.items()))
    # From Arrow it becomes a relation in the plan: a list of Python objects would be a job of its own.
    entities, starts_at, ends_at = zip(*span.rows, strict=True)
    spans = rows.sparkSession.createDataFrame(
        pa.table([pa.array(entities), pa.array(starts_at, INSTANT), pa.array(ends_at, INSTANT)], names=["_entity", "_from", "_until"])
    )
    # Semi: spans of one entity do not overlap, but a row may overlap two of them. A date compares with an instant as its
    # midnight; the spans of such a table are whole days.
    return pruned.join(F.broadcast(spans), on=F.expr(f"{entity} = _entity AND {starts} <= _until AND {ends} >= _from"), how="left_semi")


def overlap(times: Iterable[tuple[datetime, datetime]], starts: str, ends: str) -> str:
    """Write the condition that what lies from one column to the other overlaps one of some times, both ends included."""
    return _any(f"{starts} <= {_literal(end)} AND {ends} >= {_literal(start)}" for start, end in times)


def _one_of(column: str, names: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(quote(name) for name in names)})"


def _any(conditions: Iterable[str]) -> str:
    return "(" + (" OR ".join(f"({condition})" for condition in conditions) or "false") + ")"


def _update(table: Table) -> str:
    """Columns by name: a table may have one of somebody's own, which stays as it is, and is null in a new row."""
    return f"UPDATE SET {', '.join(f'{name} = s.{name}' for name in table.names)}"


def _merge(rows: DataFrame, table: Table, bounds: str, matched: Iterable[str], unless: str = "false") -> None:
    source = f"weir_{table.name.replace('.', '_')}"  # one name per table: merges of two tables may run beside each other
    rows.createOrReplaceTempView(source)
    keys = " AND ".join(f"t.{name} <=> s.{name}" if table.name.startswith("lh.ops.") else f"t.{name} = s.{name}" for name in table.key)
    on = f"{keys} AND {bounds}" if bounds else keys
    values = ", ".join(f"s.{name}" for name in table.names)
    insert = f"WHEN NOT MATCHED AND NOT {unless} THEN INSERT ({', '.join(table.names)}) VALUES ({values})"
    rows.sparkSession.sql(f"MERGE INTO {table.name} t USING {source} s ON {on}\n" + "\n".join([*matched, insert]))


def _same(table: Table) -> str:
    return " AND ".join(f"t.{name} <=> s.{name}" for name in table.names if name not in table.key) or "true"


def _bounds(span: Spans, entity: str, column: str) -> str:
    """Literal bounds for ON: without them a MERGE scans the whole target."""
    bounds = overlap(span.ranges, f"t.{column}", f"t.{column}")
    return f"{bounds} AND {_one_of(f't.{entity}', span.entities)}" if len(span.entities) <= MOST_LITERALS else bounds


def _literal(instant: datetime) -> str:
    return f"TIMESTAMP '{instant:%Y-%m-%d %H:%M:%S.%f}+00:00'"
