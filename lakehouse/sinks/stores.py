"""How does `apply` read and write silver and gold? By Spark's MERGE for any number of rows, from memory for a few.

Both do the same: `apply` says what is computed and in which order, a store where rows come from and how they get in. A domain's
transforms are Spark's in both.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Generic, TypeVar

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from lakehouse.domain import Domain, Gold
from lakehouse.sinks.merge import latest_per_key, merge_newer, merge_whole, only_in
from lakehouse.sinks.publishing import look_before_writing
from lakehouse.sinks.recent import RecentRows, fetch, rows_in
from lakehouse.spans import Spans

Rows = TypeVar("Rows")
Touching = list[tuple[str, datetime, datetime]]


def aware(instant: datetime) -> datetime:
    """Give an instant that Spark handed out its zone: it comes in the zone of this process, without saying so."""
    return instant.astimezone(UTC)


class Store(ABC, Generic[Rows]):
    """Where one call of `apply` reads and writes; `Rows` is what it holds rows in."""

    def __init__(self, spark: SparkSession, domain: Domain) -> None:
        self.spark, self.domain = spark, domain

    @abstractmethod
    def merge_silver(self, accepted: DataFrame, touched: Spans, needed: Spans) -> None:
        """Bring accepted bronze rows into silver where they are new or newer.

        Args:
            accepted: bronze rows.
            touched: the spans they lie in.
            needed: the spans of silver that gold will be made of.
        """

    @abstractmethod
    def touching(self, gold: Gold, near: Spans) -> Touching:
        """Give entity, first and last time of the rows of a gold table that overlap a span."""

    @abstractmethod
    def silver(self, span: Spans) -> Rows:
        """Give silver's rows in a span."""

    @abstractmethod
    def make(self, gold: Gold, rows: Rows, span: Spans) -> Rows:
        """Compute a gold table's rows in a span from rows of its source, once."""

    @abstractmethod
    def extents(self, gold: Gold, rows: Rows) -> Touching:
        """Give entity, first and last time of each of a gold table's rows."""

    @abstractmethod
    def replace(self, gold: Gold, made: Rows, span: Spans) -> None:
        """Bring a span of a gold table to what was made."""

    def then(self, work: Callable[[], None]) -> None:
        """Do something once all that was written so far is committed."""
        work()

    def settle(self) -> None:
        """Wait until all is committed."""

    def close(self) -> None:
        """Let go of what was held for this call."""


class MergeStore(Store[DataFrame]):
    """Reads the tables and MERGEs into them.

    Args:
        spark: the session; the properties of the snapshots are set in it.
        domain: whose tables.
        one_task: whether few rows are expected, so that a second task would cost more than it works.

    Raises:
        OtherEdition: gold was made by other rules.
    """

    def __init__(self, spark: SparkSession, domain: Domain, one_task: bool = False) -> None:
        super().__init__(spark, domain)
        look_before_writing(spark, domain)
        self._one_task = one_task
        self._held: list[DataFrame] = []

    def merge_silver(self, accepted: DataFrame, touched: Spans, needed: Spans) -> None:
        """MERGE the newest of each key."""
        rows = self.domain.to_silver(self._sized(accepted))
        merge_newer(latest_per_key(rows, self.domain.silver, self.domain.contract.version), self.domain, touched)

    def touching(self, gold: Gold, near: Spans) -> Touching:
        """Collect them."""
        return self.extents(gold, only_in(self.spark.table(gold.table.name), near, self.domain.entity, gold.starts, gold.ends))

    def silver(self, span: Spans) -> DataFrame:
        """Plan a scan of them."""
        return self._sized(only_in(self.spark.table(self.domain.silver.name), span, self.domain.entity, self.domain.event_time))

    def make(self, gold: Gold, rows: DataFrame, span: Spans) -> DataFrame:
        """Plan it, kept once it was computed."""
        made = only_in(gold.to_rows(rows), span, self.domain.entity, gold.starts, gold.ends).persist()
        self._held.append(made)
        return made

    def extents(self, gold: Gold, rows: DataFrame) -> Touching:
        """Compute the rows, and collect them."""
        return [(row[0], aware(row[1]), aware(row[2])) for row in rows.select(self.domain.entity, gold.starts, gold.ends).collect()]

    def replace(self, gold: Gold, made: DataFrame, span: Spans) -> None:
        """MERGE them."""
        merge_whole(only_in(made, span, self.domain.entity, gold.starts, gold.ends), gold, self.domain.entity, span)

    def close(self) -> None:
        """Drop what `make` kept."""
        for rows in self._held:
            rows.unpersist()

    def _sized(self, rows: DataFrame) -> DataFrame:
        return rows.coalesce(1) if self._one_task else rows


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
        tables = [(gold.table, gold.starts, gold.ends) for gold in domain.gold] + [(domain.silver, domain.event_time, "")]
        self.tables = {table.name: RecentRows(table, domain.entity, starts, ends, looks_ahead) for table, starts, ends in tables}

    @property
    def calls(self) -> int:
        """How many micro-batches were written from here."""
        return self._calls

    @contextmanager
    def store(self, spark: SparkSession, domain: Domain, said: Mapping[str, str]) -> Iterator["MemoryStore"]:
        """Give a store for one call of `apply`, which looks at every table as it is now.

        Gold before silver: who writes both beside the stream writes silver first, so gold made of an older silver than the one
        seen here is refused at its commit. After an error nobody knows how far it went, and nothing is remembered.

        Args:
            spark: the session.
            domain: whose tables, as it is now.
            said: properties of every snapshot.

        Raises:
            NotFromMemory: one of the tables, or so many rows, must be written by MERGE; also raised out of the block.
            OtherEdition: gold was made by other rules.
        """
        try:
            self._begin(spark)
            if look_before_writing(spark, domain, lambda name: self.tables[name].properties):
                self._begin(spark)
            store = MemoryStore(spark, domain, self.tables, said, self._committer)
            try:
                yield store
            finally:
                store.close()
            self._calls += 1
        except BaseException:
            for rows in self.tables.values():
                rows.forget()
            raise

    def _begin(self, spark: SparkSession) -> None:
        for rows in self.tables.values():
            rows.begin(spark)


