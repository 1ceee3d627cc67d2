"""Which rows of a table does a stream write again and again? Those of the last days: they are kept in memory, and written from there.

Every micro-batch of a live stream changes hours that the last one changed too. A `RecentRows` holds a table's rows around them
as they stand in the current snapshot, so that the next micro-batch need not read them, and only rows that differ are written.
A commit of another writer is seen by the snapshot's id, and everything is read anew.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from lakehouse.parts import Part
from lakehouse.spans import Spans, Times
from lakehouse.tables.schema import Table
from lakehouse.write.merge import INSTANT, only_in
from lakehouse.write.small_batches.data_files import NotFromMemory
from lakehouse.write.small_batches.row_delta import FILE, POSITION, DeltaWriter

# A micro-batch that reaches more rows than this is done by Spark; and more are not kept for the next one.
MOST_ROWS = 200_000
MOST_INT = (1 << 63) - 1
MICROS_PER_DAY = 86_400_000_000


def rows_in(rows: pa.Table, span: Spans, times: Times) -> pa.Table:
    """Keep the rows that overlap a span of their entity, both ends included: what `only_in` does for a DataFrame.

    Raises:
        NotFromMemory: so many entities over so long a time that they do not fit one number.
    """
    if not rows.num_rows or not span:
        return rows.slice(0, 0)
    since, until = (pa.array([row[n] for row in span.rows], INSTANT).cast(pa.int64()) for n in (1, 2))
    least, most = pc.min(since).as_py(), pc.max(until).as_py()
    if len(span.entities) * (most - least + 3) > MOST_INT:
        raise NotFromMemory(f"{len(span.entities)} entities over {(most - least) // MICROS_PER_DAY} days")
    kind = rows.schema.field(times.entity).type
    entities = pa.array(span.entities, kind)

    # Entity and time become one number, in which the spans are sorted: the first span that ends at or after a row's start is the
    # only one that can hold it first.
    def key(found: pa.Array | pa.ChunkedArray, instants: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        within = pc.subtract(pc.min_element_wise(pc.max_element_wise(instants, least - 1), most + 1), least - 1)
        return pc.add(pc.multiply(pc.index_in(found, entities), most - least + 3), within)

    known = pc.and_(pc.is_in(rows[times.entity], entities), pc.is_valid(rows[times.starts]))
    rows = rows.filter(known)
    owners = pa.array([row[0] for row in span.rows], kind)
    first = pc.search_sorted(key(owners, until), key(rows[times.entity], _micros(rows[times.starts])).combine_chunks(), side="left")
    begins = pa.concat_arrays([key(owners, since), pa.array([MOST_INT], pa.int64())]).take(first)  # beyond the last span lies none
    return rows.filter(pc.less_equal(begins, key(rows[times.entity], _micros(rows[times.last])).combine_chunks()))


def differing(wanted: pa.Table, present: pa.Table, table: Table, vanishing: bool) -> tuple[pa.Table, pa.Table]:
    """Compare rows as they should be with rows as they are, by key; null equals null.

    Args:
        wanted: rows of the table's columns, one per key.
        present: the same with `_file` and `_pos`.
        table: whose rows.
        vanishing: whether a row that is not wanted goes.

    Returns:
        The wanted rows that are new or different, and the present rows that they replace, or that vanish.
    """
    keys = list(table.key)
    numbered = wanted.select(keys).append_column("_wanted", _numbers(wanted))
    both = numbered.join(present.select(keys).append_column("_present", _numbers(present)), keys, join_type="full outer", use_threads=False)
    new = both.filter(pc.is_null(both["_present"]))["_wanted"]
    gone = both.filter(pc.is_null(both["_wanted"]))["_present"]
    pairs = both.filter(pc.and_(pc.is_valid(both["_wanted"]), pc.is_valid(both["_present"])))
    old, fresh = present.take(pairs["_present"]), wanted.take(pairs["_wanted"])
    same = pa.chunked_array([pa.repeat(pa.scalar(True), pairs.num_rows)])
    for name in table.names:
        left, right = old[name], fresh[name]
        alike = pc.or_(pc.fill_null(pc.equal(left, right), False), pc.and_(pc.is_null(left), pc.is_null(right)))
        same = pc.and_(same, alike)
    changed = pairs.filter(pc.invert(same))
    come = pa.concat_tables([wanted.take(new), wanted.take(changed["_wanted"])])
    return come, pa.concat_tables([present.take(changed["_present"]), *([present.take(gone)] if vanishing else [])])


class TableRows:
    """A table whose rows are read part by part, and written as row deltas; no rows are kept.

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
        """Look at the table as it is now, and forget what another writer has changed.

        Raises:
            NotFromMemory: MERGE must write this table.
        """
        if self._writer is None:
            self._writer = DeltaWriter(spark, self.table)
        self.snapshot = self._writer.refresh()
        self._waits = False

    @property
    def handle(self) -> Any:  # noqa: ANN401 - the JVM's object
        """Iceberg's own object of the table, as `begin` saw it."""
        assert self._writer is not None  # `begin` has been here
        return self._writer.handle

    @property
    def waits(self) -> bool:
        """Whether a commit waits that the table may not show yet."""
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
            NotFromMemory: there are too many, or a commit waits that the table may not show yet.
        """
        if self._waits:
            raise NotFromMemory(f"{self.table.name} would be read beside a commit")
        columns = [*self.table.names, FILE, POSITION]
        return fetch(only_in(spark.table(self.table.name), part, times or self.times).select(*columns))

    def have(self, spark: SparkSession, part: Part) -> None:
        """Do what jobs of Spark's `replace` would need."""

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
        """Bring the rows of a part to what is wanted, in one commit.

        What is read afterwards are the new rows; the table has them when what `later` was given has been called.

        Args:
            spark: the session.
            wanted: rows of the table's columns, one per key, all within the part.
            part: by columns of the table.
            properties: gives the properties of the snapshot; asked when it is committed.
            later: is given what commits, to be called once, before the next `begin`; if it raises, `forget`.
            vanishing: whether rows of the part that are not wanted go.
            present: the part's rows as they are, from `read`; read here when left out.

        Returns:
            The rows that came, and those that went or were replaced; nothing is committed where there are none.
        """
        come, gone = differing(wanted, self.read(spark, part) if present is None else present, self.table, vanishing)
        if not come.num_rows and not gone.num_rows:
            return come, gone
        assert self._writer is not None  # `begin` has been here
        within = (part.ranges, self.times) if isinstance(part, Spans) and self.times is not None else None
        written, commit = self._writer.prepare(come, gone, within, properties)
        self._replaced(written, gone)

        def settle() -> None:
            self.snapshot = commit()  # None is no table's snapshot here: the next `begin` forgets

        self._waits = True
        later(settle)
        return come, gone

    def settled(self) -> None:
        """Take note that what `replace` handed out has been called: the table may be read again, unless another writer came between."""
        self._waits = self._waits and self.snapshot is None

    def _replaced(self, written: pa.Table, gone: pa.Table) -> None:
        """Keep what was written in the place of what went."""


