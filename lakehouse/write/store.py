"""How does `apply` read and write a domain's tables? `apply` says what is computed and in which order; a store reads and writes the rows.

Two stores do the same: `merge_store.py` uses Spark's MERGE, for any number of rows; `small_batches/memory_store.py` works in memory, for a
few. Every write returns the rows that changed, before and after.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import pyarrow as pa
from pyspark.sql import SparkSession

from lakehouse.changes import Changes
from lakehouse.domain import Derived, Domain, Matching, Reads, Source
from lakehouse.must_hold import check_rows
from lakehouse.parts import Part
from lakehouse.pending import ComputedFrom, to_property
from lakehouse.spans import Spans
from lakehouse.tables.properties import ENGINE_PROPERTY, run_of

Rows = TypeVar("Rows")
Touching = list[tuple[Any, datetime, datetime]]

PROPERTY_PREFIX = "spark.sql.iceberg.snapshot-property."


def aware(instant: datetime) -> datetime:
    """Add the zone to an instant from Spark, which is in this process's zone and does not say so."""
    return instant.astimezone(UTC)


def as_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the session settings by which Spark writes properties into the snapshots of its MERGEs."""
    return {PROPERTY_PREFIX + name: value for name, value in properties.items()}


class Store(ABC, Generic[Rows]):
    """Reads and writes tables for one call of `apply`; `Rows` is the type in which it holds rows.

    Attributes:
        properties: of every snapshot; the engine's name is added.
        engine_name: what computes the rows.
        run: the name of the run, for tables that have a column of it.
        made: from which snapshots of its inputs each derived table was computed; written into every commit.
    """

    def __init__(self, spark: SparkSession, domain: Domain, properties: Mapping[str, str], engine_name: str) -> None:
        self.spark, self.domain, self.engine_name = spark, domain, engine_name
        self.properties = {**properties, ENGINE_PROPERTY: engine_name}
        self.run = run_of(properties)
        self.made: ComputedFrom = {}
        self._marks = {one.silver.name: one.contract.deleted for one in domain.sources if one.contract.deleted}

    @abstractmethod
    def handle(self, table: str) -> Any:  # noqa: ANN401 - the JVM's object
        """Return Iceberg's object of a merged table, as of the start of this call or its last write."""

    @abstractmethod
    def head(self, table: str) -> int:
        """Return the id of the snapshot of a merged table that this call reads or has written; 0 for an empty table."""

    @abstractmethod
    def held(self, rows: pa.Table) -> Rows:
        """Return rows in memory as this store holds them."""

    @abstractmethod
    def merge_silver(self, source: Source, accepted: Rows, touched: Part, needed: Part, asked: bool) -> Changes:
        """Write accepted bronze rows into silver where they are new or newer.

        Args:
            source: whose silver.
            accepted: bronze rows.
            touched: the part of silver that they lie in.
            needed: the part of silver from which derived tables will be computed, as far as it is known in advance.
            asked: whether the caller needs more of the changes than their spans.
        """

    @abstractmethod
    def touching(self, derived: Derived, near: Spans) -> Touching:
        """Return entity, first and last time of the rows of a derived table that overlap a span."""

    @abstractmethod
    def rows(self, reads: Reads, part: Part) -> Rows:
        """Return the rows of a part of an input; deleted rows of silver only where it is read with them.

        Args:
            reads: silver, or a derived table, as a derived table reads it.
            part: described by columns of the table.
        """

    @abstractmethod
    def matching(self, matching: Matching, rows: Rows) -> Part:
        """Return the part of an input to which rows of another input refer."""

    @abstractmethod
    def make(self, derived: Derived, inputs: Sequence[Rows], part: Part) -> Rows:
        """Compute a derived table's rows of a part from rows of its inputs; they are computed once."""

    def check(self, derived: Derived, made: Rows) -> None:
        """Check what must hold for the rows from `make`.

        Raises:
            RowsBreakCheck: it does not.
        """
        check_rows(derived, lambda condition, count: self.some_where(derived, made, condition, count))

    @abstractmethod
    def some_where(self, derived: Derived, made: Rows, condition: str, count: int) -> list[dict[str, Any]]:
        """Return a few of the rows from `make` for which a SQL condition is true."""

    @abstractmethod
    def extents(self, derived: Derived, rows: Rows) -> Touching:
        """Return entity, first and last time of each row of a derived table."""

    @abstractmethod
    def replace(self, derived: Derived, made: Rows, part: Part, asked: bool, is_complete: bool) -> Changes:
        """Replace a part of a derived table by recomputed rows.

        Args:
            derived: the table.
            made: from `make`, of the part or of more.
            part: what is replaced.
            asked: whether the caller needs the changes; finding them means reading the old rows.
            is_complete: whether nothing is pending for the table afterwards, so that its commit notes the snapshots of its inputs.
        """

    def _mark(self, reads: Reads) -> str | None:
        """Return the column that marks the rows of an input that are left out; None where there are none."""
        return None if reads.with_deleted else self._marks.get(reads.table.name)

    def note_computed(self, derived: Derived) -> None:
        """Note that a derived table is up to date with its inputs, also without a commit of its own; later commits write the note."""
        self.made[derived.table.name] = {reads.table.name: self.head(reads.table.name) for reads in derived.reads}

    def then(self, work: Callable[[], None]) -> None:
        """Run something after all earlier writes are committed."""
        work()

    def settle(self) -> None:
        """Wait until all writes are committed."""

    def close(self) -> None:
        """Release what was held for this call."""

    def _properties(self, complete: Derived | None = None) -> dict[str, str]:
        """Return the properties of a commit; a table that it completes is noted first."""
        if complete is not None:
            Store.note_computed(self, complete)
        return {**self.properties, **to_property(self.made)}
