"""How does an existing table change to the Iceberg format that the settings ask for? Its metadata is rewritten; its rows are not copied.

Tables of the versions before have Iceberg's format 3, whose deletion vectors ClickHouse, Daft and others do not read. Iceberg raises a
format and never lowers it, so lowering is our own step, in this order:

1. Files with vectors are rewritten, beside the stream.
2. With the table lock held, what has got a vector since is rewritten too. Then the table's metadata is written again as format 2, in a
   commit that is refused if anybody else has written. A program without our lock that is writing a vector at this moment would be harmed;
   stop such programs first.
3. Manifests are rewritten, so that none says format 3.

Older snapshots keep their vectors until they expire; Iceberg, PyIceberg and DuckDB read them. A catalog that takes changes instead of
metadata (REST) cannot do this, and the table stays as it is.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.spark import iceberg_table
from lakehouse.tables.catalog import NAME
from lakehouse.tables.schema import quote
from lakehouse.write.small_batches.deletes import VECTORS_FORMAT

FILES_FORMAT = 2
# Format 3 knows a row's origin by its number; format 2 has no such numbers.
_OF_ROW_LINEAGE = ("next-row-id", "first-row-id", "added-rows", "encryption-keys", "key-id")


def format_of(spark: SparkSession, name: str) -> int:
    """Return the version of Iceberg's format that a table has."""
    return int(iceberg_table(spark, name).operations().current().formatVersion())


def move_to(spark: SparkSession, name: str, wanted: int, lock: Callable[[], AbstractContextManager[object]]) -> bool:
    """Move a merged table to a format; return whether it has that format now.

    Args:
        spark: the session.
        name: the table, with `lh.`.
        wanted: the version of the format, 2 or 3.
        lock: keeps our other programs from writing the table.

    Raises:
        Py4JJavaError, PySparkException: a commit was refused, or Spark failed. The table can be read and written as before.
    """
    if wanted == VECTORS_FORMAT:
        spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('format-version' = '{VECTORS_FORMAT}')")
        return True
    _without_vectors(spark, name)
    with lock():
        _without_vectors(spark, name)
        _lower(spark, name)
    if format_of(spark, name) != FILES_FORMAT:
        return False
    spark.sql(f"CALL {NAME}.system.rewrite_manifests(table => {quote(name.removeprefix(f'{NAME}.'))}, use_caching => false)")
    return True


def _without_vectors(spark: SparkSession, name: str) -> None:
    """Rewrite the data files that have deletes."""
    if not _has_deletes(spark, name):
        return
    table = quote(name.removeprefix(f"{NAME}."))
    options = "map('delete-file-threshold', '1', 'max-concurrent-file-group-rewrites', '1', 'remove-dangling-deletes', 'true')"
    spark.sql(f"CALL {NAME}.system.rewrite_data_files(table => {table}, strategy => 'binpack', options => {options})")


def _has_deletes(spark: SparkSession, name: str) -> bool:
    return bool(spark.sql(f"SELECT 1 FROM {name}.delete_files LIMIT 1").collect())


def _lower(spark: SparkSession, name: str) -> None:
    """Write the metadata of a table without deletes again, as format 2."""
    jvm: Any = spark._jvm
    parser = jvm.org.apache.iceberg.TableMetadataParser
    operations = iceberg_table(spark, name).operations()
    base = operations.current()
    if base.formatVersion() <= FILES_FORMAT:
        return
    if _has_deletes(spark, name):
        raise ValueError(f"{name} has files with deletes after a rewrite; the next round of maintenance tries again")
    held = json.loads(parser.toJson(base))
    held["format-version"] = FILES_FORMAT
    for part in (held, *held.get("snapshots", [])):
        for word in _OF_ROW_LINEAGE:
            part.pop(word, None)
    operations.commit(base, parser.fromJson(base.metadataFileLocation(), json.dumps(held)))
