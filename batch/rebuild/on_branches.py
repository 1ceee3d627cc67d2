"""How are silver and gold made anew after a rule has changed? Beside the tables that everybody reads, on a branch of each.

A branch begins as a copy of its table. It is filled by the same transforms as the stream's and a backfill's, in one pass, or where days
are named, in their spans only. Meanwhile the stream goes on with the tables; what it does there is caught up with on the branch, as
often as needed and once more while it waits, and then the branches take the tables' place (`lakehouse/write/publishing.py`).

What to catch up with: where silver is made anew from all of bronze, bronze's rows since; otherwise the spans in which silver has changed.
"""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from batch.bronze_since import check_whole
from batch.compare import Comparison
from batch.consistent_snapshots import NoGold
from batch.rebuild.compare_frames import compare_frames
from batch.rebuild.silver_part import changes_of, rebuild_silver_part, rejected, sources_in_time, spans_of
from batch.table_changes import added_rows, applied_ranges, applied_through, changed_silver
from lakehouse.apply import ApplyOptions, apply, refresh_derived
from lakehouse.changes import Changes
from lakehouse.codecs.parse import retyped
from lakehouse.days import Days
from lakehouse.derive import to_gold, to_silver
from lakehouse.domain import ByTime, Derived, Domain, Matching, Reads, Source
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.locks.table_locks import table_lock
from lakehouse.parts import Part
from lakehouse.pending import ComputedFrom, to_property
from lakehouse.settings import Settings
from lakehouse.spans import Spans
from lakehouse.spark import iceberg_table
from lakehouse.tables.editions import check_edition, edition_properties
from lakehouse.tables.properties import OFFSET_RANGE_PROPERTY
from lakehouse.tables.schema import REJECTS, Table
from lakehouse.write.merge import replace_rows
from lakehouse.write.plain_rows import batch_properties, overwrite_rows
from lakehouse.write.publishing import REBUILD_BRANCH, Note, branch_head, look_before_writing, note_table, publish
from lakehouse.write.small_batches.session_tuning import conf_for_many, session_conf

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
        self._derived = [one for one in domain.derived if not tables or one.table.name in tables]
        if len(self._derived) < len(domain.derived):
            self._check_same_edition()
        self._beside = _on_branch(domain, self._branch, is_silver, _with_inputs(domain, self._derived))
        self._properties = batch_properties(f"rebuild {domain.name}", 0)
        # Of what is written to the branches, which nobody reads yet.
        self._options = ApplyOptions(properties=self._properties, is_beside=True)
        # The snapshots that the branches are made of so far, by the name of the table.
        self._bronze: dict[str, int | None] = {}
        self._silver: dict[str, int] = {}
        self._caught_at = time.monotonic()
        self._rejects: int | None = None

    def __enter__(self) -> "Rebuild":
        """Make the branches, as copies of the tables between two `apply`."""
        spark, domain = self._spark, self._domain
        with table_lock(self._settings, domain.name):
            look_before_writing(spark, replace(domain, edition={}))
            self._silver = {one.silver.name: branch_head(spark, one.silver.name) or 0 for one in domain.sources}
            self._bronze = {one.bronze.name: applied_through(spark, domain, one) for one in domain.sources}
            if not any(self._silver.values()) or not any(self._bronze.values()):
                raise NoGold(domain.name)
            if self._is_silver:
                check_whole(spark, domain, self._days)
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
        spark, beside = self._spark, self._beside
        heads = [iceberg_table(spark, name).snapshot(head) for name, head in self._silver.items() if head]
        rows = sum(int(head.summary().get("total-records") or 0) for head in heads)
        with session_conf(spark, conf_for_many(rows)):
            if self._days is None:
                self._build_all()
            elif self._is_silver:
                rebuild_silver_part(spark, beside, spans_of(spark, beside, self._days), self._properties, self._bronze, is_beside=True)
            else:
                changes = changes_of(beside, spans_of(spark, beside, self._days))
                refresh_derived(spark, beside, changes, self._options)
        log.info("built beside", domain=self._domain.name, seconds=round(time.monotonic() - began, 1))

    def compare(self) -> list[Comparison]:
        """Compare the tables as they are with what was built, both as far as the stream has come."""
        spark, domain = self._spark, self._domain
        self._catch_up_before_a_turn()
        with table_lock(self._settings, domain.name):
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
            with table_lock(self._settings, domain.name):
                check()
                # Before what is caught up with is looked at: what it was made of is in bronze by then.
                before = {one.silver.name: branch_head(spark, one.silver.name) for one in domain.sources}
                self._catch_up(to_the_end=True)
                if self._is_silver:
                    self._publish_rejects()
                tables = [table for table in self._published if table.name != REJECTS.name]
                snapshots = {table.name: branch_head(spark, table.name, self._branch) for table in tables}
                there = {name: snapshot for name, snapshot in snapshots.items() if snapshot is not None}
                noted = to_property(self._made_of(there))
                properties = {one.table.name: {**edition_properties(domain), **noted} for one in self._derived}
                is_done = publish(spark, note_table(domain), Note(self._branch, before, there, properties))
                now = {one.silver.name: branch_head(spark, one.silver.name) for one in domain.sources}
                if is_done and not self._is_silver and now != before:
                    # Only where there are no turns between machines: gold of these rows may have gone into what was replaced.
                    refresh_derived(spark, domain, self._changed_silver(domain), ApplyOptions(properties=self._properties))
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
        silver = [*(one.silver for one in self._domain.sources), REJECTS] if self._is_silver else []
        names = [_main_name(one.table.name) for one in self._beside.derived]
        return silver + [one.table for one in self._domain.derived if one.table.name in names]

    @property
    def _published(self) -> list[Table]:
        """Those of them that are to be published, silver first."""
        silver = [*(one.silver for one in self._domain.sources), REJECTS] if self._is_silver else []
        return silver + [one.table for one in self._derived]

    @property
    def _starts(self) -> Mapping[str, str]:
        """The column with the time of rows, by the name of each table that is kept by time."""
        return {name: kind.starts for name, kind in self._domain.kinds.items() if isinstance(kind, ByTime)}

    def _check_same_edition(self) -> None:
        try:
            check_edition(self._domain, lambda name: iceberg_table(self._spark, name).properties())
        except LakehouseError as error:
            raise NotPublished(self._domain.name, f"all gold tables must be of one edition, so name all of them ({error})") from error

    def _made_of(self, published: Mapping[str, int]) -> ComputedFrom:
        """Tell of which snapshots the published tables are made: those that are published with them, or those that are there."""
        made: ComputedFrom = {}
        for one in self._derived:
            names = [reads.table.name for reads in one.reads]
            made[one.table.name] = {name: published.get(name) or branch_head(self._spark, name) or 0 for name in names}
        return made

    def _changed_silver(self, wanted: Domain) -> dict[str, Changes]:
        """Find what has changed in silver since the branches were last caught up with; by the names that a domain's tables have."""
        found = {}
        for source, named in zip(self._domain.sources, wanted.sources, strict=True):
            found[named.silver.name] = changed_silver(self._spark, self._domain, source, self._silver[source.silver.name])
        return found

    def _build_all(self) -> None:
        spark, beside = self._spark, self._beside
        silver = {}
        if self._is_silver:
            bronze = [(one, self._rows_of_bronze(one)) for one in beside.sources]
            for source, rows in bronze:
                said = {**self._properties, OFFSET_RANGE_PROPERTY: _offsets(rows)}
                overwrite_rows(to_silver(rows, source), source.silver, said)
                silver[source.silver.name] = spark.table(source.silver.name)
            replace_rows(rejected(bronze, beside), beside.rejects, spark.table(beside.rejects.name).where(F.col("domain") == beside.name))
        else:
            for source in beside.sources:
                name, head = source.silver.name, self._silver[source.silver.name]
                silver[name] = spark.sql(f"SELECT * FROM {name} VERSION AS OF {head}") if head else spark.table(name).limit(0)

        tables = {one.table.name: one.table for one in beside.derived}

        def keep(name: str, rows: DataFrame) -> DataFrame:
            overwrite_rows(rows, tables[name], self._properties)
            return spark.table(name)

        to_gold(beside, silver, keep)

    def _rows_of_bronze(self, source: Source) -> DataFrame:
        head = self._bronze[source.bronze.name]
        if head is None:
            return retyped(self._spark.table(source.bronze.name).limit(0), source.contract)
        return retyped(self._spark.sql(f"SELECT * FROM {source.bronze.name} VERSION AS OF {head}"), source.contract)

    def _catch_up_before_a_turn(self) -> None:
        """Leave little for the turn, in which the stream waits."""
        if time.monotonic() - self._caught_at > LITTLE_SECONDS:
            self._catch_up()

    def _catch_up(self, to_the_end: bool = False) -> None:
        """Do on the branches what has come since; as far as the stream has come, or also what it has not applied yet."""
        spark, domain = self._spark, self._domain
        self._caught_at = time.monotonic()
        if self._is_silver and self._days is None:
            for source, on_branch in zip(domain.sources, self._beside.sources, strict=True):
                name, before = source.bronze.name, self._bronze[source.bronze.name]
                head = branch_head(spark, name) if to_the_end else applied_through(spark, domain, source)
                if head is None or head == before:
                    continue
                rows = spark.table(name) if before is None else added_rows(spark, name, before, head)
                if rows is not None:
                    apply(rows, on_branch, self._beside, self._options)
                    self._bronze[name] = head
            return
        heads = {one.silver.name: branch_head(spark, one.silver.name) or 0 for one in domain.sources}
        if heads == self._silver:
            return
        changes = self._changed_silver(self._beside)
        if self._is_silver:
            # The commits that said it on the main branch will not be among the ancestors any more.
            said = {**self._properties, OFFSET_RANGE_PROPERTY: applied_ranges(spark, domain)}
            spans = {}
            for source, kind in sources_in_time(self._beside):
                found = changes[source.silver.name].spans(kind.times)
                assert isinstance(found, Spans)  # silver that is kept by time changes in spans
                spans[source.silver.name] = found
            # No further than the stream: what it has not applied yet it will.
            through = {one.bronze.name: applied_through(spark, domain, one) for one in domain.sources}
            if any(spans.values()):
                rebuild_silver_part(spark, self._beside, spans, said, through, is_beside=True)
        else:
            refresh_derived(spark, self._beside, changes, self._options)
        self._silver = heads

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
    with table_lock(settings, domain.name):
        look_before_writing(spark, replace(domain, edition={}))
        _drop_branches(spark, domain)


