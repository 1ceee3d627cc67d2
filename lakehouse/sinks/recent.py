"""Which rows of a table does a stream write again and again? Those of the last days: they are kept in memory, and written from there.

Every micro-batch of a live stream changes hours that the last one changed too. A `RecentRows` holds a table's rows around them
as they stand in the current snapshot, so that the next micro-batch need not read them, and only rows that differ are written.
A commit of another writer is seen by the snapshot's id, and everything is read anew.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta

import duckdb
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from lakehouse.schema import Table
from lakehouse.sinks.merge import INSTANT, only_in
from lakehouse.sinks.row_delta import FILE, POSITION, DeltaWriter, NotByDelta
from lakehouse.spans import Spans

# A micro-batch that reaches more rows than this is done by Spark; and more are not kept for the next one.
MOST_ROWS = 200_000


def open_engine() -> duckdb.DuckDBPyConnection:
    """Open the engine that compares rows in memory, for one micro-batch: it keeps nothing, and one left open complains at exit."""
    return duckdb.connect(":memory:", config={"threads": 1})


def rows_in(engine: duckdb.DuckDBPyConnection, rows: pa.Table, span: Spans, entity: str, starts: str, ends: str) -> pa.Table:
    """Keep the rows that overlap a span of their entity, both ends included: what `only_in` does for a DataFrame."""
    if not rows.num_rows:
        return rows
    times = pa.table([rows[entity], _micros(rows[starts]), _micros(rows[ends])], names=["entity", "first", "last"])
    wanted = pa.table(
        [
            pa.array([row[0] for row in span.rows], pa.string()),
            *(pa.array([row[n] for row in span.rows], INSTANT).cast(pa.int64()) for n in (1, 2)),
        ],
        names=["entity", "first", "last"],
    )
    found = _numbers(
        engine,
        "SELECT t.n FROM (SELECT *, row_number() OVER () - 1 AS n FROM times) t SEMI JOIN wanted w "
        "ON t.entity = w.entity AND t.first <= w.last AND t.last >= w.first ORDER BY t.n",
        times=times,
        wanted=wanted,
    )[0]
    return rows.take(found)


def differing(
    engine: duckdb.DuckDBPyConnection, wanted: pa.Table, present: pa.Table, table: Table, vanishing: bool
) -> tuple[pa.Table, pa.Table]:
    """Compare rows as they should be with rows as they are, by key; null equals null.

    Args:
        engine: from `open_engine`.
        wanted: rows of the table's columns, one per key.
        present: the same with `_file` and `_pos`.
        table: whose rows.
        vanishing: whether a row that is not wanted goes.

    Returns:
        The wanted rows that are new or different, and the present rows that they replace, or that vanish.
    """
    keys = " AND ".join(f"w.{name} = p.{name}" for name in table.key)
    same = " AND ".join(f"w.{name} IS NOT DISTINCT FROM p.{name}" for name in table.names if name not in table.key) or "true"
    first = table.key[0]
    come, gone = _numbers(
        engine,
        "SELECT w.n, p.n FROM (SELECT *, row_number() OVER () - 1 AS n FROM wanted) w "
        f"FULL JOIN (SELECT *, row_number() OVER () - 1 AS n FROM present) p ON {keys} "
        f"WHERE (p.{first} IS NULL OR w.{first} IS NULL OR NOT ({same}))" + ("" if vanishing else f" AND w.{first} IS NOT NULL"),
        wanted=wanted,
        present=present,
    )
    return wanted.take(come.drop_null()), present.take(gone.drop_null())


class RecentRows:
    """A table's rows around the spans that were written lately, as they stand in its current snapshot.

    Args:
        table: whose rows; entity, starts and ends as in `Gold`.
        entity: the column by which spans are kept.
        starts: the column with a row's first time.
        ends: the column with its last.
    """

    def __init__(self, table: Table, entity: str, starts: str, ends: str = "") -> None:
        self.table = table
        self._entity, self._starts, self._ends = entity, starts, ends or starts
        self._writer: DeltaWriter | None = None
        self._snapshot: int | None = None
        self._rows: pa.Table | None = None
        self._spans = Spans(())

    def begin(self, spark: SparkSession) -> None:
        """Look whether another writer has changed the table, and forget its rows then.

        Raises:
            NotByDelta: MERGE must write this table.
        """
        if self._writer is None:
            self._writer = DeltaWriter(spark, self.table)
        snapshot = self._writer.refresh()
        if snapshot != self._snapshot or (self._rows is not None and self._rows.num_rows > MOST_ROWS):
            self.forget()
        self._snapshot = snapshot

    def forget(self) -> None:
        """Keep no rows."""
        self._rows, self._spans = None, Spans(())

    def read(self, spark: SparkSession, engine: duckdb.DuckDBPyConnection, span: Spans) -> pa.Table:
        """Give the rows that overlap a span, with `_file` and `_pos`; read from the table where they are not at hand.

        Args:
            spark: the session.
            engine: from `open_engine`.
            span: where.

        Raises:
            NotByDelta: there are too many.
        """
        missing = self._spans.missing(span)
        if missing or self._rows is None:
            try:
                self._fetch(spark, engine, _with_margin(missing))
            except NotByDelta:
                self._fetch(spark, engine, missing)
        return rows_in(engine, self._rows, span, self._entity, self._starts, self._ends)

    def replace(
        self,
        spark: SparkSession,
        engine: duckdb.DuckDBPyConnection,
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
            engine: from `open_engine`.
            wanted: rows of the table's columns, one per key, all within the span.
            span: where.
            said: properties of the snapshot.
            later: is given what commits, to be called once, before the next `begin`; if it raises, `forget`.
            vanishing: whether rows of the span that are not wanted go.
        """
        come, gone = differing(engine, wanted, self.read(spark, engine, span), self.table, vanishing)
        if not come.num_rows and not gone.num_rows:
            return False
        assert self._writer is not None and self._rows is not None  # `read` has been here
        written, commit = self._writer.prepare(come, gone, span.ranges, (self._starts, self._ends), said)
        left = _without(engine, self._rows, gone)
        self._rows = pa.concat_tables([left, written.cast(left.schema)]).combine_chunks()

        def settle() -> None:
            self._snapshot = commit()  # None is no table's snapshot here: the next `begin` forgets

        later(settle)
        return True

    def _fetch(self, spark: SparkSession, engine: duckdb.DuckDBPyConnection, missing: Spans) -> None:
        columns = [*self.table.names, FILE, POSITION]
        found = fetch(only_in(spark.table(self.table.name), missing, self._entity, self._starts, self._ends).select(*columns))
        if self._rows is not None:
            # What overlaps both an old span and a new one was read twice.
            known = self._rows
            found = pa.concat_tables([known, _without(engine, found, known)]).combine_chunks()
        self._rows, self._spans = found, self._spans.joined(missing.rows, timedelta(0))


