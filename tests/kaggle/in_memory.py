"""Kaggle's tables of some messages, by DuckDB alone: with weir's own transforms, and by the independent SQL."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from batch.compare import compare
from batch.prove.oracle.recompute import recompute
from batch.prove.prove import dimensions_of
from lakehouse.contract import Value
from lakehouse.domain import Domain
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.judge import judge_rows
from lakehouse.rules import RULE
from tests.support.rows import arrow_rows

ARRIVED = datetime(2025, 6, 1, tzinfo=UTC)
Message = tuple[str, Mapping[str, Value]]


def bronze_of(domain: Domain, messages: Iterable[Message]) -> dict[str, pa.Table]:
    """Give the rows of each bronze table, by the source's name; messages come as (table, record), in the order of Kafka."""
    rows: dict[str, list[dict[str, Any]]] = {source.name: [] for source in domain.sources}
    contracts = {source.name: source.contract for source in domain.sources}
    for offset, (table, record) in enumerate(messages):
        name = f"kaggle_{table}"
        place = {"topic": contracts[name].topic, "partition": 0, "kafka_offset": offset, "kafka_ts": ARRIVED}
        rows[name].append({**record, **place, "value": contracts[name].encode(record)})
    return {source.name: arrow_rows(source.bronze, rows[source.name]) for source in domain.sources}


def judged(domain: Domain, bronze: Mapping[str, pa.Table], engine: DuckEngine) -> dict[str, pa.Table]:
    """Add the verdicts to rows of bronze, of sources that have some. Messages that DuckDB leaves to Spark are none of these tests'."""
    no_spark = cast(SparkSession, None)
    return {
        one.name: judge_rows(bronze[one.name], one.contract, one.rules, engine, no_spark)
        for one in domain.sources
        if bronze[one.name].num_rows
    }


def derive(domain: Domain, bronze: Mapping[str, pa.Table], engine: DuckEngine) -> dict[str, pa.Table]:
    """Compute silver and every derived table in one pass, by name with `lh.`."""
    made: dict[str, pa.Table] = {}
    marks = {one.silver.name: one.contract.deleted for one in domain.sources if one.contract.deleted}
    verdicts = judged(domain, bronze, engine)
    for source in domain.sources:
        if source.name not in verdicts:
            made[source.silver.name] = arrow_rows(source.silver, [])
            continue
        rows = verdicts[source.name]
        accepted = rows.filter(pc.is_null(rows[RULE]))
        made[source.silver.name] = engine.newest(
            source.to_silver, accepted, arrow_rows(source.silver, []), source.silver, source.contract.version
        )
    for derived in domain.derived:
        inputs = []
        for reads in derived.reads:
            rows, mark = made[reads.table.name], marks.get(reads.table.name)
            inputs.append(rows if mark is None or reads.with_deleted else rows.filter(pc.invert(pc.fill_null(rows[mark], False))))
        table = derived.table.computed
        # Nothing comes of nothing, and most tests are about a few of the tables.
        is_made = derived.has_fixed_rows or any(rows.num_rows for rows in inputs)
        made[derived.table.name] = engine.compute(derived.to_rows, inputs, table) if is_made else arrow_rows(table, [])
    return made


def assert_right(domain: Domain, bronze: Mapping[str, pa.Table], made: Mapping[str, pa.Table]) -> None:
    """Compare every derived table with the independent SQL over the bytes."""
    wanted = recompute(domain.oracle, bronze, dimensions_of(domain), domain.edition)
    for derived in domain.derived:
        found = compare(derived.table, made[derived.table.name], wanted[derived.table.name.rpartition(".")[2]])
        assert not found.differences, found


def rows(made: Mapping[str, pa.Table], name: str, *columns: str) -> list[tuple[Any, ...]]:
    """Give a table's rows, sorted."""
    return sorted((tuple(row.values()) for row in made[f"lh.{name}"].select(list(columns)).to_pylist()), key=repr)