class RecentRows(TableRows):
    """A table's rows around the spans that were written lately, as they stand in its current snapshot.

    Args:
        table: whose rows.
        times: the columns by which spans select them.
        looks_ahead: whether to read a little further than asked for.
    """

    times: Times

    def __init__(self, table: Table, times: Times, looks_ahead: bool = True) -> None:
        super().__init__(table, times)
        self._looks_ahead = looks_ahead
        self._rows: pa.Table | None = None
        self._spans = Spans(())

    def begin(self, spark: SparkSession) -> None:
        """Look whether another writer has changed the table, and forget its rows then.

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
        """Give the rows that overlap a span, with `_file` and `_pos`; see `have`. A part by key is read from the table."""
        if not isinstance(part, Spans) or (times is not None and times != self.times):
            return super().read(spark, part, times)
        return rows_in(self._at_hand(spark, part), part, self.times)

    def have(self, spark: SparkSession, part: Part) -> None:
        """Read the rows that overlap a span from the table where they are not at hand.

        Raises:
            NotFromMemory: there are too many; or they are not at hand, and a commit waits that the table may not show yet.
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
        if self._rows is None:  # a part by key was replaced: nothing was at hand
            return
        left = _without(self._rows, gone)
        self._rows = pa.concat_tables([left, written.cast(left.schema)]).combine_chunks()

    def _fetch(self, spark: SparkSession, missing: Spans) -> None:
        columns = [*self.table.names, FILE, POSITION]
        found = fetch(only_in(spark.table(self.table.name), missing, self.times).select(*columns))
        if self._rows is not None:
            # What overlaps both an old span and a new one was read twice.
            known = self._rows
            found = pa.concat_tables([known, _without(found, known)]).combine_chunks()
        self._rows, self._spans = found, self._spans.joined(missing.rows, timedelta(0))


def _with_margin(span: Spans) -> Spans:
    """The next micro-batches reach a little further: most of what lies ahead is not there yet, and costs nothing to read."""
    return Spans(tuple((entity, start - (end - start) / 2, end + 4 * (end - start)) for entity, start, end in span.rows))


def fetch(rows: DataFrame) -> pa.Table:
    """Bring rows into memory. NotFromMemory when there are too many."""
    found = rows.coalesce(1).limit(MOST_ROWS + 1).toArrow()
    if found.num_rows > MOST_ROWS:
        raise NotFromMemory(f"more than {MOST_ROWS} rows are reached")
    return found


def _without(rows: pa.Table, others: pa.Table) -> pa.Table:
    """Leave out the rows that others name by file and position."""
    places = [FILE, POSITION]
    numbered = rows.select(places).append_column("_row", _numbers(rows))
    left = numbered.join(others.select(places), places, join_type="left anti", use_threads=False)
    return rows.take(left["_row"])


def _numbers(rows: pa.Table) -> pa.Array:
    return pa.array(range(rows.num_rows), pa.int64())


def _micros(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(INSTANT if pa.types.is_timestamp(column.type) else pa.timestamp("us")).cast(pa.int64())
