"""How are a source's records published from the command line? By `weir produce`."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.completion import beginning
from lakehouse.days import days_of, factor_of
from lakehouse.machine.progress_bar import progress
from producers.sources.registry import DUMPS, SOURCES, load_dumps, load_source

if TYPE_CHECKING:
    from lakehouse.settings import Settings
    from producers.budget import Budget, Lane
    from producers.clock import Clock
    from producers.kafka_writer import Counts, KafkaWriter
    from producers.polls import Polls
    from producers.publish import Outcome, Publisher
    from producers.source import Source
    from producers.stopping import Stop

ONLY = "--locations"


@dataclass(slots=True)
class _Run:
    """One run of the command: its inputs, and the counts for its summary."""

    source: "Source[Any]"
    settings: "Settings"
    names: tuple[str, ...]
    as_json: bool
    run_id: str
    outcome: "Outcome"
    counts: "Counts"
    stop: "Stop"
    clock: "Clock"
    topic_id: str = ""
    budget: "Budget | None" = None
    delivered_before: int = 0
    has_begun: bool = False

    @property
    def state(self) -> Path:
        """The folder with the cursors, the memory of published records, and the facts about polls."""
        return self.settings.home / "state"


def _names() -> tuple[str, ...]:
    """Name every source, polled or published from dumps."""
    return tuple(dict.fromkeys((*SOURCES, *DUMPS)))


def _sources(incomplete: str) -> list[str]:
    """Complete a source's name."""
    return beginning(incomplete, _names())


def produce(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help=f"the source to fetch from: {', '.join(_names())}", autocompletion=_sources)],
    locations: Annotated[
        str,
        typer.Option(ONLY, "--only", help="only these entities, such as places: keys, separated by commas (default: all that are watched)"),
    ] = "",
    since: Annotated[str, typer.Option(help="first UTC day, YYYY-MM-DD: fetch a range of days and exit")] = "",
    until: Annotated[str, typer.Option(help="last UTC day, inclusive (default: today)")] = "",
    replay: Annotated[
        Path | None, typer.Option(help="publish recorded answers from a packed .jsonl.gz, a single .json, or a folder of .json files")
    ] = None,
    set_name: Annotated[str, typer.Option("--set", help="with --replay: only this set of recorded answers, such as revised")] = "",
    speed: Annotated[str, typer.Option(help="with --replay: max, or hour by hour at a multiple of real time: 1x, 60x")] = "max",
    once: Annotated[bool, typer.Option("--once", help="poll once and exit")] = False,
    dump: Annotated[Path | None, typer.Option(help="publish what changed with a dump: a folder of CSV files, or a zip of them")] = None,
    download: Annotated[bool, typer.Option("--download", help="the same with the newest dump, which is downloaded first")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="with --dump and --download: tables may be missing; nothing of them counts as gone")
    ] = False,
    run_date: Annotated[
        str, typer.Option(help="with --dump and --download: when the dump was made, a UTC day or instant (default: as its files tell)")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as one JSON object")] = False,
) -> None:
    """Fetch records from a source and publish them to Kafka.

    Without a range it polls at once and then every WEIR_POLL_MINUTES until it is stopped. Each poll continues where the last delivery of
    an entity (a place, an account) ended, and picks up entities that were added meanwhile. A poll publishes only records that are new or
    changed since they were last published. A range publishes all of its records, whatever was published before, leaves the API's limits to
    the polls first, and exits. An entity that fails does not stop the others: its cursor stays, and the next run fetches what is missing.

    A dump is the whole of a source's tables at one moment. Only the rows that differ from the last delivered dump are published: added,
    changed, gone. A table of which too many rows are bad is not published, and the others are. A report is printed and stored.

    Examples:

      weir produce open-meteo

      weir produce open-meteo --locations hanoi,danang --since 2025-01-01 --until 2025-01-31

      weir produce open-meteo --replay deploy/local/services/recorded/open_meteo.jsonl.gz --set responses --speed 3600x

      weir produce kaggle

      weir produce kaggle --dump meta-kaggle.zip
    """
    import structlog

    from lakehouse import failpoints
    from lakehouse.machine.logs import configure_logs
    from producers.clock import Clock, utc_now
    from producers.kafka_writer import Counts
    from producers.publish import NotReadyError, Outcome
    from producers.run_id import new_run_id
    from producers.stopping import Stop

    settings: Settings = ctx.obj
    if not structlog.is_configured():
        configure_logs(settings.log_format, settings.log_level)
    if source not in _names():
        raise typer.BadParameter(f"{source!r} is not a source; expected one of {', '.join(_names())}")
    if dump is not None or download or partial or run_date or source not in SOURCES:
        polled = bool(locations or since or until or replay is not None or set_name or speed != "max" or once)
        _publish_dump(settings, source, dump, download, partial, run_date, as_json, polled)
        return
    chosen = load_source(source)
    _check_usage(chosen, since, replay, set_name, speed, once)
    failpoints.arm(settings.failpoint, [])
    names = tuple(name for name in (part.strip() for part in locations.split(",")) if name)
    with Stop() as stop:
        clock = Clock(now=utc_now, sleep=stop.sleep)
        run = _Run(chosen, settings, names, as_json, new_run_id(utc_now()), Outcome(chosen), Counts(), stop, clock)
        days = days_of(since, until)
        watched = _watched(run)
        if replay is None and (reason := chosen.not_ready(settings)):
            raise NotReadyError(reason)
        if replay is not None:
            _replay(run, watched, replay, set_name or None, factor_of(speed), days)
        elif days:
            _range(run, watched, days)
        elif once:
            _once(run, watched)
        else:
            _loop(run, watched)


