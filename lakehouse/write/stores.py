"""How does `apply` read and write a domain's tables? By Spark's MERGE for any number of rows, from memory for a few.

Both do the same: `apply` says what is computed and in which order, a store where rows come from and how they get in. A domain's
transforms are Spark's in both. Every write gives the rows that changed, before and after.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.changes import ChangedFrame, ChangedRows, ChangedSpans, Changes, NoChanges, WholeChanged, distinct, extents
from lakehouse.domain import ByTime, Derived, Domain, Matching, Source
from lakehouse.made_of import MadeOf, head_of, read_made_of, to_property
from lakehouse.parts import MOST_KEYS, Keys, Part
from lakehouse.spans import Spans, Times
from lakehouse.spark import iceberg_table
from lakehouse.tables.schema import Table
from lakehouse.write.merge import bounds_of, is_newer, latest_per_key, literal, merge_newer, merge_part, only_in
from lakehouse.write.publishing import look_before_writing
from lakehouse.write.small_batches.data_files import NotFromMemory
from lakehouse.write.small_batches.recent_rows import RecentRows, TableRows, fetch, rows_in
from lakehouse.write.small_batches.session_tuning import session_conf

Rows = TypeVar("Rows")
Touching = list[tuple[Any, datetime, datetime]]

PROPERTY_PREFIX = "spark.sql.iceberg.snapshot-property."


def aware(instant: datetime) -> datetime:
    """Give an instant that Spark handed out its zone: it comes in the zone of this process, without saying so."""
    return instant.astimezone(UTC)


def as_properties(said: Mapping[str, str]) -> dict[str, str]:
    """Give the settings by which Spark writes properties into the snapshots of its MERGEs."""
    return {PROPERTY_PREFIX + name: value for name, value in said.items()}


class Store(ABC, Generic[Rows]):
    """Where one call of `apply` reads and writes; `Rows` is what it holds rows in.

    Attributes:
        made: of which snapshots of its inputs each derived table is made; written into every commit.
    """

    def __init__(self, spark: SparkSession, domain: Domain, said: Mapping[str, str]) -> None:
        self.spark, self.domain, self.said = spark, domain, said
        self.made: MadeOf = {}
        self._deleted = {one.silver.name: one.contract.deleted for one in domain.sources if one.contract.deleted}

    @abstractmethod
    def handle(self, table: str) -> Any:  # noqa: ANN401 - the JVM's object
        """Give Iceberg's own object of a merged table, as it was when this call began or was last written by it."""

    @abstractmethod
    def head(self, table: str) -> int:
        """Give the snapshot of a merged table that this call reads or has written; 0 for an empty one."""

    @abstractmethod
    def merge_silver(self, source: Source, accepted: DataFrame, touched: Part, needed: Part, asked: bool) -> Changes:
        """Bring accepted bronze rows into silver where they are new or newer.

        Args:
            source: whose silver.
            accepted: bronze rows.
            touched: the part of silver that they lie in.
            needed: the part of it that derived tables will be made of, as far as that is known before.
            asked: whether somebody reads more of the changes than their spans.
        """

    @abstractmethod
    def touching(self, derived: Derived, near: Spans) -> Touching:
        """Give entity, first and last time of the rows of a derived table that overlap a span."""

    @abstractmethod
    def rows(self, table: Table, part: Part, times: Times | None) -> Rows:
        """Give the rows of a part of a table, without those of silver that say that they are gone.

        Args:
            table: silver, or a derived table.
            part: by columns of the table.
            times: the columns by which spans select the rows.
        """

    @abstractmethod
    def matching(self, matching: Matching, rows: Rows) -> Part:
        """Name the rows of an input that the rows of another one refer to."""

    @abstractmethod
    def make(self, derived: Derived, inputs: Sequence[Rows], part: Part) -> Rows:
        """Compute a derived table's rows of a part from rows of its inputs, once."""

    @abstractmethod
    def extents(self, derived: Derived, rows: Rows) -> Touching:
        """Give entity, first and last time of each of a derived table's rows."""

    @abstractmethod
    def replace(self, derived: Derived, made: Rows, part: Part, asked: bool, is_complete: bool) -> Changes:
        """Bring a part of a derived table to what was made.

        Args:
            derived: the table.
            made: from `make`, of the part or of more.
            part: what is replaced.
            asked: whether somebody reads the changes: they cost a look at the rows as they were.
            is_complete: whether the table is then made of its inputs as they are, so that its commit says so.
        """

    def note_made(self, derived: Derived) -> None:
        """Take note that a derived table is made of its inputs as they are now, also where that took no commit; later commits say so."""
        self.made[derived.table.name] = {reads.table.name: self.head(reads.table.name) for reads in derived.reads}

    def then(self, work: Callable[[], None]) -> None:
        """Do something once all that was written so far is committed."""
        work()

    def settle(self) -> None:
        """Wait until all is committed."""

    def close(self) -> None:
        """Let go of what was held for this call."""

    def _properties(self, complete: Derived | None = None) -> dict[str, str]:
        """Give the properties of a commit; a table that is complete with it is noted first."""
        if complete is not None:
            Store.note_made(self, complete)
        return {**self.said, **to_property(self.made)}


