"""Which rows is a row made of? From gold over silver down to the messages that arrived, by what the domain says that each table reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo, GreaterThanOrEqual, In, LessThanOrEqual
from pyiceberg.expressions.literals import literal
from pyiceberg.table import Table as Stored
from pyiceberg.types import TimestamptzType

from batch.heads import Heads
from batch.proofs import Proof
from lakehouse.catalog import NAME
from lakehouse.domain import Domain, Gold
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.registry import BUILDERS, build_domain
from lakehouse.settings import Settings
from lakehouse.sinks.recent import rows_in
from lakehouse.sinks.row_delta import runs
from lakehouse.spans import Spans

MOST_ROWS = 20


class CannotExplain(LakehouseError, Fatal):
    """The question names no row that can be followed."""


@dataclass(frozen=True, slots=True)
class Level:
    """One table's part of a trace: its name and those of its rows that the level before is made of, in the order of their keys."""

    table: str
    rows: pa.Table


def trace(heads: Heads, name: str, rows: pa.Table) -> list[Level]:
    """Follow rows of silver or gold down to bronze.

    Args:
        heads: the domain's tables.
        name: of the table whose rows they are, with `lh.`.
        rows: all of its columns.

    Returns:
        A level per table from that one down to bronze. Bronze's are all messages of the keys, those that were replaced and those
        that came too late among them; `_used` tells the ones whose version silver holds.
    """
    domain = heads.domain
    levels = [Level(name, rows)]
    while (gold := _gold(domain, levels[-1].table)) is not None:
        levels.append(Level(gold.source.name, _sources(heads, gold, levels[-1].rows)))
    levels.append(Level(domain.bronze.name, _messages(heads, levels[-1].rows)))
    return levels


def explain(settings: Settings, table: str, conditions: Mapping[str, str]) -> list[Level]:
    """Trace the rows of a table that have certain values.

    Args:
        settings: name the catalog.
        table: of silver or gold, with or without `lh.`.
        conditions: values by column, as typed: a day as YYYY-MM-DD, an instant as ISO 8601, in UTC where it names no zone.

    Raises:
        CannotExplain: no such table or column, a value of another kind, no such row, or too many.
    """
    name = table if table.startswith(f"{NAME}.") else f"{NAME}.{table}"
    known: list[str] = []
    for domain in (build_domain(one, settings) for one in BUILDERS):
        tables = [domain.silver, *(gold.table for gold in domain.gold)]
        known += [one.name.removeprefix(f"{NAME}.") for one in tables]
        if name not in [one.name for one in tables]:
            continue
        with Heads.look(settings, domain) as heads:
            rows = heads.rows(name, _condition(heads.tables[name], conditions))
            if not 1 <= rows.num_rows <= MOST_ROWS:
                key = ", ".join(next(one.key for one in tables if one.name == name))
                found = f"{rows.num_rows:,} rows, more than {MOST_ROWS}" if rows.num_rows else "no row"
                raise CannotExplain(
                    f"{name} has {found} with {', '.join('='.join(pair) for pair in conditions.items())}. Its key is {key}."
                )
            return trace(heads, name, rows)
    raise CannotExplain(f"No table {table!r} of silver or gold; there are: {', '.join(known)}.")


def sources_of(settings: Settings, domain: Domain, proof: Proof) -> dict[int, dict[str, list[tuple[int, int]]]]:
    """Find where the messages lie that the rows of a proof's first differences are made of, by `id` of the difference.

    A row that is missing has no rows of its own to follow: its messages are those of its key's columns.
    """
    if proof.is_equal:
        return {}
    found = {}
    with Heads.look(settings, domain) as heads:
        for _, one in proof.compared:
            for difference in one.first:
                index = 1 if difference.kind == "missing" else 0
                values = {**difference.key, **{name: pair[index] for name, pair in difference.columns.items()}}
                row = _row_of(heads, one.table, values)
                if row is not None:
                    found[id(difference)] = offsets(trace(heads, one.table, row)[-1].rows)
    return found


def offsets(bronze: pa.Table) -> dict[str, list[tuple[int, int]]]:
    """Give where messages lie: by `topic/partition`, or by backfill chunk, the first and last of each run of offsets."""
    places: dict[str, list[int]] = {}
    for row in bronze.select(["topic", "partition", "kafka_offset", "source_run", "source_row"]).to_pylist():
        came_by_kafka = row["topic"] is not None
        place = f"{row['topic']}/{row['partition']}" if came_by_kafka else row["source_run"]
        places.setdefault(place, []).append(row["kafka_offset"] if came_by_kafka else row["source_row"])
    return {place: [(first, end - 1) for first, end in runs(numbers)] for place, numbers in sorted(places.items())}


