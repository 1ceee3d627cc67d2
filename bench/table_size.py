"""B4: does a micro-batch take longer on a large table than on a small one?

1,000 readings, one of each of 1,000 places, go through `apply` on tables of 10 M rows and on tables of 100 k, each in a driver of
its own: the next hour of every place (new), then one of the last 48 hours of every place, changed (revised). Median of 20
micro-batches after 5. Silver and gold of the given size are made before by a batch write, with the product's transforms; each
micro-batch is appended to bronze first, which is not measured.
"""

import json
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from bench.load import FIRST_HOUR, RETRIEVED, place_key, recorded_hours
from bench.measure import MIB, Usage, median, spread
from bench.report import goal, show
from bench.stage import Home, stage
from lakehouse.apply import apply
from lakehouse.contract import to_millis
from lakehouse.domain import Domain
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.sinks.tables import ensure_tables
from lakehouse.spark import open_spark

KINDS = ("new", "revised")
LIMIT_SECONDS = 3_600.0
REVISED_HOURS = 48
# What suits one pass over ten million rows rather than a micro-batch.
BATCH_CONF = {"spark.sql.codegen.wholeStage": "true", "spark.sql.codegen.factoryMode": "FALLBACK", "spark.sql.shuffle.partitions": "16"}


@dataclass(frozen=True, slots=True)
class Size:
    """How large the tables are, and how many micro-batches run on them."""

    places: int
    hours: int
    warm_up: int
    measured: int


def table_size(quick: bool) -> None:
    """Measure and print B4."""
    places, hours, warm_up, measured = (100, (50, 1_000), 1, 2) if quick else (1_000, (100, 10_000), 5, 20)
    sizes = [Size(places, each, warm_up, measured) for each in hours]
    rows, medians = [], []
    for size in sizes:
        with stage() as here:
            home = here.home(size.places)
            driver = here.python(home, "bench.table_size", json.dumps([size.places, size.hours, size.warm_up, size.measured]))
            with Usage(driver.pid) as used:
                driver.wait(LIMIT_SECONDS)
            seconds = _read(home)
        medians.append({kind: median(seconds[kind]) for kind in KINDS})
        cells = [spread(seconds[kind], 3) for kind in KINDS]
        rows.append([f"{size.places * size.hours:,} rows", *cells, f"{used.peak_pss / MIB:,.0f}"])
    show(
        f"B4 {places:,} readings through silver and gold, seconds, median of {measured} micro-batches after {warm_up} (least-greatest)",
        ["tables of", *KINDS, "peak PSS MiB (with making the tables)"],
        rows,
        [goal(f"{kind}: large / small", medians[1][kind] / medians[0][kind], 1.2) for kind in KINDS],
    )


def run(size: Size, settings: Settings) -> None:
    """Make the tables and apply the micro-batches; print the seconds of each, as JSON lines."""
    spark = open_spark(settings, "weir bench")
    try:
        domain = build_domain("air_quality", settings)
        ensure_tables(spark, domain)
        _make_tables(spark, domain, size)
        for kind in KINDS:
            for n in range(size.warm_up + size.measured):
                rows = _micro_batch(spark, domain, size, kind, n)
                began = time.monotonic()
                met = apply(rows, domain, {"weir.query": "bench"})
                seconds = time.monotonic() - began
                if met.accepted != size.places:
                    raise RuntimeError(f"{met.accepted} of {size.places} readings were accepted: {met.rejected}")
                if n >= size.warm_up:
                    print(json.dumps({"kind": kind, "seconds": seconds}), flush=True)
    finally:
        spark.stop()


