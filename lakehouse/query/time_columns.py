"""By which column is a table filtered in time? The domains say so: the contract's event time, and how derived tables are kept."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta

from pyiceberg.expressions import And, BooleanExpression, GreaterThanOrEqual, LessThan
from pyiceberg.schema import Schema
from pyiceberg.types import DateType, TimestampType, TimestamptzType

from lakehouse.domain import ByTime, Domain
from lakehouse.errors import Fatal, LakehouseError

_KINDS = (DateType, TimestampType, TimestamptzType)


class NoTimeColumn(LakehouseError, Fatal):
    """No domain says by which column the table is filtered in time."""

    def __init__(self, table: str, candidates: Iterable[str]) -> None:
        could = ", ".join(candidates)
        step = f"Choose one with --time-column: {could}." if could else "It has no date and no instant: leave out --since."
        super().__init__(f"{table} has no time column that a domain names, so --since cannot choose its rows. {step}")


class NotATime(LakehouseError, Fatal):
    """The column is no date and no instant, or is not there."""

    def __init__(self, table: str, column: str, candidates: Iterable[str]) -> None:
        could = ", ".join(candidates)
        super().__init__(f"--time-column {column}: {table} has no such date or instant; it has {could or 'none'}.")


def time_columns(domain: Domain) -> Mapping[str, str]:
    """Give the time column of each table of a domain that has one, by the table's name."""
    found = {one.table.name: one.time for one in domain.fresh}
    for source in domain.sources:
        for table in (source.bronze, source.silver):
            if source.contract.event_time in table.names:
                found[table.name] = source.contract.event_time
    return found | {name: kind.starts for name, kind in domain.kinds.items() if isinstance(kind, ByTime)}


def choose_column(table: str, schema: Schema, named: str, known: Mapping[str, str]) -> str:
    """Choose the column by which a table is filtered in time.

    Args:
        table: its name, with `lh.`.
        schema: its columns.
        named: as asked for; empty to take what a domain says.
        known: what the domains say; see `time_columns`.

    Raises:
        NoTimeColumn: none was asked for, and no domain names one.
        NotATime: the one asked for is no date and no instant of the table.
    """
    candidates = [f.name for f in schema.fields if isinstance(f.field_type, _KINDS)]
    column = named or known.get(table, "")
    if not column:
        raise NoTimeColumn(table, candidates)
    if column not in candidates:
        raise NotATime(table, column, candidates)
    return column


def within(schema: Schema, column: str, first: date, last: date) -> BooleanExpression:
    """Select the rows of UTC days, both included; a row without a time is not among them."""
    kind = schema.find_field(column).field_type
    after = last + timedelta(days=1)
    if isinstance(kind, DateType):
        since, until = first.isoformat(), after.isoformat()
    else:
        zone = UTC if isinstance(kind, TimestamptzType) else None
        since, until = (datetime.combine(day, time(), zone).isoformat() for day in (first, after))
    return And(GreaterThanOrEqual(term=column, value=since), LessThan(term=column, value=until))
