"""How are silver and gold rebuilt after a rule has changed? On a branch of each table, while everybody keeps reading the tables.

A branch starts as a copy of its table. The transforms that the stream and backfills use fill it in one pass, or only in the spans of given
days. Meanwhile the stream keeps writing to the tables. The branches catch up with its changes as often as needed, and once more while the
stream waits; then they replace the tables (`lakehouse/write/publishing.py`).

If silver is rebuilt from all of bronze, the branches catch up with bronze's new rows; otherwise with the spans in which silver has changed.
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
from lakehouse.must_hold import check_rows
from lakehouse.parts import Part
from lakehouse.pending import ComputedFrom, to_property
from lakehouse.settings import Settings
from lakehouse.spans import Spans
from lakehouse.spark import iceberg_table
from lakehouse.tables.editions import check_edition, edition_properties
from lakehouse.tables.properties import OFFSET_RANGE_PROPERTY, run_of
from lakehouse.tables.schema import REJECTS, Table
from lakehouse.write.merge import replace_rows
from lakehouse.write.merge_store import with_run
from lakehouse.write.plain_rows import batch_properties, overwrite_rows
from lakehouse.write.publishing import REBUILD_BRANCH, Note, branch_head, look_before_writing, note_table, publish
from lakehouse.write.small_batches.session_tuning import conf_for_many, session_conf

# How often publishing is retried if another machine writes meanwhile, with catalogs that have no table lock across machines.
ATTEMPTS = 10

# Catching up with this many seconds of a stream costs no more than with a moment of it, since the cost is in commits, not in rows.
LITTLE_SECONDS = 30.0

log = structlog.get_logger("weir.rebuild")


class NotPublished(LakehouseError, Fatal):
    """The rebuild was not published; the tables are unchanged."""

    def __init__(self, domain: str, why: str) -> None:
        super().__init__(f"The rebuild of {domain} was not published: {why}. The tables are unchanged.")


class Rebuild:
    """One rebuild of a domain's silver or gold on branches of its tables; use it in a `with` block, which removes the branches.

    Args:
        settings: with the catalog.
        domain: the domain, by the current rules.
        spark: the session.
        is_silver: rebuild silver from bronze, then gold; otherwise gold from silver as it is.
        days: rebuild only what these UTC days of event time affect, both included; everything when left out.
        tables: names of the gold tables to publish; all when left out.

    Raises:
        NoGold: there are no rows yet.
        NotPublished: gold's edition has changed, and only some of its tables were named.
        NotWhole: bronze no longer has the rows from which silver is computed.
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
        # For writes to the branches, which nobody reads yet.
        self._options = ApplyOptions(properties=self._properties, is_beside=True)
        # {table: the snapshot up to which the branches are computed}.
        self._bronze: dict[str, int | None] = {}
        self._silver: dict[str, int] = {}
        self._caught_at = time.monotonic()
        self._rejects: int | None = None

    def __enter__(self) -> "Rebuild":
        """Create the branches as copies of the tables between two `apply`."""
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
        """Remove the branches that were not published."""
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
        """Compare the tables with their branches, both up to the stream's position."""
        spark, domain = self._spark, self._domain
        self._catch_up_before_lock()
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
        """Replace the tables by the branches. The stream waits while the branches catch up for the last time.

        Args:
            check: raises if this program has lost its lease.

        Raises:
            NotPublished: another machine wrote meanwhile in each of `ATTEMPTS` attempts.
        """
        spark, domain = self._spark, self._domain
        for _ in range(ATTEMPTS):
            self._catch_up_before_lock()
            began = time.monotonic()
            with table_lock(self._settings, domain.name):
                check()
                # Read before the branches catch up, so that bronze has all rows of these snapshots by then.
                before = {one.silver.name: branch_head(spark, one.silver.name) for one in domain.sources}
                self._catch_up(to_the_end=True)
                if self._is_silver:
                    self._publish_rejects()
                tables = [table for table in self._published if table.name != REJECTS.name]
                snapshots = {table.name: branch_head(spark, table.name, self._branch) for table in tables}
                present = {name: snapshot for name, snapshot in snapshots.items() if snapshot is not None}
                noted = to_property(self._computed_from(present))
                properties = {one.table.name: {**edition_properties(domain), **noted} for one in self._derived}
                is_done = publish(spark, note_table(domain), Note(self._branch, before, present, properties))
                now = {one.silver.name: branch_head(spark, one.silver.name) for one in domain.sources}
                if is_done and not self._is_silver and now != before:
                    # Only without a table lock across machines: gold of these rows may have been written to the replaced snapshots.
                    refresh_derived(spark, domain, self._changed_silver(domain), ApplyOptions(properties=self._properties))
            if is_done:
                log.info("published", domain=domain.name, stream_waited=round(time.monotonic() - began, 2))
                return
        raise NotPublished(domain.name, f"another machine wrote meanwhile in each of {ATTEMPTS} attempts")

    def _drop_branches(self) -> None:
        """Drop the branches, also those of a rebuild that was killed."""
        _drop_branches(self._spark, self._domain)

    @property
    def _branched(self) -> list[Table]:
        """The tables that have a branch."""
        silver = [*(one.silver for one in self._domain.sources), REJECTS] if self._is_silver else []
        names = [_main_name(one.table.name) for one in self._beside.derived]
        return silver + [one.table for one in self._domain.derived if one.table.name in names]

    @property
    def _published(self) -> list[Table]:
        """Those of them that will be published, silver first."""
        silver = [*(one.silver for one in self._domain.sources), REJECTS] if self._is_silver else []
        return silver + [one.table for one in self._derived]

    @property
    def _starts(self) -> Mapping[str, str]:
        """The column with the rows' time, by the name of each table that is kept by time."""
        return {name: kind.starts for name, kind in self._domain.kinds.items() if isinstance(kind, ByTime)}

    def _check_same_edition(self) -> None:
        try:
            check_edition(self._domain, lambda name: iceberg_table(self._spark, name).properties())
        except LakehouseError as error:
            raise NotPublished(self._domain.name, f"all gold tables must be of one edition, so name all of them ({error})") from error

    def _computed_from(self, published: Mapping[str, int]) -> ComputedFrom:
        """Return the snapshots from which the published tables are computed: those published with them, else the current ones."""
        inputs: ComputedFrom = {}
        for one in self._derived:
            names = [reads.table.name for reads in one.reads]
            inputs[one.table.name] = {name: published.get(name) or branch_head(self._spark, name) or 0 for name in names}
        return inputs

    def _changed_silver(self, wanted: Domain) -> dict[str, Changes]:
        """Return silver's changes since the branches last caught up, by the table names of the `wanted` domain."""
        changes = {}
        for source, named in zip(self._domain.sources, wanted.sources, strict=True):
            changes[named.silver.name] = changed_silver(self._spark, self._domain, source, self._silver[source.silver.name])
        return changes

    def _build_all(self) -> None:
        spark, beside = self._spark, self._beside
        silver = {}
        if self._is_silver:
            bronze = [(one, self._rows_of_bronze(one)) for one in beside.sources]
            for source, rows in bronze:
                properties = {**self._properties, OFFSET_RANGE_PROPERTY: _offsets(rows)}
                overwrite_rows(to_silver(rows, source), source.silver, properties)
                silver[source.silver.name] = spark.table(source.silver.name)
            replace_rows(rejected(bronze, beside), beside.rejects, spark.table(beside.rejects.name).where(F.col("domain") == beside.name))
        else:
            for source in beside.sources:
                name, head = source.silver.name, self._silver[source.silver.name]
                silver[name] = spark.sql(f"SELECT * FROM {name} VERSION AS OF {head}") if head else spark.table(name).limit(0)

        derived = {one.table.name: one for one in beside.derived}

        def keep(name: str, rows: DataFrame) -> DataFrame:
            table = derived[name].table
            overwrite_rows(with_run(rows, table, run_of(self._properties)), table, self._properties)
            kept = spark.table(name)
            check_rows(derived[name], lambda condition, count: kept.where(condition).limit(count).toArrow().to_pylist())
            return kept

        to_gold(beside, silver, keep)

    def _rows_of_bronze(self, source: Source) -> DataFrame:
        head = self._bronze[source.bronze.name]
        if head is None:
            return retyped(self._spark.table(source.bronze.name).limit(0), source.contract)
        return retyped(self._spark.sql(f"SELECT * FROM {source.bronze.name} VERSION AS OF {head}"), source.contract)

    def _catch_up_before_lock(self) -> None:
        """Catch up before taking the table lock, so that the stream waits only briefly."""
        if time.monotonic() - self._caught_at > LITTLE_SECONDS:
            self._catch_up()

    def _catch_up(self, to_the_end: bool = False) -> None:
        """Apply new changes to the branches, up to the stream's position or, with `to_the_end`, also what it has not applied yet."""
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
            # The main branch's commits with these offsets will no longer be ancestors.
            properties = {**self._properties, OFFSET_RANGE_PROPERTY: applied_ranges(spark, domain)}
            spans = {}
            for source, kind in sources_in_time(self._beside):
                changed = changes[source.silver.name].spans(kind.times)
                assert isinstance(changed, Spans)  # silver that is kept by time changes in spans
                spans[source.silver.name] = changed
            # Not beyond the stream's position, since the stream will apply the rest.
            through = {one.bronze.name: applied_through(spark, domain, one) for one in domain.sources}
            if any(spans.values()):
                rebuild_silver_part(spark, self._beside, spans, properties, through, is_beside=True)
        else:
            refresh_derived(spark, self._beside, changes, self._options)
        self._silver = heads

    def _publish_rejects(self) -> None:
        """Replace the domain's rejects, in the table of all domains, by those on the branch."""
        if branch_head(self._spark, REJECTS.name, self._branch) == self._rejects:
            return
        wanted, present = (
            self._spark.table(table.name).where(F.col("domain") == self._domain.name) for table in (self._beside.rejects, REJECTS)
        )
        replace_rows(wanted, REJECTS, present)


