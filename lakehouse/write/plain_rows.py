"""How are rows written in one plain commit, such as proof results and a rebuild's branches?"""

from collections.abc import Iterable, Mapping
from importlib.metadata import version

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.readwriter import DataFrameWriterV2

from lakehouse.tables.arrow_types import arrow_schema
from lakehouse.tables.properties import BATCH_ID_PROPERTY, CODE_VERSION_PROPERTY, QUERY_PROPERTY
from lakehouse.tables.schema import Table


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