class MemoryStore(Store[pa.Table]):
    """Computes from the rows in memory, and writes those that differ by row deltas.

    Args:
        spark: the session.
        domain: whose tables.
        tables: the rows at hand by table.
        said: properties of every snapshot.
        committer: its one thread commits.
    """

    def __init__(
        self,
        spark: SparkSession,
        domain: Domain,
        tables: Mapping[str, RecentRows],
        said: Mapping[str, str],
        committer: Executor,
    ) -> None:
        super().__init__(spark, domain)
        self._tables, self._said, self._committer = tables, said, committer
        self._waiting: list[Future[None]] = []
        self._failed = False

    def merge_silver(self, accepted: DataFrame, touched: Spans, needed: Spans) -> None:
        """Compute the newest of each key from the rows at hand too, and write those that differ."""
        domain = self.domain
        silver = self._tables[domain.silver.name]
        silver.read(self.spark, needed.joined(touched.rows))  # one read for what is merged into and for what gold is made of
        present = self._frame(silver.read(self.spark, touched).select(list(domain.silver.names)))
        both = domain.to_silver(accepted).unionByName(present).coalesce(1)
        newest = fetch(latest_per_key(both, domain.silver, domain.contract.version))
        silver.replace(self.spark, newest, touched, self._said, self.then)

    def touching(self, gold: Gold, near: Spans) -> Touching:
        """Look them up."""
        return self.extents(gold, self._tables[gold.table.name].read(self.spark, near))

    def silver(self, span: Spans) -> pa.Table:
        """Look them up."""
        return self._tables[self.domain.silver.name].read(self.spark, span)

    def make(self, gold: Gold, rows: pa.Table, span: Spans) -> pa.Table:
        """Compute it at once."""
        made = fetch(gold.to_rows(self._frame(rows.select(list(gold.source.names)))))
        return self._within(gold, made, span)

    def extents(self, gold: Gold, rows: pa.Table) -> Touching:
        """Look at the rows."""
        columns = rows.select([self.domain.entity, gold.starts, gold.ends]).columns
        return [(entity, start, end) for entity, start, end in zip(*(column.to_pylist() for column in columns), strict=True)]

    def replace(self, gold: Gold, made: pa.Table, span: Spans) -> None:
        """Have those that differ written while the next table is computed: nobody reads them again in this call."""
        table, rows = self._tables[gold.table.name], self._within(gold, made, span)
        table.have(self.spark, span)  # a job of Spark's, if any, is the micro-batch's own thread's

        def write() -> None:
            table.replace(self.spark, rows, span, self._said, lambda commit: commit(), vanishing=gold.grows is not None or gold.vanishes)

        self.then(write)

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
        """Let what runs end, and what has not begun be."""
        self._failed = True
        wait(self._waiting)

    def _do(self, work: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            work()
        except BaseException:
            self._failed = True
            raise

    def _within(self, gold: Gold, rows: pa.Table, span: Spans) -> pa.Table:
        return rows_in(rows, span, self.domain.entity, gold.starts, gold.ends or gold.starts)

    def _frame(self, rows: pa.Table) -> DataFrame:
        return self.spark.createDataFrame(rows).coalesce(1)
