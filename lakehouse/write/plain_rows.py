"""How are rows written in one plain commit, such as dimensions, proof results and a rebuild's branches?"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import version

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.readwriter import DataFrameWriterV2

from lakehouse.domain import Domain
from lakehouse.locks.conflicts import until_accepted
from lakehouse.tables.arrow_types import arrow_schema
from lakehouse.tables.properties import BATCH_ID_PROPERTY, CODE_VERSION_PROPERTY, QUERY_PROPERTY
from lakehouse.tables.schema import Table
from lakehouse.write.merge import merge_rows


def write_dimensions(spark: SparkSession, domain: Domain) -> None:
    """Write the configured rows into the static tables. Repeating it commits nothing.

    Domains share a table such as that of dates, and their drivers may start together: who is refused looks again.
    """
    for table, rows in domain.dimensions:
        until_accepted(partial(_write_dimension, spark, domain, table, rows))


def _write_dimension(spark: SparkSession, domain: Domain, table: Table, rows: Sequence[tuple[object, ...]]) -> None:
    held = spark.table(table.name).select(*table.names).toArrow()
    present = set(zip(*(column.to_pylist() for column in held.columns), strict=True))
    if present == set(rows):
        return
    if table.name in domain.exact and present - set(rows):
        overwrite_rows(relation(spark, table, rows), table, batch_properties("dimensions", None))
    else:
        merge_rows(relation(spark, table, rows), table)


def batch_properties(query: str, batch_id: int | None) -> dict[str, str]:
    """Return the snapshot properties of a micro-batch or chunk, from which `lh.ops.batches` is read; `batch_id` None outside a query."""
    of_batch = {} if batch_id is None else {BATCH_ID_PROPERTY: str(batch_id)}
    return {QUERY_PROPERTY: query, **of_batch, CODE_VERSION_PROPERTY: version("weir")}


def append_rows(rows: DataFrame, table: Table, properties: Mapping[str, str]) -> None:
    """Append rows with Spark in one commit with the given snapshot properties."""
    _writer(rows, table, properties).append()


def overwrite_rows(rows: DataFrame, table: Table, properties: Mapping[str, str]) -> None:
    """Replace all rows of a table, or of its branch, with Spark in one commit with the given snapshot properties."""
    _writer(rows, table, properties).overwrite(F.lit(True))


def _writer(rows: DataFrame, table: Table, properties: Mapping[str, str]) -> DataFrameWriterV2:
    writer = rows.writeTo(table.name)
    for name, value in properties.items():
        writer = writer.option(f"snapshot-property.{name}", value)
    return writer


def in_arrow(table: Table, rows: Iterable[tuple[object, ...]]) -> pa.Table:
    """Convert rows of a table, at least one, to an Arrow table."""
    schema = arrow_schema(table)
    return pa.table([pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), schema.types, strict=True)], schema=schema)


def relation(spark: SparkSession, table: Table, rows: Iterable[tuple[object, ...]]) -> DataFrame:
    """Convert rows of a table, at least one, to a DataFrame."""
    # By Arrow, since Python rows would start Python workers, which nothing else in a driver needs.
    return spark.createDataFrame(in_arrow(table, rows), ", ".join(f"`{c.name}` {c.type}" for c in table.columns))
