"""How are silver and gold made anew after a rule has changed? Beside the tables that everybody reads, on a branch of each.

A branch begins as a copy of its table. It is filled by the same transforms as the stream's and a backfill's, in one pass, or where days
are named, in their spans only. Meanwhile the stream goes on with the tables; what it does there is caught up with on the branch, as
often as needed and once more while it waits, and then the branches take the tables' place (`lakehouse/sinks/publishing.py`).

What to catch up with: where silver is made anew from all of bronze, bronze's rows since; otherwise the spans in which silver has changed.
"""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from batch.compare import Comparison
from batch.compare_frames import compare_frames
from batch.heads import NoGold
from batch.silver_anew import rejected, silver_anew, spans_of
from batch.snapshots import added_rows, applied_ranges, applied_through, changed_spans
from batch.whole import check_whole
from lakehouse.apply import OFFSETS_PROPERTY, apply, refresh_gold, to_gold, to_silver
from lakehouse.days import Days
from lakehouse.domain import Domain, Gold
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.few_rows import conf_for_many, session_conf
from lakehouse.parse import retyped
from lakehouse.schema import REJECTS, Table
from lakehouse.settings import Settings
from lakehouse.sinks.merge import replace_rows
from lakehouse.sinks.publishing import REBUILD_BRANCH, Note, branch_head, check_edition, edition_properties, look_before_writing, publish
from lakehouse.sinks.tables import batch_properties, overwrite_rows
from lakehouse.spark import iceberg_table
from lakehouse.turns import turn

# How often publishing is begun anew where another machine writes in between, on catalogs without turns between machines.
ATTEMPTS = 10

# What a stream writes in so long costs as much to catch up with as what it writes in a moment: the commits, not the rows.
LITTLE_SECONDS = 30.0

log = structlog.get_logger("weir.rebuild")


class NotPublished(LakehouseError, Fatal):
    """The tables stay as they were."""

    def __init__(self, domain: str, why: str) -> None:
        super().__init__(f"The rebuild of {domain} was not published: {why}. The tables are as they were.")


