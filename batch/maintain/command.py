"""What does `weir maintain` do, from its options to its exit code?"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from batch.filled_domains import filled_domains
from batch.low_priority import lower_priority
from batch.maintain.maintain import Round, chosen_tables
from batch.maintain.maintenance_table import Result, keep, known_of, renewed
from lakehouse.domain import Domain
from lakehouse.domain_names import DOMAINS
from lakehouse.errors import WeirError
from lakehouse.locks.lease import held_lease
from lakehouse.machine.logs import configure_logs
from lakehouse.machine.progress_bar import progress
from lakehouse.query.show import table
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spark import open_spark
from monitoring.alerts import judge
from producers.stopping import Stop

MIB = 1 << 20

log = structlog.get_logger("weir.maintain")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of the command, as typed."""

    tables: Sequence[str]
    dry_run: bool
    as_json: bool


def run_maintain(settings: Settings, wanted: Wanted) -> bool:
    """Run the command; return whether nothing failed.

    Raises:
        NoSuchTable: a named table does not exist.
        LeaseHeld: maintenance runs already.
    """
    configure_logs(settings.log_format, settings.log_level)
    lower_priority()
    domains = [build_domain(name, settings) for name in DOMAINS]
    with Stop() as stop, held_lease(settings, "maintain", lambda _: stop.set()):
        spark = open_spark(settings, "weir maintain", is_batch=True)
        try:
            names = chosen_tables(spark, wanted.tables)
            now, known = datetime.now(UTC), known_of(spark)
            one_round = Round(settings, domains, spark, known, now, wanted.dry_run, stop.is_set)
            with progress("tables", len(names)) as step:
                results = one_round.run(names, lambda result: step(result.table))
            if not wanted.dry_run:
                keep(spark, results, renewed(known, results, one_round.searched, now), now)
        finally:
            spark.stop()
    if not wanted.dry_run and not wanted.tables:
        _judge_alerts(settings, domains)
    print_results(results, wanted.dry_run, wanted.as_json)
    return not any(one.failed for one in results)


def _judge_alerts(settings: Settings, domains: Sequence[Domain]) -> None:
    """Judge the alerts of every domain with tables, for the metrics page: a round comes every hour, and is of low priority."""
    try:
        for domain in filled_domains(settings, domains):
            for alert in judge(settings, domain, datetime.now(UTC)).alerts:
                if alert.is_raised:
                    log.warning("alert", domain=domain.name, alert=alert.kind, of=alert.name, says=alert.says)
    except WeirError as error:  # what cannot be read now is no failure of maintenance
        log.warning("the alerts were not judged", reason=str(error))


def print_results(results: Sequence[Result], dry_run: bool, as_json: bool) -> None:
    """Print the work that was done, or would be, with the figures before and after."""
    if as_json:
        print(json.dumps([_json(one, dry_run) for one in results], ensure_ascii=False))
        return
    columns = ("table", "files", "MiB", "small", "deletes", "snapshots", "metadata KiB", "on disk MiB", "s")
    table(columns, [_row(one) for one in results])
    for one in results:
        messages = [*one.done, *(f"left for the next round: {what}" for what in one.left), *(f"FAILED {what}" for what in one.failed)]
        if messages:
            print(f"{_short(one)}: {'; '.join(messages)}")
    for why in dict.fromkeys(one.held for one in results if one.held):
        names = [_short(one) for one in results if one.held == why]
        print(f"snapshots kept ({why}): {', '.join(names)}")
    freed = sum(one.before.disk_bytes - one.after.disk_bytes for one in results)
    files = sum(one.before.files - one.after.files for one in results)
    would = "nothing was changed; expected" if dry_run else "gained"
    failed = sum(bool(one.failed) for one in results)
    took = sum(one.seconds for one in results)
    gain = f"{files:,} files fewer to read, {freed / MIB:,.1f} MiB on disk"
    print(f"{len(results)} tables, {took:.1f} s; {would}: {gain}" + (f"; {failed} failed" if failed else ""))


def _row(one: Result) -> tuple[object, ...]:
    before, after = one.before, one.after

    def pair(first: float, second: float, form: str = ",.0f") -> str:
        return format(first, form) if first == second else f"{first:{form}} → {second:{form}}"

    return (
        _short(one),
        pair(before.files, after.files),
        pair(before.bytes / MIB, after.bytes / MIB, ",.1f"),
        pair(before.small_files, after.small_files),
        pair(before.delete_files, after.delete_files),
        pair(before.snapshots, after.snapshots),
        pair(before.metadata_bytes / 1024, after.metadata_bytes / 1024),
        pair(before.disk_bytes / MIB, after.disk_bytes / MIB, ",.1f"),
        f"{one.seconds:.1f}",
    )


def _json(one: Result, dry_run: bool) -> dict[str, object]:
    return {
        "table": one.table,
        "dry_run": dry_run,
        "before": one.before.as_dict(),
        "after": one.after.as_dict(),
        "done": one.done,
        "held": one.held,
        "left": one.left,
        "failed": one.failed,
        "seconds": round(one.seconds, 3),
    }


def _short(one: Result) -> str:
    return one.table.removeprefix("lh.")
