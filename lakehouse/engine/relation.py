"""In which words is a transform written? As operations on relations, whose texts are SQL that Spark and DuckDB both read.

A transform takes and returns relations. `on_spark.py` makes a DataFrame of it, for large passes and for the cluster; `on_duckdb.py` makes
one query of it, over rows in memory. Which of the two computes never changes a result: `tests/spark/test_both_engines.py` compares every
transform of every domain, column by column, exactly.

What to write, so that a text means the same in both: `functions.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, Self

How = Literal["inner", "left"]


class Relation(ABC):
    """Rows of named columns, not computed yet."""

    @abstractmethod
    def select(self, *columns: str) -> Self:
        """Compute columns: names, `*`, or SQL expressions with `AS name`. An expression cannot use a name given beside it."""

    @abstractmethod
    def where(self, condition: str) -> Self:
        """Keep the rows for which a SQL condition is true."""

    @abstractmethod
    def group(self, by: Sequence[str], *aggregates: str) -> Self:
        """Fold the rows with equal values of columns into one: these columns, and SQL aggregates with `AS name`.

        Without columns all rows become one, and no row becomes one too.
        """

    @abstractmethod
    def join(self, other: Self, on: Sequence[str], how: How = "inner") -> Self:
        """Join rows with equal, non-null values of columns; these columns come once, and no other name may be in both."""

    @abstractmethod
    def union(self, other: Self) -> Self:
        """Append the rows of a relation with the same column names, in any order."""


Transform = Callable[..., Relation]
