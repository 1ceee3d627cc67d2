"""B4: does a micro-batch take longer on a large table than on a small one?

1,000 readings, one of each of 1,000 places, go through `apply` on tables of 10 M rows and on tables of 100 k: the next hour of every
place (new), then one of the last 48 hours of every place, changed (revised). Median of 20 micro-batches after 5. The two sizes take
turns in one driver, each in a catalog of its own, so that both meet the same JVM and the same machine. Silver and gold of the given
size are made before by a batch write, with the product's transforms; each micro-batch is appended to bronze first, which is not
measured.
"""

import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import timedelta

from pyspark.sql import DataFrame, SparkSession

from bench.load import FIRST_HOUR, RETRIEVED, place_key, recorded_hours
from bench.measure import MIB, Usage, median, spread
from bench.report import goal, show
from bench.stage import Home, stage
from lakehouse.apply import ApplyOptions, apply
from lakehouse.contract import to_millis
from lakehouse.domain import Domain
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.engine.choose import memory_engine
from lakehouse.engine.on_spark import on_spark
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spark import open_spark
from lakehouse.tables.catalog import spark_catalog_conf
from lakehouse.tables.create import ensure_tables
from lakehouse.write.small_batches.memory_store import Memory
from lakehouse.write.small_batches.session_tuning import COMPILED, session_conf

KINDS = ("new", "revised")
LIMIT_SECONDS = 3_600.0
REVISED_HOURS = 48
MANY_ROWS = 1_000_000
CITIES, RECORDED_HOURS = 3, 8_184
# What suits one pass over ten million rows rather than a micro-batch.
BATCH_CONF = COMPILED | {"spark.sql.shuffle.partitions": "16"}


@dataclass(frozen=True, slots=True)
class Plan:
    """How large the tables are, and how many micro-batches of each kind run on them."""

    places: int
    hours: tuple[int, int]
    warm_up: int
    measured: int

    @property
    def batches(self) -> int:
        """Micro-batches of each kind."""
        return self.warm_up + self.measured


def table_size(quick: bool, _: int | None = None) -> None:
    """Measure and print B4."""
    plan = Plan(100, (50, 500), 1, 1) if quick else Plan(1_000, (100, 10_000), 5, 20)
    with stage() as here:
        home = here.home(plan.places)
        driver = here.python(home, "bench.table_size", json.dumps(asdict(plan)))
        with Usage(driver.pid) as used:
            driver.wait(LIMIT_SECONDS)
        seconds = _read(home, plan)
    rows = [[f"{plan.places * hours:,} rows", *(spread(seconds[hours, kind], 3) for kind in KINDS)] for hours in plan.hours]
    small, large = plan.hours
    ratios = {kind: median(seconds[large, kind]) / median(seconds[small, kind]) for kind in KINDS}
    show(
        f"B4 {plan.places:,} readings through silver and gold, s, median of {plan.measured} after {plan.warm_up} (least-greatest)",
        ["tables of", *KINDS],
        rows,
        [
            *(goal(f"{kind}: large / small", ratio, 1.2) for kind, ratio in ratios.items()),
            f"  CPU {used.cpu_seconds:,.0f} s and peak PSS {used.peak_pss / MIB:,.0f} MiB of the whole run, making the tables included",
        ],
    )


def run(plan: Plan, settings: Settings) -> None:
    """Make the tables and apply the micro-batches; print the seconds of each, as JSON lines."""
    spark = open_spark(settings, "weir bench")
    try:
        domain = build_domain("air_quality", settings)
        sessions = {hours: _session(spark, settings, hours) for hours in plan.hours}
        for hours, session in sessions.items():
            ensure_tables(session, domain)
            _make_tables(session, domain, plan.places, hours)
        # As the stream does: a micro-batch starts from what the last one left.
        memories = {hours: Memory(domain, engine=memory_engine(settings)) for hours in plan.hours}
        for kind in KINDS:
            for n in range(plan.batches):
                for hours, session in sessions.items():
                    rows = _micro_batch(session, domain, plan, hours, kind, n)
                    began = time.monotonic()
                    met = apply(rows, domain.sources[0], domain, ApplyOptions(properties={"weir.query": "bench"}, memory=memories[hours]))
                    seconds = time.monotonic() - began
                    if met.accepted != plan.places:
                        raise RuntimeError(f"{met.accepted} of {plan.places} readings were accepted: {met.rejected}")
                    print(json.dumps({"hours": hours, "kind": kind, "n": n, "seconds": seconds}), flush=True)
    finally:
        spark.stop()


