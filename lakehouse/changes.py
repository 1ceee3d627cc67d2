"""Which rows of a table did a write change? Those as they were before, and as they are now: a derived table reaches from both.

A row that moves from one group to another changes both groups, so what came in is not enough to know.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.parts import MOST_KEYS, WHOLE, Keys
from lakehouse.spans import Spans, Times


class Changes(ABC):
    """The rows that changed, before and after, asked for the parts that they lie in."""

    @abstractmethod
    def spans(self, times: Times) -> Spans | Keys:
        """Give the spans of the rows; every row where that cannot be said."""

    @abstractmethod
    def keys(self, names: Mapping[str, str]) -> Keys:
        """Give the values of the rows' columns.

        Args:
            names: the column of the changed table by the name under which its values are given.
        """


class NoChanges(Changes):
    """Nothing changed."""

    def spans(self, times: Times) -> Spans | Keys:
        """None."""
        return Spans(())

    def keys(self, names: Mapping[str, str]) -> Keys:
        """None."""
        return Keys()


class WholeChanged(Changes):
    """Nobody knows what changed: all of it may have."""

    def spans(self, times: Times) -> Spans | Keys:
        """Every row."""
        return WHOLE

    def keys(self, names: Mapping[str, str]) -> Keys:
        """Every row."""
        return WHOLE


class ChangedSpans(Changes):
    """Rows that lay, and lie, in some spans; which of them changed is not known, nor what else they hold.

    For tables whose key has the entity and the time, so that a row cannot leave its span.
    """

    def __init__(self, changed: Spans, times: Times) -> None:
        self._changed, self._times = changed, times

    def spans(self, times: Times) -> Spans | Keys:
        """Give the spans, if these are the columns by which they are known."""
        return self._changed if times == self._times or not self._changed else WHOLE

    def keys(self, names: Mapping[str, str]) -> Keys:
        """Give the entities, if nothing else is asked for."""
        if list(names.values()) == [self._times.entity]:
            return Keys.of(list(names), [(entity,) for entity in self._changed.entities])
        return WHOLE if self._changed else Keys()


class ChangedRows(Changes):
    """Rows in memory.

    Args:
        tables: rows before the write, and rows after it.
    """

    def __init__(self, *tables: pa.Table) -> None:
        self._tables = [rows for rows in tables if rows.num_rows]

    def spans(self, times: Times) -> Spans | Keys:
        """Look at the rows."""
        return Spans.of(row for rows in self._tables for row in extents(rows, times))

    def keys(self, names: Mapping[str, str]) -> Keys:
        """Look at the rows."""
        found: set[tuple[Any, ...]] = set()
        for rows in self._tables:
            found |= distinct(rows, list(names.values()))
        return Keys.of(list(names), found)


class ChangedFrame(Changes):
    """Rows of a plan of Spark's, which is computed once for every question: keep it before.

    Args:
        rows: before and after, of the table's columns.
    """

    def __init__(self, rows: DataFrame) -> None:
        self._rows = rows

    def spans(self, times: Times) -> Spans | Keys:
        """Ask Spark, by entity and day."""
        rows = self._rows.selectExpr(f"{times.entity} AS entity", f"{times.starts} AS starts", f"{times.last} AS ends")
        grouped = rows.where("starts IS NOT NULL AND entity IS NOT NULL").groupBy("entity", F.to_date("starts"))
        days = grouped.agg(F.min("starts").alias("first"), F.max("ends").alias("last")).limit(MOST_KEYS + 1).toArrow()
        if days.num_rows > MOST_KEYS:
            return WHOLE
        return Spans.of(extents(days, Times("entity", "first", "last")))

    def keys(self, names: Mapping[str, str]) -> Keys:
        """Ask Spark."""
        found = self._rows.select(*names.values()).distinct().limit(MOST_KEYS + 1).toArrow()
        return Keys.of(list(names), distinct(found, list(names.values())))


def extents(rows: pa.Table, times: Times) -> Iterator[tuple[Any, datetime, datetime]]:
    """Give entity, first and last instant of each row that has them; a date is its first instant."""
    columns = [rows[times.entity], *(_instants(rows[name]) for name in (times.starts, times.last))]
    for entity, start, end in zip(*(column.to_pylist() for column in columns), strict=True):
        if entity is not None and start is not None:
            yield entity, start, start if end is None else end


def distinct(rows: pa.Table, columns: Sequence[str]) -> set[tuple[Any, ...]]:
    """Give the distinct values of some columns; instants in UTC."""
    chosen = rows.select(list(dict.fromkeys(columns)))
    grouped = chosen.group_by(chosen.column_names, use_threads=False).aggregate([])
    return {tuple(_utc(row[name]) for name in columns) for row in grouped.to_pylist()}


def _instants(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.assume_timezone(column.cast(pa.timestamp("us")), "UTC") if pa.types.is_date(column.type) else column


def _utc(value: Any) -> Any:  # noqa: ANN401 - any value of a column
    return value.astimezone(UTC) if isinstance(value, datetime) else value
