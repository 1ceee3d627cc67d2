"""How do tables come into being? Created where missing, never altered in silence."""

from collections.abc import Iterable

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from lakehouse.domain import Domain
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.schema import REJECTS, Table
from lakehouse.sinks.merge import merge_rows


class OtherEdition(LakehouseError, Fatal):
    """Gold was computed by other rules than those of the settings."""

    def __init__(self, table: str, what: str, found: str, expected: str) -> None:
        super().__init__(
            f"{table} was made with {what} {found}, the settings say {expected}. Set it back to {found}, or use another WEIR_HOME: "
            "rows of two editions in one table would not compare."
        )


def ensure_tables(spark: SparkSession, domain: Domain) -> None:
    """Create the domain's tables where they are missing; refuse gold that was made by another edition of its rules."""
    gold = [g.table for g in domain.gold]
    create_missing(spark, [domain.bronze, domain.silver, REJECTS, *gold, *(table for table, _ in domain.dimensions)])
    for table in gold:
        present = {row.key: row.value for row in spark.sql(f"SHOW TBLPROPERTIES {table.name}").collect()}
        for what, expected in domain.edition.items():
            found = present.get(f"weir.{what}")
            if found is None:
                spark.sql(f"ALTER TABLE {table.name} SET TBLPROPERTIES ('weir.{what}' = '{expected}')")
            elif found != expected:
                raise OtherEdition(table.name, what, found, expected)


def create_missing(spark: SparkSession, tables: Iterable[Table]) -> None:
    """Create tables, and their namespaces, where they are missing."""
    wanted = list(tables)
    for namespace in sorted({table.namespace for table in wanted}):
        spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {namespace}")
    for table in wanted:
        spark.sql(table.ddl())


def write_dimensions(spark: SparkSession, domain: Domain) -> None:
    """Bring the static tables to the rows of the configuration; repeating it changes nothing and commits nothing."""
    for table, rows in domain.dimensions:
        present = {tuple(row) for row in spark.table(table.name).collect()}
        if present == set(rows):
            continue
        merge_rows(relation(spark, table, rows), table)


def relation(spark: SparkSession, table: Table, rows: Iterable[tuple[object, ...]]) -> DataFrame:
    """Make rows of a table, at least one, into a relation."""
    # By Arrow: Python rows would start Python workers, which nothing else in a driver needs.
    columns = pa.table([pa.array(values) for values in zip(*rows, strict=True)], names=list(table.names))
    return spark.createDataFrame(columns, ", ".join(f"`{c.name}` {c.type}" for c in table.columns))