def _with_margin(span: Spans) -> Spans:
    """The next micro-batches reach a little further: most of what lies ahead is not there yet, and costs nothing to read."""
    return Spans(tuple((entity, start - (end - start) / 2, end + 4 * (end - start)) for entity, start, end in span.rows))


def fetch(rows: DataFrame) -> pa.Table:
    """Bring rows into memory. NotByDelta when there are too many."""
    found = rows.coalesce(1).limit(MOST_ROWS + 1).toArrow()
    if found.num_rows > MOST_ROWS:
        raise NotByDelta(f"more than {MOST_ROWS} rows are reached")
    return found


def _without(engine: duckdb.DuckDBPyConnection, rows: pa.Table, others: pa.Table) -> pa.Table:
    """Leave out the rows that others name by file and position."""
    if not others.num_rows:
        return rows
    kept = _numbers(
        engine,
        "SELECT r.n FROM (SELECT *, row_number() OVER () - 1 AS n FROM rows) r ANTI JOIN others o "
        f"ON r.{FILE} = o.{FILE} AND r.{POSITION} = o.{POSITION} ORDER BY r.n",
        rows=rows.select([FILE, POSITION]),
        others=others.select([FILE, POSITION]),
    )[0]
    return rows.take(kept)


def _numbers(engine: duckdb.DuckDBPyConnection, query: str, **tables: pa.Table) -> list[pa.ChunkedArray]:
    """Ask a question about tables whose answer is row numbers: instants would come back in the zone of the engine."""
    for name, table in tables.items():
        engine.register(name, table)
    try:
        return [column.cast(pa.int64()) for column in engine.sql(query).to_arrow_table().columns]
    finally:
        for name in tables:
            engine.unregister(name)


def _micros(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(INSTANT if pa.types.is_timestamp(column.type) else pa.timestamp("us")).cast(pa.int64())
