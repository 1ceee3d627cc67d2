"""How does a Kafka message become a bronze row? One `from_json` with the contract's schema; the bytes stay untouched.

Columns are written as SQL text: every column function is a round trip to the JVM, each micro-batch anew.
"""

from pyspark.sql import DataFrame

from lakehouse.contract import Contract
from lakehouse.schema import SOURCE_COLUMNS

CORRUPT = "_corrupt"
# What Kafka's clients, and Spark's source with them, call a stamp that the broker gave.
LOG_APPEND_TIME = 1
_TYPES = {"string": "STRING", "double": "DOUBLE", "timestamp": "BIGINT"}  # a timestamp inside costs 1.6 times as much
# Years 1 to 9999; beyond, Spark's own arithmetic overflows and one message would stop the query.
_FIRST_MILLIS, _LAST_MILLIS = -62_135_596_800_000, 253_402_300_799_999


def to_bronze(messages: DataFrame, contract: Contract) -> DataFrame:
    """Type the messages of a topic. Row-wise.

    Args:
        messages: as Spark's Kafka source gives them: value, topic, partition, offset, timestamp, and timestampType, without which
            every timestamp counts as the broker's.
        contract: of the topic.

    Returns:
        One row per message: the contract's fields, date_utc of its event time, and the source columns. A message that does
        not parse, or whose fields have other types than the contract's, keeps its bytes and has null fields.
    """
    nobody = ("CAST(NULL AS STRING) AS source_run", "CAST(NULL AS BIGINT) AS source_row")
    # A producer's own stamp (CreateTime, from before the topic was altered) is no arrival: then nobody knows when the message came.
    arrived = f"CASE WHEN timestampType = {LOG_APPEND_TIME} THEN timestamp END" if "timestampType" in messages.columns else "timestamp"
    source = (*nobody, "value", "topic", "partition", "offset AS kafka_offset", f"{arrived} AS kafka_ts")
    return _typed(messages.selectExpr(*source, f"{_parsing(contract)} AS parsed"), contract)


def retyped(rows: DataFrame, contract: Contract) -> DataFrame:
    """Type rows of bronze anew from their bytes: a field that the contract has got since is read from old messages too. Row-wise."""
    # An array of one, taken apart again, since no filter is pushed through that: Spark 4.1 pushes one through a projection and writes
    # the projection's expression wherever the filter names its column, so the rules that follow parsed each message some thirty times.
    return _typed(rows.selectExpr(*(column.name for column in SOURCE_COLUMNS), f"explode(array({_parsing(contract)})) AS parsed"), contract)


def _parsing(contract: Contract) -> str:
    record = ", ".join(f"`{f.name}` {_TYPES[f.type]}" for f in contract.fields)
    options = f"map('mode', 'PERMISSIVE', 'columnNameOfCorruptRecord', '{CORRUPT}', 'allowNonNumericNumbers', 'false')"
    return f"from_json(CAST(value AS STRING), '{record}, {CORRUPT} STRING', {options})"


def _typed(parsed: DataFrame, contract: Contract) -> DataFrame:
    typed = parsed.selectExpr("*", f"CASE WHEN parsed.{CORRUPT} IS NULL THEN parsed END AS record")
    columns = {f.name: _instant(f.name) if f.type == "timestamp" else f"record.`{f.name}`" for f in contract.fields}
    event_time = next(f.name for f in contract.fields if f.type == "timestamp")
    return typed.selectExpr(
        *[f"{column} AS `{name}`" for name, column in columns.items()],
        f"to_date({columns[event_time]}) AS date_utc",
        *(column.name for column in SOURCE_COLUMNS),
    )


def _instant(name: str) -> str:
    millis = f"record.`{name}`"
    return f"CASE WHEN {millis} BETWEEN {_FIRST_MILLIS} AND {_LAST_MILLIS} THEN timestamp_millis({millis}) END"
