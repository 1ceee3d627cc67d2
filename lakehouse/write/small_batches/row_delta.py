"""How are a few rows of a table replaced without a MERGE? With one Iceberg row delta: files of new rows, deletion vectors over old rows.

For a few hundred rows Spark spends several times as long on planning a MERGE as on the rows (docs/benchmarks.md). Here the caller has read
the rows with their file and position, and names rows to add and rows to remove. That leaves a Parquet file per partition, a deletion vector
per touched file, and a commit that Iceberg validates like Spark's serializable MERGE: it refuses the commit if another writer has changed
anything within the bounds since the rows were read.

It works on tables of format 3 whose deletes are vectors. For other tables it raises `NotFromMemory`, and the caller uses MERGE.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from lakehouse.locks.conflicts import TableMoved
from lakehouse.spans import Times
from lakehouse.spark import iceberg_table, java_list
from lakehouse.tables.schema import Table
from lakehouse.write.small_batches.data_files import DataFileWriter, NotFromMemory
from lakehouse.write.small_batches.local_rows import FILE, POSITION, with_places

FORMAT = 3
# Times that cover rows, and the columns by which they select them.
Bounds = tuple[Iterable[tuple[datetime, datetime]], Times]


@dataclass(slots=True)
class _DataFile:
    """A data file of the current snapshot: its partition spec and value, and its deletion vector, as Iceberg's objects."""

    spec: Any
    partition: Any
    vector: Any = None


