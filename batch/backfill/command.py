"""What does `weir backfill` do, from its options to its exit code?"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta

import typer

from batch.backfill.chunks import Backfill, Plan, latest_days, plan
from batch.backfill.ledger import GOLD, Chunk, Ledger
from batch.backfill.periods import PERIODS, Period
from batch.low_priority import lower_priority
from lakehouse import failpoints
from lakehouse.days import day_of
from lakehouse.domain import Domain
from lakehouse.locks.lease import held_lease
from lakehouse.machine.logs import configure_logs
from lakehouse.machine.progress_bar import progress
from lakehouse.query.show import table
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spark import jvm_pid, open_spark
from producers.history import History, SourceSpent
from producers.sources.registry import dumps_of, histories
from producers.stopping import Stop

LATEST = "latest"
# A backfill of fewer rows takes a minute or two.
SHORT_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options of the command, as typed."""

    domain: str
    since: str
    until: str
    chunk: str
    locations: str
    override: bool
    dry_run: bool
    resume: bool
    retry_failed: bool
    as_json: bool


def run_backfill(settings: Settings, wanted: Wanted) -> bool:
    """Run the command; return whether every chunk is done.

    Raises:
        SourceSpent: it was stopped, or its source accepts no more calls for now.
        NothingToResume, LeaseHeld: it cannot start.
    """
    configure_logs(settings.log_format, settings.log_level)
    lower_priority()
    _check(wanted)
    domain = build_domain(wanted.domain, settings)
    with Stop() as stop, histories()[wanted.domain](settings, stop) as history:
        goes_on = wanted.resume or wanted.retry_failed
        planned = None if goes_on else _plan(settings, domain, history, wanted)
        if planned is not None:
            _say_plan(planned, wanted)
            if wanted.dry_run:
                return True
        is_short = planned is not None and planned.rows(history.rows_of_a_day) < SHORT_ROWS
        spark = open_spark(settings, f"weir backfill {wanted.domain}", is_short=is_short, is_batch=True)
        try:
            failpoints.arm(settings.failpoint, [jvm_pid(spark)])
            if planned is not None:
                parts = [(part, asked.calls, asked.weight) for part, asked in planned.parts]
                ledger = Ledger.plan(spark, wanted.domain, parts, wanted.override, datetime.now(UTC))
            else:
                ledger = (Ledger.unfinished if wanted.resume else Ledger.failed)(spark, wanted.domain)
            left = [one for one in (*ledger.chunks, ledger.gold) if one.state == "planned"]
            # A program that was suspended for longer than the lease has lost it, and must not append a chunk that another appends too.
            with held_lease(settings, f"backfill {ledger.name}", lambda _: stop.set()), progress("chunks", len(left)) as step:
                running = Backfill(
                    settings, domain, domain.sources[0], spark, history, ledger, lambda one: step(_where(one)), stop.is_set, stop.set
                )
                try:
                    is_whole = running.run()
                finally:
                    _summarize(ledger, wanted.as_json)
        finally:
            spark.stop()
    if not is_whole:
        raise SourceSpent(f"stopped before the end; finished chunks are kept: weir backfill {wanted.domain} --resume continues")
    return all(one.state == "done" for one in ledger.chunks)


def _check(wanted: Wanted) -> None:
    if dumps := dumps_of(wanted.domain):
        raise typer.BadParameter(
            f"the past of {wanted.domain!r} comes as dumps, each with the whole state of its day. Publish one with "
            f"`weir produce {dumps[0]} --dump PATH --run-date DAY`; it may be older than the last one",
            param_hint="DOMAIN",
        )
    if wanted.domain not in histories():
        raise typer.BadParameter(
            f"{wanted.domain!r} has no source for backfills; expected one of {', '.join(histories())}", param_hint="DOMAIN"
        )
    if wanted.chunk not in PERIODS:
        raise typer.BadParameter(f"{wanted.chunk!r}, expected {', '.join(PERIODS)}", param_hint="--chunk")
    if wanted.resume and wanted.retry_failed:
        raise typer.BadParameter("--resume and --retry-failed cannot be combined: resume first, then retry")
    goes_on = wanted.resume or wanted.retry_failed
    if goes_on and (wanted.since or wanted.until or wanted.locations or wanted.override):
        raise typer.BadParameter(
            "--resume and --retry-failed use the ledger's range and places: leave out --since, --until, --locations and --override"
        )
    if not goes_on and not wanted.since:
        raise typer.BadParameter(f"--since is missing: use --since YYYY-MM-DD or --since {LATEST}")


