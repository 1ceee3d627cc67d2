"""Which of several rows with one key is the newest? The one with the greatest version; of equal versions, the one that compares greater.

Rows with equal versions are compared column by column in the order of the table, null below everything. This choice depends on the rows
alone, not on their order, their offsets or whether they came by Kafka or by a backfill. So silver is a function of the set of bronze rows,
and a replay under new offsets cannot change it.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.tables.schema import Table


def latest_per_key(rows: DataFrame, table: Table, version: str) -> DataFrame:
    """Keep the newest row of each key of a table, with Spark. Bounded input only."""
    ranked = ranked_columns(table, version)
    newest = rows.groupBy(*table.key).agg(F.expr(f"max(struct({', '.join(ranked)})) AS newest"))
    return newest.selectExpr(*[name if name in table.key else f"newest.{name}" for name in table.names])


def latest_query(rows: str, table: Table, version: str) -> str:
    """Return the query that keeps the newest row of each key of a table, for DuckDB.

    Args:
        rows: a query that returns the table's columns.
        table: with a key.
        version: the column that orders versions.
    """
    order = ", ".join(f"{name} DESC NULLS LAST" for name in ranked_columns(table, version))
    rank = f"row_number() OVER (PARTITION BY {', '.join(table.key)} ORDER BY {order})"
    return f"SELECT {', '.join(table.names)} FROM ({rows}) QUALIFY {rank} = 1"


def ranked_columns(table: Table, version: str) -> list[str]:
    """List the columns by which rows with one key are compared, in order."""
    return [version, *(name for name in table.names if name not in (*table.key, version))]
