"""From which rows was a row computed? Traced from gold through silver to the messages that arrived, by the inputs that domains declare."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import (
    AlwaysFalse,
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThanOrEqual,
    In,
    IsNull,
    LessThanOrEqual,
    Or,
)
from pyiceberg.expressions.literals import literal
from pyiceberg.table import Table as Stored
from pyiceberg.types import TimestamptzType

from batch.consistent_snapshots import Heads
from batch.prove.proofs_table import Proof
from lakehouse.changes import distinct, extents
from lakehouse.domain import ByTime, Derived, Domain, Matching, Reads, Source, Whole
from lakehouse.domain_names import DOMAINS
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.parts import WHOLE, Keys, Part
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spans import Spans, Times
from lakehouse.tables.catalog import NAME
from lakehouse.tables.schema import Table
from lakehouse.write.small_batches.select_rows import rows_of

MOST_ROWS = 20


class CannotExplain(LakehouseError, Fatal):
    """The arguments select no row that can be traced."""


@dataclass(frozen=True, slots=True)
class Level:
    """One table's part of a trace: the rows from which the rows of an earlier level were computed, sorted by key.

    Attributes:
        table: its name, with `lh.`.
        rows: its rows.
        of: the table whose rows were computed from them; empty for the requested rows.
        is_bronze: whether the rows are messages.
    """

    table: str
    rows: pa.Table
    of: str = ""
    is_bronze: bool = False


def trace(heads: Heads, name: str, rows: pa.Table) -> list[Level]:
    """Trace rows of silver or gold down to bronze.

    Args:
        heads: the domain's tables.
        name: the name of the rows' table, with `lh.`.
        rows: with all of its columns, or those by which its parts are described.

    Returns:
        A level per table from that one down to bronze; where a table has several inputs, one after the other. Bronze's level has all
        messages of the keys, including those that were replaced or came too late; `_used` marks those whose version silver has.
    """
    domain = heads.domain
    levels = {name: Level(name, rows)}
    for derived in reversed(domain.derived):
        if derived.table.name in levels:
            of = levels[derived.table.name]
            inputs: dict[str, pa.Table] = {}
            for reads in derived.reads:
                table = reads.table.name
                inputs[table] = _read(heads, derived, reads, of.rows, inputs)
                before = levels.get(table)
                levels[table] = Level(table, inputs[table] if before is None else _both(before.rows, inputs[table]), of.table)
    messages = [
        Level(source.bronze.name, _messages(heads, source, levels[source.silver.name].rows), source.silver.name, is_bronze=True)
        for source in domain.sources
        if source.silver.name in levels
    ]
    return [*levels.values(), *messages]


def messages_of(levels: Sequence[Level]) -> dict[str, list[tuple[int, int]]]:
    """Return the offsets of a trace's messages; see `offsets`."""
    places: dict[str, list[tuple[int, int]]] = {}
    for level in levels:
        if level.is_bronze:
            places |= offsets(level.rows)
    return places


def explain(settings: Settings, table: str, conditions: Mapping[str, str]) -> list[Level]:
    """Trace the rows of a table that have certain values.

    Args:
        settings: with the catalog.
        table: of silver or gold, with or without `lh.`.
        conditions: values by column, as typed: a day as YYYY-MM-DD, an instant as ISO 8601, in UTC if it has no zone.

    Raises:
        CannotExplain: no such table or column, a value of another type, no such row, or too many.
    """
    name = table if table.startswith(f"{NAME}.") else f"{NAME}.{table}"
    known: list[str] = []
    for domain in (build_domain(one, settings) for one in DOMAINS):
        tables = list(domain.merged)
        known += [one.name.removeprefix(f"{NAME}.") for one in tables]
        if name not in [one.name for one in tables]:
            continue
        with Heads.look(settings, domain) as heads:
            rows = heads.rows(name, _condition(heads.tables[name], conditions))
            if not 1 <= rows.num_rows <= MOST_ROWS:
                key = ", ".join(next(one.key for one in tables if one.name == name))
                number = f"{rows.num_rows:,} rows, more than {MOST_ROWS}," if rows.num_rows else "no row"
                raise CannotExplain(
                    f"{name} has {number} with {', '.join('='.join(pair) for pair in conditions.items())}. Its key is {key}."
                )
            return trace(heads, name, rows)
    raise CannotExplain(f"No table {table!r} of silver or gold; there are: {', '.join(known)}.")


def sources_of(settings: Settings, domain: Domain, proof: Proof) -> dict[int, dict[str, list[tuple[int, int]]]]:
    """Return, by `id` of a proof's first differences, the offsets of the messages from which their rows were computed.

    A missing row cannot be traced itself, so its messages are found by the columns of its key.
    """
    if proof.is_equal:
        return {}
    sources = {}
    with Heads.look(settings, domain) as heads:
        for _, one in proof.compared:
            for difference in one.first:
                index = 1 if difference.kind == "missing" else 0
                values = {**difference.key, **{name: pair[index] for name, pair in difference.columns.items()}}
                row = _row_of(heads, one.table, values)
                if row is not None:
                    sources[id(difference)] = messages_of(trace(heads, one.table, row))
    return sources


