"""How does Spark do a little work quickly? The bounds and session settings that go with how many rows a call handles."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyspark.sql import SparkSession

# Up to this many rows a call is done by one task at a time: a second one costs more (exchanges, scheduling) than it works.
SMALL_ROWS = 5_000
ONE_TASK = {
    "spark.sql.shuffle.partitions": "1",
    # Without them Iceberg cuts a scan into a task for every core, and shuffles before it writes.
    "spark.sql.iceberg.read.adaptive-split-size.enabled": "false",
    "spark.sql.iceberg.read.split-size": str(1 << 30),
    "spark.sql.iceberg.distribution-mode": "none",
}

# A stream's small micro-batches have the same plans again and again, whose generated code is compiled once: a third off their time.
# A plan with literals of its own (spans, offsets), and a driver that ends soon, never earn the compiling back (`lakehouse/spark.py`).
COMPILED = {
    "spark.sql.codegen.wholeStage": "true",
    "spark.sql.codegen.factoryMode": "FALLBACK",
    # Java interprets a method that is longer than this for ever; Spark runs such a stage by its parts, whose methods are short.
    "spark.sql.codegen.hugeMethodLimit": "8000",
}
# From so many rows on, one pass earns it back.
COMPILED_FROM_ROWS = 100_000
# After so many calls many more are to be expected.
WARM_CALLS = 10


def conf_for_many(rows: int) -> Mapping[str, str]:
    """Give the settings for one pass over so many rows: below the bound compiling its plans takes longer than interpreting them."""
    return COMPILED if rows >= COMPILED_FROM_ROWS else {}


def conf_for_few(calls: int) -> dict[str, str]:
    """Give the settings for a few rows to whoever has handled some so many times before."""
    return ONE_TASK | (COMPILED if calls >= WARM_CALLS else {})


@contextmanager
def session_conf(spark: SparkSession, wanted: Mapping[str, str]) -> Iterator[None]:
    """Hold settings of a session for a block; a streaming micro-batch has a session of its own."""
    # Asking for a setting that is not there raises in the JVM, which costs more than a commit's worth of time for all of them.
    known = spark._jsparkSession.conf()
    before = {name: spark.conf.get(name) if known.contains(name) else None for name in wanted}
    for name, value in wanted.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, held in before.items():
            if held is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, held)
