"""How are a few rows written quickly? The store that keeps recent rows in memory and writes row deltas without a Spark job."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from lakehouse.changes import ChangedRows, Changes, NoChanges, distinct, extents
from lakehouse.domain import ByTime, Derived, Domain, Matching, Reads, Source
from lakehouse.engine.engine import MOST_ROWS, Engine
from lakehouse.engine.on_spark import SparkEngine
from lakehouse.parts import Keys, Part
from lakehouse.pending import ComputedFrom, read_computed_from
from lakehouse.spans import Spans, Times
from lakehouse.tables.schema import Table
from lakehouse.write.publishing import look_before_writing
from lakehouse.write.small_batches.recent_rows import BesideCommit, RecentRows, TableRows
from lakehouse.write.small_batches.select_rows import rows_of
from lakehouse.write.store import Store, Touching


@dataclass(frozen=True, slots=True)
class Writers:
    """Threads that work beside the micro-batch's own.

    Attributes:
        of_files: write the files of tables, beside each other.
        of_commits: its single thread commits, in order.
    """

    of_files: Executor
    of_commits: Executor


class Memory:
    """Rows of a domain's tables that a stream keeps from one micro-batch to the next. Used by one micro-batch at a time.

    Args:
        domain: whose tables.
        looks_ahead: whether the next calls will need slightly later times than the last, so that more is read at once.
        engine: computes rows; Spark when left out.
    """

    def __init__(self, domain: Domain, looks_ahead: bool = True, engine: Engine | None = None) -> None:
        self.engine = engine
        # Threads write files and commit while the next table is computed, since both mostly wait. One of them commits, table by table in
        # order: a commit says from which snapshots of its inputs it was computed.
        self._writers = Writers(
            ThreadPoolExecutor(2, thread_name_prefix="weir-write"), ThreadPoolExecutor(1, thread_name_prefix="weir-commit")
        )
        self._calls = 0
        self.most_rows = MOST_ROWS if engine is None else engine.most_rows
        self.tables: dict[str, TableRows] = {}
        for table in domain.merged:
            kind = domain.kinds[table.name]
            if isinstance(kind, ByTime):
                self.tables[table.name] = RecentRows(table, kind.times, looks_ahead, self.most_rows)
            else:
                self.tables[table.name] = TableRows(table, most_rows=self.most_rows)
        self._made: ComputedFrom | None = None
        self._heads: dict[str, int | None] = {}

    @property
    def calls(self) -> int:
        """How many micro-batches were written from here."""
        return self._calls

    def unfit(self, spark: SparkSession) -> str:
        """Load the current state of every table, and return why one must be written by MERGE; empty where all can be written from here."""
        self._begin(spark)
        return next(filter(None, (rows.unfit() for rows in self.tables.values())), "")

    @contextmanager
    def store(self, spark: SparkSession, domain: Domain, properties: Mapping[str, str]) -> Iterator["MemoryStore"]:
        """Open a store for one call of `apply`, with the state of every table as of `unfit`.

        Derived tables are loaded before silver. Another writer commits silver first, so if it commits in between, the commit of a derived
        table that was computed from the older silver is refused. After an error the tables' state is unknown, and all rows are dropped.

        Args:
            spark: the session.
            domain: whose tables, as it is now.
            properties: of every snapshot.

        Raises:
            DoesNotFit: from within the block: too many rows are reached.
            OtherEdition: a derived table was computed by other rules.
        """
        try:
            if look_before_writing(spark, domain, lambda name: self.tables[name].handle.properties()):
                self._begin(spark)
            if self._made is None or self._heads != self._seen():
                self._made = read_computed_from(domain, {name: rows.handle for name, rows in self.tables.items()})
            store = MemoryStore(spark, domain, self.tables, properties, self._writers, self._made, self.engine or SparkEngine(spark))
            try:
                yield store
            finally:
                store.close()
            self._heads = self._seen()
            self._calls += 1
        except BaseException:
            self._made = None
            for rows in self.tables.values():
                rows.forget()
            raise

    def _begin(self, spark: SparkSession) -> None:
        for rows in reversed(self.tables.values()):
            rows.begin(spark)

    def _seen(self) -> dict[str, int | None]:
        return {name: rows.snapshot for name, rows in self.tables.items()}


class MemoryStore(Store[pa.Table]):
    """Computes from rows in memory, and writes the rows that differ as row deltas.

    Args:
        spark: the session.
        domain: whose tables.
        tables: the rows in memory by table.
        properties: of every snapshot.
        writers: write files, and commit.
        made: from which snapshots each derived table was computed; updated here.
        engine: computes rows.
    """

    def __init__(
        self,
        spark: SparkSession,
        domain: Domain,
        tables: Mapping[str, TableRows],
        properties: Mapping[str, str],
        writers: Writers,
        made: ComputedFrom,
        engine: Engine,
    ) -> None:
        super().__init__(spark, domain, properties, engine.name)
        self._tables, self._writers, self.made, self._engine = tables, writers, made, engine
        self._waiting: list[Future[Any]] = []
        self._failed = False

    def handle(self, table: str) -> Any:  # noqa: ANN401 - the JVM's object
        """Return the loaded one."""
        return self._tables[table].handle

    def head(self, table: str) -> int:
        """Return the known snapshot; 0 after a commit of another writer in between, so that everything since then is pending."""
        return self._tables[table].snapshot or 0

    def held(self, rows: pa.Table) -> pa.Table:
        """Return them as they are."""
        return rows

    def merge_silver(self, source: Source, accepted: pa.Table, touched: Part, needed: Part, asked: bool) -> Changes:
        """Compute the newest row of each key together with the rows in memory, and write those that differ."""
        silver = self._tables[source.silver.name]
        if isinstance(touched, Spans) and isinstance(needed, Spans):
            silver.have(self.spark, needed.joined(touched.rows))  # one read for silver and gold
        at_hand = silver.read(self.spark, touched)
        newest = self._engine.newest(source.to_silver, accepted, at_hand, source.silver, source.contract.version)
        come, gone = silver.replace(self.spark, newest, touched, self._properties, self.then, present=at_hand)
        return ChangedRows(gone, come)

    def touching(self, derived: Derived, near: Spans) -> Touching:
        """Look them up."""
        return self.extents(derived, self._read(derived.table, near, derived.times))

    def rows(self, reads: Reads, part: Part) -> pa.Table:
        """Look them up."""
        found, mark = self._read(reads.table, part, reads.times), self._mark(reads)
        return found.filter(pc.invert(pc.fill_null(found[mark], False))) if mark else found

    def matching(self, matching: Matching, rows: pa.Table) -> Part:
        """Look at the rows."""
        return Keys.of(list(matching.names.values()), distinct(rows, list(matching.names)))

    def make(self, derived: Derived, inputs: Sequence[pa.Table], part: Part) -> pa.Table:
        """Compute it at once."""
        chosen = [rows.select(list(reads.table.names)) for reads, rows in zip(derived.reads, inputs, strict=True)]
        made = self._engine.compute(derived.to_rows, chosen, derived.table.computed)
        if derived.table.run_column:
            made = made.append_column(derived.table.run_column, pa.repeat(self.run, made.num_rows))
            made = made.select(list(derived.table.names))
        return rows_of(made, part, derived.times)

    def some_where(self, derived: Derived, made: pa.Table, condition: str, count: int) -> list[dict[str, Any]]:
        """Let the engine find them."""
        found: list[dict[str, Any]] = self._engine.compute(lambda rows: rows.where(condition), [made], derived.table)[:count].to_pylist()
        return found

    def extents(self, derived: Derived, rows: pa.Table) -> Touching:
        """Look at the rows."""
        assert derived.times is not None  # asked of tables that are kept by time
        return list(extents(rows, derived.times))

    def replace(self, derived: Derived, made: pa.Table, part: Part, asked: bool, is_complete: bool) -> Changes:
        """Write the rows that differ while the next table is computed, unless the caller needs the changes."""
        table = self._tables[derived.table.name]
        rows = rows_of(made, part, derived.times) if isinstance(part, Spans) else made
        complete = derived if is_complete else None

        def properties() -> dict[str, str]:
            return self._properties(complete)  # called in the committer's thread, when the inputs are committed

        if asked:
            self._settle_if_waiting(derived.table)
            come, gone = table.replace(self.spark, rows, part, properties, self.then, vanishing=derived.is_replaced)
            return ChangedRows(gone, come)
        self._settle_if_waiting(derived.table)
        table.have(self.spark, part)  # Spark jobs, if any, run in the micro-batch's own thread
        present = None if isinstance(part, Spans) else self._read(derived.table, part, None)

        commits: list[Callable[[], None]] = []

        def write() -> None:
            table.replace(self.spark, rows, part, properties, commits.append, vanishing=derived.is_replaced, present=present)

        written = self._writers.of_files.submit(self._do, write)
        self._waiting.append(written)

        def commit() -> None:
            written.result()
            for one in commits:
                one()

        self.then(commit)
        return NoChanges()

    def note_computed(self, derived: Derived) -> None:
        """Note it after the earlier commits, since the snapshots of its inputs are unknown until then."""
        self.then(lambda: Store.note_computed(self, derived))

    def then(self, work: Callable[[], None]) -> None:
        """Run it after the queued commits, unless one of them fails."""
        self._waiting.append(self._writers.of_commits.submit(self._do, work))

    def settle(self) -> None:
        """Wait for all commits; raise the error of the first that failed."""
        for one in self._waiting:
            one.result()
        for rows in self._tables.values():
            rows.settled()

    def close(self) -> None:
        """Wait for a running commit; cancel queued ones."""
        self._failed = True
        wait(self._waiting)

    def _read(self, table: Table, part: Part, times: Times | None) -> pa.Table:
        rows = self._tables[table.name]
        try:
            return rows.read(self.spark, part, times)
        except BesideCommit:
            self.settle()
        return rows.read(self.spark, part, times)

    def _settle_if_waiting(self, table: Table) -> None:
        if self._tables[table.name].waits:
            self.settle()

    def _do(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except BaseException:
            self._failed = True
            raise