class DeltaWriter:
    """Writes row deltas into one table. Caches the files it has seen until another writer commits.

    Args:
        spark: any session of the driver.
        table: the table.
    """

    def __init__(self, spark: SparkSession, table: Table) -> None:
        jvm: Any = spark._jvm
        self._jvm = jvm
        self._iceberg = jvm.org.apache.iceberg
        self._table = table
        self._handle = iceberg_table(spark, table.name)
        self._files: dict[str, _DataFile] = {}
        self._snapshot: int | None = None
        # Rows are sorted by key, so that neighbours lie together and later vectors have few runs.
        self._writer = DataFileWriter(spark, self._handle, table.key)

    def refresh(self) -> int | None:
        """Load the table's current state and return the id of its snapshot; None for an empty table.

        Raises:
            NotFromMemory: the table has an older format, or columns that differ from its specification.
        """
        self._handle.refresh()
        if self._handle.operations().current().formatVersion() < FORMAT:
            raise NotFromMemory(f"{self._table.name} has a format before {FORMAT}")
        if tuple(self._writer.ids()) != self._table.names:
            raise NotFromMemory(f"{self._table.name} has other columns than its specification")
        self._keep_files(self._current())
        return self._snapshot

    @property
    def handle(self) -> Any:  # noqa: ANN401 - the JVM's object
        """Iceberg's object of the table, as of the last `refresh`."""
        return self._handle

    def prepare(
        self,
        come: pa.Table,
        gone: pa.Table,
        bounds: Bounds | None,
        properties: Callable[[], Mapping[str, str]],
    ) -> tuple[pa.Table, Callable[[], int | None]]:
        """Write the files that replace rows, and return the function that commits them.

        Args:
            come: rows to add, with the table's columns.
            gone: `_file` and `_pos` of rows to remove, as read after the last `refresh`.
            bounds: times that cover all rows, and the columns by which they select rows; no other writer may have changed anything in them
                since `refresh`. None for the whole table.
            properties: returns the properties of the snapshot; called at the commit.

        Returns:
            `come` with the `_file` and `_pos` of each row, in the order written; and the function that commits, which may be called in
            another thread before the next use of this writer. It returns the snapshot's id, or None when another writer committed in
            between, so that the cached state is outdated. It raises Py4JJavaError; with Iceberg's ValidationException where another writer
            changed rows within the bounds, and then nothing was changed.

        Raises:
            TableMoved: `gone` was read after another writer's commit. Nothing was committed.
        """
        within = self._iceberg.expressions.Expressions.alwaysTrue() if bounds is None else self._within(*bounds)
        delta = self._handle.newRowDelta()
        files: dict[str, _DataFile] = {}
        written = []
        for one in self._writer.write(come):
            delta.addRows(one.file)
            files[one.path] = _DataFile(one.spec, one.partition)
            written.append(with_places(one.rows, one.path))
        positions = _by_file(gone)
        vectors = []
        if positions:
            result = self._write_vectors(positions, within)
            vectors = java_list(result.deleteFiles())
            for vector in vectors:
                delta.addDeletes(vector)
            for vector in java_list(result.rewrittenDeleteFiles()):
                delta.removeDeletes(vector)
            delta.validateDataFilesExist(result.referencedDataFiles())
        if self._snapshot is not None:
            delta.validateFromSnapshot(self._snapshot)
        delta.conflictDetectionFilter(within)
        delta.validateDeletedFiles()
        delta.validateNoConflictingDeleteFiles()
        delta.validateNoConflictingDataFiles()

        def commit() -> int | None:
            for name, value in properties().items():
                delta.set(name, value)
            return self._commit(delta, files, vectors)

        return (pa.concat_tables(written) if written else with_places(come, "")), commit

    def _commit(self, delta: Any, files: Mapping[str, _DataFile], vectors: Sequence[Any]) -> int | None:  # noqa: ANN401 - the JVM's objects
        before = self._snapshot
        self._writer.commit(delta, [*files, *(vector.location() for vector in vectors)])
        if self._handle.currentSnapshot().parentId() != before:
            self._keep_files(None)
            return None
        self._files.update(files)
        for vector in vectors:
            self._files[vector.referencedDataFile()].vector = vector
        self._snapshot = self._current()
        return self._snapshot

    def _current(self) -> int | None:
        snapshot = self._handle.currentSnapshot()
        return None if snapshot is None else int(snapshot.snapshotId())

    def _keep_files(self, snapshot: int | None) -> None:
        if snapshot != self._snapshot:
            self._files.clear()
        self._snapshot = snapshot

    def _write_vectors(self, positions: Mapping[str, pa.Array], within: Any) -> Any:  # noqa: ANN401 - the JVM's objects
        """Write the deletion vectors of some files, each merged with the old one; return Iceberg's DeleteWriteResult."""
        if not positions.keys() <= self._files.keys():
            self._plan(within)
        if moved := positions.keys() - self._files.keys():
            # Another writer rewrote files between `refresh` and the reading of the rows, which are now in its files.
            raise TableMoved(f"{self._table.name} was rewritten while its rows were read: {min(moved)}")
        iceberg, jvm = self._iceberg, self._jvm
        before = jvm.java.util.HashMap()
        for path in positions:
            vector = self._files[path].vector
            if vector is not None:
                with closing(self._handle.io().newInputFile(vector.location()).newStream()) as stream:
                    stream.seek(vector.contentOffset())
                    content = stream.readNBytes(vector.contentSizeInBytes())
                before.put(path, iceberg.deletes.PositionDeleteIndex.deserialize(content, vector))
        # A Scala map is a function, and the only kind that can be passed without calls from the JVM back into Python.
        lookup = jvm.scala.jdk.javaapi.FunctionConverters.asJavaFunction(
            jvm.scala.jdk.javaapi.CollectionConverters.asScala(before).withDefaultValue(None)
        )
        names = iceberg.io.OutputFileFactory.builderFor(self._handle, 0, 0).format(iceberg.FileFormat.PUFFIN)
        writer = iceberg.deletes.BaseDVFileWriter(names.operationId(str(uuid.uuid4())).build(), lookup)
        for path, of_file in positions.items():
            # All positions of a file in one call, as a set of bits: position by position takes a millisecond for each ten.
            listed = jvm.java.util.BitSet.valueOf(as_bits(of_file)).stream().asLongStream().boxed().toList()
            index = iceberg.deletes.Deletes.toPositionIndex(iceberg.io.CloseableIterable.combine(listed, iceberg.io.CloseableGroup()))
            file = self._files[path]
            writer.delete(path, index, file.spec, file.partition)
        writer.close()
        return writer.result()

    def files(self, bounds: Bounds) -> dict[str, str | None]:
        """Name the data files of the current snapshot that may hold rows within bounds, and the file with each one's deletion vector.

        Raises:
            NotFromMemory: a file has deletes of another kind.
        """
        found = self._plan(self._within(*bounds))
        return {path: None if file.vector is None else str(file.vector.location()) for path, file in found.items()}

    def ids(self) -> dict[str, int]:
        """Return Iceberg's id of each column."""
        return self._writer.ids()

    def _plan(self, within: Any) -> dict[str, _DataFile]:  # noqa: ANN401 - the JVM's objects
        """Load and return the files of the current snapshot that may hold rows within the bounds."""
        found: dict[str, _DataFile] = {}
        with closing(self._handle.newScan().filter(within).planFiles()) as tasks:
            one = tasks.iterator()
            while one.hasNext():
                task = one.next()
                vectors = java_list(task.deletes())
                if any(str(vector.format()) != "PUFFIN" for vector in vectors):
                    raise NotFromMemory(f"{self._table.name} has deletes that are no vectors")
                file = task.file()
                found[file.location()] = _DataFile(task.spec(), file.partition(), vectors[0] if vectors else None)
        self._files.update(found)
        return found

    def _within(self, ranges: Iterable[tuple[datetime, datetime]], times: Times) -> Any:  # noqa: ANN401 - the JVM's objects
        expressions = self._iceberg.expressions.Expressions
        dates = {column.name for column in self._table.columns if column.type == "DATE"}
        starts, ends = times.starts, times.last
        found = expressions.alwaysFalse()
        for first, last in ranges:
            lower, upper = (f"{t:%Y-%m-%d}" if starts in dates else f"{t:%Y-%m-%dT%H:%M:%S.%f}+00:00" for t in (first, last))
            found = getattr(expressions, "or")(
                found, getattr(expressions, "and")(expressions.lessThanOrEqual(starts, upper), expressions.greaterThanOrEqual(ends, lower))
            )
        return found


def as_bits(positions: pa.Array) -> bytes:
    """Write a set of positions, at least one, as a byte for each eight of them, the least in the lowest bit."""
    # A whole number of bytes, since Arrow leaves open what follows the last bit.
    most = pc.max(positions).as_py()
    set_of_bits = pc.is_in(pa.arange(0, (most // 8 + 1) * 8), value_set=positions.cast(pa.int64()))
    return bytes(set_of_bits.buffers()[1].to_pybytes()[: most // 8 + 1])


def _by_file(gone: pa.Table) -> dict[str, pa.Array]:
    """Return the positions of rows by their file."""
    if not gone.num_rows:
        return {}
    grouped = gone.select([FILE, POSITION]).group_by(FILE, use_threads=False).aggregate([(POSITION, "list")])
    positions = grouped[f"{POSITION}_list"]
    return {path: positions[n].values for n, path in enumerate(grouped[FILE].to_pylist())}
