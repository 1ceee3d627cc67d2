"""How do the tables stay fast and small? By rounds of maintenance that rewrite, expire, tag and apply retention, table by table.

Each step commits by itself and may be interrupted anywhere. A step that is refused because of a commit of the stream is retried and then
left for the next round. A failure at one table does not affect the others. The stream never waits, except while daily tags are created.
"""

import functools
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from pyspark.sql import Row, SparkSession

from batch.backfill.ledger import BACKFILLS
from batch.maintain.closed_partitions import Closed, closed_partitions
from batch.maintain.daily_tags import Tag, make_tags, wanted_tags
from batch.maintain.expiry import NOTHING, Hold, backfill_hold, expired_by, limit, newest_hold, reader_hold
from batch.maintain.maintenance_table import MAINTENANCE, Result
from batch.maintain.retention import drop_before, droppable_before, trim_topic
from batch.maintain.table_format import format_of, move_to
from batch.maintain.table_health import (
    LARGE_BYTES,
    LEAST_FILES_CLOSED,
    LEAST_FILES_OPEN,
    MOST_DELETED,
    SMALL_BYTES,
    TARGET_BYTES,
    Figures,
    Files,
    Rewrite,
    expected_figures,
    expected_rewrite,
    figures,
    freed_bytes,
)
from batch.rebuild.on_branches import end_what_was_killed, rebuild_lease
from batch.table_changes import applied
from batch.table_state import Snapshot, TableState
from lakehouse.domain import ByTime, Domain
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.locks.conflicts import is_refused, until_accepted
from lakehouse.locks.lease import LeaseHeld, has_leases, held_lease
from lakehouse.locks.table_locks import table_lock
from lakehouse.pending import REPLACE, read_computed_from
from lakehouse.settings import Settings
from lakehouse.spark import iceberg_table
from lakehouse.storage.folders import HadoopFolder
from lakehouse.tables.catalog import NAME, format_version
from lakehouse.tables.day_tags import tagged_days
from lakehouse.tables.notes import applied_note, applied_of
from lakehouse.tables.properties import (
    APPLIED_PROPERTY,
    CHANGED_PROPERTY,
    DEFERRED_PROPERTY,
    MADE_OF_PROPERTY,
    MAINTAINED_PROPERTY,
    MARK_PROPERTY,
    PROOF_PROPERTY,
)
from lakehouse.tables.schema import REJECTS, quote
from lakehouse.tables.stream_positions import Position, committed_positions
from lakehouse.write.dangling_deletes import dangling_deletes, drop_deletes
from lakehouse.write.publishing import REBUILD_BRANCH
from monitoring.last_proofs import LastProof
from monitoring.table_upkeep import Maintained

PROOFS = "lh.ops.proofs"
# Files that are being written now are younger; this is Iceberg's default. The search lists the whole folder, so it runs once a day.
ORPHANS_AFTER, ORPHANS_EVERY = timedelta(days=3), timedelta(hours=23)
# Iceberg itself merges manifests only from a hundred on, and every scan plan opens each of these files.
MANY_MANIFESTS, MANIFEST_BYTES = 32, 8 << 20
# A larger rewrite is committed in parts, so that a refused commit does not lose all of it.
PARTS_FROM_BYTES = 2 << 30
# For tables of no domain; the same as a domain's default watermark.
OPEN_FOR = timedelta(hours=48)

log = structlog.get_logger("weir.maintain")


class NoSuchTable(LakehouseError, Fatal):
    """There is no table with that name."""

    def __init__(self, names: Sequence[str], present: Sequence[str]) -> None:
        known = ", ".join(name.removeprefix(f"{NAME}.") for name in present)
        super().__init__(f"No table {', '.join(names)}; there are {known or 'none yet'}.")


class CatalogKeepsFormat(LakehouseError):
    """The catalog does not let a table's format be lowered."""

    def __init__(self, name: str, wanted: int) -> None:
        super().__init__(
            f"{name} stays in its Iceberg format: this kind of catalog takes no table back to format {wanted}. Set "
            "WEIR_DELETE_FORMAT=vectors to accept the table as it is."
        )


