"""The verdict on rows by both engines, which must be the same."""

from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import DataFrame

from lakehouse.codecs.unknown_fields import UNKNOWN, unknown_names
from lakehouse.contract import Contract
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.judge import judge_rows
from lakehouse.rules import RULE, WARNINGS, Rule, with_verdict

SAID = [RULE, WARNINGS, UNKNOWN]


def assert_same_verdict(bronze: DataFrame, contract: Contract, rules: Sequence[Rule]) -> None:
    """Judge rows of bronze by Spark, and in memory, and compare."""
    by_spark = with_verdict(bronze, rules, f"{unknown_names(contract)} AS {UNKNOWN}").toArrow()
    engine = DuckEngine()
    try:
        in_memory = judge_rows(bronze.toArrow(), contract, rules, engine, bronze.sparkSession)
    finally:
        engine.close()
    assert set(in_memory.column_names) == set(by_spark.column_names)
    assert _said(in_memory) == _said(by_spark)


def _said(judged: pa.Table) -> list[tuple[int, str, set[str], set[str] | None]]:
    rows = judged.select(["kafka_offset", *SAID]).sort_by("kafka_offset").to_pylist()
    return [(row["kafka_offset"], row[RULE], set(row[WARNINGS]), None if row[UNKNOWN] is None else set(row[UNKNOWN])) for row in rows]
