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
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from lakehouse.parts import Keys, Part
from lakehouse.spans import Spans, Times
from lakehouse.tables.arrow_types import arrow_schema
from lakehouse.tables.schema import Table
from lakehouse.write.merge import INSTANT, only_in
from lakehouse.write.small_batches.data_files import NotFromMemory
from lakehouse.write.small_batches.local_rows import FILE, POSITION, numbers, read_local, without
from lakehouse.write.small_batches.row_delta import DeltaWriter

# A micro-batch that needs more rows than this is left to Spark, and no more are kept for the next one.
MOST_ROWS = 1_000_000
MOST_INT = (1 << 63) - 1
MICROS_PER_DAY = 86_400_000_000


def rows_in(rows: pa.Table, span: Spans, times: Times) -> pa.Table:
    """Keep the rows that overlap a span of their entity, both ends included, as `only_in` does for a DataFrame.

    Raises:
        NotFromMemory: entities and time span are too many to be encoded in one number.
    """
    if not rows.num_rows or not span:
        return rows.slice(0, 0)
    since, until = (pa.array([row[n] for row in span.rows], INSTANT).cast(pa.int64()) for n in (1, 2))
    least, most = pc.min(since).as_py(), pc.max(until).as_py()
    if len(span.entities) * (most - least + 3) > MOST_INT:
        raise NotFromMemory(f"{len(span.entities)} entities over {(most - least) // MICROS_PER_DAY} days")
    kind = rows.schema.field(times.entity).type
    entities = pa.array(span.entities, kind)

    # Entity and time are encoded in one number, by which the spans are sorted. Only the first span that ends at or after a row's start
    # can overlap the row.
    def key(found: pa.Array | pa.ChunkedArray, instants: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        within = pc.subtract(pc.min_element_wise(pc.max_element_wise(instants, least - 1), most + 1), least - 1)
        return pc.add(pc.multiply(pc.index_in(found, entities), most - least + 3), within)

    known = pc.and_(pc.is_in(rows[times.entity], entities), pc.is_valid(rows[times.starts]))
    rows = rows.filter(known)
    owners = pa.array([row[0] for row in span.rows], kind)
    first = pc.search_sorted(key(owners, until), key(rows[times.entity], _micros(rows[times.starts])).combine_chunks(), side="left")
    begins = pa.concat_arrays([key(owners, since), pa.array([MOST_INT], pa.int64())]).take(first)  # no span lies behind the last one
    return rows.filter(pc.less_equal(begins, key(rows[times.entity], _micros(rows[times.last])).combine_chunks()))


def rows_with(rows: pa.Table, part: Keys) -> pa.Table:
    """Keep the rows of a part by key, as `only_in` does for a DataFrame: null equals null.

    Raises:
        NotFromMemory: the values of several columns are too many to be encoded in one number.
    """
    if part.is_whole:
        return rows
    kept = pa.chunked_array([pa.repeat(pa.scalar(False), rows.num_rows)])
    for columns, tuples in part.tuples.items():
        code, wanted, size = pa.scalar(0, pa.int64()), pa.scalar(0, pa.int64()), 1
        for name, values in zip(columns, zip(*tuples, strict=True), strict=True):
            listed = pa.array(values, rows.schema.field(name).type)
            known = pc.unique(listed)
            size *= len(known) + 1
            if size > MOST_INT:
                raise NotFromMemory(f"{len(tuples)} tuples of {', '.join(columns)}")
            # A value that no tuple has is numbered behind those that one has.
            code = pc.add(pc.multiply(code, len(known) + 1), pc.fill_null(pc.index_in(rows[name], known), len(known)).cast(pa.int64()))
            wanted = pc.add(pc.multiply(wanted, len(known) + 1), pc.index_in(listed, known).cast(pa.int64()))
        kept = pc.or_(kept, pc.is_in(code, wanted))
    return rows.filter(kept)


def differing(wanted: pa.Table, present: pa.Table, table: Table, vanishing: bool) -> tuple[pa.Table, pa.Table]:
    """Compare wanted rows with present rows by key; null equals null.

    Args:
        wanted: rows of the table's columns, one per key.
        present: the same with `_file` and `_pos`.
        table: whose rows.
        vanishing: whether a row that is not wanted is deleted.

    Returns:
        The wanted rows that are new or different, and the present rows that are replaced or deleted.
    """
    keys = list(table.key)
    numbered = wanted.select(keys).append_column("_wanted", numbers(wanted))
    both = numbered.join(present.select(keys).append_column("_present", numbers(present)), keys, join_type="full outer", use_threads=False)
    new = both.filter(pc.is_null(both["_present"]))["_wanted"]
    gone = both.filter(pc.is_null(both["_wanted"]))["_present"]
    pairs = both.filter(pc.and_(pc.is_valid(both["_wanted"]), pc.is_valid(both["_present"])))
    old, fresh = present.take(pairs["_present"]), wanted.take(pairs["_wanted"])
    same = pa.chunked_array([pa.repeat(pa.scalar(True), pairs.num_rows)])
    for name in table.computed.names:
        left, right = old[name], fresh[name]
        alike = pc.or_(pc.fill_null(pc.equal(left, right), False), pc.and_(pc.is_null(left), pc.is_null(right)))
        same = pc.and_(same, alike)
    changed = pairs.filter(pc.invert(same))
    come = pa.concat_tables([wanted.take(new), wanted.take(changed["_wanted"])])
    return come, pa.concat_tables([present.take(changed["_present"]), *([present.take(gone)] if vanishing else [])])


class TableRows:
    """A table that is read part by part and written as row deltas, without keeping rows.

    Args:
        table: whose rows.
        times: the columns by which spans select them; None where they are kept by key.
    """

    def __init__(self, table: Table, times: Times | None = None) -> None:
        self.table, self.times = table, times
        self._writer: DeltaWriter | None = None
        self.snapshot: int | None = None
        self._waits = False

    def begin(self, spark: SparkSession) -> None:
        """Load the table's current state, and drop what another writer has changed.

        Raises:
            NotFromMemory: MERGE must write this table.
        """
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

    def forget(self) -> None:
        """Keep no rows."""

    def read(self, spark: SparkSession, part: Part, times: Times | None = None) -> pa.Table:
        """Read the rows of a part, with `_file` and `_pos`.

        Args:
            spark: the session.
            part: by columns of the table.
            times: the columns by which spans select rows; the table's own when left out.

        Raises:
            NotFromMemory: there are too many, or a commit is queued that the table may not show yet.
        """
        if self._waits:
            raise NotFromMemory(f"{self.table.name} would be read beside a commit")
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
        if isinstance(part, Spans) and times is not None:
            assert self._writer is not None  # `begin` has been here
            found = read_local(self._writer.files((part.ranges, times)), arrow_schema(self.table), self._writer.ids())
            if found is not None:
                return few_enough(rows_in(found, part, times))
        return few_enough(fetch(only_in(spark.table(self.table.name), part, times).select(*self.table.names, FILE, POSITION)))

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
    """

    times: Times

    def __init__(self, table: Table, times: Times, looks_ahead: bool = True) -> None:
        super().__init__(table, times)
        self._looks_ahead = looks_ahead
        self._rows: pa.Table | None = None
        self._spans = Spans(())

    def begin(self, spark: SparkSession) -> None:
        """Drop all rows if another writer has changed the table.

        Raises:
            NotFromMemory: MERGE must write this table.
        """
        before = self.snapshot
        super().begin(spark)
        if self.snapshot != before or (self._rows is not None and self._rows.num_rows > MOST_ROWS):
            self.forget()

    def forget(self) -> None:
        """Keep no rows."""
        self._rows, self._spans = None, Spans(())

    def read(self, spark: SparkSession, part: Part, times: Times | None = None) -> pa.Table:
        """Return the rows that overlap a span, with `_file` and `_pos`; see `have`. A part by key is read from the table."""
        if not isinstance(part, Spans) or (times is not None and times != self.times):
            return super().read(spark, part, times)
        return rows_in(self._at_hand(spark, part), part, self.times)

    def have(self, spark: SparkSession, part: Part) -> None:
        """Read the rows that overlap a span from the table, where they are not in memory.

        Raises:
            NotFromMemory: there are too many, or they are not in memory and a commit is queued that the table may not show yet.
        """
        if isinstance(part, Spans):
            self._at_hand(spark, part)

    def _at_hand(self, spark: SparkSession, span: Spans) -> pa.Table:
        missing = self._spans.missing(span)
        if missing or self._rows is None:
            if self._waits:
                raise NotFromMemory(f"{self.table.name} would be read beside a commit")
            if self._looks_ahead:
                with suppress(NotFromMemory):
                    self._fetch(spark, _with_margin(missing))
                    return self._rows
            self._fetch(spark, missing)
        return self._rows

    def _replaced(self, written: pa.Table, gone: pa.Table) -> None:
        if self._rows is None:  # a part by key was replaced: no rows were in memory
            return
        left = without(self._rows, gone)
        self._rows = pa.concat_tables([left, written.cast(left.schema)]).combine_chunks()

    def _fetch(self, spark: SparkSession, missing: Spans) -> None:
        found = self._from_table(spark, missing, self.times)
        if self._rows is not None:
            # Rows that overlap both an old span and a new one were read twice.
            known = self._rows
            found = pa.concat_tables([known, without(found, known)]).combine_chunks()
        self._rows, self._spans = found, self._spans.joined(missing.rows, timedelta(0))


def _with_margin(span: Spans) -> Spans:
    """Extend a span, since the next micro-batches need slightly later times; most of those rows do not exist yet and cost nothing."""
    return Spans(tuple((entity, start - (end - start) / 2, end + 4 * (end - start)) for entity, start, end in span.rows))


def fetch(rows: DataFrame) -> pa.Table:
    """Fetch rows into memory, one more than `few_enough` lets through at most."""
    return rows.coalesce(1).limit(MOST_ROWS + 1).toArrow()


def few_enough(rows: pa.Table) -> pa.Table:
    """Return the rows; NotFromMemory when there are too many."""
    if rows.num_rows > MOST_ROWS:
        raise NotFromMemory(f"more than {MOST_ROWS} rows are reached")
    return rows


def _micros(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(INSTANT if pa.types.is_timestamp(column.type) else pa.timestamp("us")).cast(pa.int64())