def _gold(domain: Domain, name: str) -> Gold | None:
    return next((gold for gold in domain.gold if gold.table.name == name), None)


def _sources(heads: Heads, gold: Gold, rows: pa.Table) -> pa.Table:
    domain = heads.domain
    span = _span(rows, domain.entity, gold.starts, gold.ends or gold.starts)
    source = _gold(domain, gold.source.name)
    starts, ends = (source.starts, source.ends or source.starts) if source else (domain.event_time, domain.event_time)
    read = gold.reads(span)
    found = heads.rows(gold.source.name, _overlaps(read, domain.entity, starts, ends))
    return _sorted(rows_in(found, read, domain.entity, starts, ends), gold.source.key)


def _messages(heads: Heads, silver: pa.Table) -> pa.Table:
    domain = heads.domain
    version, key = domain.contract.version, list(domain.silver.key)
    span = _span(silver, domain.entity, domain.event_time, domain.event_time)
    found = heads.rows(domain.bronze.name, _overlaps(span, domain.entity, domain.event_time, domain.event_time))
    numbered = found.select(key).append_column("_row", pa.array(range(found.num_rows), pa.int64()))
    held = silver.select([*key, version]).rename_columns([*key, "_held"])
    pairs = numbered.join(held, key, join_type="inner").sort_by("_row")
    messages = found.take(pairs["_row"])
    used = pc.equal(messages[version], pairs["_held"])
    return _sorted(messages.append_column("_used", used), [*key, version])


def _span(rows: pa.Table, entity: str, starts: str, ends: str) -> Spans:
    days = pa.types.is_date(rows.schema.field(starts).type)
    named = rows.select([entity, starts, ends] if starts != ends else [entity, starts]).to_pylist()
    span = Spans.of(((row[entity], _instant(row[starts]), _instant(row[ends])) for row in named), timedelta(0))
    return span.whole_days() if days else span


def _overlaps(span: Spans, entity: str, starts: str, ends: str) -> BooleanExpression:
    since, until = min(row[1] for row in span.rows), max(row[2] for row in span.rows)
    where: BooleanExpression = And(
        LessThanOrEqual(term=starts, value=until.isoformat()), GreaterThanOrEqual(term=ends, value=since.isoformat())
    )
    return And(where, In(term=entity, literals=span.entities))


def _sorted(rows: pa.Table, by: Sequence[str]) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in by])


def _instant(value: datetime | date) -> datetime:
    return value if isinstance(value, datetime) else datetime.combine(value, time(), UTC)


def _row_of(heads: Heads, name: str, values: Mapping[str, Any]) -> pa.Table | None:
    """Give the row that differs: as the table has it, or as it should be where the table lacks it."""
    gold = _gold(heads.domain, name)
    assert gold is not None  # proofs are of gold tables
    key = {column: values[column] for column in gold.table.key}
    there = heads.rows(name, _condition(heads.tables[name], {column: _typed(value) for column, value in key.items()}))
    if there.num_rows:
        return there.slice(0, 1)
    wanted = {heads.domain.entity, gold.starts, gold.ends or gold.starts}
    return pa.Table.from_pylist([{column: values[column] for column in wanted}]) if wanted <= values.keys() else None


def _typed(value: Any) -> str:  # noqa: ANN401 - any value of a key
    return value.isoformat() if isinstance(value, date) else str(value)


def _condition(table: Stored, conditions: Mapping[str, str]) -> BooleanExpression:
    where: BooleanExpression = AlwaysTrue()
    fields = {field.name: field.field_type for field in table.schema().fields}
    for column, value in conditions.items():
        if column not in fields:
            raise CannotExplain(f"No column {column!r}; there are: {', '.join(fields)}.")
        try:
            typed: Any = _aware(value) if isinstance(fields[column], TimestamptzType) else value
            where = And(where, EqualTo(term=column, value=literal(typed).to(fields[column])))
        except (ValueError, TypeError) as error:
            raise CannotExplain(f"{column}={value}: expected a value of {fields[column]} ({error}).") from error
    return where


def _aware(text: str) -> str:
    instant = datetime.fromisoformat(text)
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).isoformat()