def _make_tables(spark: SparkSession, domain: Domain, size: Size) -> None:
    """Write silver, then each gold table from its source, whole."""
    before = {name: str(spark.conf.get(name)) for name in BATCH_CONF}
    for name, value in BATCH_CONF.items():
        spark.conf.set(name, value)
    _patterns(spark).createOrReplaceTempView("patterns")
    hours = spark.range(size.places * size.hours).selectExpr(f"id % {size.places} AS place", f"id DIV {size.places} AS hour")
    domain.to_silver(_readings(hours, 0)).writeTo(domain.silver.name).append()
    for gold in domain.gold:
        gold.to_rows(spark.table(gold.source.name)).writeTo(gold.table.name).append()
    for name, value in before.items():
        spark.conf.set(name, value)


def _micro_batch(spark: SparkSession, domain: Domain, size: Size, kind: str, n: int) -> DataFrame:
    """Append a micro-batch to bronze, and read it from there as the query does."""
    number = n + KINDS.index(kind) * (size.warm_up + size.measured)
    new = size.hours + n
    last = size.hours + size.warm_up + size.measured - 1
    hour = f"{new}" if kind == "new" else f"{last} - pmod(hash(id, {number}), {REVISED_HOURS})"
    readings = _readings(spark.range(size.places).selectExpr("id AS place", f"CAST({hour} AS BIGINT) AS hour"), number + 1)
    first = number * size.places
    arrived = readings.selectExpr(
        "*",
        "to_date(ts_utc) AS date_utc",
        "CAST(NULL AS STRING) AS source_run",
        "CAST(NULL AS BIGINT) AS source_row",
        "CAST(NULL AS BINARY) AS value",
        f"'{HOURLY.topic}' AS topic",
        "0 AS partition",
        f"{first} + place AS kafka_offset",
        f"timestamp_millis({to_millis(RETRIEVED + timedelta(days=1))}) AS kafka_ts",
    )
    arrived.select(*domain.bronze.names).writeTo(domain.bronze.name).append()
    return spark.table(domain.bronze.name).where(f"kafka_offset >= {first}")


def _readings(hours: DataFrame, version: int) -> DataFrame:
    """Fill places and hours with recorded air; a later version differs a little, and was retrieved a minute later."""
    spark = hours.sparkSession
    hours.createOrReplaceTempView("wanted")
    fields = {
        "location_key": "concat('p', lpad(place, 4, '0'))",
        "ts_utc": f"timestamp_millis({to_millis(FIRST_HOUR)} + hour * 3600000)",
        "pm25": f"pm25 + {version} * 0.1D",
        "retrieved_ts": f"timestamp_millis({to_millis(RETRIEVED + timedelta(minutes=version))})",
    }
    columns = ", ".join(f"{fields.get(f.name, f.name)} AS {f.name}" for f in HOURLY.fields)
    return spark.sql(
        f"SELECT /*+ BROADCAST(patterns) */ {columns}, place FROM wanted JOIN patterns "
        "ON place % cities = city AND pmod(hour + 37 * place, length) = position"
    )


def _patterns(spark: SparkSession) -> DataFrame:
    """The recorded hours, by city and position."""
    recorded = recorded_hours()
    values = [f for f in HOURLY.fields if f.name not in ("location_key", "ts_utc", "retrieved_ts")]
    rows = [
        (len(recorded), city, len(hours), position, *(_number(hour.get(f.name)) for f in values))
        for city, hours in enumerate(recorded)
        for position, hour in enumerate(hours)
    ]
    types = ", ".join(f"{f.name} {f.type.upper()}" for f in values)
    return spark.createDataFrame(rows, f"cities BIGINT, city BIGINT, length BIGINT, position BIGINT, {types}").cache()


def _number(value: object) -> object:
    return float(value) if isinstance(value, int) else value


def _read(home: Home) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for line in Path(home.folder / "program.log").read_text(errors="replace").splitlines():
        if line.startswith('{"kind"'):
            said = json.loads(line)
            seconds[said["kind"]].append(float(said["seconds"]))
    return seconds


if __name__ == "__main__":
    assert place_key(7) == "p0007"  # as `_readings` writes it
    run(Size(*json.loads(sys.argv[1])), Settings())