def _publish_dump(
    settings: "Settings", name: str, path: Path | None, download: bool, partial: bool, run_date: str, as_json: bool, polled: bool
) -> None:
    from lakehouse import failpoints
    from producers.clock import utc_now
    from producers.dumps.command import DumpOptions, instant_of, publish_dump
    from producers.run_id import new_run_id
    from producers.stopping import Stop

    if name not in DUMPS:
        raise typer.BadParameter(f"{name} is polled, not published from dumps: leave out --dump, --download, --partial and --run-date")
    if (path is not None) == download:
        raise typer.BadParameter(f"{name} is published from dumps: give either --dump PATH or --download")
    if polled:
        raise typer.BadParameter(f"{ONLY}, --since, --until, --replay, --set, --speed and --once are for sources that are polled")
    source = load_dumps(name)
    if download and source.download is None:
        raise typer.BadParameter(f"{name} cannot be downloaded: give --dump PATH")
    failpoints.arm(settings.failpoint, [])
    with Stop() as stop:
        options = DumpOptions(path, partial, instant_of(run_date), as_json)
        publish_dump(source, options, settings, new_run_id(utc_now()), lambda: stop.sleep(0))


def _check_usage(source: "Source[Any]", since: str, replay: Path | None, set_name: str, speed: str, once: bool) -> None:
    if once and (since or replay is not None):
        raise typer.BadParameter("--once cannot be combined with --since or --replay")
    if replay is None and (set_name or speed != "max"):
        raise typer.BadParameter("--set and --speed need --replay")
    if replay is not None and source.recorded is None:
        raise typer.BadParameter(f"{source.name} does not support recorded answers: leave out --replay")
    if replay is None and since and source.ranges is None:
        raise typer.BadParameter(f"{source.name} provides current records only: leave out --since")
    if replay is not None and not source.contract.event_time and (since or speed != "max"):
        raise typer.BadParameter(f"records of {source.name} have no event time: leave out --since and --speed")


def _watched(run: _Run) -> Mapping[str, Any]:
    """Read the entities that the source polls, by key; only those of --locations where it is given."""
    watched = run.source.watched(run.settings)
    unknown = [name for name in run.names if name not in watched.entities]
    if unknown:
        known = ", ".join(watched.entities)
        raise typer.BadParameter(f"{ONLY} {', '.join(unknown)}: no such {run.source.words.entity} in {watched.where}; it has {known}")
    return {key: entity for key, entity in watched.entities.items() if not run.names or key in run.names}


def _replay(
    run: _Run, watched: Mapping[str, Any], path: Path, set_name: str | None, factor: float | None, days: tuple[date, date] | None
) -> None:
    from producers.publish import NothingRecordedError, publish_recorded

    assert run.source.recorded is not None
    answers = run.source.recorded(path, set_name)
    with _writing(run) as writer, progress("answers", len(answers)) as on_step:
        publish_recorded(
            run.source, answers, list(watched.values()), writer, run.outcome, days=days, speed=factor, clock=run.clock, on_step=on_step
        )
    if not run.outcome.records:
        raise NothingRecordedError(f"{path}: no recorded answer for the requested {run.source.words.entities} and days")
    writer.raise_invalid()


