"""How is a table's health put in figures, and what would rewriting it gain? From its metadata alone."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from pyspark.sql import SparkSession

from batch.maintain.closed_partitions import Closed
from batch.table_state import TableState

# What a scan opens with one request and one task reads in seconds; Iceberg takes files of half to twice of it as well made.
TARGET_BYTES = 256 << 20
SMALL_BYTES, LARGE_BYTES = TARGET_BYTES // 2, 2 * TARGET_BYTES
# A file of which so much is deleted is written anew: until then a vector is cheaper than the file.
MOST_DELETED = 0.1
# In a closed partition two small files become one, and stay so. A table that is not in parts of time always gets more.
LEAST_FILES_CLOSED, LEAST_FILES_OPEN = 2, 5
PUFFIN = "PUFFIN"


@dataclass(frozen=True, slots=True)
class Figures:
    """A table's health.

    Attributes:
        files: data files of the current snapshot.
        bytes: of these.
        small_files: those below 128 MiB that share their partition with another such.
        delete_files: delete files, or deletion vectors.
        snapshots: that are kept.
        metadata_bytes: length of the metadata file.
        disk_files: files in the table's folder.
        disk_bytes: of these.
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
        """Give them by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file: the value of its partition, its length, and which share of its rows is deleted."""

    partition: Any
    bytes: int
    deleted: float = 0.0


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a table's head.

    Attributes:
        data: the data files.
        vectors: deletion vectors.
        position_deletes: position delete files, as format 2 writes them.
    """

    data: Sequence[DataFile] = ()
    vectors: int = 0
    position_deletes: int = 0

    @classmethod
    def read(cls, spark: SparkSession, state: TableState, closed: Closed) -> "Files":
        """Read them from the manifests of the head."""
        if state.head is None:
            return cls()
        partition = f"partition.`{closed.field}`" if closed.field else "cast(null AS int)"
        rows = (
            spark.sql(
                f"SELECT content, file_format, file_path, file_size_in_bytes, record_count, referenced_data_file, {partition} AS part "
                f"FROM {state.name}.files"
            )
            .toArrow()
            .to_pylist()
        )
        deleted: dict[str, int] = {}
        for row in rows:
            if row["content"] and row["referenced_data_file"]:
                deleted[row["referenced_data_file"]] = deleted.get(row["referenced_data_file"], 0) + row["record_count"]
        data = [
            DataFile(row["part"], row["file_size_in_bytes"], deleted.get(row["file_path"], 0) / max(1, row["record_count"]))
            for row in rows
            if not row["content"]
        ]
        deletes = [row["file_format"].upper() for row in rows if row["content"]]
        vectors = sum(kind == PUFFIN for kind in deletes)
        return cls(data, vectors, len(deletes) - vectors)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What rewriting the closed partitions would do: files and bytes that are read, files that take their place, vectors that go."""

    files: int = 0
    bytes: int = 0
    becomes: int = 0
    vectors: int = 0


def small_files(files: Iterable[DataFile]) -> int:
    """Count the small files that could be joined with another."""
    return sum(len(small) for small in _by_partition(files, lambda one: one.bytes < SMALL_BYTES).values() if len(small) > 1)


def expected_rewrite(files: Files, closed: Closed, least_files: int) -> Rewrite:
    """Work out what Iceberg's binpack does with these files: the rule of its planner, with the options of `maintain`."""
    read, written, size, vectors = 0, 0, 0, 0
    in_closed = [one for one in files.data if closed.holds(one.partition)]
    candidates = _by_partition(in_closed, lambda one: one.bytes < SMALL_BYTES or one.bytes > LARGE_BYTES or one.deleted >= MOST_DELETED)
    for group in candidates.values():
        whole = sum(one.bytes for one in group)
        many = len(group) > 1 and (len(group) >= least_files or whole > TARGET_BYTES)
        if many or whole > LARGE_BYTES or any(one.deleted >= MOST_DELETED for one in group):
            read, size = read + len(group), size + whole
            written += max(1, math.ceil(whole / TARGET_BYTES))
            vectors += sum(one.deleted > 0 for one in group)
    return Rewrite(read, size, written, vectors)


def figures(spark: SparkSession, state: TableState, files: Files) -> Figures:
    """Put a table's health in figures."""
    disk_files, disk_bytes = _on_disk(spark, state.location)
    return Figures(
        files=len(files.data),
        bytes=sum(one.bytes for one in files.data),
        small_files=small_files(files.data),
        delete_files=files.vectors + files.position_deletes,
        snapshots=len(state.snapshots),
        metadata_bytes=state.metadata_bytes,
        disk_files=disk_files,
        disk_bytes=disk_bytes,
    )


def expected_figures(before: Figures, rewrite: Rewrite, snapshots: int, freed: int) -> Figures:
    """Say how a table would stand after maintenance.

    Args:
        before: as it stands.
        rewrite: what would be rewritten.
        snapshots: how many would be expired.
        freed: bytes of files that only these refer to.
    """
    each = before.metadata_bytes // before.snapshots if before.snapshots else 0
    return replace(
        before,
        files=before.files - rewrite.files + rewrite.becomes,
        small_files=max(0, before.small_files - rewrite.files),
        delete_files=before.delete_files - rewrite.vectors,
        snapshots=before.snapshots - snapshots + (1 if rewrite.files else 0),
        metadata_bytes=max(0, before.metadata_bytes - each * snapshots),
        disk_bytes=max(0, before.disk_bytes - freed),
    )


def freed_bytes(state: TableState, expired: Iterable[int]) -> int:
    """Work out what expiring snapshots frees: what was removed by them, and by the oldest that stays. Tags may keep some of it."""
    gone = set(expired)
    if not gone:
        return 0
    return sum(one.number("removed-files-size") for one in state.snapshots.values() if one.id in gone or one.parent in gone)


def _by_partition(files: Iterable[DataFile], chosen: Callable[[DataFile], bool]) -> Mapping[Any, list[DataFile]]:
    found: dict[Any, list[DataFile]] = {}
    for one in files:
        if chosen(one):
            found.setdefault(one.partition, []).append(one)
    return found


def _on_disk(spark: SparkSession, location: str) -> tuple[int, int]:
    """Count what lies in a folder, needed or not."""
    jvm: Any = spark._jvm
    session: Any = spark._jsparkSession
    path = jvm.org.apache.hadoop.fs.Path(location)
    files = path.getFileSystem(session.sessionState().newHadoopConf())
    if not files.exists(path):
        return 0, 0
    found = files.getContentSummary(path)
    return int(found.getFileCount()), int(found.getLength())
