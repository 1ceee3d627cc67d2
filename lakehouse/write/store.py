"""How does `apply` read and write a domain's tables? `apply` says what is computed and in which order; a store reads and writes the rows.

Two stores do the same: `merge_store.py` uses Spark's MERGE, for any number of rows; `small_batches/memory_store.py` works in memory, for a
few. The transforms run in Spark in both. Every write returns the rows that changed, before and after.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from pyspark.sql import DataFrame, SparkSession

from lakehouse.changes import Changes
from lakehouse.domain import Derived, Domain, Matching, Source
from lakehouse.parts import Part
from lakehouse.pending import ComputedFrom, to_property
from lakehouse.spans import Spans, Times
from lakehouse.tables.schema import Table

Rows = TypeVar("Rows")
Touching = list[tuple[Any, datetime, datetime]]

PROPERTY_PREFIX = "spark.sql.iceberg.snapshot-property."


def aware(instant: datetime) -> datetime:
    """Give an instant that Spark handed out its zone: it comes in the zone of this process, without saying so."""
    return instant.astimezone(UTC)


def as_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """Give the settings by which Spark writes properties into the snapshots of its MERGEs."""
    return {PROPERTY_PREFIX + name: value for name, value in properties.items()}


class Store(ABC, Generic[Rows]):
    """Where one call of `apply` reads and writes; `Rows` is what it holds rows in.

    Attributes:
        made: of which snapshots of its inputs each derived table is made; written into every commit.
    """

    def __init__(self, spark: SparkSession, domain: Domain, properties: Mapping[str, str]) -> None:
        self.spark, self.domain, self.properties = spark, domain, properties
        self.made: ComputedFrom = {}
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

    def note_computed(self, derived: Derived) -> None:
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
            Store.note_computed(self, complete)
        return {**self.properties, **to_property(self.made)}
