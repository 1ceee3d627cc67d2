"""K2: what does a history cost? 10,000 changed users go through `apply` into tables of 5 M users, with and without their history.

Two homes have the same users and the same changes: one computes `lh.gold.dim_user` (all versions of a user are folded and replaced), the
other the newest version of each user alone (`lh.silver.kaggle_users`). Both merge the same versions into silver first. A micro-batch
renames users in a dump of its own, spread over all ids, so no version is written twice. Median of 5 micro-batches after 1; the two take
turns in one driver, each in a catalog of its own. The tables are made before by a batch write with the product's transforms; each
micro-batch is appended to bronze first, which is not measured. The spans of the changed users are counted at the end.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession

from bench.measure import MIB, Usage, median, spread
from bench.report import goal, show
from bench.stage import stage
from lakehouse.apply import ApplyOptions, apply
from lakehouse.contract import to_millis
from lakehouse.domain import Domain
from lakehouse.domains.kaggle.contract import USERS
from lakehouse.domains.kaggle.domain import kaggle
from lakehouse.domains.kaggle.tables import DIM_USER, KAGGLE_USERS
from lakehouse.engine.choose import memory_engine
from lakehouse.engine.on_spark import on_spark
from lakehouse.phases import Phases
from lakehouse.settings import Settings
from lakehouse.spark import open_spark
from lakehouse.tables.catalog import spark_catalog_conf
from lakehouse.tables.create import ensure_tables
from lakehouse.write.small_batches.memory_store import Memory
from lakehouse.write.small_batches.session_tuning import COMPILED, session_conf

LIMIT_SECONDS = 3_600.0
BATCH_CONF = COMPILED | {"spark.sql.shuffle.partitions": "16"}
KINDS = {"history": DIM_USER.name, "no history": KAGGLE_USERS.name}
FIRST_DUMP = datetime(2025, 1, 1, 6, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Plan:
    """How many users there are, how many of them a micro-batch changes, and how many micro-batches run on each home."""

    users: int
    changed: int
    warm_up: int
    measured: int


def history_merge(quick: bool, _: int | None = None) -> None:
    """Measure and print K2."""
    plan = Plan(100_000, 1_000, 1, 2) if quick else Plan(5_000_000, 10_000, 1, 5)
    with stage(with_broker=False) as here:
        home = here.home(None)
        driver = here.python(home, "bench.history_merge", json.dumps(asdict(plan)))
        with Usage(driver.pid) as used:
            driver.wait(LIMIT_SECONDS)
        lines = (home.folder / "program.log").read_text(errors="replace").splitlines()
    found = [json.loads(line) for line in lines if line.startswith('{"kind"')]
    seconds = {kind: [one["seconds"] for one in found if one["kind"] == kind and one["n"] >= plan.warm_up] for kind in KINDS}
    tables = {kind: [one["table"] for one in found if one["kind"] == kind and one["n"] >= plan.warm_up] for kind in KINDS}
    show(
        f"K2 {plan.changed:,} changed of {plan.users:,} users, s, median of {plan.measured} after {plan.warm_up} (least-greatest)",
        ["home", "whole micro-batch", "of it the derived table"],
        [[kind, spread(seconds[kind], 2), spread(tables[kind], 2)] for kind in KINDS],
        [
            goal("micro-batch: history / no history", median(seconds["history"]) / median(seconds["no history"]), 2.0),
            f"  the derived table alone: {median(tables['history']) / median(tables['no history']):.2f}",
            f"  CPU {used.cpu_seconds:,.0f} s and peak PSS {used.peak_pss / MIB:,.0f} MiB of the whole run, making the tables included",
        ],
    )


def run(plan: Plan, settings: Settings) -> None:
    """Make the tables and apply the micro-batches; print the seconds of each, as JSON lines.

    Raises:
        RuntimeError: a micro-batch was not accepted whole, or the history does not have the changed users' spans.
    """
    spark = open_spark(settings, "weir bench")
    try:
        domains = {kind: _only(table) for kind, table in KINDS.items()}
        sessions = {kind: _session(spark, settings, n) for n, kind in enumerate(KINDS)}
        for kind, session in sessions.items():
            ensure_tables(session, domains[kind])
            _make_tables(session, domains[kind], plan.users)
        memories = {kind: Memory(domains[kind], engine=memory_engine(settings)) for kind in KINDS}
        for n in range(plan.warm_up + plan.measured):
            for kind, session in sessions.items():
                domain, phases = domains[kind], Phases()
                rows = _micro_batch(session, domain, plan, n)
                options = ApplyOptions(properties={"weir.query": "bench"}, memory=memories[kind], phases=phases)
                began = time.monotonic()
                met = apply(rows, domain.sources[0], domain, options)
                seconds = time.monotonic() - began
                if met.accepted != plan.changed:
                    raise RuntimeError(f"{met.accepted} of {plan.changed} users were accepted: {met.rejected}")
                table = phases.seconds[KINDS[kind].removeprefix("lh.")]
                print(json.dumps({"kind": kind, "n": n, "seconds": seconds, "table": table, "engine": met.engine}), flush=True)
        spans = sessions["history"].table(DIM_USER.name).where("user_id >= 0").count()
        expected = plan.users + plan.changed * (plan.warm_up + plan.measured)
        if spans != expected:
            raise RuntimeError(f"{DIM_USER.name} has {spans:,} spans of users, expected {expected:,}")
    finally:
        spark.stop()


def _only(table: str) -> Domain:
    """Return the domain with its users and one table of theirs."""
    domain = kaggle("names")
    return replace(domain, sources=domain.sources[:1], derived=[one for one in domain.derived if one.table.name == table], dimensions=())


def _session(spark: SparkSession, settings: Settings, number: int) -> SparkSession:
    home = settings.home / f"home-{number}"
    home.mkdir()
    session = spark.newSession()
    for name, value in spark_catalog_conf(Settings(home=home)).items():
        session.conf.set(name, value)
    return session


def _make_tables(spark: SparkSession, domain: Domain, users: int) -> None:
    """Write silver's versions of one dump, then the derived table, whole."""
    with session_conf(spark, BATCH_CONF):
        rows = _users(spark.range(users), 0)
        on_spark(domain.sources[0].to_silver, rows).writeTo(domain.sources[0].silver.name).append()
        for derived in domain.derived:
            made = on_spark(derived.to_rows, *(spark.table(reads.table.name) for reads in derived.reads))
            made.select(*derived.table.names).writeTo(derived.table.name).append()