class MergeStore(Store[DataFrame]):
    """Reads the tables and MERGEs into them.

    Args:
        spark: the session.
        domain: whose tables.
        said: properties of every snapshot.
        one_task: whether few rows are expected, so that a second task would cost more than it works.
        is_beside: whether the tables are branches, which nobody reads yet: then nothing is noted of what they are made of.

    Raises:
        OtherEdition: a derived table was made by other rules.
    """

    def __init__(
        self, spark: SparkSession, domain: Domain, said: Mapping[str, str], one_task: bool = False, is_beside: bool = False
    ) -> None:
        super().__init__(spark, domain, said)
        look_before_writing(spark, domain)
        self._one_task, self._is_beside = one_task, is_beside
        self._held: list[DataFrame] = []
        self._handles: dict[str, Any] = {}
        if not is_beside:
            self.made = read_made_of(domain, {table.name: self.handle(table.name) for table in domain.merged})

    def handle(self, table: str) -> Any:  # noqa: ANN401 - the JVM's object
        """Load it once."""
        if table not in self._handles:
            self._handles[table] = iceberg_table(self.spark, table)
        return self._handles[table]

    def head(self, table: str) -> int:
        """Look."""
        return head_of(self.handle(table))

    def merge_silver(self, source: Source, accepted: DataFrame, touched: Part, needed: Part, asked: bool) -> Changes:
        """MERGE the newest of each key."""
        silver = source.silver
        newest = latest_per_key(source.to_silver(self._sized(accepted)), silver, source.contract.version)
        if isinstance(source.kind, ByTime) and isinstance(touched, Spans) and not asked:
            # Rows cannot leave their span. What else they held would cost a look before.
            times = source.kind.times
            self._write(silver, lambda: merge_newer(newest, source, bounds_of(touched, silver, times)))
            return ChangedSpans(touched, times)
        changed = self._changed(source, newest, touched)
        bounds = self._key_bounds(source, changed)
        if bounds is None:
            return NoChanges()
        self._write(silver, lambda: merge_newer(changed.select("new.*"), source, bounds))
        before = changed.where("old IS NOT NULL").select("old.*")
        return ChangedFrame(changed.select("new.*").unionByName(before))

    def touching(self, derived: Derived, near: Spans) -> Touching:
        """Collect them."""
        return self.extents(derived, only_in(self.spark.table(derived.table.name), near, derived.times))

    def rows(self, table: Table, part: Part, times: Times | None) -> DataFrame:
        """Plan a scan of them."""
        return self._sized(only_in(self._live(table), part, times))

    def matching(self, matching: Matching, rows: DataFrame) -> Part:
        """Ask Spark for the values."""
        columns = list(matching.names)
        found = rows.select(*columns).distinct().limit(MOST_KEYS + 1).toArrow()
        return Keys.of(list(matching.names.values()), distinct(found, columns))

    def make(self, derived: Derived, inputs: Sequence[DataFrame], part: Part) -> DataFrame:
        """Plan it, kept once it was computed."""
        made = only_in(derived.to_rows(*inputs), part, derived.times).persist()
        self._held.append(made)
        return made

    def extents(self, derived: Derived, rows: DataFrame) -> Touching:
        """Compute the rows, and collect them."""
        assert derived.times is not None  # asked of tables that are kept by time
        names = [derived.times.entity, derived.times.starts, derived.times.last]
        return [(row[0], aware(row[1]), aware(row[2])) for row in rows.select(*names).collect()]

    def replace(self, derived: Derived, made: DataFrame, part: Part, asked: bool, is_complete: bool) -> Changes:
        """MERGE them."""
        table, rows = derived.table, only_in(made, part, derived.times)
        changes: Changes = WholeChanged()
        if asked:
            names = list(table.names)
            before = only_in(self.spark.table(table.name), part, derived.times).select(*names)
            after = rows.select(*names)
            gone = (
                before.exceptAll(after) if derived.is_replaced else before.join(after, on=list(table.key), how="left_semi").exceptAll(after)
            )
            differing = _apart(after.exceptAll(before).unionByName(gone.select(*names)))
            if differing.isEmpty():
                return NoChanges()
            changes = ChangedFrame(differing)
        complete = derived if is_complete else None
        self._write(table, lambda: merge_part(rows, table, part, derived.times, derived.is_replaced), complete)
        return changes

    def close(self) -> None:
        """Drop what `make` kept."""
        for rows in self._held:
            rows.unpersist()

    def _write(self, table: Table, merge: Callable[[], None], complete: Derived | None = None) -> None:
        with session_conf(self.spark, as_properties(self.said if self._is_beside else self._properties(complete))):
            merge()
        self._handles.pop(table.name, None)

    def _live(self, table: Table) -> DataFrame:
        rows, deleted = self.spark.table(table.name), self._deleted.get(table.name)
        return rows.where(f"{deleted} IS NOT TRUE") if deleted else rows

    def _changed(self, source: Source, newest: DataFrame, touched: Part) -> DataFrame:
        """Give the rows that silver will get, each beside the one that it replaces, null where there is none."""
        names = list(source.silver.names)
        on = " AND ".join(f"s.{name} = t.{name}" for name in source.silver.key)
        times = source.kind.times if isinstance(source.kind, ByTime) else None
        present = only_in(self.spark.table(source.silver.name).select(*names), touched, times).alias("t")
        joined = newest.select(*names).alias("s").join(present, on=F.expr(on), how="left")
        is_new = f"t.{source.silver.key[0]} IS NULL"
        old = f"CASE WHEN {is_new} THEN NULL ELSE struct({', '.join(f't.{name}' for name in names)}) END AS old"
        changed = joined.where(f"{is_new} OR {is_newer(source, 's', 't')}").selectExpr(
            f"struct({', '.join(f's.{name}' for name in names)}) AS new", old
        )
        return _apart(changed)

    def _key_bounds(self, source: Source, changed: DataFrame) -> str | None:
        """Bound a MERGE by the first column of the key; None where nothing changed."""
        name = source.silver.key[0]
        row = changed.agg(F.min(f"new.{name}").alias("least"), F.max(f"new.{name}").alias("most")).toArrow().to_pylist()[0]
        if row["least"] is None:
            return None
        return f"t.{name} BETWEEN {literal(row['least'])} AND {literal(row['most'])}"

    def _sized(self, rows: DataFrame) -> DataFrame:
        return rows.coalesce(1) if self._one_task else rows


