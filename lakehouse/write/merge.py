"""How do rows get into silver, gold and rejects? By MERGE on their key: safe to repeat, with literal bounds on what is scanned."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.domain import Source
from lakehouse.engine.newest import ranked_columns
from lakehouse.parts import KeyRow, Keys, Part
from lakehouse.spans import Spans, Times
from lakehouse.tables.schema import Table, quote

INSTANT = pa.timestamp("us", tz="UTC")
GONE = "_gone"
# A longer list of literals costs more to plan than it saves in the scan.
MOST_LITERALS = 100
MOST_PREDICATES = 16


def merge_newer(rows: DataFrame, source: Source, bounds: str) -> None:
    """MERGE rows, one per key, into silver where they are new or newer; an equal or older row changes nothing.

    Args:
        rows: with silver's columns, from `latest_per_key`.
        source: whose silver.
        bounds: SQL over columns of the key that limits the scan of silver; it must cover all rows, or a second row would be inserted.
    """
    table = source.silver
    _merge(rows, table, bounds, [f"WHEN MATCHED AND {is_newer(source, 's', 't')} THEN {_update(table)}"])


def is_newer(source: Source, one: str, other: str) -> str:
    """Return the SQL condition that the row of one alias replaces the other's: see `lakehouse/engine/newest.py`."""
    ranked = ranked_columns(source.silver, source.contract.version)

    def rank(alias: str) -> str:
        return f"struct({', '.join(f'{alias}.{name}' for name in ranked)})"

    return f"{rank(one)} > {rank(other)}"


def merge_rows(rows: DataFrame, table: Table, bounds: str = "") -> None:
    """MERGE rows, one per key: insert the new, update those in which a column differs."""
    _merge(rows, table, bounds, [f"WHEN MATCHED AND NOT ({_same(table)}) THEN {_update(table)}"])


def merge_part(rows: DataFrame, table: Table, part: Part, times: Times | None, is_replaced: bool) -> None:
    """MERGE the recomputed rows of a part into a table; delete the other rows of the part where `is_replaced`.

    Args:
        rows: of the part, one per key.
        table: the table.
        part: what was recomputed.
        times: the columns by which spans select the table's rows.
        is_replaced: whether rows that the recomputed part no longer has are deleted.
    """
    if is_replaced:
        replace_part(rows, table, part, times)
    else:
        merge_rows(rows, table, bounds_of(part, table, times))


def replace_part(rows: DataFrame, table: Table, part: Part, times: Times | None) -> None:
    """Replace the rows of a part by the given rows, one per key and all within it, in one MERGE; rows not given are deleted."""
    replace_rows(rows, table, only_in(rows.sparkSession.table(table.name), part, times), bounds_of(part, table, times))