def _range(run: _Run, watched: Mapping[str, Any], days: tuple[date, date]) -> None:
    from producers.stopping import StoppedError

    assert run.source.ranges is not None
    steps = run.source.ranges.steps(list(watched.values()), *days, run.clock.now().date())
    if not steps:
        raise typer.BadParameter(f"{run.source.ranges.has}, but none from {days[0]} to {days[1]}")
    with _writing(run) as writer, _publisher(run, writer, steps, "range") as publisher:
        is_done = publisher.publish_days(list(watched.values()), *days, run.outcome)
    _raise_what_failed(run, writer)
    if not is_done:
        raise StoppedError(f"stopped before all of {days[0]} to {days[1]} was published; run the same command again")


def _once(run: _Run, watched: Mapping[str, Any]) -> None:
    from producers.stopping import StoppedError

    with _writing(run) as writer, _publisher(run, writer, len(watched), "poll") as publisher:
        is_done = publisher.publish_latest(list(watched.values()), run.outcome)
    if is_done:
        _note_poll(run, watched, every=None)
    _raise_what_failed(run, writer)
    if not is_done:
        raise StoppedError(f"stopped before every {run.source.words.entity} was polled")


def _loop(run: _Run, watched: Mapping[str, Any]) -> None:
    """Poll until stopped. An error that a later poll may not have is logged; a refusal by the source ends the command."""
    import structlog

    from lakehouse.broker.topics import NoKafkaError
    from lakehouse.errors import Retryable, WeirError
    from producers.clock import utc_now
    from producers.stopping import StoppedError
    from producers.upstream import lateness

    log = structlog.get_logger()
    source, every = run.source, timedelta(minutes=run.settings.poll_minutes)
    known = _polls(run)
    polls = 0
    try:
        while True:
            polls += 1
            run.outcome = run.outcome.next_poll()
            if late := lateness(known.read().last_success, every, utc_now()):
                log.warning(late, source=source.name)
            try:
                with _writing(run, summary=False) as writer, _publisher(run, writer, len(watched), "poll") as publisher:
                    # Announced only after Kafka answered: a producer that cannot publish must not reserve calls.
                    if source.budget is not None and run.budget is not None:
                        run.budget.announce(source.budget.poll_weight(len(watched), run.settings.poll_past_days), every, utc_now())
                    is_done = publisher.publish_latest(list(watched.values()), run.outcome)
                if is_done:
                    _note_poll(run, watched, every)
                if is_done and not run.outcome.failures and not writer.counts.invalid:
                    _note_success(run)
            except StoppedError:
                break
            except WeirError as error:
                known.note_failed(utc_now(), every, str(error))
                if not isinstance(error, Retryable) or (polls == 1 and isinstance(error, NoKafkaError)):
                    raise
                log.error("poll failed", source=source.name, reason=str(error), again_in_minutes=run.settings.poll_minutes)
            if run.stop.wait(run.settings.poll_minutes * 60):
                break
            try:
                watched = _watched(run)
            except (WeirError, typer.BadParameter) as error:
                entities = source.words.entities
                log.error(f"the list of {entities} cannot be read: continuing with the {entities} of the last poll", reason=str(error))
    finally:
        if run.has_begun:
            _print_summary(run)


def _polls(run: _Run) -> "Polls":
    from producers.polls import Polls

    return Polls(run.state, run.source.name, run.source.words, run.source.timetable)


def _note_poll(run: _Run, watched: Mapping[str, Any], every: timedelta | None) -> None:
    """Store and log how a poll ended, and how old upstream's newest change is."""
    import structlog

    from producers.clock import utc_now
    from producers.upstream import judge_upstream

    now, outcome, source = utc_now(), run.outcome, run.source
    has_changed = outcome.kinds["changed"] > 0
    facts = _polls(run).note(now, every, list(watched), outcome.failures, has_changed)
    upstream = judge_upstream(facts.upstream_changed, now, has_changed, timetable=source.timetable)
    counts = {source.words.records: run.counts.delivered, source.words.entities: len(watched) - len(outcome.failures)}
    structlog.get_logger().info(
        "polled",
        source=source.name,
        **counts,
        failed=len(outcome.failures),
        **{kind: outcome.kinds[kind] for kind in ("new", "changed", "measured", "repeated", "unchanged")},
        upstream=upstream.says,
        upstream_age_seconds=upstream.age.total_seconds() if upstream.age is not None else None,
    )


def _raise_what_failed(run: _Run, writer: "KafkaWriter") -> None:
    run.outcome.raise_failures()
    writer.raise_invalid()
    _note_success(run)


