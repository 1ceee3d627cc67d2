"""How does Spark compute a transform? As a DataFrame."""

from collections.abc import Sequence
from typing import Self

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.engine.engine import Engine
from lakehouse.engine.newest import latest_per_key
from lakehouse.engine.relation import How, Relation, Transform
from lakehouse.tables.schema import Table


class SparkRelation(Relation):
    """A relation that is a DataFrame. Texts go to the JVM whole, since every column function is a round trip of its own."""

    def __init__(self, frame: DataFrame) -> None:
        self.frame = frame

    def select(self, *columns: str) -> Self:
        """See `Relation`."""
        return type(self)(self.frame.selectExpr(*columns))

    def where(self, condition: str) -> Self:
        """See `Relation`."""
        return type(self)(self.frame.where(condition))

    def group(self, by: Sequence[str], *aggregates: str) -> Self:
        """See `Relation`."""
        if not aggregates:
            return type(self)(self.frame.select(*by).distinct())
        return type(self)(self.frame.groupBy(*by).agg(*(F.expr(text) for text in aggregates)))

    def join(self, other: Self, on: Sequence[str], how: How = "inner") -> Self:
        """See `Relation`."""
        return type(self)(self.frame.join(other.frame, on=list(on), how=how))

    def union(self, other: Self) -> Self:
        """See `Relation`."""
        return type(self)(self.frame.unionByName(other.frame))


def on_spark(transform: Transform, *inputs: DataFrame) -> DataFrame:
    """Plan a transform of DataFrames."""
    made = transform(*(SparkRelation(frame) for frame in inputs))
    assert isinstance(made, SparkRelation)  # a transform returns what it was given
    return made.frame


class SparkEngine(Engine):
    """Spark, over rows in memory: one job in one task for each question.

    Args:
        spark: the session.
    """

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark

    @property
    def name(self) -> str:
        """See `Engine`."""
        return "spark"

    def compute(self, transform: Transform, inputs: Sequence[pa.Table], table: Table) -> pa.Table:
        """See `Engine`."""
        return _fetch(on_spark(transform, *map(self._frame, inputs)), table)

    def newest(self, transform: Transform, rows: pa.Table, present: pa.Table, table: Table, version: str) -> pa.Table:
        """See `Engine`."""
        made = on_spark(transform, self._frame(rows)).select(*table.names)
        return _fetch(latest_per_key(made.unionByName(self._frame(present.select(list(table.names)))), table, version), table)

    def _frame(self, rows: pa.Table) -> DataFrame:
        return self._spark.createDataFrame(rows).coalesce(1)


def _fetch(rows: DataFrame, table: Table) -> pa.Table:
    return rows.select(*table.names).coalesce(1).toArrow()
