"""What computes the rows of a table from rows in memory? One of two engines, which give the same rows: DuckDB or Spark."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import pyarrow as pa

from lakehouse.engine.relation import Transform
from lakehouse.tables.schema import Table

# Rows that an engine takes at once where nothing limits its memory.
MOST_ROWS = 1_000_000


class DoesNotFit(Exception):
    """There are too many rows for the driver's memory, which shows only when they are read; Spark computes them from the tables."""


class Engine(ABC):
    """Computes transforms of Arrow tables. All instants are in UTC.

    Attributes:
        most_rows: of a micro-batch, or of one table that a micro-batch reaches. More are left to Spark.
    """

    most_rows: int = MOST_ROWS

    @property
    @abstractmethod
    def name(self) -> str:
        """As it stands in snapshots and metrics."""

    @abstractmethod
    def compute(self, transform: Transform, inputs: Sequence[pa.Table], table: Table) -> pa.Table:
        """Compute the rows of a table, in any order.

        Args:
            transform: of as many relations as there are inputs.
            inputs: their rows.
            table: whose columns the transform returns.

        Raises:
            DoesNotFit: there are too many.
        """

    @abstractmethod
    def newest(self, transform: Transform, rows: pa.Table, present: pa.Table, table: Table, version: str) -> pa.Table:
        """Compute the newest row of each key among transformed rows and present ones, in any order; see `newest.py`.

        Args:
            transform: of one relation.
            rows: what it is applied to.
            present: rows of the table, which may have more columns.
            table: with a key.
            version: the column that orders versions.

        Raises:
            DoesNotFit: there are too many.
        """
