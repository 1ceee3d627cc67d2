"""Which delete files belong to no data file any more, and how do they go?

When a data file is rewritten, Iceberg drops its deletion vector with it. A delete file of format 2 stays until every data file of the table
is newer, and every reader opens it meanwhile.
"""

from contextlib import closing
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.spark import iceberg_table, java_list

# The one data file whose rows a delete file deletes, null where there may be several. Spark names it by the bounds of the column
# `file_path`, whose id is Iceberg's.
DATA_FILE = (
    "coalesce(referenced_data_file, CASE WHEN content = 1 AND lower_bounds[2147483546] = upper_bounds[2147483546] "
    "THEN CAST(lower_bounds[2147483546] AS STRING) END)"
)


def dangling_deletes(spark: SparkSession, name: str) -> set[str]:
    """Name the delete files of a table whose data file is gone."""
    rows = spark.sql(
        f"SELECT d.file_path FROM (SELECT file_path, {DATA_FILE} AS of_file FROM {name}.delete_files) d "
        f"LEFT ANTI JOIN {name}.data_files f ON d.of_file = f.file_path WHERE d.of_file IS NOT NULL"
    ).collect()
    return {row[0] for row in rows}


def drop_deletes(spark: SparkSession, name: str, paths: set[str]) -> None:
    """Drop delete files from a table, in one commit that changes no row.

    Raises:
        Py4JJavaError: the commit was refused; nothing was changed.
    """
    jvm: Any = spark._jvm
    handle = iceberg_table(spark, name)
    rewrite = handle.newRewrite()
    rewrite.validateFromSnapshot(handle.currentSnapshot().snapshotId())
    for manifest in java_list(handle.currentSnapshot().deleteManifests(handle.io())):
        with closing(jvm.org.apache.iceberg.ManifestFiles.readDeleteManifest(manifest, handle.io(), handle.specs())) as reader:
            files = reader.iterator()
            while files.hasNext():
                file = files.next()
                if str(file.location()) in paths:
                    rewrite.deleteFile(file.copy())
    rewrite.commit()