def rebuild_lease(domain: Domain) -> str:
    """Return the name of the lease that allows one rebuild of a domain at a time."""
    return f"rebuild {domain.name}"


def end_what_was_killed(settings: Settings, domain: Domain, spark: SparkSession) -> None:
    """Complete the publishing of a killed rebuild, and remove its branches. Call it with `rebuild_lease` held."""
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
            need = needs(part)
            is_on_branch = isinstance(need, Matching) and need.table in on_branch
            return Matching(f"{need.table}.branch_{branch}", need.names) if is_on_branch else need  # type: ignore[union-attr]  # a Matching

        return replace(reads, table=on(reads.table), needs=needed)

    sources = [replace(one, silver=on(one.silver)) for one in domain.sources]
    derived = [
        # Rows that the transform no longer returns are deleted, also from tables whose rows otherwise never vanish.
        replace(one, table=on(one.table), reads=tuple(reads_on(reads) for reads in one.reads), vanishes=True)
        for one in wanted
    ]
    rejects = replace(REJECTS, name=f"{REJECTS.name}.branch_{branch}") if is_silver else REJECTS
    return replace(domain, sources=sources, derived=derived, rejects=rejects, edition={})


def _with_inputs(domain: Domain, wanted: Sequence[Derived]) -> list[Derived]:
    """Add the derived tables from which these are computed, in the domain's order."""
    names = {one.table.name for one in wanted}
    for one in reversed(domain.derived):
        if one.table.name in names:
            names |= {reads.table.name for reads in one.reads}
    return [one for one in domain.derived if one.table.name in names]


def _offsets(rows: DataFrame) -> str:
    """Return the offsets that rows of bronze cover, in the form in which `apply` notes them."""
    ranges: dict[str, dict[str, tuple[int, int]]] = {}
    times = F.min("kafka_offset").alias("first"), F.max("kafka_offset").alias("last")
    for row in rows.where("topic IS NOT NULL").groupBy("topic", "partition").agg(*times).collect():
        ranges.setdefault(row["topic"], {})[str(row["partition"])] = (row["first"], row["last"])
    return json.dumps(ranges)
