"""Which rows of a table does a stream write again and again? Those of the last days, which are kept in memory.

Every micro-batch of a live stream changes hours that the last one changed too. `RecentRows` keeps a table's rows around these hours as they
are in the current snapshot, so the next micro-batch need not read them, and only rows that differ are written. A commit of another writer
shows in the snapshot's id; then all rows are read again.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from lakehouse.engine.engine import MOST_ROWS, DoesNotFit
from lakehouse.parts import Keys, Part
from lakehouse.spans import Spans, Times
from lakehouse.tables.arrow_types import arrow_schema
from lakehouse.tables.schema import Table
from lakehouse.write.merge import only_in
from lakehouse.write.small_batches.local_rows import FILE, POSITION, read_local, without
from lakehouse.write.small_batches.row_delta import DeltaWriter
from lakehouse.write.small_batches.select_rows import differing, rows_of, selection_of

# No more are kept for the next micro-batch: a backlog goes on to other hours, and to read some rows again costs less than to hold all.
MOST_KEPT_ROWS = 250_000
# Chunks of the rows in memory; joining them copies all rows.
_MOST_CHUNKS = 32


class BesideCommit(Exception):
    """The table cannot be read now: a commit is queued that it may not show yet."""


class TableRows:
    """A table that is read part by part and written as row deltas, without keeping rows.

    Args:
        table: whose rows.
        times: the columns by which spans select them; None where they are kept by key.
        most_rows: rows that are taken into memory at once.
    """

    def __init__(self, table: Table, times: Times | None = None, most_rows: int = MOST_ROWS) -> None:
        self.table, self.times, self._most_rows = table, times, most_rows
        self._writer: DeltaWriter | None = None
        self.snapshot: int | None = None
        self._waits = False

    def begin(self, spark: SparkSession) -> None:
        """Load the table's current state, and drop what another writer has changed."""
        if self._writer is None:
            self._writer = DeltaWriter(spark, self.table)
        self.snapshot = self._writer.refresh()
        self._waits = False

    @property
    def handle(self) -> Any:  # noqa: ANN401 - the JVM's object
        """Iceberg's object of the table, as of `begin`."""
        assert self._writer is not None  # `begin` has been here
        return self._writer.handle

    @property
    def waits(self) -> bool:
        """Whether a commit is queued that the table may not show yet."""
        return self._waits

    def unfit(self) -> str:
        """Return why MERGE must write the table, as of the last `begin`; empty where it can be written from memory."""
        return "" if self._writer is None else self._writer.unfit()

    def forget(self) -> None:
        """Keep no rows."""

    def read(self, spark: SparkSession, part: Part, times: Times | None = None) -> pa.Table:
        """Read the rows of a part, with `_file` and `_pos`.

        Args:
            spark: the session.
            part: by columns of the table.
            times: the columns by which spans select rows; the table's own when left out.

        Raises:
            DoesNotFit: there are too many.
            BesideCommit: a commit is queued.
        """
        if self._waits:
            raise BesideCommit
        return self._from_table(spark, part, times or self.times)

    def have(self, spark: SparkSession, part: Part) -> None:
        """Run the Spark jobs that `replace` would need."""

    def replace(
        self,
        spark: SparkSession,
        wanted: pa.Table,
        part: Part,
        properties: Callable[[], Mapping[str, str]],
        later: Callable[[Callable[[], None]], None],
        vanishing: bool = False,
        present: pa.Table | None = None,
    ) -> tuple[pa.Table, pa.Table]:
        """Replace the rows of a part by wanted rows, in one commit.

        Later reads return the new rows; the table has them once the function that `later` gets has been called.

        Args:
            spark: the session.
            wanted: rows of the table's columns, one per key, all within the part.
            part: by columns of the table.
            properties: returns the properties of the snapshot; called at the commit.
            later: gets the function that commits, to be called once before the next `begin`; if it raises, call `forget`.
            vanishing: whether rows of the part that are not wanted are deleted.
            present: the part's rows as they are, from `read`; read here when left out.

        Returns:
            The new rows, and those that were replaced or deleted; nothing is committed where there are none.
        """
        come, gone = differing(wanted, self.read(spark, part) if present is None else present, self.table, vanishing)
        if not come.num_rows and not gone.num_rows:
            return come, gone
        assert self._writer is not None  # `begin` has been here
        within = (part.ranges, self.times) if isinstance(part, Spans) and self.times is not None else None
        written, removed, commit = self._writer.prepare(come, gone, within, properties)
        self._replaced(written, removed)

        def settle() -> None:
            self.snapshot = commit()  # with None as snapshot the next `begin` drops all rows

        self._waits = True
        later(settle)
        return come, gone

    def _from_table(self, spark: SparkSession, part: Part, times: Times | None) -> pa.Table:
        """Read the rows of a part from the table's files: with Arrow where it can, else with Spark."""
        assert self._writer is not None  # `begin` has been here
        if isinstance(part, Keys) or times is not None:
            files = self._writer.files(part if isinstance(part, Keys) else (part.ranges, times))  # type: ignore[arg-type]  # seen above
            found = read_local(files, arrow_schema(self.table), self._writer.ids(), selection_of(part, times))
            if found is not None:
                return self._few_enough(found)
        rows = only_in(spark.table(self.table.name), part, times).select(*self.table.names, FILE, POSITION)
        return self._few_enough(rows.coalesce(1).limit(self._most_rows + 1).toArrow())

    def _few_enough(self, rows: pa.Table) -> pa.Table:
        if rows.num_rows > self._most_rows:
            raise DoesNotFit(f"more than {self._most_rows:,} rows of {self.table.name} are reached")
        return rows

    def settled(self) -> None:
        """Note that the commits from `replace` were called, so the table may be read again, unless another writer committed in between."""
        self._waits = self._waits and self.snapshot is None

    def _replaced(self, written: pa.Table, gone: pa.Table) -> None:
        """Keep the written rows instead of those they replace."""


