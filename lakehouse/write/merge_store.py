"""How are any number of rows written? By the store that reads tables with Spark and writes them with MERGE."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.changes import ChangedFrame, ChangedSpans, Changes, NoChanges, WholeChanged, distinct
from lakehouse.domain import ByTime, Derived, Domain, Matching, Reads, Source
from lakehouse.engine.newest import latest_per_key
from lakehouse.engine.on_spark import on_spark
from lakehouse.parts import MOST_KEYS, Keys, Part
from lakehouse.pending import head_of, read_computed_from
from lakehouse.spans import Spans
from lakehouse.spark import iceberg_table
from lakehouse.tables.schema import Table
from lakehouse.write.merge import bounds_of, is_newer, literal, merge_newer, merge_part, only_in
from lakehouse.write.publishing import look_before_writing
from lakehouse.write.small_batches.session_tuning import session_conf
from lakehouse.write.store import Store, Touching, as_properties, aware


class MergeStore(Store[DataFrame]):
    """Reads tables with Spark and writes them with MERGE.

    Args:
        spark: the session.
        domain: whose tables.
        properties: of every snapshot.
        one_task: whether so few rows are expected that a second task would cost more than it gains.
        is_beside: whether the tables are branches that nobody reads yet; then the snapshots of their inputs are not noted.

    Raises:
        OtherEdition: a derived table was computed by other rules.
    """

    def __init__(
        self, spark: SparkSession, domain: Domain, properties: Mapping[str, str], one_task: bool = False, is_beside: bool = False
    ) -> None:
        super().__init__(spark, domain, properties, "spark")
        look_before_writing(spark, domain)
        self._one_task, self._is_beside = one_task, is_beside
        self._held: list[DataFrame] = []
        self._handles: dict[str, Any] = {}
        if not is_beside:
            self.made = read_computed_from(domain, {table.name: self.handle(table.name) for table in domain.merged})

    def handle(self, table: str) -> Any:  # noqa: ANN401 - the JVM's object
        """Load the table once."""
        if table not in self._handles:
            self._handles[table] = iceberg_table(self.spark, table)
        return self._handles[table]

    def head(self, table: str) -> int:
        """Return the current snapshot's id."""
        return head_of(self.handle(table))

    def held(self, rows: pa.Table) -> DataFrame:
        """Plan a scan of them."""
        return self.spark.createDataFrame(rows).coalesce(1)

    def merge_silver(self, source: Source, accepted: DataFrame, touched: Part, needed: Part, asked: bool) -> Changes:
        """MERGE the newest of each key."""
        silver = source.silver
        newest = latest_per_key(on_spark(source.to_silver, self._sized(accepted)), silver, source.contract.version)
        if isinstance(source.kind, ByTime) and isinstance(touched, Spans) and not asked:
            # Rows cannot leave their span. Their other columns would have to be read before the MERGE.
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
        """Collect them from the table."""
        return self.extents(derived, only_in(self.spark.table(derived.table.name), near, derived.times))

    def rows(self, reads: Reads, part: Part) -> DataFrame:
        """Plan a scan of them."""
        rows, mark = self.spark.table(reads.table.name), self._mark(reads)
        return self._sized(only_in(rows.where(f"{mark} IS NOT TRUE") if mark else rows, part, reads.times))

    def matching(self, matching: Matching, rows: DataFrame) -> Part:
        """Let Spark find the values."""
        columns = list(matching.names)
        found = rows.select(*columns).distinct().limit(MOST_KEYS + 1).toArrow()
        return Keys.of(list(matching.names.values()), distinct(found, columns))

    def make(self, derived: Derived, inputs: Sequence[DataFrame], part: Part) -> DataFrame:
        """Plan the rows, persisted once they are computed."""
        computed = with_run(on_spark(derived.to_rows, *inputs), derived.table, self.run)
        made = only_in(computed, part, derived.times).persist()
        self._held.append(made)
        return made

    def some_where(self, derived: Derived, made: DataFrame, condition: str, count: int) -> list[dict[str, Any]]:
        """Let Spark find them."""
        found: list[dict[str, Any]] = made.where(condition).limit(count).toArrow().to_pylist()
        return found

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
            names = list(table.computed.names)
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
        """Unpersist the rows from `make`."""
        for rows in self._held:
            rows.unpersist()

    def _write(self, table: Table, merge: Callable[[], None], complete: Derived | None = None) -> None:
        with session_conf(self.spark, as_properties(self.properties if self._is_beside else self._properties(complete))):
            merge()
        self._handles.pop(table.name, None)

    def _changed(self, source: Source, newest: DataFrame, touched: Part) -> DataFrame:
        """Return the rows that silver will get, each beside the row that it replaces, or null."""
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
        """Return bounds on the first column of the key; None where nothing changed."""
        name = source.silver.key[0]
        row = changed.agg(F.min(f"new.{name}").alias("least"), F.max(f"new.{name}").alias("most")).toArrow().to_pylist()[0]
        if row["least"] is None:
            return None
        return f"t.{name} BETWEEN {literal(row['least'])} AND {literal(row['most'])}"

    def _sized(self, rows: DataFrame) -> DataFrame:
        return rows.coalesce(1) if self._one_task else rows


def with_run(rows: DataFrame, table: Table, run: str) -> DataFrame:
    """Add the name of the run to computed rows, where the table has a column of it."""
    return rows.withColumn(table.run_column, F.lit(run)) if table.run_column else rows


def _apart(rows: DataFrame) -> DataFrame:
    """Compute rows now, independent of later writes to the tables they were read from.

    `persist` does not do that: Spark recomputes persisted rows after a write to a table they were read from.
    """
    return rows.localCheckpoint(eager=True)