def offsets(bronze: pa.Table) -> dict[str, list[tuple[int, int]]]:
    """Return the messages' offsets by `topic/partition`, or by backfill chunk: the first and last of each contiguous range."""
    places: dict[str, list[int]] = {}
    for row in bronze.select(["topic", "partition", "kafka_offset", "source_run", "source_row"]).to_pylist():
        came_by_kafka = row["topic"] is not None
        place = f"{row['topic']}/{row['partition']}" if came_by_kafka else row["source_run"]
        places.setdefault(place, []).append(row["kafka_offset"] if came_by_kafka else row["source_row"])
    return {place: [(first, end - 1) for first, end in runs(numbers)] for place, numbers in sorted(places.items())}


def _derived(domain: Domain, name: str) -> Derived | None:
    return next((one for one in domain.derived if one.table.name == name), None)


def _read(heads: Heads, derived: Derived, reads: Reads, rows: pa.Table, inputs: Mapping[str, pa.Table]) -> pa.Table:
    """Read the rows of an input from which rows of a derived table were computed."""
    needs = reads.needs(_part_of(derived, rows))
    if isinstance(needs, Matching):
        needs = Keys.of(list(needs.names.values()), distinct(inputs[needs.table], list(needs.names)))
    return _sorted(_within(heads, reads.table, needs, reads.times), reads.table.key)


def _part_of(derived: Derived, rows: pa.Table) -> Part:
    """Return the part of a table that contains some of its rows."""
    times = derived.times
    if times is None:
        return WHOLE if isinstance(derived.kind, Whole) else Keys.of(derived.table.key, distinct(rows, derived.table.key))
    span = Spans.of(extents(rows, times), timedelta(0))
    return span.whole_days() if pa.types.is_date(rows.schema.field(times.starts).type) else span


def _within(heads: Heads, table: Table, part: Part, times: Times | None) -> pa.Table:
    """Read the rows of a part of a table."""
    if isinstance(part, Spans):
        assert times is not None  # only inputs that are read over time are requested in spans
        return rows_of(heads.rows(table.name, _overlaps(part, times)), part, times) if part else heads.rows(table.name, AlwaysFalse())
    if part.is_whole:
        return heads.rows(table.name)
    where: BooleanExpression = AlwaysFalse()
    for columns, found in part.tuples.items():
        one: BooleanExpression = AlwaysTrue()
        for column, values in zip(columns, zip(*found, strict=True), strict=True):
            known: BooleanExpression = In(term=column, literals=tuple({value for value in values if value is not None}))
            one = And(one, Or(known, IsNull(term=column)) if None in values else known)
        where = Or(where, one)
    rows = heads.rows(table.name, where)
    # With several columns the filter also accepts other combinations of their values.
    kept = [any(tuple(row[column] for column in columns) in found for columns, found in part.tuples.items()) for row in _plain(rows)]
    return rows.filter(pa.array(kept, pa.bool_()))


def _plain(rows: pa.Table) -> list[dict[str, Any]]:
    return [
        {name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()} for row in rows.to_pylist()
    ]


def _both(rows: pa.Table, others: pa.Table) -> pa.Table:
    """Concatenate rows without duplicates."""
    both = pa.concat_tables([rows, others.cast(rows.schema)])  # PyIceberg returns strings as one of two types
    return pa.Table.from_pylist(list({repr(row): row for row in both.to_pylist()}.values()), schema=both.schema)


def _messages(heads: Heads, source: Source, silver: pa.Table) -> pa.Table:
    version, key = source.contract.version, list(source.silver.key)
    if isinstance(source.kind, ByTime):
        times = source.kind.times
        part: Part = Spans.of(extents(silver, times), timedelta(0))
    else:
        times, part = None, Keys.of(key, distinct(silver, key))
    bronze = _within(heads, source.bronze, part, times)
    numbered = bronze.select(key).append_column("_row", pa.array(range(bronze.num_rows), pa.int64()))
    versions = silver.select([*key, version]).rename_columns([*key, "_version"])
    pairs = numbered.join(versions, key, join_type="inner").sort_by("_row")
    messages = bronze.take(pairs["_row"])
    used = pc.equal(messages[version], pairs["_version"])
    return _sorted(messages.append_column("_used", used), [*key, version])


def _overlaps(span: Spans, times: Times) -> BooleanExpression:
    since, until = min(row[1] for row in span.rows), max(row[2] for row in span.rows)
    where: BooleanExpression = And(
        LessThanOrEqual(term=times.starts, value=until.isoformat()), GreaterThanOrEqual(term=times.last, value=since.isoformat())
    )
    return And(where, In(term=times.entity, literals=span.entities))


def _sorted(rows: pa.Table, by: Sequence[str]) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in by])


def _row_of(heads: Heads, name: str, values: Mapping[str, Any]) -> pa.Table | None:
    """Return the row that differs: the table's row, or the expected one where the table lacks it."""
    derived = _derived(heads.domain, name)
    assert derived is not None  # proofs are of derived tables
    key = {column: values[column] for column in derived.table.key}
    there = heads.rows(name, _condition(heads.tables[name], {column: _typed(value) for column, value in key.items()}))
    if there.num_rows:
        return there.slice(0, 1)
    times = derived.times
    wanted = set(derived.table.key) if times is None else {times.entity, times.starts, times.last}
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


def runs(positions: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Return start and end (exclusive) of every run of consecutive positions."""
    for _, group in groupby(enumerate(sorted(positions)), key=lambda pair: pair[1] - pair[0]):
        found = [position for _, position in group]
        yield found[0], found[-1] + 1