class RecentRows(TableRows):
    """A table's rows around recently written spans, as in its current snapshot.

    Args:
        table: whose rows.
        times: the columns by which spans select them.
        looks_ahead: whether to read slightly later times than asked for.
        most_rows: rows that are taken into memory at once.
    """

    times: Times

    def __init__(self, table: Table, times: Times, looks_ahead: bool = True, most_rows: int = MOST_ROWS) -> None:
        super().__init__(table, times, most_rows)
        self._looks_ahead = looks_ahead
        self._rows: pa.Table | None = None
        self._spans = Spans(())

    def begin(self, spark: SparkSession) -> None:
        """Drop all rows if another writer has changed the table."""
        before = self.snapshot
        super().begin(spark)
        if self.snapshot != before or (self._rows is not None and self._rows.num_rows > MOST_KEPT_ROWS):
            self.forget()

    def forget(self) -> None:
        """Keep no rows."""
        self._rows, self._spans = None, Spans(())

    def read(self, spark: SparkSession, part: Part, times: Times | None = None) -> pa.Table:
        """Return the rows that overlap a span, with `_file` and `_pos`; see `have`. A part by key is read from the table."""
        if not isinstance(part, Spans) or (times is not None and times != self.times):
            return super().read(spark, part, times)
        return rows_of(self._at_hand(spark, part), part, self.times)

    def have(self, spark: SparkSession, part: Part) -> None:
        """Read the rows that overlap a span from the table, where they are not in memory.

        Raises:
            DoesNotFit: there are too many.
            BesideCommit: they are not in memory, and a commit is queued.
        """
        if isinstance(part, Spans):
            self._at_hand(spark, part)

    def _at_hand(self, spark: SparkSession, span: Spans) -> pa.Table:
        missing = self._spans.missing(span)
        if missing or self._rows is None:
            if self._waits:
                raise BesideCommit
            if self._looks_ahead:
                with suppress(DoesNotFit):
                    self._fetch(spark, _with_margin(missing))
                    return self._rows
            self._fetch(spark, missing)
        return self._rows

    def _replaced(self, written: pa.Table, gone: pa.Table) -> None:
        if self._rows is None:  # a part by key was replaced: no rows were in memory
            return
        left = without(self._rows, gone)
        self._rows = _joined(left, written.cast(left.schema))

    def _fetch(self, spark: SparkSession, missing: Spans) -> None:
        found = self._from_table(spark, missing, self.times)
        if self._rows is not None:
            # Rows that overlap both an old span and a new one were read twice.
            known = self._rows
            found = _joined(known, without(found, known))
        self._rows, self._spans = found, self._spans.joined(missing.rows, timedelta(0))


def _with_margin(span: Spans) -> Spans:
    """Extend a span, since the next micro-batches need slightly later times; most of those rows do not exist yet and cost nothing."""
    return Spans(tuple((entity, start - (end - start) / 2, end + 4 * (end - start)) for entity, start, end in span.rows))


def _joined(rows: pa.Table, others: pa.Table) -> pa.Table:
    both = pa.concat_tables([rows, others])
    return both.combine_chunks() if both.column(0).num_chunks > _MOST_CHUNKS else both
