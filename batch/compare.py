"""How do two sets of rows of one table differ? They are compared key by key, in DuckDB."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import pyarrow as pa

from lakehouse.days import Days
from lakehouse.spans import Times
from lakehouse.tables.schema import Table, quote_name

# Means of doubles depend on the order of summation.
TOLERANCE = 1e-9
FIRST = 5

Kind = Literal["missing", "extra", "different"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One key whose rows differ.

    Attributes:
        key: the row's key, by column.
        kind: `missing` for an expected row that was not found, `extra` for a found row that was not expected, else `different`.
        columns: {column that differs: (found value, expected value)}; all columns but the key's where one of the rows is missing.
    """

    key: Mapping[str, Any]
    kind: Kind
    columns: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of a table's rows with the expected rows.

    Attributes:
        table: its name.
        rows: the number of rows found.
        expected: the number of rows expected.
        missing: the number of expected keys that were not found.
        extra: the number of keys that were found but not expected.
        doubled: the number of rows beyond the first of their key.
        different: the number of keys on both sides with different values.
        columns: {column: number of these keys that differ in it}.
        first: the first differences, by key.
    """

    table: str
    rows: int
    expected: int
    missing: int
    extra: int
    doubled: int
    different: int
    columns: Mapping[str, int]
    first: tuple[Difference, ...]

    @property
    def differences(self) -> int:
        """The number of rows and keys that are not as expected; 0 if all are."""
        return self.missing + self.extra + self.doubled + self.different


def compare(table: Table, found: pa.Table, expected: pa.Table, days: Days = None, times: Times | None = None) -> Comparison:
    """Compare rows by key; columns that the specification does not have are left out.

    Doubles are compared with a tolerance of 1e-9 of the greater one, all other types exactly; null equals null.

    Args:
        table: the rows' table; all its columns are compared but that of the run.
        found: the rows as they are.
        expected: the rows as they should be, one per key.
        days: only rows that overlap these UTC days, both included; all rows of a table that is not kept by time.
        times: the columns with a row's times; None where the table is not kept by time.
    """
    table = table.computed
    others = [column for column in table.columns if column.name not in table.key]
    keys = " AND ".join(f"f.{quote_name(name)} IS NOT DISTINCT FROM e.{quote_name(name)}" for name in table.key)
    key = ", ".join(quote_name(name) for name in table.key)
    differs = {column.name: f"NOT {_same(column.name, column.type == 'DOUBLE')}" for column in others}
    both = "f._there AND e._there"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for name, rows in (("found", found), ("expected", expected)):
            connection.register(f"{name}_rows", rows)
            names = ", ".join(quote_name(name) for name in table.names)
            connection.execute(f"CREATE VIEW {name} AS SELECT {names}, true AS _there FROM {name}_rows {_within(days, times)}")
        joined = f"FROM found f FULL JOIN expected e ON {keys}"
        counts = [
            "(SELECT count(*) FROM found)",
            "(SELECT count(*) FROM expected)",
            # Not count_if, which returns null instead of 0 where there are no rows.
            _counted("f._there IS NULL"),
            _counted("e._there IS NULL"),
            f"(SELECT count(*) - count(DISTINCT row({key})) FROM found)",
            _counted(f"{both} AND ({_any(differs.values())})"),
            *[_counted(f"{both} AND {condition}") for condition in differs.values()],
        ]
        numbers = connection.execute(f"SELECT {', '.join(counts)} {joined}").fetchall()[0]
        rows_found, rows_expected, missing, extra, doubled, different = numbers[:6]
        by_column = {name: number for name, number in zip(differs, numbers[6:], strict=True) if number}
        first: tuple[Difference, ...] = ()
        if missing or extra or by_column:
            # Read by position, since names may be anything: both sides, the key, then three for each other column.
            selected = [
                "f._there",
                "e._there",
                *[f"coalesce(f.{quote_name(name)}, e.{quote_name(name)}) AS key_{name}" for name in table.key],
            ]
            for column in others:
                selected += [f"f.{quote_name(column.name)}", f"e.{quote_name(column.name)}", differs[column.name]]
            where = f"f._there IS NULL OR e._there IS NULL OR {_any(differs.values())}"
            order = ", ".join(str(n + 3) for n in range(len(table.key)))
            query = f"SELECT {', '.join(selected)} {joined} WHERE {where} ORDER BY {order} LIMIT {FIRST}"
            columns = connection.sql(query).to_arrow_table().columns
            first = tuple(_difference(row, table, list(differs)) for row in zip(*(column.to_pylist() for column in columns), strict=True))
    return Comparison(table.name, rows_found, rows_expected, missing, extra, doubled, different, by_column, first)


def _counted(condition: str) -> str:
    return f"count(*) FILTER (WHERE {condition})"


def total(parts: Sequence[Comparison]) -> Comparison:
    """Sum comparisons of one table that have no key in common."""
    columns: Counter[str] = Counter()
    for part in parts:
        columns.update(part.columns)
    return Comparison(
        table=parts[0].table,
        rows=sum(part.rows for part in parts),
        expected=sum(part.expected for part in parts),
        missing=sum(part.missing for part in parts),
        extra=sum(part.extra for part in parts),
        doubled=sum(part.doubled for part in parts),
        different=sum(part.different for part in parts),
        columns=dict(columns),
        first=tuple(one for part in parts for one in part.first)[:FIRST],
    )


def _difference(row: Sequence[Any], table: Table, others: list[str]) -> Difference:
    there, expected, *values = row
    kind: Kind = "missing" if there is None else "extra" if expected is None else "different"
    key, rest = values[: len(table.key)], values[len(table.key) :]
    triples = dict(zip(others, zip(rest[::3], rest[1::3], rest[2::3], strict=True), strict=True))
    columns = {name: (found, wanted) for name, (found, wanted, differs) in triples.items() if kind != "different" or differs}
    return Difference(dict(zip(table.key, key, strict=True)), kind, columns)


def _same(name: str, is_double: bool) -> str:
    found, expected = f"f.{quote_name(name)}", f"e.{quote_name(name)}"
    same = f"{found} IS NOT DISTINCT FROM {expected}"
    if not is_double:
        return f"({same})"
    near = f"abs({found} - {expected}) <= {TOLERANCE} * greatest(abs({found}), abs({expected}))"
    return f"({same} OR coalesce({near}, false))"


def _within(days: Days, times: Times | None) -> str:
    if days is None or times is None:
        return ""
    return f"WHERE {times.starts}::DATE <= DATE '{days[1]}' AND {times.last}::DATE >= DATE '{days[0]}'"


def _any(conditions: Iterable[str]) -> str:
    return " OR ".join(conditions) or "false"
