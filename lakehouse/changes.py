"""Which rows of a table did a write change? Each row as it was before and as it is now, since both decide what must be recomputed.

A row that moves from one group to another changes both groups, so the incoming rows alone are not enough.
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
    """The rows that changed, before and after. They are asked which parts of a table they lie in."""

    @abstractmethod
    def spans(self, times: Times) -> Spans | Keys:
        """Return the spans of the rows; the whole table where they are unknown."""

    @abstractmethod
    def keys(self, names: Mapping[str, str]) -> Keys:
        """Return the distinct values of columns of the rows.

        Args:
            names: {name in the result: column of the changed table}.
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
    """Any row may have changed."""

    def spans(self, times: Times) -> Spans | Keys:
        """Every row."""
        return WHOLE

    def keys(self, names: Mapping[str, str]) -> Keys:
        """Every row."""
        return WHOLE


class ChangedSpans(Changes):
    """Any rows within some spans; which of them changed is unknown, and so are their other columns.

    For tables whose key has the entity and the time, so that a row cannot leave its span.
    """

    def __init__(self, changed: Spans, times: Times) -> None:
        self._changed, self._times = changed, times

    def spans(self, times: Times) -> Spans | Keys:
        """Return the spans, if they are of the same columns."""
        return self._changed if times == self._times or not self._changed else WHOLE

    def keys(self, names: Mapping[str, str]) -> Keys:
        """Return the entities, if no other column is wanted."""
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
    """Rows of a Spark plan. Each question computes the plan once more, so persist it where it is expensive.

    Args:
        rows: before and after, with the table's columns.
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
    """Yield entity, first and last instant of each row that has them. A date counts as its midnight in UTC."""
    columns = [rows[times.entity], *(_instants(rows[name]) for name in (times.starts, times.last))]
    for entity, start, end in zip(*(column.to_pylist() for column in columns), strict=True):
        if entity is not None and start is not None:
            yield entity, start, start if end is None else end


def distinct(rows: pa.Table, columns: Sequence[str]) -> set[tuple[Any, ...]]:
    """Return the distinct values of some columns, instants in UTC."""
    chosen = rows.select(list(dict.fromkeys(columns)))
    grouped = chosen.group_by(chosen.column_names, use_threads=False).aggregate([])
    return {tuple(_utc(row[name]) for name in columns) for row in grouped.to_pylist()}


def _instants(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.assume_timezone(column.cast(pa.timestamp("us")), "UTC") if pa.types.is_date(column.type) else column


def _utc(value: Any) -> Any:  # noqa: ANN401 - any value of a column
    return value.astimezone(UTC) if isinstance(value, datetime) else value