@dataclass(frozen=True, slots=True)
class Needs:
    """What a domain's programs need to keep in its tables at the start of a round.

    Attributes:
        positions: {bronze table: position of the refine query's checkpoint; None where it is unknown}.
        position_says: why positions are unknown.
        planned: when the oldest unfinished backfill was planned.
    """

    positions: Mapping[str, Position | None]
    position_says: str
    planned: datetime | None


@dataclass(slots=True)
class _Report:
    """The report on one table while it is maintained."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Round:
    """One round of maintenance.

    Args:
        settings: of the home.
        domains: all domains.
        spark: the session.
        known: facts from earlier rounds, by table.
        now: when the round begins.
        dry_run: report what would be done without changing anything.
        is_stopping: checked between two tables.
    """

    def __init__(
        self,
        settings: Settings,
        domains: Sequence[Domain],
        spark: SparkSession,
        known: Mapping[str, Maintained],
        now: datetime,
        dry_run: bool = False,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings, self._domains, self._spark, self._known = settings, domains, spark, known
        self._now, self._dry_run, self._is_stopping = now, dry_run, is_stopping
        self._needs: dict[str, Needs] = {}
        self._noted: set[str] = set()
        self._reports: dict[str, _Report] = {}
        self._rebuilding: dict[str, str] = {}
        self.searched: list[str] = []

    def run(self, names: Sequence[str], report: Callable[[Result], None] = lambda _: None) -> list[Result]:
        """Maintain tables.

        Args:
            names: with `lh.`, from `chosen_tables`.
            report: called with the result of each table.
        """
        results = []
        self._end_killed_rebuilds(names)
        self._tag(names)
        for name in names:
            if self._is_stopping():
                break
            results.append(self._table(name))
            report(results[-1])
        return results

    def _table(self, name: str) -> Result:
        began = time.monotonic()
        report, held = self._reports.setdefault(name, _Report()), ""
        before = after = Figures()
        try:
            state = TableState.read(self._spark, name)
            closed, least = self._closed(state)
            files = Files.read(self._spark, state, closed)
            before = after = figures(self._spark, state, files)
            rewrite = expected_rewrite(files, closed, least)
            if name in self._by_bronze():
                self._tried(report, "retention", lambda: self._retain(state, report))
            if rewrite.files and self._tried(report, "rewrite_data_files", lambda: self._rewrite(state, closed, least, rewrite)):
                report.done.append(f"{rewrite.files} files ({_mib(rewrite.bytes)}) into {rewrite.becomes}")
            self._format(name, files, report)
            self._tried(report, "rewrite_manifests", lambda: self._manifests(state, report))
            held, gone, freed = self._expire(name, report)
            self._tried(report, "remove_orphan_files", lambda: self._orphans(name, report))
            if self._dry_run:
                after = expected_figures(before, rewrite, gone, freed)
            else:
                state = TableState.read(self._spark, name)
                after = figures(self._spark, state, Files.read(self._spark, state, closed))
        except Exception as error:  # no error may stop the other tables; the summary and the exit code report it
            report.failed.append(_reason(error))
            log.error("table not maintained", table=name, error=_reason(error))
        return Result(name, before, after, tuple(report.done), held, tuple(report.left), tuple(report.failed), time.monotonic() - began)

    def _tried(self, report: _Report, what: str, step: Callable[[], object]) -> bool:
        """Run a step, again after a conflict with another writer; return whether it succeeded. The next step follows in any case."""
        try:
            until_accepted(step)
            return True
        except Exception as error:  # as above: the next step follows
            if is_refused(error):
                report.left.append(f"{what}: conflicts with other writers")
                log.warning("left for the next round", what=what, error=_reason(error))
            else:
                report.failed.append(f"{what}: {_reason(error)}")
                log.error("failed", what=what, error=_reason(error))
            return False

    def _rewrite(self, state: TableState, closed: Closed, least: int, rewrite: Rewrite) -> None:
        options = {
            "target-file-size-bytes": str(TARGET_BYTES),
            "min-file-size-bytes": str(SMALL_BYTES),
            "max-file-size-bytes": str(LARGE_BYTES),
            "min-input-files": str(least),
            "delete-ratio-threshold": str(MOST_DELETED),
            # Leaves cores to the stream, and needs less heap.
            "max-concurrent-file-group-rewrites": "1",
            "partial-progress.enabled": str(rewrite.bytes > PARTS_FROM_BYTES).lower(),
        }
        pairs = ", ".join(f"{quote(key)}, {quote(value)}" for key, value in options.items())
        where = f", where => {quote(closed.where)}" if closed.where else ""
        self._call("rewrite_data_files", state.name, f", strategy => 'binpack', options => map({pairs}){where}")

    def _format(self, name: str, files: Files, report: _Report) -> None:
        """Bring a table's deletes into the form that the settings ask for."""
        domain, wanted = self._by_merged().get(name), format_version(self._settings)
        # Every domain's programs write rejects.
        writers = self._domains if name == REJECTS.name else [] if domain is None else [domain]
        if writers and (found := format_of(self._spark, name)) != wanted:
            if any(self._rebuilt(one) is not None for one in writers):
                report.left.append("format: a rebuild writes a branch of the table")
            elif self._dry_run or self._tried(report, "format", lambda: self._move(name, wanted, writers)):
                report.done.append(f"Iceberg format {found} becomes {wanted}")
            return
        if self._dry_run or not files.deletes:
            return
        if dangling := dangling_deletes(self._spark, name):
            self._tried(report, "delete files", lambda: drop_deletes(self._spark, name, dangling))
        if files.deletes - len(dangling) > len(files.data):
            # A data file has one delete file at most, except where another engine has written more.
            deletes = "rewrite_position_delete_files"
            if self._tried(report, deletes, lambda: self._call(deletes, name)):
                report.done.append(f"{files.deletes} delete files rewritten")

    def _move(self, name: str, wanted: int, writers: Sequence[Domain]) -> None:
        @contextmanager
        def locked() -> Iterator[None]:
            with ExitStack() as held:
                for one in sorted(writers, key=lambda one: one.name):
                    held.enter_context(table_lock(self._settings, one.name))
                yield

        if not move_to(self._spark, name, wanted, locked):
            raise CatalogKeepsFormat(name, wanted)

    def _manifests(self, state: TableState, report: _Report) -> None:
        if state.head is None:
            return
        totals = self._spark.sql(f"SELECT count(*), sum(length) FROM {state.name}.manifests").collect()[0]
        count, fewest = int(totals[0]), -(-int(totals[1] or 0) // MANIFEST_BYTES)
        if count - fewest >= MANY_MANIFESTS:
            self._call("rewrite_manifests", state.name)
            report.done.append(f"{count} manifests into fewer")

    def _expire(self, name: str, report: _Report) -> tuple[str, int, int]:
        """Expire snapshots that are no longer needed; return what keeps the rest, the number expired, and roughly the bytes freed."""
        state = TableState.read(self._spark, name)
        until = limit(self._now, self._settings.snapshot_hours, self._holds(state))
        gone = [] if until.since <= NOTHING else expired_by(state, until.since)
        oldest_day = (self._now - timedelta(days=self._settings.tag_days)).date()
        tags = [day for day in tagged_days(state.refs) if day < oldest_day]
        if not gone and not (tags and until.since > NOTHING):
            return until.why, 0, 0
        freed = freed_bytes(state, gone)
        if gone:
            report.done.append(f"{len(gone)} snapshots expired, about {_mib(freed)} with them")
        if not self._dry_run:
            self._note(state, set(gone))
            moment = f"TIMESTAMP '{until.since.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00:00'"
            self._tried(
                report, "expire_snapshots", lambda: self._call("expire_snapshots", name, f", older_than => {moment}, retain_last => 1")
            )
        return until.why, len(gone), freed

    def _holds(self, state: TableState) -> Iterable[Hold]:
        if any(branch.startswith(REBUILD_BRANCH) for branch in state.branches):
            yield Hold(NOTHING, "a rebuild uses a branch of it")
        if (domain := self._by_bronze().get(state.name)) is not None:
            if (table := self._rebuilt(domain)) is not None:
                yield Hold(NOTHING, f"a rebuild of {table} reads it")
            needs = self._needs_of(domain)
            yield (
                Hold(NOTHING, needs.position_says)
                if needs.position_says
                else reader_hold(state, needs.positions[state.name], domain.refine_query)
            )
            yield from backfill_hold(needs.planned)
        if (domain := self._by_merged().get(state.name)) is not None:
            yield from self._pending_holds(domain, state)
            if any(one.silver.name == state.name and not isinstance(one.kind, ByTime) for one in domain.sources):
                # A backfill finds its commits here again, to compute derived tables from them.
                yield from backfill_hold(self._needs_of(domain).planned)
            yield from newest_hold(state, MARK_PROPERTY, "it has the table's offsets")
        if state.name == MAINTENANCE.name:
            yield from newest_hold(state, MAINTAINED_PROPERTY, "it has the facts of earlier maintenance")
        if state.name == PROOFS:
            last: dict[str, datetime] = {}
            for one in state.ancestors():
                if PROOF_PROPERTY in one.summary:
                    last.setdefault(LastProof.from_json(one.summary[PROOF_PROPERTY]).domain, one.at)
            yield from (Hold(at, f"the last proof of {domain_name}") for domain_name, at in last.items())

    def _pending_holds(self, domain: Domain, state: TableState) -> Iterable[Hold]:
        """Keep the commits of a table since the one from which a derived table was last computed, where rows have changed since."""
        for reader, snapshot in self._computed_from(domain, state).items():
            later = itertools.takewhile(lambda one, last=snapshot: one.id != last.id, state.ancestors())  # type: ignore[misc]  # bound now
            if any(one.operation != REPLACE and DEFERRED_PROPERTY not in one.summary for one in later):
                yield Hold(snapshot.at, f"{reader} was computed from it, and later changes are pending")

    def _computed_from(self, domain: Domain, state: TableState) -> dict[str, Snapshot]:
        """Return {derived table: the snapshot of a table from which it was last computed}, without snapshots that have expired."""
        readers = [one.table.name for one in domain.derived if any(reads.table.name == state.name for reads in one.reads)]
        if not readers or any(not self._exists(table.name) for table in domain.merged):
            return {}
        inputs = read_computed_from(domain, {table.name: iceberg_table(self._spark, table.name) for table in domain.merged})
        snapshots = {reader: state.snapshots.get(inputs[reader].get(state.name, 0)) for reader in readers}
        return {reader: snapshot for reader, snapshot in snapshots.items() if snapshot is not None}

    def _note(self, state: TableState, gone: set[int]) -> None:
        """Note in properties the facts that only the expiring snapshots have."""
        change = state.last_change()
        if change is not None and change.id in gone:
            self._set(state.name, CHANGED_PROPERTY, str(change.millis))
        if (domain := self._by_merged().get(state.name)) is not None:
            # No row changed after it, or the hold would have kept it, so the derived table is up to date with the current snapshot.
            for reader in (name for name, snapshot in self._computed_from(domain, state).items() if snapshot.id in gone):
                note = read_computed_from(domain, {table.name: iceberg_table(self._spark, table.name) for table in domain.merged})[reader]
                self._set(reader, MADE_OF_PROPERTY, json.dumps({reader: {**note, state.name: state.head or 0}}))
        for domain in self._domains:
            tables = [*(table.name for table in domain.merged), REJECTS.name]
            if state.name not in tables or domain.name in self._noted:
                continue
            offsets, noted = applied(self._spark, domain), domain.sources[0].silver.name
            if offsets and offsets != applied_of(TableState.read(self._spark, noted).properties):
                self._set(noted, APPLIED_PROPERTY, applied_note(offsets))
            self._noted.add(domain.name)

    def _set(self, table: str, name: str, value: str) -> None:
        until_accepted(lambda: self._spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ({quote(name)} = {quote(value)})"))

    def _orphans(self, name: str, report: _Report) -> None:
        known = self._known.get(name)
        if known is not None and self._now.timestamp() - known.orphans_ms / 1000 < ORPHANS_EVERY.total_seconds():
            return
        # Also bounded by the machine's clock, so that a file written now never looks old.
        before = min(self._now, datetime.now(UTC)) - ORPHANS_AFTER
        moment = f"TIMESTAMP '{before.astimezone(UTC):%Y-%m-%d %H:%M:%S}+00:00'"
        more = f", older_than => {moment}, prefix_listing => true, dry_run => {str(self._dry_run).lower()}"
        orphans = self._call("remove_orphan_files", name, more, even_dry=True)
        self.searched.append(name)
        if orphans:
            report.done.append(f"{len(orphans)} orphan files removed")

    def _retain(self, state: TableState, report: _Report) -> None:
        """Drop days of bronze, and messages of its topic, that are older than the settings keep."""
        domain = self._by_bronze()[state.name]
        position, settings = self._needs_of(domain).positions[state.name], self._settings
        if (settings.bronze_days or settings.topic_days) and self._rebuilt(domain) is not None:
            report.left.append("retention: a rebuild reads bronze")
            return
        today = self._now.astimezone(UTC).date()
        day = droppable_before(self._spark, state, position, today, settings.bronze_days)
        if day is not None and self._has_before(state, day):
            report.done.append(f"arrivals before {day} dropped")
            if not self._dry_run:
                drop_before(self._spark, state, day)
        if settings.topic_days and settings.kafka_bootstrap and not self._dry_run:
            topic = next(one.contract.topic for one in domain.sources if one.bronze.name == state.name)
            trimmed = trim_topic(self._spark, settings, topic, state, position, self._now)
            if trimmed:
                report.done.append("topic trimmed to " + ", ".join(f"[{p}]@{offset}" for p, offset in sorted(trimmed.items())))

    def _has_before(self, state: TableState, day: object) -> bool:
        by_day = next(f.name for f in state.fields if f.transform == "day")
        return bool(self._spark.sql(f"SELECT 1 FROM {state.name}.files WHERE partition.{by_day} < DATE '{day}' LIMIT 1").collect())

    def _end_killed_rebuilds(self, names: Sequence[str]) -> None:
        """Remove branches of killed rebuilds, which would keep all snapshots; reported with the domain's silver."""
        for domain in self._domains:
            silver = domain.sources[0].silver.name
            if self._dry_run or silver not in names or self._rebuilt(domain) is None or not has_leases(self._settings):
                continue
            report = self._reports.setdefault(silver, _Report())
            with suppress(LeaseHeld), held_lease(self._settings, rebuild_lease(domain), lambda _: None):
                if self._tried(report, "branches", functools.partial(end_what_was_killed, self._settings, domain, self._spark)):
                    report.done.append("branches of a rebuild that was killed removed")
                    del self._rebuilding[domain.name]

    def _tag(self, names: Sequence[str]) -> None:
        """Create missing daily tags for each domain whose tables are maintained; reported with the domain's silver."""
        if not self._settings.tag_days:
            return
        for domain in self._domains:
            tables = [table.name for table in domain.merged if self._exists(table.name)]
            if set(tables) & set(names):
                report = self._reports.setdefault(domain.sources[0].silver.name, _Report())
                self._tried(report, "tags", functools.partial(self._tag_domain, domain, tables, report))

    def _tag_domain(self, domain: Domain, tables: Sequence[str], report: _Report) -> None:
        # Checked without the table lock first, since there is nearly always nothing to do.
        missing = self._missing_tags(tables)
        if missing and not self._dry_run:
            with table_lock(self._settings, domain.name):
                missing = self._missing_tags(tables)
                make_tags(self._spark, missing)
        if missing:
            report.done.append(f"{len(missing)} daily tags of silver and gold created")

    def _missing_tags(self, tables: Sequence[str]) -> list[Tag]:
        return wanted_tags([TableState.read(self._spark, name) for name in tables], self._now, self._settings.tag_days)

    def _closed(self, state: TableState) -> tuple[Closed, int]:
        """Return a table's closed partitions, and the least number of small files to compact."""
        open_for, with_null = OPEN_FOR, False
        if (domain := self._by_bronze().get(state.name)) is not None:
            # Partitioned by day of arrival; backfilled rows have none and are all in one partition.
            open_for, with_null = timedelta(0), self._needs_of(domain).planned is None
        else:
            for one in self._domains:
                if state.name in one.kinds:
                    # Every poll requests some days again.
                    watermark = max(source.watermark for source in one.sources)
                    open_for = max(watermark, timedelta(days=self._settings.poll_past_days + 1))
        closed = closed_partitions(state.fields, self._now, open_for, with_null)
        return closed, LEAST_FILES_CLOSED if closed.field else LEAST_FILES_OPEN

    def _needs_of(self, domain: Domain) -> Needs:
        if domain.name not in self._needs:
            folder = HadoopFolder(self._spark, self._settings.checkpoint(domain.refine_query))
            tables, says = [source.bronze.name for source in domain.sources], ""
            positions: list[Position | None] = [None] * len(tables)
            try:
                positions = committed_positions(folder.names("commits"), folder.text, len(tables))
            except ValueError as error:
                says = f"{folder.uri}: {error}"
            self._needs[domain.name] = Needs(dict(zip(tables, positions, strict=True)), says, self._unfinished(domain))
        return self._needs[domain.name]

    def _unfinished(self, domain: Domain) -> datetime | None:
        if not self._exists(BACKFILLS.name):
            return None
        planned = f"SELECT min(planned_ts) AS at FROM {BACKFILLS.name} WHERE domain = {quote(domain.name)} AND state = 'planned'"
        oldest = self._spark.sql(planned).toArrow()["at"][0].as_py()
        return oldest if oldest is None else oldest.astimezone(UTC)

    def _rebuilt(self, domain: Domain) -> str | None:
        """Return a table of the domain with a rebuild's branch; None where there is none. A rebuild reads older snapshots of bronze."""
        if domain.name not in self._rebuilding:
            tables = [table.name for table in domain.merged if self._exists(table.name)]
            rebuilt = [n for n in tables if any(b.startswith(REBUILD_BRANCH) for b in TableState.read(self._spark, n).branches)]
            self._rebuilding[domain.name] = rebuilt[0] if rebuilt else ""
        return self._rebuilding[domain.name] or None

    def _by_bronze(self) -> dict[str, Domain]:
        return {source.bronze.name: domain for domain in self._domains for source in domain.sources}

    def _by_merged(self) -> dict[str, Domain]:
        return {table.name: domain for domain in self._domains for table in domain.merged}

    def _exists(self, name: str) -> bool:
        return bool(self._spark.catalog.tableExists(name))

    def _call(self, procedure: str, table: str, more: str = "", even_dry: bool = False) -> list[Row]:
        if self._dry_run and not even_dry:
            return []
        name = table.removeprefix(f"{NAME}.")
        return self._spark.sql(f"CALL {NAME}.system.{procedure}(table => {quote(name)}{more})").collect()


def all_tables(spark: SparkSession) -> list[str]:
    """Return the names of all tables of the catalog, with `lh.`, bronze first and `ops` last."""
    spaces = [row[0] for row in spark.sql(f"SHOW NAMESPACES IN {NAME}").collect()]
    layers = {"bronze": 0, "silver": 1, "gold": 2, "ops": 4}
    ordered = sorted(spaces, key=lambda space: (layers.get(space, 3), space))
    return [f"{NAME}.{space}.{row['tableName']}" for space in ordered for row in spark.sql(f"SHOW TABLES IN {NAME}.{space}").collect()]


def chosen_tables(spark: SparkSession, names: Sequence[str]) -> list[str]:
    """Return the named tables, or all.

    Raises:
        NoSuchTable: a named table does not exist.
    """
    present = all_tables(spark)
    wanted = [name if name.startswith(f"{NAME}.") else f"{NAME}.{name}" for name in names]
    if unknown := [name for name, full in zip(names, wanted, strict=True) if full not in present]:
        raise NoSuchTable(unknown, present)
    return list(dict.fromkeys(wanted)) or present


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MiB"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