def _micro_batch(spark: SparkSession, domain: Domain, plan: Plan, n: int) -> DataFrame:
    """Append the changes of a dump to bronze, and read them from there as the query does: every so many users, others in each dump."""
    step, source = plan.users // plan.changed, domain.sources[0]
    changed = _users(spark.range(plan.changed).selectExpr(f"id * {step} + {n} AS id"), n + 1)
    first = n * plan.changed
    arrived = changed.selectExpr(
        "*",
        "CAST(NULL AS STRING) AS source_run",
        "CAST(NULL AS BIGINT) AS source_row",
        "CAST('{}' AS BINARY) AS value",  # a message without one is none
        f"'{USERS.topic}' AS topic",
        "0 AS partition",
        f"{first} + user_id DIV {step} AS kafka_offset",
        "run_ts AS kafka_ts",
        "CAST(NULL AS INT) AS wire_version",
    )
    arrived.select(*source.bronze.names).writeTo(source.bronze.name).append()
    return spark.table(source.bronze.name).where(f"kafka_offset >= {first}")


def _users(ids: DataFrame, dump: int) -> DataFrame:
    """Fill ids with a user's values; in a later dump the name is another one. Nineteen of twenty give no country, as in the real data."""
    day = 86_400_000
    fields: dict[str, str] = {
        "user_id": "id",
        "user_name": f"concat('user-', id, '-', {dump})",
        "display_name": "concat('User ', id)",
        "signup_ts": f"timestamp_millis({to_millis(FIRST_DUMP)} - (id % 4000) * {day})",
        "country": "CASE WHEN id % 40 = 0 THEN 'India' WHEN id % 40 = 20 THEN 'Viet Nam' END",
        "performance_tier": "id % 6",
        "run_ts": f"timestamp_millis({to_millis(FIRST_DUMP)} + {dump} * {day})",
        "run_date": f"CAST(timestamp_millis({to_millis(FIRST_DUMP)} + {dump} * {day}) AS DATE)",
        "is_gone": "false",
    }
    columns: Sequence[str] = [f"CAST({fields.get(f.name, 'NULL')} AS {f.kind.sql}) AS {f.name}" for f in USERS.fields]
    return ids.selectExpr(*columns)


if __name__ == "__main__":
    run(Plan(**json.loads(sys.argv[1])), Settings())