def _plan(settings: Settings, domain: Domain, history: History, wanted: Wanted) -> Plan:
    names = [name for name in (part.strip() for part in wanted.locations.split(",")) if name]
    unknown = [name for name in names if name not in history.entities]
    if unknown:
        raise typer.BadParameter(f"--locations {', '.join(unknown)}: not watched; expected some of {', '.join(history.entities)}")
    entities = names or history.entities
    until = day_of(wanted.until, "--until") if wanted.until else datetime.now(UTC).date()
    since: dict[str, date]
    if wanted.since == LATEST:
        newest = latest_days(settings, domain.sources[0])
        if lacking := [entity for entity in entities if entity not in newest]:
            raise typer.BadParameter(f"--since {LATEST}: no row yet of {', '.join(lacking)}; backfill them with --since YYYY-MM-DD")
        since = {entity: min(newest[entity], until) for entity in entities}
    else:
        first = day_of(wanted.since, "--since")
        if first > until:
            raise typer.BadParameter(f"--since {first} is after --until {until}")
        since = dict.fromkeys(entities, first)
    period: Period = next(one for one in PERIODS if one == wanted.chunk)
    planned = plan(history, since, until, period)
    if not planned.parts:
        raise typer.BadParameter(f"the source has no day from {min(since.values())} to {until}")
    return planned


def _say_plan(planned: Plan, wanted: Wanted) -> None:
    parts = [part for part, _ in planned.parts]
    days = f"{min(part.since for part in parts)} to {max(part.until for part in parts)}"
    entities = {entity for part in parts for entity in part.entities}
    least = timedelta(seconds=round(planned.least_time.total_seconds()))
    text = (
        f"plan: {wanted.domain} from {days}, entities: {len(entities)}, chunks by {wanted.chunk}: {len(parts)}, "
        f"calls of the source: {planned.asked.calls}, with a weight of {planned.asked.weight:,.0f}, taking at least {least}"
    )
    if wanted.as_json and wanted.dry_run:
        chunks = [{"since": str(p.since), "until": str(p.until), "entities": list(p.entities), **asdict(a)} for p, a in planned.parts]
        print(json.dumps({"chunks": chunks, **asdict(planned.asked), "least_seconds": planned.least_time.total_seconds()}))
    elif not wanted.as_json:
        print(text, flush=True)


def _summarize(ledger: Ledger, as_json: bool) -> None:
    chunks = ledger.chunks
    if as_json:
        facts = [{**_facts(one), "since": str(one.since), "until": str(one.until)} for one in chunks]
        print(json.dumps({"backfill_id": ledger.name, "gold": ledger.gold.state, "chunks": facts}, ensure_ascii=False))
        return
    table(
        ("chunk", "since", "until", "entities", "fetched", "new", "accepted", "rejected", "s", "state"),
        [(one.chunk, one.since, one.until, len(one.entities), *_counts(one), round(one.seconds, 1), one.state) for one in chunks],
    )
    for one in chunks:
        if one.state == "failed":
            reasons = [one.error] if one.error else [f"{entity}: {reason}" for entity, reason in (one.lacking or {}).items()]
            print(f"chunk {one.chunk}, {one.since} to {one.until}: " + "; ".join(reasons))
    failed = sum(one.state == "failed" for one in chunks)
    left = sum(one.state == "planned" for one in (*chunks, ledger.gold))
    print(
        f"{ledger.name}: {sum(one.rows_in for one in chunks):,} new rows of {sum(one.rows_fetched for one in chunks):,} fetched, "
        f"gold {'computed' if ledger.gold.state == 'done' else 'not computed yet'}"
        + (f"; {failed} failed: weir backfill {ledger.gold.domain} --retry-failed" if failed else "")
        + (f"; {left} left: weir backfill {ledger.gold.domain} --resume" if left else "")
    )


def _where(one: Chunk) -> str:
    return "gold computed" if one.chunk == GOLD else f"to {one.until}"


def _counts(one: Chunk) -> tuple[int, ...]:
    return one.rows_fetched, one.rows_in, one.rows_out, one.rejected


def _facts(one: Chunk) -> dict[str, object]:
    names = ("chunk", "state", "attempt", "rows_fetched", "rows_in", "rows_out", "rejected", "error", "seconds")
    return {name: getattr(one, name) for name in names} | {"lacking": dict(one.lacking or {})}
