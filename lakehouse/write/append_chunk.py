"""How do rows get into bronze without Kafka? Chunk by chunk, each in one commit that can be found again by its name.

Such rows have `source_run` and `source_row` instead of topic, partition and offset. The stream ignores them.
"""

from collections.abc import Mapping

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from lakehouse.codecs.parse import to_bronze
from lakehouse.contract import Contract
from lakehouse.spark import iceberg_table
from lakehouse.tables.schema import Table, quote
from lakehouse.write.plain_rows import append_rows
from lakehouse.write.small_batches.data_files import DataFileWriter
from lakehouse.write.small_batches.session_tuning import conf_for_many, session_conf

MESSAGES = pa.schema(
    [
        ("value", pa.binary()),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("wire_version", pa.int32()),
    ]
)


def typed(spark: SparkSession, values: list[bytes], contract: Contract, source_run: str) -> pa.Table:
    """Convert records to bronze rows exactly as the stream converts messages.

    Args:
        spark: the session.
        values: the bytes that would be sent to Kafka.
        contract: of the domain.
        source_run: the chunk's name; `source_row` counts the records from 0.
    """
    # They were never in Kafka, but were encoded with the current version of the contract.
    known = {"value": values, "wire_version": [contract.wire_version] * len(values)}
    messages = pa.table({field.name: pa.array(known.get(field.name, [None] * len(values)), field.type) for field in MESSAGES}, MESSAGES)
    with session_conf(spark, conf_for_many(len(values))):
        rows = to_bronze(spark.createDataFrame(messages).coalesce(1), contract).toArrow()
    run = pa.array([source_run] * rows.num_rows, pa.string())
    return rows.set_column(rows.column_names.index("source_run"), "source_run", run).set_column(
        rows.column_names.index("source_row"), "source_row", pa.array(range(rows.num_rows), pa.int64())
    )


def append_chunk(spark: SparkSession, table: Table, rows: pa.Table, properties: Mapping[str, str]) -> None:
    """Append the rows of a chunk, from `typed`, in one commit.

    Args:
        spark: the session.
        table: bronze.
        rows: at least one.
        properties: of the snapshot.
    """
    writer = DataFileWriter(spark, iceberg_table(spark, table.name), ())
    if writer.unfit(rows.column_names):
        append_rows(spark.createDataFrame(rows), table, properties)
    else:
        writer.append(rows, properties)


def chunk_rows(spark: SparkSession, table: Table, source_run: str) -> DataFrame:
    """Read the rows of a chunk; none if it was not appended."""
    return spark.table(table.name).where(f"source_run = {quote(source_run)}")