def _session(spark: SparkSession, settings: Settings, hours: int) -> SparkSession:
    """Open a session whose catalog is one of its own."""
    home = settings.home / f"hours-{hours}"
    home.mkdir()
    session = spark.newSession()
    for name, value in spark_catalog_conf(Settings(home=home)).items():
        session.conf.set(name, value)
    return session


def _make_tables(spark: SparkSession, domain: Domain, places: int, hours: int) -> None:
    """Write silver, then each gold table from its source, whole."""
    with session_conf(spark, BATCH_CONF if places * hours > MANY_ROWS else {}):
        _patterns(spark).createOrReplaceTempView("patterns")
        wanted = spark.range(places * hours).selectExpr(f"id % {places} AS place", f"id DIV {places} AS hour")
        on_spark(domain.sources[0].to_silver, _readings(wanted, 0)).writeTo(domain.sources[0].silver.name).append()
        for gold in domain.derived:
            on_spark(gold.to_rows, *(spark.table(reads.table.name) for reads in gold.reads)).writeTo(gold.table.name).append()


def _micro_batch(spark: SparkSession, domain: Domain, plan: Plan, hours: int, kind: str, n: int) -> DataFrame:
    """Append a micro-batch to bronze, and read it from there as the query does."""
    number = n + KINDS.index(kind) * plan.batches
    last = hours + plan.batches - 1
    hour = f"{hours + n}" if kind == "new" else f"{last} - pmod(hash(id, {number}), {REVISED_HOURS})"
    readings = _readings(spark.range(plan.places).selectExpr("id AS place", f"CAST({hour} AS BIGINT) AS hour"), number + 1)
    first = number * plan.places
    arrived = readings.selectExpr(
        "*",
        "to_date(ts_utc) AS date_utc",
        "CAST(NULL AS STRING) AS source_run",
        "CAST(NULL AS BIGINT) AS source_row",
        "CAST('{}' AS BINARY) AS value",  # a message without one is none
        f"'{HOURLY.topic}' AS topic",
        "0 AS partition",
        f"{first} + place AS kafka_offset",
        f"timestamp_millis({to_millis(RETRIEVED + timedelta(days=1))}) AS kafka_ts",
        "CAST(NULL AS INT) AS wire_version",
    )
    arrived.select(*domain.sources[0].bronze.names).writeTo(domain.sources[0].bronze.name).append()
    return spark.table(domain.sources[0].bronze.name).where(f"kafka_offset >= {first}")


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
        # Literals: a key of columns of both sides would be no key, and each row be compared with a city's every hour.
        f"ON place % {CITIES} = city AND (hour + 37 * place) % {RECORDED_HOURS} = position"
    )


def _patterns(spark: SparkSession) -> DataFrame:
    """The recorded hours, by city and position."""
    recorded = recorded_hours()
    assert [len(hours) for hours in recorded] == [RECORDED_HOURS] * CITIES
    values = [f for f in HOURLY.fields if f.name not in ("location_key", "ts_utc", "retrieved_ts")]
    rows = [
        (city, position, *(_number(hour.get(f.name)) for f in values))
        for city, hours in enumerate(recorded)
        for position, hour in enumerate(hours)
    ]
    types = ", ".join(f"{f.name} {f.kind.sql}" for f in values)
    return spark.createDataFrame(rows, f"city BIGINT, position BIGINT, {types}").cache()


def _number(value: object) -> object:
    return float(value) if isinstance(value, int) else value


def _read(home: Home, plan: Plan) -> dict[tuple[int, str], list[float]]:
    seconds: dict[tuple[int, str], list[float]] = {(hours, kind): [] for hours in plan.hours for kind in KINDS}
    for line in (home.folder / "program.log").read_text(errors="replace").splitlines():
        if line.startswith('{"hours"'):
            said = json.loads(line)
            if said["n"] >= plan.warm_up:
                seconds[said["hours"], said["kind"]].append(float(said["seconds"]))
    return seconds


if __name__ == "__main__":
    assert place_key(7) == "p0007"  # as `_readings` writes it
    run(Plan(**json.loads(sys.argv[1])), Settings())