def _apart(rows: DataFrame) -> DataFrame:
    """Compute rows now, and keep them apart from the tables they were read from.

    Not by `persist`: Spark computes kept rows again once a table they were read from is written.
    """
    return rows.localCheckpoint(eager=True)


class Memory:
    """What a stream remembers of its domain's tables from one micro-batch to the next; one micro-batch at a time uses it.

    Args:
        domain: whose tables.
        looks_ahead: whether the next calls will reach a little further than the last: more is read at once then.
    """

    def __init__(self, domain: Domain, looks_ahead: bool = True) -> None:
        # Commits one after the other, while the next table is computed: most of a commit is waiting for files and the catalog.
        self._committer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="weir-commit")
        self._calls = 0
        self.tables: dict[str, TableRows] = {}
        for table in domain.merged:
            kind = domain.kinds[table.name]
            self.tables[table.name] = RecentRows(table, kind.times, looks_ahead) if isinstance(kind, ByTime) else TableRows(table)
        self._made: MadeOf | None = None
        self._heads: dict[str, int | None] = {}

    @property
    def calls(self) -> int:
        """How many micro-batches were written from here."""
        return self._calls

    @contextmanager
    def store(self, spark: SparkSession, domain: Domain, said: Mapping[str, str]) -> Iterator["MemoryStore"]:
        """Give a store for one call of `apply`, which looks at every table as it is now.

        Derived tables before silver: who writes both beside the stream writes silver first, so a derived table made of an older silver
        than the one seen here is refused at its commit. After an error nobody knows how far it went, and nothing is remembered.

        Args:
            spark: the session.
            domain: whose tables, as it is now.
            said: properties of every snapshot.

        Raises:
            NotFromMemory: one of the tables, or so many rows, must be written by MERGE; also raised out of the block.
            OtherEdition: a derived table was made by other rules.
        """
        try:
            self._begin(spark)
            if look_before_writing(spark, domain, lambda name: self.tables[name].handle.properties()):
                self._begin(spark)
            if self._made is None or self._heads != self._seen():
                self._made = read_made_of(domain, {name: rows.handle for name, rows in self.tables.items()})
            store = MemoryStore(spark, domain, self.tables, said, self._committer, self._made)
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
    """Computes from the rows in memory, and writes those that differ by row deltas.

    Args:
        spark: the session.
        domain: whose tables.
        tables: the rows at hand by table.
        said: properties of every snapshot.
        committer: its one thread commits.
        made: of which snapshots each derived table is made; kept up to date.
    """

    def __init__(
        self,
        spark: SparkSession,
        domain: Domain,
        tables: Mapping[str, TableRows],
        said: Mapping[str, str],
        committer: Executor,
        made: MadeOf,
    ) -> None:
        super().__init__(spark, domain, said)
        self._tables, self._committer, self.made = tables, committer, made
        self._waiting: list[Future[None]] = []
        self._failed = False

    def handle(self, table: str) -> Any:  # noqa: ANN401 - the JVM's object
        """Give the one at hand."""
        return self._tables[table].handle

    def head(self, table: str) -> int:
        """Give what is known; after a commit of another writer in between nothing is, so that all since then is owed."""
        return self._tables[table].snapshot or 0

    def merge_silver(self, source: Source, accepted: DataFrame, touched: Part, needed: Part, asked: bool) -> Changes:
        """Compute the newest of each key from the rows at hand too, and write those that differ."""
        silver = self._tables[source.silver.name]
        if isinstance(touched, Spans) and isinstance(needed, Spans):
            silver.have(self.spark, needed.joined(touched.rows))  # one read for what is merged into and for what gold is made of
        at_hand = silver.read(self.spark, touched)
        present = self._frame(at_hand.select(list(source.silver.names)))
        both = source.to_silver(accepted).unionByName(present).coalesce(1)
        newest = fetch(latest_per_key(both, source.silver, source.contract.version))
        come, gone = silver.replace(self.spark, newest, touched, self._properties, self.then, present=at_hand)
        return ChangedRows(gone, come)

    def touching(self, derived: Derived, near: Spans) -> Touching:
        """Look them up."""
        return self.extents(derived, self._read(derived.table, near, derived.times))

    def rows(self, table: Table, part: Part, times: Times | None) -> pa.Table:
        """Look them up."""
        found, deleted = self._read(table, part, times), self._deleted.get(table.name)
        return found.filter(pc.invert(pc.fill_null(found[deleted], False))) if deleted else found

    def matching(self, matching: Matching, rows: pa.Table) -> Part:
        """Look at the rows."""
        return Keys.of(list(matching.names.values()), distinct(rows, list(matching.names)))

    def make(self, derived: Derived, inputs: Sequence[pa.Table], part: Part) -> pa.Table:
        """Compute it at once."""
        frames = [self._frame(rows.select(list(reads.table.names))) for reads, rows in zip(derived.reads, inputs, strict=True)]
        made = derived.to_rows(*frames)
        if isinstance(part, Spans):
            return self._within(derived, fetch(made), part)
        return fetch(only_in(made, part))

    def extents(self, derived: Derived, rows: pa.Table) -> Touching:
        """Look at the rows."""
        assert derived.times is not None  # asked of tables that are kept by time
        return list(extents(rows, derived.times))

    def replace(self, derived: Derived, made: pa.Table, part: Part, asked: bool, is_complete: bool) -> Changes:
        """Have those that differ written while the next table is computed, unless somebody asks what changed."""
        table = self._tables[derived.table.name]
        rows = self._within(derived, made, part) if isinstance(part, Spans) else made
        complete = derived if is_complete else None

        def said() -> dict[str, str]:
            return self._properties(complete)  # asked in the committer's thread, when its inputs are committed

        if asked:
            self._settle_if_waiting(derived.table)
            come, gone = table.replace(self.spark, rows, part, said, self.then, vanishing=derived.is_replaced)
            return ChangedRows(gone, come)
        table.have(self.spark, part)  # a job of Spark's, if any, is the micro-batch's own thread's
        present = None if isinstance(part, Spans) else self._read(derived.table, part, None)

        def write() -> None:
            table.replace(self.spark, rows, part, said, lambda commit: commit(), vanishing=derived.is_replaced, present=present)

        self.then(write)
        return NoChanges()

    def note_made(self, derived: Derived) -> None:
        """Note it once the commits before it are done: until then the snapshots of its inputs are not known."""
        self.then(lambda: Store.note_made(self, derived))

    def then(self, work: Callable[[], None]) -> None:
        """Have it done after what waits already, unless that fails."""
        self._waiting.append(self._committer.submit(self._do, work))

    def settle(self) -> None:
        """Wait for all; raises what one of them raised."""
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
        except NotFromMemory:
            if not rows.waits:
                raise
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

    def _within(self, derived: Derived, rows: pa.Table, part: Spans) -> pa.Table:
        assert derived.times is not None  # only such tables have parts in time
        return rows_in(rows, part, derived.times)

    def _frame(self, rows: pa.Table) -> DataFrame:
        return self.spark.createDataFrame(rows).coalesce(1)
