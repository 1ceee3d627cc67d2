"""How does a Kafka message become a bronze row? One `from_json` with the contract's schema; the bytes stay untouched."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, LongType, StringType, StructField, StructType

from lakehouse.contract import Contract

CORRUPT = "_corrupt"
_TYPES = {"string": StringType(), "double": DoubleType(), "timestamp": LongType()}  # a timestamp inside costs 1.6 times as much
# Years 1 to 9999; beyond, Spark's own arithmetic overflows and one message would stop the query.
_FIRST_MILLIS, _LAST_MILLIS = -62_135_596_800_000, 253_402_300_799_999


def to_bronze(messages: DataFrame, contract: Contract) -> DataFrame:
    """Type the messages of a topic. Row-wise.

    Args:
        messages: as Spark's Kafka source gives them: value, topic, partition, offset, timestamp.
        contract: of the topic.

    Returns:
        One row per message: the contract's fields, date_utc of its event time, and the source columns. A message that does
        not parse, or whose fields have other types than the contract's, keeps its bytes and has null fields.
    """
    schema = StructType([StructField(f.name, _TYPES[f.type]) for f in contract.fields] + [StructField(CORRUPT, StringType())])
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT, "allowNonNumericNumbers": "false"}
    parsed = messages.withColumn("record", F.from_json(F.col("value").cast("string"), schema, options))
    whole = F.when(F.col(f"record.{CORRUPT}").isNull(), F.col("record"))
    typed = parsed.withColumn("record", whole)
    columns = {f.name: _instant(f.name) if f.type == "timestamp" else F.col(f"record.{f.name}") for f in contract.fields}
    event_time = next(f.name for f in contract.fields if f.type == "timestamp")
    return typed.select(
        *[column.alias(name) for name, column in columns.items()],
        F.to_date(columns[event_time]).alias("date_utc"),
        F.lit(None).cast("string").alias("source_run"),
        F.lit(None).cast("long").alias("source_row"),
        "value",
        "topic",
        "partition",
        F.col("offset").alias("kafka_offset"),
        F.col("timestamp").alias("kafka_ts"),
    )


def _instant(name: str) -> Column:
    millis = F.col(f"record.{name}")
    return F.when(millis.between(_FIRST_MILLIS, _LAST_MILLIS), F.timestamp_millis(millis))