def _note_success(run: _Run) -> None:
    import time

    from monitoring import metrics

    metrics.PRODUCER_LAST_SUCCESS.labels(source=run.source.name).set(time.time())


@contextmanager
def _writing(run: _Run, summary: bool = True) -> "Iterator[KafkaWriter]":
    """Open a writer for the topic and flush it at the end; print the summary even after an error."""
    from lakehouse.broker.topics import ensure_topic
    from producers.kafka_writer import KafkaWriter, connect

    bootstrap, contract = run.settings.kafka_bootstrap, run.source.contract
    run.topic_id = ensure_topic(bootstrap, contract, run.settings.kafka_partitions)
    writer = KafkaWriter(connect(bootstrap, run.run_id), contract, run.source.name, run.run_id)
    run.delivered_before += run.counts.delivered
    run.counts = writer.counts
    run.has_begun = True
    try:
        with writer:
            yield writer
    finally:
        if summary:
            _print_summary(run)


@contextmanager
def _publisher(run: _Run, writer: "KafkaWriter", steps: int, lane: "Lane") -> "Iterator[Publisher[Any]]":
    from producers.cursor import Cursors
    from producers.publish import Publisher
    from producers.published import Published

    source, settings = run.source, run.settings
    if source.budget is not None and run.budget is None:
        run.budget = source.budget.open(settings, lane, " ".join([str(settings.home), *run.names]))
    opened = source.open(settings, run.clock, run.stop.is_set, run.budget)
    with opened as client, progress(source.words.entities, steps) as on_step:
        cursors = Cursors(run.state, source.name)
        memory = Published(run.state, source.name, source.contract, run.topic_id, source.identity)
        publisher = Publisher(source, client, writer, cursors, memory, run.clock, settings.poll_past_days, on_step, run.stop.is_set)
        with _notices(run) as notices:
            yield replace(publisher, notices=notices)


@contextmanager
def _notices(run: _Run) -> "Iterator[KafkaWriter | None]":
    """Open a writer for the topic of the source's notices; None where it has none."""
    from lakehouse.broker.topics import ensure_topic
    from producers.kafka_writer import KafkaWriter, connect

    bootstrap, contract = run.settings.kafka_bootstrap, run.source.notice
    if contract is None:
        yield None
        return
    ensure_topic(bootstrap, contract, run.settings.kafka_partitions)
    with KafkaWriter(connect(bootstrap, run.run_id), contract, run.source.name, run.run_id) as writer:
        yield writer


def _print_summary(run: _Run) -> None:
    outcome, counts, words, topic = run.outcome, run.counts, run.source.words, run.source.contract.topic
    delivered = run.delivered_before + counts.delivered
    if run.as_json:
        print(
            json.dumps(
                {
                    "source": run.source.name,
                    "topic": topic,
                    "run_id": run.run_id,
                    words.records: delivered,
                    words.entities: sorted(outcome.entities),
                    "first_ts": f"{outcome.first:%Y-%m-%dT%H:%M:%SZ}" if outcome.first else None,
                    "last_ts": f"{outcome.last:%Y-%m-%dT%H:%M:%SZ}" if outcome.last else None,
                    f"{words.records}_without_data": {key: lacking.count for key, lacking in sorted(outcome.without_data.items())},
                    "out_of_range": counts.out_of_range,
                    "invalid": counts.invalid,
                    "failed": {key: str(error) for key, error in sorted(outcome.failures.items())},
                    f"unknown_{words.entities}": outcome.unknown,
                },
                ensure_ascii=False,
            )
        )
        return
    parts = [f"{delivered} {words.records} of {len(outcome.entities)} {words.entity}(s) published to {topic}"]
    if outcome.first and outcome.last:
        parts[0] += f", {outcome.first:%Y-%m-%dT%H:%MZ} to {outcome.last:%Y-%m-%dT%H:%MZ}"
    parts += [
        f"no data for {key} {lacking.first:%Y-%m-%dT%H:%MZ} to {lacking.last:%Y-%m-%dT%H:%MZ}, {lacking.count} {words.records}"
        for key, lacking in sorted(outcome.without_data.items())
    ]
    if counts.out_of_range:
        parts.append(f"{counts.out_of_range} out of range")
    if outcome.failures:
        parts.append(f"failed: {', '.join(sorted(outcome.failures))}")
    add = f" ({words.add_entity})" if words.add_entity else ""
    parts += [f"{count} answer(s) skipped, no known {words.entity}: {name}{add}" for name, count in sorted(outcome.unknown.items())]
    print("; ".join(parts))