class Rebuild:
    """One rebuild of a domain's silver or gold, beside its tables; use it in a `with`, which removes the branches.

    Args:
        settings: name the catalog.
        domain: whose, by today's rules.
        spark: the session.
        is_silver: make silver anew from bronze, and gold of it; otherwise gold from silver as it is.
        days: only what these UTC days of event time reach, both included; all without.
        tables: names of the gold tables to be published; all without.

    Raises:
        NoGold: there is nothing yet.
        NotPublished: gold's edition has changed, and only some of its tables were named.
        NotWhole: bronze no longer holds what silver is made of.
    """

    def __init__(
        self, settings: Settings, domain: Domain, spark: SparkSession, is_silver: bool, days: Days = None, tables: Collection[str] = ()
    ) -> None:
        self._settings, self._domain, self._spark, self._is_silver, self._days = settings, domain, spark, is_silver, days
        self._branch = _branch_of(domain)
        self._gold = [gold for gold in domain.gold if not tables or gold.table.name in tables]
        if len(self._gold) < len(domain.gold):
            self._check_same_edition()
        self._beside = _on_branch(domain, self._branch, is_silver, _with_sources(domain, self._gold))
        self._properties = batch_properties(f"rebuild {domain.name}", 0)
        self._bronze = self._silver = 0
        self._caught_at = time.monotonic()
        self._rejects: int | None = None

    def __enter__(self) -> "Rebuild":
        """Make the branches, as copies of the tables between two `apply`."""
        spark, domain = self._spark, self._domain
        with turn(self._settings, domain.name):
            look_before_writing(spark, replace(domain, edition={}))
            silver = branch_head(spark, domain.silver.name)
            bronze = applied_through(spark, domain)
            if silver is None or bronze is None:
                raise NoGold(domain.name)
            if self._is_silver:
                check_whole(spark, domain, self._days)
            self._silver, self._bronze = silver, bronze
            self._drop_branches()
            for table in self._branched:
                spark.sql(f"ALTER TABLE {table.name} CREATE BRANCH {self._branch}")
            self._caught_at = time.monotonic()
        self._rejects = branch_head(spark, REJECTS.name)
        return self

    def __exit__(self, *_: object) -> None:
        """Throw away what was not published."""
        self._drop_branches()

    def build(self) -> None:
        """Fill the branches."""
        began = time.monotonic()
        rows = int(iceberg_table(self._spark, self._domain.silver.name).snapshot(self._silver).summary().get("total-records") or 0)
        with session_conf(self._spark, conf_for_many(rows)):
            if self._days is None:
                self._build_all()
            elif self._is_silver:
                silver_anew(self._spark, self._beside, spans_of(self._spark, self._domain, self._days), self._properties, self._bronze)
            else:
                refresh_gold(self._spark, self._beside, spans_of(self._spark, self._domain, self._days), self._properties)
        log.info("built beside", domain=self._domain.name, seconds=round(time.monotonic() - began, 1))

    def compare(self) -> list[Comparison]:
        """Compare the tables as they are with what was built, both as far as the stream has come."""
        spark, domain = self._spark, self._domain
        self._catch_up_before_a_turn()
        with turn(self._settings, domain.name):
            self._catch_up()
            heads = {table.name: (branch_head(spark, table.name), branch_head(spark, table.name, self._branch)) for table in self._branched}
        compared = []
        for table in self._published:
            found, expected = (
                spark.sql(f"SELECT * FROM {table.name} VERSION AS OF {head}") if head else spark.table(table.name).limit(0)
                for head in heads[table.name]
            )
            if table.name == REJECTS.name:
                found, expected = (rows.where(F.col("domain") == domain.name) for rows in (found, expected))
            compared.append(compare_frames(table, found, expected, self._starts.get(table.name, "")))
        return compared

    def publish(self, check: Callable[[], None] = lambda: None) -> None:
        """Let the branches take the tables' place; the stream waits meanwhile, for as long as the last catching up takes.

        Args:
            check: raises when this is no longer the one that may.

        Raises:
            NotPublished: another machine wrote in between again and again.
        """
        spark, domain = self._spark, self._domain
        for _ in range(ATTEMPTS):
            self._catch_up_before_a_turn()
            began = time.monotonic()
            with turn(self._settings, domain.name):
                check()
                # Before what is caught up with is looked at: what it was made of is in bronze by then.
                before = branch_head(spark, domain.silver.name)
                self._catch_up(to_the_end=True)
                if self._is_silver:
                    self._publish_rejects()
                tables = [table for table in self._published if table.name != REJECTS.name]
                snapshots = {table.name: branch_head(spark, table.name, self._branch) for table in tables}
                edition = {gold.table.name: edition_properties(domain) for gold in self._gold}
                there = {name: snapshot for name, snapshot in snapshots.items() if snapshot is not None}
                is_done = publish(spark, domain.silver.name, Note(self._branch, before, there, edition))
                if is_done and not self._is_silver and branch_head(spark, domain.silver.name) != before:
                    # Only where there are no turns between machines: gold of these rows may have gone into what was replaced.
                    refresh_gold(spark, domain, changed_spans(spark, domain, self._silver), self._properties)
            if is_done:
                log.info("published", domain=domain.name, stream_waited=round(time.monotonic() - began, 2))
                return
        raise NotPublished(domain.name, f"another machine wrote in between {ATTEMPTS} times")

    def _drop_branches(self) -> None:
        """Also those that one left behind which was killed."""
        _drop_branches(self._spark, self._domain)

    @property
    def _branched(self) -> list[Table]:
        """The tables that have a branch."""
        silver = [self._domain.silver, REJECTS] if self._is_silver else []
        names = [gold.table.name.partition(".branch_")[0] for gold in self._beside.gold]
        return silver + [gold.table for gold in self._domain.gold if gold.table.name in names]

    @property
    def _published(self) -> list[Table]:
        """Those of them that are to be published, silver first."""
        silver = [self._domain.silver, REJECTS] if self._is_silver else []
        return silver + [gold.table for gold in self._gold]

    @property
    def _starts(self) -> Mapping[str, str]:
        return {self._domain.silver.name: self._domain.event_time, **{gold.table.name: gold.starts for gold in self._domain.gold}}

    def _check_same_edition(self) -> None:
        try:
            check_edition(self._domain, lambda name: iceberg_table(self._spark, name).properties())
        except LakehouseError as error:
            raise NotPublished(self._domain.name, f"all gold tables must be of one edition, so name all of them ({error})") from error

    def _build_all(self) -> None:
        spark, beside = self._spark, self._beside
        if self._is_silver:
            rows = retyped(spark.sql(f"SELECT * FROM {beside.bronze.name} VERSION AS OF {self._bronze}"), beside.contract)
            overwrite_rows(to_silver(rows, beside), beside.silver, {**self._properties, OFFSETS_PROPERTY: _offsets(rows)})
            replace_rows(rejected(rows, beside), beside.rejects, spark.table(beside.rejects.name).where(F.col("domain") == beside.name))
            silver = spark.table(beside.silver.name)
        else:
            silver = spark.sql(f"SELECT * FROM {beside.silver.name} VERSION AS OF {self._silver}")

        tables = {gold.table.name: gold.table for gold in beside.gold}

        def keep(name: str, rows: DataFrame) -> DataFrame:
            overwrite_rows(rows, tables[name], self._properties)
            return spark.table(name)

        to_gold(beside, silver, keep)

    def _catch_up_before_a_turn(self) -> None:
        """Leave little for the turn, in which the stream waits."""
        if time.monotonic() - self._caught_at > LITTLE_SECONDS:
            self._catch_up()

    def _catch_up(self, to_the_end: bool = False) -> None:
        """Do on the branches what has come since; as far as the stream has come, or also what it has not applied yet."""
        spark, domain = self._spark, self._domain
        self._caught_at = time.monotonic()
        if self._is_silver and self._days is None:
            head = branch_head(spark, domain.bronze.name) if to_the_end else applied_through(spark, domain)
            if head is not None and (rows := added_rows(spark, domain.bronze.name, self._bronze, head)) is not None:
                apply(rows, self._beside, self._properties)
                self._bronze = head
            return
        head = branch_head(spark, domain.silver.name)
        if head is None or head == self._silver:
            return
        spans = changed_spans(spark, domain, self._silver)
        if spans and self._is_silver:
            # The commits that said it on the main branch will not be among the ancestors any more.
            said = {**self._properties, OFFSETS_PROPERTY: applied_ranges(spark, domain)}
            # No further than the stream: what it has not applied yet it will.
            silver_anew(spark, self._beside, spans, said, applied_through(spark, domain))
        elif spans:
            refresh_gold(spark, self._beside, spans, self._properties)
        self._silver = head

    def _publish_rejects(self) -> None:
        """Bring the rejects of the domain, in the table of all domains, to those on the branch."""
        if branch_head(self._spark, REJECTS.name, self._branch) == self._rejects:
            return
        wanted, present = (
            self._spark.table(table.name).where(F.col("domain") == self._domain.name) for table in (self._beside.rejects, REJECTS)
        )
        replace_rows(wanted, REJECTS, present)