def _branch_of(domain: Domain) -> str:
    return f"{REBUILD_BRANCH}_{domain.name}"


def _drop_branches(spark: SparkSession, domain: Domain) -> None:
    branch = _branch_of(domain)
    for table in (*domain.merged, REJECTS):
        if branch_head(spark, table.name, branch) is not None:
            spark.sql(f"ALTER TABLE {table.name} DROP BRANCH {branch}")


def _main_name(name: str) -> str:
    return name.partition(".branch_")[0]


def _on_branch(domain: Domain, branch: str, is_silver: bool, wanted: Sequence[Derived]) -> Domain:
    """Move some derived tables of a domain to a branch, and its silver tables too if they are rebuilt."""
    on_branch = {one.table.name for one in wanted} | ({one.silver.name for one in domain.sources} if is_silver else set())

    def on(table: Table) -> Table:
        return replace(table, name=f"{table.name}.branch_{branch}") if table.name in on_branch else table

    def reads_on(reads: Reads) -> Reads:
        needs = reads.needs

        def needed(part: Part) -> Part | Matching:
            found = needs(part)
            is_there = isinstance(found, Matching) and found.table in on_branch
            return Matching(f"{found.table}.branch_{branch}", found.names) if is_there else found  # type: ignore[union-attr]  # it is one

        return replace(reads, table=on(reads.table), needs=needed)

    sources = [replace(one, silver=on(one.silver)) for one in domain.sources]
    derived = [
        # What the transform no longer makes goes, also where a row once made is made for ever.
        replace(one, table=on(one.table), reads=tuple(reads_on(reads) for reads in one.reads), vanishes=True)
        for one in wanted
    ]
    rejects = replace(REJECTS, name=f"{REJECTS.name}.branch_{branch}") if is_silver else REJECTS
    return replace(domain, sources=sources, derived=derived, rejects=rejects, edition={})


def _with_inputs(domain: Domain, wanted: Sequence[Derived]) -> list[Derived]:
    """Add the derived tables that some are made of, in the domain's order."""
    names = {one.table.name for one in wanted}
    for one in reversed(domain.derived):
        if one.table.name in names:
            names |= {reads.table.name for reads in one.reads}
    return [one for one in domain.derived if one.table.name in names]


def _offsets(rows: DataFrame) -> str:
    """Write the offsets that rows of bronze cover, as `apply` does."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    times = F.min("kafka_offset").alias("first"), F.max("kafka_offset").alias("last")
    for row in rows.where("topic IS NOT NULL").groupBy("topic", "partition").agg(*times).collect():
        found.setdefault(row["topic"], {})[str(row["partition"])] = (row["first"], row["last"])
    return json.dumps(found)
