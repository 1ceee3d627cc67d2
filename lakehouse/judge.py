"""How are rows in memory judged? By DuckDB, but for messages whose bytes must be looked at, which Spark judges.

`with_verdict` (`rules.py`) says the same to Spark. A row that was read whole can only break rules over its columns; one of which nothing
could be read, and one whose JSON is not plain, are few.
"""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from lakehouse.codecs.unknown_fields import LONGEST_NAME, MOST_NAMES, UNKNOWN, unknown_names
from lakehouse.contract import Contract
from lakehouse.engine.functions import text
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.rules import RULE, TOMBSTONE, WARNINGS, Rule, untyped_sql, with_verdict

_IS_PLAIN = "_is_plain"


def judge_rows(rows: pa.Table, contract: Contract, rules: Sequence[Rule], engine: DuckEngine, spark: SparkSession) -> pa.Table:
    """Add the verdict, the warnings and the names of unknown fields, as `with_verdict` and `unknown_names` do.

    Args:
        rows: of bronze.
        contract: of their messages.
        rules: in the order in which they are tried.
        engine: judges most of them.
        spark: the session that judges the others.

    Returns:
        The rows in any order.
    """
    judged = engine.query(_query(contract, rules), {"rows": rows})
    plain = judged.filter(judged[_IS_PLAIN]).drop_columns(_IS_PLAIN)
    if plain.num_rows == judged.num_rows:
        return plain
    others = judged.filter(pc.invert(judged[_IS_PLAIN])).select(rows.column_names)
    frame = spark.createDataFrame(others).coalesce(1)
    by_spark = with_verdict(frame, rules, f"{unknown_names(contract)} AS {UNKNOWN}").toArrow()
    return pa.concat_tables([plain, by_spark.select(plain.column_names).cast(plain.schema)])


def _query(contract: Contract, rules: Sequence[Rule]) -> str:
    by_columns = [rule for rule in rules if not rule.reads_bytes]
    rejecting = " ".join(f"WHEN {rule.broken} THEN {text(rule.name)}" for rule in by_columns if rule.level == "reject")
    warning = ", ".join(f"CASE WHEN {rule.broken} THEN {text(rule.name)} END" for rule in by_columns if rule.level == "warn")
    if contract.codec == "json":
        known = ", ".join(text(name) for name in contract.names)
        # json_keys raises an error on text that is not strict JSON. Spark accepts some of that text, such as single quotes.
        shown = "TRY(decode(value)) AS _text"
        # Filtered first: nearly always nothing is left, and looking for equal names takes most of the time otherwise.
        names = f"list_distinct(list_filter(json_keys(_text), lambda name: name NOT IN ({known})))"
        unknown = f"CASE WHEN json_valid(_text) THEN list_transform({names}, lambda name: left(name, {LONGEST_NAME})) END"
        is_read = f"json_valid(_text) AND len({UNKNOWN}) <= {MOST_NAMES}"
    else:
        shown, unknown, is_read = "NULL AS _text", "CAST([] AS VARCHAR[])", "true"
    return f"""
SELECT * EXCLUDE (_text), value IS NULL OR (NOT {untyped_sql(contract)} AND coalesce({is_read}, false)) AS {_IS_PLAIN}
FROM (
  SELECT *,
    CASE WHEN value IS NULL THEN {text(TOMBSTONE)} {rejecting} END AS {RULE},
    CAST(list_filter([{warning}], lambda name: name IS NOT NULL) AS VARCHAR[]) AS {WARNINGS},
    {unknown} AS {UNKNOWN}
  FROM (SELECT *, {shown} FROM rows)
)"""