def rebuild_lease(domain: Domain) -> str:
    """Name the lease that a rebuild of a domain has, so that there is one at a time."""
    return f"rebuild {domain.name}"


def end_what_was_killed(settings: Settings, domain: Domain, spark: SparkSession) -> None:
    """Publish what a killed rebuild was about to publish, and remove its branches; for whoever has `rebuild_lease`."""
    with turn(settings, domain.name):
        look_before_writing(spark, replace(domain, edition={}))
        _drop_branches(spark, domain)


def _branch_of(domain: Domain) -> str:
    return f"{REBUILD_BRANCH}_{domain.name}"


def _drop_branches(spark: SparkSession, domain: Domain) -> None:
    branch = _branch_of(domain)
    for table in (domain.silver, REJECTS, *(gold.table for gold in domain.gold)):
        if branch_head(spark, table.name, branch) is not None:
            spark.sql(f"ALTER TABLE {table.name} DROP BRANCH {branch}")


def _on_branch(domain: Domain, branch: str, is_silver: bool, golds: Sequence[Gold]) -> Domain:
    """Give the domain whose silver, where it is made anew, and gold lie on a branch."""

    def on(table: Table) -> Table:
        return replace(table, name=f"{table.name}.branch_{branch}")

    silver = on(domain.silver) if is_silver else domain.silver
    made = [
        replace(gold, table=on(gold.table), source=silver if gold.source.name == domain.silver.name else on(gold.source), vanishes=True)
        for gold in golds
    ]
    return replace(domain, silver=silver, gold=made, rejects=on(REJECTS) if is_silver else REJECTS, edition={})


def _with_sources(domain: Domain, wanted: Sequence[Gold]) -> list[Gold]:
    """Add the gold tables that some are made of, in the domain's order."""
    names = {gold.table.name for gold in wanted}
    for gold in reversed(domain.gold):
        if gold.table.name in names:
            names.add(gold.source.name)
    return [gold for gold in domain.gold if gold.table.name in names]


def _offsets(rows: DataFrame) -> str:
    """Write the offsets that rows of bronze cover, as `apply` does."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    times = F.min("kafka_offset").alias("first"), F.max("kafka_offset").alias("last")
    for row in rows.where("topic IS NOT NULL").groupBy("topic", "partition").agg(*times).collect():
        found.setdefault(row["topic"], {})[str(row["partition"])] = (row["first"], row["last"])
    return json.dumps(found)
