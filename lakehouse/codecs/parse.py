"""How does a message become a bronze row? Read in one go by the contract's codec; the bytes stay untouched.

Columns are written as SQL text, since every column function is a round trip to the JVM in every micro-batch.
"""

from pyspark.sql import DataFrame

from lakehouse.codecs.choice import codec_of, misfit, over
from lakehouse.contract import WIRE_VERSION_HEADER, Contract
from lakehouse.tables.schema import SOURCE_COLUMNS

# Kafka's name for a timestamp set by the broker.
LOG_APPEND_TIME = 1


def to_bronze(messages: DataFrame, contract: Contract) -> DataFrame:
    """Decode the messages of a topic into bronze rows. Row-wise.

    Args:
        messages: as Spark's Kafka source gives them: value, topic, partition, offset, timestamp; timestampType, without which every
            timestamp counts as the broker's; and headers, or wire_version in their place. Without both, no message names its version.
        contract: of the topic.

    Returns:
        One row per message: the contract's fields, date_utc where it has an event time, and the source columns. A message that cannot be
        read, or of which a field has another type than the contract's, keeps its bytes and has null fields.
    """
    return decoded(undecoded(messages), contract)


def undecoded(messages: DataFrame) -> DataFrame:
    """Return the source columns of messages, see `to_bronze`. Row-wise."""
    nobody = ("CAST(NULL AS STRING) AS source_run", "CAST(NULL AS BIGINT) AS source_row")
    # A producer's own timestamp (CreateTime, before the topic was altered) is not the arrival time, which is then unknown.
    arrived = f"CASE WHEN timestampType = {LOG_APPEND_TIME} THEN timestamp END" if "timestampType" in messages.columns else "timestamp"
    version = f"{_wire_version(messages)} AS wire_version"
    return messages.selectExpr(*nobody, "value", "topic", "partition", "offset AS kafka_offset", f"{arrived} AS kafka_ts", version)


def decoded(source: DataFrame, contract: Contract) -> DataFrame:
    """Decode the messages of source columns into bronze rows, see `to_bronze`. Row-wise."""
    return _typed(source.selectExpr("*", f"{codec_of(contract).parsing(contract)} AS parsed"), contract)


def retyped(rows: DataFrame, contract: Contract) -> DataFrame:
    """Decode rows of bronze from their bytes once more, so that a field added to the contract is read from old messages too. Row-wise."""
    # A snapshot from before a column was added reads without it.
    present = rows.columns
    source = rows.selectExpr(*(c.name if c.name in present else f"CAST(NULL AS {c.type}) AS {c.name}" for c in SOURCE_COLUMNS))
    # An array of one, taken apart again, since no filter is pushed through that: Spark 4.1 pushes one through a projection and writes
    # the projection's expression wherever the filter names its column, so the rules that follow parsed each message some thirty times.
    return _typed(source.selectExpr("*", f"explode(array({codec_of(contract).parsing(contract)})) AS parsed"), contract)


def _wire_version(messages: DataFrame) -> str:
    if "wire_version" in messages.columns:
        return "wire_version"
    if "headers" not in messages.columns:
        return "CAST(NULL AS INT)"
    # Of several headers with one key the last counts, as in Kafka's clients.
    header = f"element_at(filter(headers, header -> header.key = '{WIRE_VERSION_HEADER}'), -1).value"
    return f"try_cast(CAST({header} AS STRING) AS INT)"


def _typed(parsed: DataFrame, contract: Contract) -> DataFrame:
    codec = codec_of(contract)
    forms = {f.name: codec.form(f) for f in contract.fields}
    # One value of a wrong type makes the whole message invalid: half a record must not pass for a whole one.
    misfits = [condition for name, form in forms.items() if (condition := misfit(form, f"parsed.`{name}`"))]
    fits = " AND ".join([codec.is_read("parsed"), *(f"NOT {condition}" for condition in misfits)])
    typed = parsed.selectExpr("*", f"CASE WHEN {fits} THEN parsed END AS record")
    columns = {name: over(form.column, f"record.`{name}`") for name, form in forms.items()}
    date_utc = [f"to_date({columns[contract.event_time]}) AS date_utc"] if contract.event_time else []
    return typed.selectExpr(
        *[f"{column} AS `{name}`" for name, column in columns.items()],
        *date_utc,
        *(column.name for column in SOURCE_COLUMNS),
    )
