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

from lakehouse.schema import Table
from lakehouse.sinks.data_files import NotFromMemory
from lakehouse.sinks.merge import INSTANT, only_in
from lakehouse.sinks.row_delta import FILE, POSITION, DeltaWriter
from lakehouse.spans import Spans

# A micro-batch that reaches more rows than this is done by Spark; and more are not kept for the next one.
MOST_ROWS = 200_000
MOST_INT = (1 << 63) - 1
MICROS_PER_DAY = 86_400_000_000


def rows_in(rows: pa.Table, span: Spans, entity: str, starts: str, ends: str) -> pa.Table:
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

    # Entity and time become one number, in which the spans are sorted: the first span that ends at or after a row's start is the
    # only one that can hold it first.
    def key(entities: pa.Array | pa.ChunkedArray, times: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        within = pc.subtract(pc.min_element_wise(pc.max_element_wise(times, least - 1), most + 1), least - 1)
        return pc.add(pc.multiply(pc.index_in(entities, pa.array(span.entities)), most - least + 3), within)

    known = pc.is_in(rows[entity], pa.array(span.entities))
    rows = rows.filter(known)
    owners = pa.array([row[0] for row in span.rows])
    first = pc.search_sorted(key(owners, until), key(rows[entity], _micros(rows[starts])).combine_chunks(), side="left")
    begins = pa.concat_arrays([key(owners, since), pa.array([MOST_INT], pa.int64())]).take(first)  # beyond the last span lies none
    return rows.filter(pc.less_equal(begins, key(rows[entity], _micros(rows[ends])).combine_chunks()))


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


class RecentRows:
    """A table's rows around the spans that were written lately, as they stand in its current snapshot.

    Args:
        table: whose rows; entity, starts and ends as in `Gold`.
        entity: the column by which spans are kept.
        starts: the column with a row's first time.
        ends: the column with its last.
        looks_ahead: whether to read a little further than asked for.
    """

    def __init__(self, table: Table, entity: str, starts: str, ends: str = "", looks_ahead: bool = True) -> None:
        self.table = table
        self._entity, self._starts, self._ends = entity, starts, ends or starts
        self._looks_ahead = looks_ahead
        self._writer: DeltaWriter | None = None
        self._snapshot: int | None = None
        self._rows: pa.Table | None = None
        self._spans = Spans(())
        self._waits = False

    def begin(self, spark: SparkSession) -> None:
        """Look whether another writer has changed the table, and forget its rows then.

        Raises:
            NotFromMemory: MERGE must write this table.
        """
        if self._writer is None:
            self._writer = DeltaWriter(spark, self.table)
        snapshot = self._writer.refresh()
        if snapshot != self._snapshot or (self._rows is not None and self._rows.num_rows > MOST_ROWS):
            self.forget()
        self._snapshot = snapshot
        self._waits = False

    @property
    def properties(self) -> Any:  # noqa: ANN401 - the JVM's map
        """The table's properties, as `begin` saw them."""
        assert self._writer is not None  # `begin` has been here
        return self._writer.properties

    def forget(self) -> None:
        """Keep no rows."""
        self._rows, self._spans = None, Spans(())

    def read(self, spark: SparkSession, span: Spans) -> pa.Table:
        """Give the rows that overlap a span, with `_file` and `_pos`; see `have`."""
        return rows_in(self.have(spark, span), span, self._entity, self._starts, self._ends)

    def have(self, spark: SparkSession, span: Spans) -> pa.Table:
        """Read the rows that overlap a span from the table where they are not at hand; give all that are at hand.

        Args:
            spark: the session.
            span: where.

        Raises:
            NotFromMemory: there are too many; or they are not at hand, and a commit waits that the table may not show yet.
        """
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

    def replace(
        self,
        spark: SparkSession,
        wanted: pa.Table,
        span: Spans,
        said: Mapping[str, str],
        later: Callable[[Callable[[], None]], None],
        vanishing: bool = False,
    ) -> bool:
        """Bring the rows of a span to what is wanted, in one commit; tell whether anything differed.

        What is read afterwards are the new rows; the table has them when what `later` was given has been called.

        Args:
            spark: the session.
            wanted: rows of the table's columns, one per key, all within the span.
            span: where.
            said: properties of the snapshot.
            later: is given what commits, to be called once, before the next `begin`; if it raises, `forget`.
            vanishing: whether rows of the span that are not wanted go.
        """
        come, gone = differing(wanted, self.read(spark, span), self.table, vanishing)
        if not come.num_rows and not gone.num_rows:
            return False
        assert self._writer is not None and self._rows is not None  # `read` has been here
        written, commit = self._writer.prepare(come, gone, span.ranges, (self._starts, self._ends), said)
        left = _without(self._rows, gone)
        self._rows = pa.concat_tables([left, written.cast(left.schema)]).combine_chunks()

        def settle() -> None:
            self._snapshot = commit()  # None is no table's snapshot here: the next `begin` forgets

        self._waits = True
        later(settle)
        return True

    def settled(self) -> None:
        """Take note that what `replace` handed out has been called: the table may be read again, unless another writer came between."""
        self._waits = self._waits and self._snapshot is None

    def _fetch(self, spark: SparkSession, missing: Spans) -> None:
        columns = [*self.table.names, FILE, POSITION]
        found = fetch(only_in(spark.table(self.table.name), missing, self._entity, self._starts, self._ends).select(*columns))
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
