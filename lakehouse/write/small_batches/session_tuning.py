"""Which session settings make Spark fast for few rows, and which for many?"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyspark.sql import SparkSession

# Up to this many rows a call runs with one task at a time: exchanges and scheduling would cost more than a second task gains.
SMALL_ROWS = 5_000
ONE_TASK = {
    "spark.sql.shuffle.partitions": "1",
    # Without these settings Iceberg splits a scan into a task per core, and shuffles before it writes.
    "spark.sql.iceberg.read.adaptive-split-size.enabled": "false",
    "spark.sql.iceberg.read.split-size": str(1 << 30),
    "spark.sql.iceberg.distribution-mode": "none",
}

# For a scan whose rows fit in memory: one task for the small files of a few micro-batches, more for a backlog. Iceberg counts each file as
# 4 MB at least.
BOUNDED = ONE_TASK | {"spark.sql.iceberg.read.split-size": str(16 << 20)}

# The small micro-batches of a stream repeat the same plans, so generated code is compiled once and saves a third of their time. For a plan
# with its own literals (spans, offsets), and in a driver that ends soon, compiling never pays off (`lakehouse/spark.py`).
COMPILED = {
    "spark.sql.codegen.wholeStage": "true",
    "spark.sql.codegen.factoryMode": "FALLBACK",
    # Java never compiles a longer method; Spark then runs the stage operator by operator, in short methods.
    "spark.sql.codegen.hugeMethodLimit": "8000",
}
# From this many rows on, compiling pays off within one pass.
COMPILED_FROM_ROWS = 100_000
# After this many calls, many more are expected.
WARM_CALLS = 10


def conf_for_many(rows: int) -> Mapping[str, str]:
    """Return the settings for one pass over this many rows: for fewer, compiling the plans takes longer than interpreting them."""
    return COMPILED if rows >= COMPILED_FROM_ROWS else {}


def conf_for_few(calls: int) -> dict[str, str]:
    """Return the settings for a few rows, for a caller that has made this many such calls before."""
    return ONE_TASK | (COMPILED if calls >= WARM_CALLS else {})


@contextmanager
def session_conf(spark: SparkSession, wanted: Mapping[str, str]) -> Iterator[None]:
    """Apply session settings while the block runs. A streaming micro-batch has a session of its own."""
    # Reading a setting that is not set raises in the JVM, which for all of them takes longer than a commit.
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
