"""How are a few rows of a table replaced without a MERGE? With one Iceberg row delta: files of new rows, delete files for old rows.

For a few hundred rows Spark spends several times as long on planning a MERGE as on the rows (docs/benchmarks.md). Here the caller has read
the rows with their file and position, and names rows to add and rows to remove. That leaves a Parquet file per partition, a delete file
per touched file (`deletes.py`), and a commit that Iceberg validates like Spark's serializable MERGE: it refuses the commit if another
writer has changed anything within the bounds since the rows were read.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from datetime import datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from lakehouse.engine.engine import DoesNotFit
from lakehouse.locks.conflicts import TableMoved
from lakehouse.parts import Keys
from lakehouse.spans import Times
from lakehouse.spark import iceberg_table, java_list
from lakehouse.tables.arrow_types import arrow_schema
from lakehouse.tables.schema import Table
from lakehouse.write.small_batches.data_files import DataFileWriter
from lakehouse.write.small_batches.deletes import DataFile, Deletes, DeleteWriter, by_file
from lakehouse.write.small_batches.local_rows import FILE, PLACES, POSITION, read_local, with_places, without

# The rows of a touched file up to this size are written again; a larger one gets a delete file. Measured: docs/benchmarks.md.
MOVED_BYTES = 256 << 10
# Times that cover rows, and the columns by which they select them.
Bounds = tuple[Iterable[tuple[datetime, datetime]], Times]


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
        self._files: dict[str, DataFile] = {}
        self._snapshot: int | None = None
        # Rows are sorted by key, so that neighbours lie together and later vectors have few runs.
        self._writer = DataFileWriter(spark, self._handle, table.key)
        self._deletes = DeleteWriter(spark, self._handle)

    def refresh(self) -> int | None:
        """Load the table's current state and return the id of its snapshot; None for an empty table."""
        self._handle.refresh()
        self._keep_files(self._current())
        return self._snapshot

    def unfit(self) -> str:
        """Return why MERGE must write the table, as of the last `refresh`; empty where a delta can."""
        if tuple(self._writer.ids()) != self._table.names:
            return f"{self._table.name} has other columns than its specification"
        snapshot = self._handle.currentSnapshot()
        if snapshot is not None and snapshot.summary().getOrDefault("total-equality-deletes", "0") != "0":
            return f"{self._table.name} has deletes by value"
        return self._writer.unfit(self._table.names)

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
    ) -> tuple[pa.Table, pa.Table, Callable[[], int | None]]:
        """Write the files that replace rows, and return the function that commits them.

        Args:
            come: rows to add, with the table's columns.
            gone: `_file` and `_pos` of rows to remove, as read after the last `refresh`.
            bounds: times that cover all rows, and the columns by which they select rows; no other writer may have changed anything in them
                since `refresh`. None for the whole table.
            properties: returns the properties of the snapshot; called at the commit.

        Returns:
            The written rows with the `_file` and `_pos` of each: `come`, and rows that were moved from small files; the removed rows, with
            at least `_file` and `_pos`: `gone`, and the moved rows where they were; and the function that commits, which may be called in
            another thread before the next use of this writer. It returns the snapshot's id, or None when another writer committed in
            between, so that the cached state is outdated. It raises Py4JJavaError; with Iceberg's ValidationException where another writer
            changed rows within the bounds or of a file that was removed, and then nothing was changed.

        Raises:
            TableMoved: `gone` was read after another writer's commit. Nothing was committed.
        """
        within = self._iceberg.expressions.Expressions.alwaysTrue() if bounds is None else self._within(*bounds)
        delta, places = self._handle.newRowDelta(), [FILE, POSITION]
        # An engine may say that a column has no nulls.
        gone, come = gone.select(places).cast(PLACES), come.select(list(self._table.names)).cast(arrow_schema(self._table))
        positions = by_file(gone, FILE, POSITION)
        self._know(positions, within)
        moved = self._moved(positions, gone, delta)
        deletes = self._deletes.write(positions, self._files)
        for one in deletes.added.values():
            delta.addDeletes(one)
        for one in deletes.removed:
            delta.removeDeletes(one)
        touched = self._jvm.java.util.ArrayList()
        for path in positions:
            touched.add(path)
        delta.validateDataFilesExist(touched)
        files: dict[str, DataFile] = {}
        written = [with_places(come.slice(0, 0), "")]
        for new in self._writer.write(pa.concat_tables([come, moved.drop_columns(places)])):
            delta.addRows(new.file)
            files[new.path] = DataFile(new.file, new.spec)
            written.append(with_places(new.rows, new.path))
        if self._snapshot is not None:
            delta.validateFromSnapshot(self._snapshot)
        delta.conflictDetectionFilter(within)
        delta.validateDeletedFiles()
        delta.validateNoConflictingDeleteFiles()
        delta.validateNoConflictingDataFiles()

        def commit() -> int | None:
            for name, value in properties().items():
                delta.set(name, value)
            return self._commit(delta, files, deletes)

        return pa.concat_tables(written), pa.concat_tables([gone, moved.select(places)]), commit

    def _moved(self, positions: dict[str, pa.Array], gone: pa.Table, delta: Any) -> pa.Table:  # noqa: ANN401 - the JVM's object
        """Remove those touched files that are small, and return their other rows, which the caller writes again.

        That costs less than a delete file of each, leaves less to read, and joins the small files of a stream. Iceberg refuses the commit
        if another writer deleted rows of a removed file: it compares whole partitions.

        Args:
            positions: of the rows to remove, by data file; those of removed files are taken out.
            gone: the rows to remove.
            delta: removes the files.
        """
        schema = arrow_schema(self._table)
        small = {path: self._files[path] for path in positions if self._files[path].file.fileSizeInBytes() <= MOVED_BYTES}
        deletes = {path: [str(one.location()) for one in file.deletes] for path, file in small.items()}
        rows = read_local(deletes, schema, self.ids())
        if rows is None:
            return with_places(schema.empty_table(), "")
        for path, file in small.items():
            del positions[path]
            delta.removeRows(file.file)
            for one in file.deletes:
                if self._deletes.file_of(one) == path:
                    delta.removeDeletes(one)
        return without(rows, gone)

    def _commit(self, delta: Any, files: Mapping[str, DataFile], deletes: Deletes) -> int | None:  # noqa: ANN401 - the JVM's objects
        before = self._snapshot
        self._writer.commit(delta, [*files, *(one.location() for one in deletes.added.values())])
        if self._handle.currentSnapshot().parentId() != before:
            self._keep_files(None)
            return None
        self._files.update(files)
        for path, one in deletes.added.items():
            self._files[path].deletes = [*deletes.kept[path], one]
        self._snapshot = self._current()
        return self._snapshot

    def _current(self) -> int | None:
        snapshot = self._handle.currentSnapshot()
        return None if snapshot is None else int(snapshot.snapshotId())

    def _keep_files(self, snapshot: int | None) -> None:
        if snapshot != self._snapshot:
            self._files.clear()
        self._snapshot = snapshot

    def _know(self, paths: Iterable[str], within: Any) -> None:  # noqa: ANN401 - the JVM's object
        """Load what Iceberg knows of some data files, where it is not known yet."""
        if not set(paths) <= self._files.keys():
            self._plan(within)
        if moved := set(paths) - self._files.keys():
            # Another writer rewrote files between `refresh` and the reading of the rows, which are now in its files.
            raise TableMoved(f"{self._table.name} was rewritten while its rows were read: {min(moved)}")

    def files(self, bounds: Bounds | Keys) -> dict[str, list[str]]:
        """Name the data files of the current snapshot that may hold rows within bounds or of a part, and the delete files of each."""
        found = self._plan(self._of_part(bounds) if isinstance(bounds, Keys) else self._within(*bounds))
        return {path: [str(one.location()) for one in file.deletes] for path, file in found.items()}

    def ids(self) -> dict[str, int]:
        """Return Iceberg's id of each column."""
        return self._writer.ids()

    def _plan(self, within: Any) -> dict[str, DataFile]:  # noqa: ANN401 - the JVM's objects
        """Load and return the files of the current snapshot that may hold rows within the bounds."""
        found: dict[str, DataFile] = {}
        with closing(self._handle.newScan().filter(within).planFiles()) as tasks:
            one = tasks.iterator()
            while one.hasNext():
                task = one.next()
                deletes = java_list(task.deletes())
                if any(str(one.content()) != "POSITION_DELETES" for one in deletes):  # though the snapshot's summary says nothing of them
                    raise DoesNotFit(f"{self._table.name} has deletes by value")
                file = task.file()
                found[file.location()] = DataFile(file, task.spec(), list(deletes))
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

    def _of_part(self, part: Keys) -> Any:  # noqa: ANN401 - the JVM's objects
        """Return an expression that holds for every row of a part, and for others."""
        expressions = self._iceberg.expressions.Expressions
        found = expressions.alwaysFalse()
        for columns, tuples in part.tuples.items():
            matches = expressions.alwaysTrue()
            for column, values in zip(columns, zip(*tuples, strict=True), strict=True):
                # Other types have no plain form in both languages; then the files are not chosen by the column.
                if all(type(value) in (int, str) for value in values):
                    within = expressions.greaterThanOrEqual(column, min(values)), expressions.lessThanOrEqual(column, max(values))
                    matches = getattr(expressions, "and")(matches, getattr(expressions, "and")(*within))
            found = getattr(expressions, "or")(found, matches)
        return found
