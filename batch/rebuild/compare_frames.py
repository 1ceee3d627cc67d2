"""How do two sets of rows in Spark differ? They are compared by `compare.py`, in ranges of days if there are many rows."""

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from batch.compare import Comparison, compare, total
from lakehouse.tables.schema import Table

# The rows of one comparison are in memory.
MOST_ROWS = 1_000_000


def compare_frames(table: Table, found: DataFrame, expected: DataFrame, starts: str = "") -> Comparison:
    """Compare rows by key.

    Args:
        table: the rows' table.
        found: the rows as they are.
        expected: the rows as they should be, one per key.
        starts: the column by whose days many rows are split; rows with the same key have the same value. Rows are never split without it.
    """
    parts = [(found, expected)]
    if starts:
        day = F.to_date(starts)
        ranges = _ranges(found.select(day.alias("day")).unionAll(expected.select(day.alias("day"))))
        if len(ranges) > 1:
            parts = [tuple(rows.where(day.between(*(F.lit(edge) for edge in edges))) for rows in (found, expected)) for edges in ranges]  # type: ignore[misc]
    return total([compare(table, *(rows.select(*table.computed.names).toArrow() for rows in pair)) for pair in parts])


def _ranges(days: DataFrame) -> list[tuple[date, date]]:
    """Split the days into ranges that each have at most `MOST_ROWS` rows on both sides together, or one day."""
    ranges: list[tuple[date, date]] = []
    rows = 0
    for row in days.where("day IS NOT NULL").groupBy("day").agg(F.count(F.lit(1)).alias("rows")).orderBy("day").collect():
        if not ranges or rows + row["rows"] > MOST_ROWS:
            ranges.append((row["day"], row["day"]))
            rows = 0
        ranges[-1] = (ranges[-1][0], row["day"])
        rows += row["rows"]
    return ranges
