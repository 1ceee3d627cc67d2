"""How many files, snapshots and bytes does a table have, and what would a rewrite gain? Computed from its metadata alone."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from pyspark.sql import SparkSession

from batch.maintain.closed_partitions import Closed
from batch.table_state import TableState
from lakehouse.write.dangling_deletes import DATA_FILE

# One request opens such a file and one task reads it in seconds; Iceberg does not rewrite files of half to twice this size.
TARGET_BYTES = 256 << 20
SMALL_BYTES, LARGE_BYTES = TARGET_BYTES // 2, 2 * TARGET_BYTES
# A file with at least this share of deleted rows is rewritten; below it, a delete file costs less than a rewrite.
MOST_DELETED = 0.1
# In a closed partition two small files become one for good. A table that is not partitioned by time keeps getting new files.
LEAST_FILES_CLOSED, LEAST_FILES_OPEN = 2, 5


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures about a table's health.

    Attributes:
        files: number of data files of the current snapshot.
        bytes: their size.
        small_files: number of data files below 128 MiB that share their partition with another one.
        delete_files: number of delete files or deletion vectors.
        snapshots: number of snapshots that have not expired.
        metadata_bytes: size of the metadata file.
        disk_files: number of files in the table's folder.
        disk_bytes: their size.
    """

    files: int = 0
    bytes: int = 0
    small_files: int = 0
    delete_files: int = 0
    snapshots: int = 0
    metadata_bytes: int = 0
    disk_files: int = 0
    disk_bytes: int = 0

    def as_dict(self) -> dict[str, int]:
        """Return the figures by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file: the value of its partition, its size, and the share of its rows that is deleted."""

    partition: Any
    bytes: int
    deleted: float = 0.0


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a table's current snapshot.

    Attributes:
        data: the data files.
        deletes: number of delete files and deletion vectors.
    """

    data: Sequence[DataFile] = ()
    deletes: int = 0

    @classmethod
    def read(cls, spark: SparkSession, state: TableState, closed: Closed) -> "Files":
        """Read the files from the manifests of the current snapshot."""
        if state.head is None:
            return cls()
        partition = f"partition.`{closed.field}`" if closed.field else "cast(null AS int)"
        rows = (
            spark.sql(
                f"SELECT content, file_path, file_size_in_bytes, record_count, {DATA_FILE} AS data_file, {partition} AS part "
                f"FROM {state.name}.files"
            )
            .toArrow()
            .to_pylist()
        )
        deleted: dict[str, int] = {}
        for row in rows:
            if row["content"] and row["data_file"]:
                deleted[row["data_file"]] = deleted.get(row["data_file"], 0) + row["record_count"]
        data = [
            DataFile(row["part"], row["file_size_in_bytes"], deleted.get(row["file_path"], 0) / max(1, row["record_count"]))
            for row in rows
            if not row["content"]
        ]
        return cls(data, len(rows) - len(data))


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The effect of rewriting closed partitions: files and bytes read, files written instead, delete files removed."""

    files: int = 0
    bytes: int = 0
    becomes: int = 0
    deletes: int = 0


def small_files(files: Iterable[DataFile]) -> int:
    """Count the small files that could be compacted with another."""
    return sum(len(small) for small in _by_partition(files, lambda one: one.bytes < SMALL_BYTES).values() if len(small) > 1)


def expected_rewrite(files: Files, closed: Closed, least_files: int) -> Rewrite:
    """Compute what Iceberg's binpack does with these files, by the rule of its planner and the options of `maintain`."""
    read, written, size, deletes = 0, 0, 0, 0
    in_closed = [one for one in files.data if closed.holds(one.partition)]
    candidates = _by_partition(in_closed, lambda one: one.bytes < SMALL_BYTES or one.bytes > LARGE_BYTES or one.deleted >= MOST_DELETED)
    for group in candidates.values():
        whole = sum(one.bytes for one in group)
        many = len(group) > 1 and (len(group) >= least_files or whole > TARGET_BYTES)
        if many or whole > LARGE_BYTES or any(one.deleted >= MOST_DELETED for one in group):
            read, size = read + len(group), size + whole
            written += max(1, math.ceil(whole / TARGET_BYTES))
            deletes += sum(one.deleted > 0 for one in group)
    return Rewrite(read, size, written, deletes)


def figures(spark: SparkSession, state: TableState, files: Files) -> Figures:
    """Return the figures about a table's health."""
    disk_files, disk_bytes = _on_disk(spark, state.location)
    return Figures(
        files=len(files.data),
        bytes=sum(one.bytes for one in files.data),
        small_files=small_files(files.data),
        delete_files=files.deletes,
        snapshots=len(state.snapshots),
        metadata_bytes=state.metadata_bytes,
        disk_files=disk_files,
        disk_bytes=disk_bytes,
    )


def expected_figures(before: Figures, rewrite: Rewrite, snapshots: int, freed: int) -> Figures:
    """Return the expected figures after maintenance.

    Args:
        before: the current figures.
        rewrite: the expected rewrite.
        snapshots: the number of snapshots that would be expired.
        freed: bytes of files to which only these snapshots refer.
    """
    each = before.metadata_bytes // before.snapshots if before.snapshots else 0
    return replace(
        before,
        files=before.files - rewrite.files + rewrite.becomes,
        small_files=max(0, before.small_files - rewrite.files),
        delete_files=before.delete_files - rewrite.deletes,
        snapshots=before.snapshots - snapshots + (1 if rewrite.files else 0),
        metadata_bytes=max(0, before.metadata_bytes - each * snapshots),
        disk_bytes=max(0, before.disk_bytes - freed),
    )


def freed_bytes(state: TableState, expired: Iterable[int]) -> int:
    """Estimate the bytes that expiring snapshots frees: files removed by them and by the oldest remaining one. Tags may keep some."""
    gone = set(expired)
    if not gone:
        return 0
    return sum(one.number("removed-files-size") for one in state.snapshots.values() if one.id in gone or one.parent in gone)


def _by_partition(files: Iterable[DataFile], chosen: Callable[[DataFile], bool]) -> Mapping[Any, list[DataFile]]:
    by_partition: dict[Any, list[DataFile]] = {}
    for one in files:
        if chosen(one):
            by_partition.setdefault(one.partition, []).append(one)
    return by_partition


def _on_disk(spark: SparkSession, location: str) -> tuple[int, int]:
    """Return the number and the total size of all files in a folder, needed or not."""
    jvm: Any = spark._jvm
    session: Any = spark._jsparkSession
    path = jvm.org.apache.hadoop.fs.Path(location)
    files = path.getFileSystem(session.sessionState().newHadoopConf())
    if not files.exists(path):
        return 0, 0
    summary = files.getContentSummary(path)
    return int(summary.getFileCount()), int(summary.getLength())
