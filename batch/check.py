"""Are the tables consistent? Checks that follow from keys and contracts, and checks of the domain; with DuckDB, without Spark."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from lakehouse.days import Days
from lakehouse.domain import Check, Domain
from lakehouse.query.reader import Answer, Reader, UnknownTable
from lakehouse.settings import Settings
from lakehouse.tables.schema import Table

FIRST = 3


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check.

    Attributes:
        table: the checked table.
        name: the statement that must hold.
        rows: the number of rows of the table.
        bad: the number of rows, or keys, that violate it.
        is_good: whether this number is allowed.
        first: some of the violations.
        groups: figures by group, where the check has some.
    """

    table: str
    name: str
    rows: int
    bad: int
    is_good: bool
    first: tuple[dict[str, Any], ...]
    groups: tuple[dict[str, Any], ...] = ()

    @property
    def says(self) -> str:
        """The first violations as text."""
        return "; ".join(", ".join(f"{name}={value}" for name, value in row.items()) for row in self.first)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as --json prints it."""
        return {**asdict(self), "severity": "error"}


def check(settings: Settings, domain: Domain, days: Days = None) -> list[Checked]:
    """Check a domain's tables in their current state.

    Args:
        settings: with the catalog.
        domain: the domain with the tables.
        days: the UTC days that must be complete, both included; without them, from each entity's first row to its last.

    Raises:
        NoTables, UnknownTable: there are no tables yet.
    """
    with Reader(settings) as reader:
        totals: dict[str, int] = {}
        results = []
        for one in [*specification_checks(domain), *domain.checks(days)]:
            try:
                if one.table not in totals:
                    totals[one.table] = int(reader.query(f"SELECT count(*) FROM {one.table}").rows[0][0])
                results.append(_run(reader, one, totals[one.table]))
            except UnknownTable as error:
                if error.name == domain.sources[0].silver.name:
                    raise
                # An older version did not have this table; the other checks continue.
                missing = {"table": f"{error.name} is missing", "next_step": "the stream creates it at its next start"}
                results.append(Checked(one.table, one.name, 0, 1, False, (missing,)))
        return results


def _run(reader: Reader, one: Check, rows: int) -> Checked:
    answer = reader.query(f"SELECT *, count(*) OVER () AS _bad FROM ({one.bad}) ORDER BY ALL LIMIT {FIRST}")
    bad = int(answer.rows[0][-1]) if answer.rows else 0
    if one.of:
        rows = int(reader.query(one.of).rows[0][0])
    groups = reader.query(one.groups) if one.groups else None
    grouped = () if groups is None else tuple(dict(zip(groups.columns, row, strict=True)) for row in groups.rows)
    return Checked(one.table, one.name, rows, bad, bad <= one.share * rows, tuple(_row(answer, row) for row in answer.rows), grouped)


def _row(answer: Answer, row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(answer.columns[:-1], row[:-1], strict=True))


def specification_checks(domain: Domain) -> Iterator[Check]:
    """Yield the checks of every domain: there are rows, keys are unique and not null, values are within the contract's ranges."""
    dimensions = [table for table, _ in domain.dimensions]
    filled = [table for source in domain.sources if not source.may_be_empty for table in (source.bronze, source.silver)]
    for table in (*filled, *dimensions):
        yield Check("there are rows", table.name, f"SELECT 'none' AS rows FROM (SELECT count(*) AS n FROM {table.name}) WHERE n = 0")
    places = ("topic", "partition", "kafka_offset", "source_run", "source_row")
    for source in domain.sources:
        yield Check("every message is there once", source.bronze.name, _repeated(source.bronze.name, places))
    for table in (*domain.merged, *dimensions):
        yield Check("one row per key", table.name, _repeated(table.name, table.key))
        yield Check("no null in the key", table.name, _where(table, " OR ".join(f"{name} IS NULL" for name in table.key)))
    for source in domain.sources:
        in_silver = [field for field in source.contract.fields if field.name in source.silver.names]
        missing = " OR ".join(f"{field.name} IS NULL" for field in in_silver if field.required) or "false"
        yield Check("required fields are there", source.silver.name, _where(source.silver, missing))
        bounds = [f"{field.name} < {field.low}" for field in in_silver if field.low is not None]
        bounds += [f"{field.name} > {field.high}" for field in in_silver if field.high is not None]
        outside = " OR ".join(bounds) or "false"
        yield Check("values lie in the contract's ranges", source.silver.name, _where(source.silver, outside))


def _repeated(name: str, key: tuple[str, ...]) -> str:
    columns = ", ".join(key)
    return f"SELECT {columns}, count(*) AS rows FROM {name} GROUP BY {columns} HAVING count(*) > 1"


def _where(table: Table, condition: str) -> str:
    return f"SELECT {', '.join(table.key)} FROM {table.name} WHERE {condition}"
