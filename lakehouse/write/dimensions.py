"""How do a domain's static tables get their rows? From memory, as one row delta, where that is possible; else by Spark.

A Spark job for each of them took a third of the time that a driver needs to start in an empty home.
"""

from collections.abc import Sequence
from functools import partial

from pyspark.sql import SparkSession

from lakehouse.domain import Domain
from lakehouse.locks.conflicts import until_accepted
from lakehouse.parts import WHOLE
from lakehouse.tables.schema import Table
from lakehouse.write.merge import merge_rows
from lakehouse.write.plain_rows import batch_properties, in_arrow, overwrite_rows, relation
from lakehouse.write.small_batches.recent_rows import TableRows


def write_dimensions(spark: SparkSession, domain: Domain) -> None:
    """Write the configured rows into the static tables. Repeating it commits nothing.

    Domains share a table such as that of dates, and their drivers may start together: who is refused looks again.
    """
    for table, rows in domain.dimensions:
        until_accepted(partial(_write, spark, table, rows, table.name in domain.exact))


def _write(spark: SparkSession, table: Table, rows: Sequence[tuple[object, ...]], is_exact: bool) -> None:
    held, properties = TableRows(table), batch_properties("dimensions", None)
    held.begin(spark)
    if not held.unfit():
        present = held.read(spark, WHOLE)
        held.replace(spark, in_arrow(table, rows), WHOLE, lambda: properties, lambda commit: commit(), vanishing=is_exact, present=present)
        return
    there = spark.table(table.name).select(*table.names).toArrow()
    present_rows = set(zip(*(column.to_pylist() for column in there.columns), strict=True))
    if present_rows == set(rows):
        return
    if is_exact and present_rows - set(rows):
        overwrite_rows(relation(spark, table, rows), table, properties)
    else:
        merge_rows(relation(spark, table, rows), table)