def replace_rows(rows: DataFrame, table: Table, present: DataFrame, bounds: str = "") -> None:
    """Replace some rows of a table by the given rows, one per key, in one MERGE; rows not given are deleted.

    Args:
        rows: the new rows.
        table: the table.
        present: the rows of the table that are replaced.
        bounds: SQL that limits the scan of the table.
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


def only_in(rows: DataFrame, part: Part, times: Times | None = None) -> DataFrame:
    """Keep the rows of a part.

    A small part becomes literals, by which Iceberg prunes and which need no join. A large one becomes a small table to join with, and
    literal bounds.

    Args:
        rows: of a table.
        part: described by columns of the table.
        times: the columns by which spans select the rows.
    """
    if isinstance(part, Keys):
        return _with_keys(rows, part)
    if times is None:
        raise ValueError("rows that are kept by key were asked for in spans of time")
    starts, ends = times.starts, times.last
    pruned = rows.where(overlap(part.ranges, starts, ends))
    if len(part.alike) <= MOST_PREDICATES:
        return pruned.where(any_of(f"{_one_of(times.entity, who)} AND {overlap(when, starts, ends)}" for when, who in part.alike.items()))
    # An Arrow table becomes a relation in the plan; a list of Python objects would become a job of its own.
    entities, starts_at, ends_at = zip(*part.rows, strict=True)
    spans = rows.sparkSession.createDataFrame(
        pa.table([pa.array(entities), pa.array(starts_at, INSTANT), pa.array(ends_at, INSTANT)], names=["_entity", "_from", "_until"])
    )
    # A semi join, since a row may overlap two spans of its entity. A date compares with an instant as its midnight, and spans of a table
    # with dates are whole days.
    within = f"{times.entity} = _entity AND {starts} <= _until AND {ends} >= _from"
    return pruned.join(F.broadcast(spans), on=F.expr(within), how="left_semi")


def _with_keys(rows: DataFrame, part: Keys) -> DataFrame:
    if part.is_whole:
        return rows
    small = {columns: found for columns, found in part.tuples.items() if len(found) <= MOST_LITERALS}
    conditions = [_has_one(columns, found) for columns, found in small.items()]
    joined = rows
    for number, (columns, found) in enumerate(part.tuples.items()):
        if columns in small:
            continue
        mark, names = f"_met_{number}", [f"_key_{number}_{n}" for n in range(len(columns))]
        schema = ", ".join(f"{name} {_type_of(rows, column)}" for name, column in zip(names, columns, strict=True))
        values = pa.table([pa.array(list(column)) for column in zip(*found, strict=True)], names=names)
        keys = rows.sparkSession.createDataFrame(values, schema).withColumn(mark, F.lit(True))
        on = " AND ".join(f"{column} <=> {name}" for column, name in zip(columns, names, strict=True))
        # The right side is unique: tuples are distinct.
        joined = joined.join(F.broadcast(keys), on=F.expr(on), how="left")
        conditions.append(mark)
    kept = joined.where(any_of(conditions))
    return kept if len(small) == len(part.tuples) else kept.select(*rows.columns)


def _has_one(columns: Sequence[str], found: Iterable[KeyRow]) -> str:
    """Return the SQL condition that columns equal one of some tuples."""
    if len(columns) == 1:
        values = sorted((row[0] for row in found if row[0] is not None), key=repr)
        within = [f"{columns[0]} IN ({', '.join(literal(value) for value in values)})"] if values else []
        return any_of([*within, *([f"{columns[0]} IS NULL"] if any(row[0] is None for row in found) else [])])
    return any_of(
        " AND ".join(f"{name} IS NULL" if value is None else f"{name} = {literal(value)}" for name, value in zip(columns, row, strict=True))
        for row in sorted(found, key=repr)
    )


def _type_of(rows: DataFrame, column: str) -> str:
    return str(rows.schema[column].dataType.simpleString())


def overlap(times: Iterable[tuple[datetime, datetime]], starts: str, ends: str) -> str:
    """Return the SQL condition that the time from one column to the other overlaps one of some times, both ends included."""
    return any_of(f"{starts} <= {literal(end)} AND {ends} >= {literal(start)}" for start, end in times)


def _one_of(column: str, values: Iterable[Any]) -> str:
    return f"{column} IN ({', '.join(literal(value) for value in values)})"


def any_of(conditions: Iterable[str]) -> str:
    """Return the SQL disjunction of some conditions; false where there is none."""
    return "(" + (" OR ".join(f"({condition})" for condition in conditions) or "false") + ")"


def _update(table: Table) -> str:
    """Name the columns, since a table may have other ones, which an update leaves as they are and an insert leaves null."""
    return f"UPDATE SET {', '.join(f'{name} = s.{name}' for name in table.names)}"


def _merge(rows: DataFrame, table: Table, bounds: str, matched: Iterable[str], unless: str = "false") -> None:
    source = f"weir_{table.name.replace('.', '_')}"  # one name per table, since merges into two tables may run at the same time
    rows.createOrReplaceTempView(source)
    keys = " AND ".join(f"t.{name} <=> s.{name}" if table.name.startswith("lh.ops.") else f"t.{name} = s.{name}" for name in table.key)
    on = f"{keys} AND {bounds}" if bounds else keys
    values = ", ".join(f"s.{name}" for name in table.names)
    insert = f"WHEN NOT MATCHED AND NOT {unless} THEN INSERT ({', '.join(table.names)}) VALUES ({values})"
    rows.sparkSession.sql(f"MERGE INTO {table.name} t USING {source} s ON {on}\n" + "\n".join([*matched, insert]))


def _same(table: Table) -> str:
    return " AND ".join(f"t.{name} <=> s.{name}" for name in table.computed.names if name not in table.key) or "true"


def bounds_of(part: Part, table: Table, times: Times | None) -> str:
    """Return literal bounds for the MERGE's ON clause: without them it scans the whole target.

    Only columns of the key may be bounded. By any other column, the row of a key could lie outside the bounds, and a second one would be
    inserted. For the same reason a table whose rows extend over time has no bounds: a row may begin before the span that it overlaps.
    """
    if isinstance(part, Spans) and times is not None and not times.ends and {times.entity, times.starts} <= set(table.key):
        bounds = overlap(part.ranges, f"t.{times.starts}", f"t.{times.starts}")
        entities = part.entities
        return f"{bounds} AND {_one_of(f't.{times.entity}', entities)}" if len(entities) <= MOST_LITERALS else bounds
    if isinstance(part, Keys) and not part.is_whole:
        conditions = []
        for columns, found in part.tuples.items():
            if not set(columns) <= set(table.key):
                return ""
            conditions.append(_bound_by(columns, found))
        return any_of(conditions)
    return ""


def _bound_by(columns: Sequence[str], found: frozenset[KeyRow]) -> str:
    if len(found) <= MOST_LITERALS:
        return _has_one([f"t.{column}" for column in columns], found)
    bounds = []
    for name, values in zip(columns, zip(*found, strict=True), strict=True):
        if None not in values:
            bounds.append(f"t.{name} BETWEEN {literal(min(values))} AND {literal(max(values))}")
    return " AND ".join(bounds) or "true"


def literal(value: Any) -> str:  # noqa: ANN401 - any value of a column
    """Return a value as a literal of Spark SQL."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return f"double({value!r})" if math.isfinite(value) else f"double('{value}')"
        case Decimal():
            return f"{value:f}BD"
        case datetime():
            return f"TIMESTAMP '{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00:00'"
        case date():
            return f"DATE '{value:%Y-%m-%d}'"
        case bytes():
            return f"X'{value.hex()}'"
        case str():
            return quote(value)
    raise TypeError(f"{value!r} is no value of a column")
