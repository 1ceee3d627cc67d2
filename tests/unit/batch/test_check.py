"""Does each check that follows from a domain's specification find what it is for? Good tables pass; one statement breaks each check."""

from collections.abc import Iterator
from dataclasses import replace

import duckdb
import pytest

from batch.check import specification_checks
from lakehouse.domain import Check
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.tables.schema import Table
from tests.toy.tables import TOY

DOMAIN = build_domain("air_quality", Settings())
(SOURCE,) = DOMAIN.sources
TYPES = {"STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMPTZ", "INT": "INTEGER", "BINARY": "BLOB"}
VALUES = {
    "VARCHAR": "'a'",
    "TIMESTAMPTZ": "TIMESTAMPTZ '2025-01-01 00:00+00'",
    "BLOB": "'a'::BLOB",
    "BOOLEAN": "true",
    "DATE": "DATE '2025-01-01'",
}
TABLES = [SOURCE.bronze, *DOMAIN.merged, *(table for table, _ in DOMAIN.dimensions)]
CHECKS = list(specification_checks(DOMAIN))


def columns(table: Table) -> dict[str, str]:
    return {one.name: TYPES.get(one.type, one.type) for one in table.columns}


@pytest.fixture
def tables() -> Iterator[duckdb.DuckDBPyConnection]:
    """Every table with one row, whose numbers are 1: within all ranges."""
    with duckdb.connect() as connection:
        connection.execute(
            "SET TimeZone = 'UTC'; ATTACH ':memory:' AS lh; CREATE SCHEMA lh.bronze; CREATE SCHEMA lh.silver; CREATE SCHEMA lh.gold"
        )
        for table in TABLES:
            types = columns(table)
            connection.execute(f"CREATE TABLE {table.name} ({', '.join(f'{name} {kind}' for name, kind in types.items())})")
            connection.execute(f"INSERT INTO {table.name} VALUES ({', '.join(VALUES.get(kind, '1') for kind in types.values())})")
        yield connection


def bad(tables: duckdb.DuckDBPyConnection, check: Check) -> int:
    return int(tables.execute(f"SELECT count(*) FROM ({check.bad})").fetchall()[0][0])


def breaks(check: Check) -> list[str]:
    """Statements, each of which breaks a check."""
    (table,) = [one for one in TABLES if one.name == check.table]
    again = f"INSERT INTO {table.name} SELECT * FROM {table.name}"
    fields = [one for one in SOURCE.contract.fields if one.name in table.names]
    match check.name:
        case "there are rows":
            return [f"DELETE FROM {table.name}"]
        case "every message is there once" | "one row per key":
            return [again]
        case "no null in the key":
            return [f"UPDATE {table.name} SET {name} = NULL" for name in table.key]
        case "required fields are there":
            return [f"UPDATE {table.name} SET {one.name} = NULL" for one in fields if one.required]
        case "values lie in the contract's ranges":
            low = [f"UPDATE {table.name} SET {one.name} = {float(one.low) - 0.1}" for one in fields if one.low is not None]
            return low + [f"UPDATE {table.name} SET {one.name} = {float(one.high) + 0.1}" for one in fields if one.high is not None]
    raise AssertionError(f"no case breaks {check.name!r}")


def test_good_tables_pass_every_check(tables: duckdb.DuckDBPyConnection) -> None:
    assert {(one.name, one.table) for one in CHECKS if bad(tables, one)} == set()


@pytest.mark.parametrize("check", CHECKS, ids=[f"{one.name} in {one.table}" for one in CHECKS])
def test_check_finds_what_breaks_it(tables: duckdb.DuckDBPyConnection, check: Check) -> None:
    statements = breaks(check)
    assert statements
    for statement in statements:
        tables.execute("BEGIN")
        tables.execute(statement)
        assert bad(tables, check) > 0, statement
        tables.execute("ROLLBACK")


def test_tables_of_an_optional_source_may_be_empty() -> None:
    one, other = TOY.sources
    domain = replace(TOY, sources=(one, replace(other, may_be_empty=True)))
    filled = {check.table for check in specification_checks(domain) if check.name == "there are rows"}
    assert {one.bronze.name, one.silver.name} <= filled and not {other.bronze.name, other.silver.name} & filled
