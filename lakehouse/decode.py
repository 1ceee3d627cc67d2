"""How are messages in memory decoded into bronze rows? By DuckDB where they are written as weir writes them, else by Spark.

`to_bronze` (`codecs/parse.py`) says the same to Spark. Readers of JSON differ in what they take for a value, so DuckDB gets only messages
that match a strict expression of the contract, whole. The others are few, unless another program publishes with spaces or in another order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from lakehouse.codecs.choice import over
from lakehouse.codecs.json_codec import plain_pattern, plain_struct
from lakehouse.codecs.parse import decoded, undecoded
from lakehouse.contract import Contract
from lakehouse.engine.engine import Engine
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.tables.schema import SOURCE_COLUMNS, quote_name, quote_text

_IS_PLAIN, _READ = "_is_plain", "_read"
# Spark's reader refuses texts of another length than DuckDB's, far above this [bytes].
_LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Undecoded:
    """The messages of a micro-batch that are not read yet.

    Attributes:
        rows: their source columns.
        decode: turns some of these, in memory, into bronze rows.
        most_rows: how many of them memory holds.
    """

    rows: DataFrame
    decode: Callable[[pa.Table], pa.Table]
    most_rows: int


def undecoded_by(messages: DataFrame, contract: Contract, engine: Engine | None) -> Undecoded | None:
    """Return messages as they may be decoded in memory; None where Spark must decode them.

    Args:
        messages: as `to_bronze` takes them.
        contract: of the topic.
        engine: decodes them.
    """
    if not isinstance(engine, DuckEngine) or contract.codec != "json" or not plain_pattern(contract):
        return None
    duckdb, spark = engine, messages.sparkSession
    return Undecoded(undecoded(messages), lambda rows: decode_rows(rows, contract, duckdb, spark), duckdb.most_rows)


def decode_rows(rows: pa.Table, contract: Contract, engine: DuckEngine, spark: SparkSession) -> pa.Table:
    """Decode messages as `to_bronze` does.

    Args:
        rows: their source columns.
        contract: of the topic, with the codec JSON.
        engine: decodes most of them.
        spark: the session that decodes the others.

    Returns:
        Bronze rows, those that Spark decoded last.
    """
    read = engine.query(_query(contract), {"messages": rows})
    plain = read.filter(read[_IS_PLAIN])
    if plain.num_rows == read.num_rows:
        return plain.drop_columns(_IS_PLAIN)
    others = read.filter(pc.invert(read[_IS_PLAIN])).select(rows.column_names)
    by_spark = decoded(spark.createDataFrame(others).coalesce(1), contract).toArrow()
    plain = plain.drop_columns(_IS_PLAIN)
    return pa.concat_tables([plain, by_spark.select(plain.column_names).cast(plain.schema)])


def _query(contract: Contract) -> str:
    forms = {f.name: f.kind.json.plain for f in contract.fields}
    fits = [
        f"({read} IS NULL OR ({over(form.fits, read)}))"
        for name, form in forms.items()
        if form.fits
        for read in [f"{_READ}.{quote_name(name)}"]
    ]
    columns = [
        f"CASE WHEN {_IS_PLAIN} THEN {over(form.column, f'{_READ}.{quote_name(name)}')} END AS {quote_name(name)}"
        for name, form in forms.items()
    ]
    if contract.event_time:
        columns.append(f"CAST(make_timestamp(epoch_us({quote_name(contract.event_time)})) AS DATE) AS date_utc")
    source = ", ".join(column.name for column in SOURCE_COLUMNS)
    is_text = f"coalesce(octet_length(value) <= {_LONGEST} AND regexp_full_match(_text, {quote_text(plain_pattern(contract))}), false)"
    # Read only where the expression matches: DuckDB ends a query at text that is no JSON.
    read = f"from_json(CASE WHEN _is_text THEN _text END, {quote_text(plain_struct(contract))})"
    return f"""
        SELECT {", ".join(columns)}, {source}, {_IS_PLAIN}
        FROM (SELECT *, _is_text AND {" AND ".join(fits) or "true"} AS {_IS_PLAIN}
              FROM (SELECT *, {read} AS {_READ}
                    FROM (SELECT *, {is_text} AS _is_text FROM (SELECT *, TRY(decode(value)) AS _text FROM messages))))
    """
