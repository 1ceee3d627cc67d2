"""How are hours published, and how is a place added? The verbs `produce` and `add-city`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.days import days_of, factor_of
from lakehouse.progress import progress

if TYPE_CHECKING:
    from lakehouse.locations import Location
    from lakehouse.settings import Settings
    from producers.budget import Budget, Lane
    from producers.kafka_writer import Counts, KafkaWriter
    from producers.publish import Outcome, Publisher
    from producers.sources.open_meteo.client import Clock
    from producers.stopping import Stop

SOURCES = ("open-meteo",)


@dataclass(slots=True)
class _Run:
    """One command's run: what it works with and what it can say at its end."""

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


def produce(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="what to fetch from: open-meteo")],
    locations: Annotated[
        str, typer.Option(help="only these places, location_key separated by commas (default: all that are watched)")
    ] = "",
    since: Annotated[str, typer.Option(help="first UTC day, YYYY-MM-DD: fetch a range and end")] = "",
    until: Annotated[str, typer.Option(help="last UTC day, itself included (default: today)")] = "",
    replay: Annotated[
        Path | None, typer.Option(help="publish recorded answers: a packed .jsonl.gz, one .json, or a folder of them")
    ] = None,
    set_name: Annotated[str, typer.Option("--set", help="with --replay: only this set of the recorded answers, such as revised")] = "",
    speed: Annotated[str, typer.Option(help="with --replay: max, or hour by hour at this multiple of time, such as 1x or 60x")] = "max",
    once: Annotated[bool, typer.Option("--once", help="poll one time and end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on stdout")] = False,
) -> None:
    """Fetch hours from a source and publish them to Kafka.

    Without a range it polls now and then every WEIR_POLL_MINUTES, each time from where the last delivery of a place ended, until it
    is told to stop; places added meanwhile are picked up. A poll publishes what is new or changed since it was last published. A range
    publishes all its hours, whatever was published before, gives way to the polls, and ends. A place that fails does not stop the
    others; its cursor stands, and the next run fetches what is missing.

    Examples:

      weir produce open-meteo

      weir produce open-meteo --locations hanoi,danang --since 2025-01-01 --until 2025-01-31

      weir produce open-meteo --replay deploy/local/recorded/open_meteo.jsonl.gz --set responses --speed 3600x
    """
    import structlog

    from lakehouse import failpoints
    from lakehouse.logs import configure_logs
    from producers.kafka_writer import Counts
    from producers.publish import Outcome
    from producers.run_id import new_run_id
    from producers.sources.open_meteo.client import Clock, utc_now
    from producers.stopping import Stop

    settings: Settings = ctx.obj
    if not structlog.is_configured():
        configure_logs(settings.log_format, settings.log_level)
    _check_usage(source, since, replay, set_name, speed, once)
    failpoints.arm(settings.failpoint, [])
    names = tuple(name for name in (part.strip() for part in locations.split(",")) if name)
    with Stop() as stop:
        clock = Clock(now=utc_now, sleep=stop.sleep)
        run = _Run(settings, names, as_json, new_run_id(utc_now()), Outcome(), Counts(), stop, clock)
        days = days_of(since, until)
        watched = _watched(settings, names)
        if replay is not None:
            _replay(run, watched, replay, set_name or None, factor_of(speed), days)
        elif days:
            _range(run, watched, days)
        elif once:
            _once(run, watched)
        else:
            _loop(run, watched)


def add_city(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="the city's name, in any script")],
    latitude: Annotated[float, typer.Argument(metavar="LAT", help="degrees north, negative in the south")],
    longitude: Annotated[float, typer.Argument(metavar="LON", help="degrees east, negative in the west")],
    timezone: Annotated[
        str, typer.Option(help="IANA name such as Europe/Madrid; decides the local hour and day in gold (default: UTC)")
    ] = "",
    key: Annotated[str, typer.Option(help="location_key (default: made from the name)")] = "",
) -> None:
    """Watch one more city.

    Writes it to the list of places; a running `weir up` picks it up with its next poll. The same city again changes nothing.

    Examples:

      weir add-city "Hà Nội" 21.0278 105.8342 --timezone Asia/Ho_Chi_Minh

      weir add-city Quito -0.18 -78.47
    """
    from producers.sources.open_meteo.cities import add_to_list, to_city

    settings: Settings = ctx.obj
    try:
        city = to_city(name, latitude, longitude, timezone or "UTC", key)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    path, is_new = add_to_list(city, settings.locations_path, settings.home, same_zone=bool(timezone))
    if not is_new:
        print(f"{city.location_key} is in {path} already: nothing to do")
        return
    print(f"added {city.location_key} ({city.location_name}, {city.latitude}, {city.longitude}, {city.timezone}) to {path}")
    if not timezone:
        print("its local hours are UTC; to have them right, edit `timezone` in that file, or give --timezone NAME with another --key")
    month_ago = _today() - timedelta(days=30)
    print(f"next: `weir up` polls it from now on; its history: weir produce open-meteo --locations {city.location_key} --since {month_ago}")


# Coordinates may be negative: without this, -0.18 would be read as an option. weir.py hands it to the command.
add_city.context_settings = {"ignore_unknown_options": True}  # type: ignore[attr-defined]


def _check_usage(source: str, since: str, replay: Path | None, set_name: str, speed: str, once: bool) -> None:
    if source not in SOURCES:
        raise typer.BadParameter(f"{source!r} is no source; there is {', '.join(SOURCES)}")
    if once and (since or replay is not None):
        raise typer.BadParameter("--once polls the present: leave out --since and --replay")
    if replay is None and (set_name or speed != "max"):
        raise typer.BadParameter("--set and --speed go with --replay")


def _today() -> date:
    from producers.sources.open_meteo.client import utc_now

    return utc_now().date()


def _watched(settings: "Settings", names: tuple[str, ...]) -> "list[Location]":
    """Read the places that are watched, those of --locations alone where it is given."""
    from lakehouse.locations import locations_file, read_locations

    path = locations_file(settings.locations_path, settings.home)
    places = read_locations(path)
    known = [place.location_key for place in places]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"--locations {', '.join(unknown)}: no such place in {path}, which has {', '.join(known)}")
    return [place for place in places if not names or place.location_key in names]


def _replay(
    run: _Run, watched: "list[Location]", path: Path, set_name: str | None, factor: float | None, days: tuple[date, date] | None
) -> None:
    from producers.publish import NothingRecordedError, publish_recorded
    from producers.sources.open_meteo.recorded import read_recorded

    answers = read_recorded(path, set_name)
    with _writing(run) as writer, progress("answers", len(answers)) as on_step:
        publish_recorded(answers, watched, writer, run.outcome, days=days, speed=factor, clock=run.clock, on_step=on_step)
    if not run.outcome.hours:
        raise NothingRecordedError(f"{path}: nothing recorded of the places and days asked for")
    writer.raise_invalid()


def _range(run: _Run, watched: "list[Location]", days: tuple[date, date]) -> None:
    from producers.publish import api_requests
    from producers.sources.open_meteo.client import FIRST_DAY, LAST_DAY_AHEAD, StoppedError

    steps = api_requests(watched, *days, today=_today())
    if not steps:
        raise typer.BadParameter(f"the API has days from {FIRST_DAY} to {LAST_DAY_AHEAD} days ahead; nothing of {days[0]} to {days[1]}")
    with _writing(run) as writer, _publisher(run, writer, steps, "range") as publisher:
        is_done = publisher.publish_days(watched, *days, run.outcome)
    _raise_what_failed(run, writer)
    if not is_done:
        raise StoppedError(f"stopped before the end of {days[0]} to {days[1]}; the same command again publishes the rest")


def _once(run: _Run, watched: "list[Location]") -> None:
    from producers.sources.open_meteo.client import StoppedError

    with _writing(run) as writer, _publisher(run, writer, len(watched), "poll") as publisher:
        is_done = publisher.publish_latest(watched, run.outcome)
    if is_done:
        _note_poll(run, watched, every=None)
    _raise_what_failed(run, writer)
    if not is_done:
        raise StoppedError("stopped before every place was polled")


def _loop(run: _Run, watched: "list[Location]") -> None:
    """Poll until told to stop. What a later poll may heal is logged; a refusal of the source ends the command."""
    import structlog

    from lakehouse.errors import Retryable, WeirError
    from lakehouse.locations import BadListError
    from lakehouse.topics import NoKafkaError
    from producers.polls import Polls
    from producers.publish import poll_weight
    from producers.sources.open_meteo.client import StoppedError, utc_now
    from producers.upstream import lateness

    log = structlog.get_logger()
    every = timedelta(minutes=run.settings.poll_minutes)
    known = Polls(run.settings.home / "state", SOURCES[0])
    polls = 0
    try:
        while True:
            polls += 1
            run.outcome = run.outcome.next_poll()
            if late := lateness(known.read().last_success, every, utc_now()):
                log.warning(late, source=SOURCES[0])
            try:
                with _writing(run, summary=False) as writer, _publisher(run, writer, len(watched), "poll") as publisher:
                    # Only now that Kafka answered: a producer that cannot publish keeps no calls from a backfill.
                    _budget(run, "poll").announce(poll_weight(len(watched), run.settings.poll_past_days), every, utc_now())
                    is_done = publisher.publish_latest(watched, run.outcome)
                if is_done:
                    _note_poll(run, watched, every)
                if is_done and not run.outcome.failures and not writer.counts.invalid:
                    _note_success()
            except StoppedError:
                break
            except WeirError as error:
                known.note_failed(utc_now(), every, str(error))
                if not isinstance(error, Retryable) or (polls == 1 and isinstance(error, NoKafkaError)):
                    raise
                log.error("poll failed", source=SOURCES[0], reason=str(error), again_in_minutes=run.settings.poll_minutes)
            if run.stop.wait(run.settings.poll_minutes * 60):
                break
            try:
                watched = _watched(run.settings, run.names)
            except (BadListError, typer.BadParameter) as error:
                log.error("the list of places cannot be read: going on with the places before", reason=str(error))
    finally:
        if run.has_begun:
            _print_summary(run)


def _note_poll(run: _Run, watched: "list[Location]", every: timedelta | None) -> None:
    """Keep and tell how a poll ended, and whether upstream or we are behind."""
    import structlog

    from producers.polls import Polls
    from producers.sources.open_meteo.client import utc_now
    from producers.upstream import judge_upstream

    now, outcome = utc_now(), run.outcome
    has_changed = outcome.kinds["changed"] > 0
    polled = [place.location_key for place in watched]
    facts = Polls(run.settings.home / "state", SOURCES[0]).note(now, every, polled, outcome.failures, has_changed)
    upstream = judge_upstream(facts.upstream_changed, now, has_changed)
    structlog.get_logger().info(
        "polled",
        source=SOURCES[0],
        hours=run.counts.delivered,
        places=len(polled) - len(outcome.failures),
        failed=len(outcome.failures),
        **{kind: outcome.kinds[kind] for kind in ("new", "changed", "measured", "repeated", "unchanged")},
        upstream=upstream.says,
        upstream_age_seconds=upstream.age.total_seconds() if upstream.age is not None else None,
    )


def _raise_what_failed(run: _Run, writer: "KafkaWriter") -> None:
    run.outcome.raise_failures()
    writer.raise_invalid()
    _note_success()


def _note_success() -> None:
    import time

    from monitoring import metrics

    metrics.PRODUCER_LAST_SUCCESS.labels(source=SOURCES[0]).set(time.time())


@contextmanager
def _writing(run: _Run, summary: bool = True) -> "Iterator[KafkaWriter]":
    """Give a writer of the topic; flush it at the end, and say on stdout what came of it whatever happened."""
    from lakehouse.domains.air_quality.contract import HOURLY
    from lakehouse.topics import ensure_topic
    from producers.kafka_writer import KafkaWriter, connect

    bootstrap = run.settings.kafka_bootstrap
    run.topic_id = ensure_topic(bootstrap, HOURLY, run.settings.kafka_partitions)
    writer = KafkaWriter(connect(bootstrap, run.run_id), HOURLY, SOURCES[0], run.run_id)
    run.delivered_before += run.counts.delivered
    run.counts = writer.counts
    run.has_begun = True
    try:
        with writer:
            yield writer
    finally:
        if summary:
            _print_summary(run)


def _budget(run: _Run, lane: "Lane") -> "Budget":
    from producers.budget import open_budget

    if run.budget is None:
        run.budget = open_budget(run.settings, lane, " ".join([str(run.settings.home), *run.names]))
    return run.budget


@contextmanager
def _publisher(run: _Run, writer: "KafkaWriter", steps: int, lane: "Lane") -> "Iterator[Publisher]":
    from lakehouse.domains.air_quality.contract import HOURLY
    from producers.cursor import Cursors
    from producers.publish import Publisher
    from producers.published import Published
    from producers.sources.open_meteo.client import OpenMeteo

    settings, folder = run.settings, run.settings.home / "state"
    key = settings.open_meteo_api_key.get_secret_value() if settings.open_meteo_api_key else None
    client = OpenMeteo(settings.open_meteo_url, run.clock, key, run.stop.is_set, budget=_budget(run, lane))
    with client as source, progress("places", steps) as on_step:
        cursors, memory = Cursors(folder, SOURCES[0]), Published(folder, SOURCES[0], HOURLY, run.topic_id)
        yield Publisher(source, writer, cursors, memory, run.clock, settings.poll_past_days, on_step, run.stop.is_set)


def _print_summary(run: _Run) -> None:
    from lakehouse.domains.air_quality.contract import HOURLY

    outcome, counts = run.outcome, run.counts
    hours = run.delivered_before + counts.delivered
    if run.as_json:
        print(
            json.dumps(
                {
                    "source": SOURCES[0],
                    "topic": HOURLY.topic,
                    "run_id": run.run_id,
                    "hours": hours,
                    "places": sorted(outcome.places),
                    "first_ts": f"{outcome.first:%Y-%m-%dT%H:%M:%SZ}" if outcome.first else None,
                    "last_ts": f"{outcome.last:%Y-%m-%dT%H:%M:%SZ}" if outcome.last else None,
                    "hours_without_data": {key: found.hours for key, found in sorted(outcome.without_data.items())},
                    "out_of_range": counts.out_of_range,
                    "invalid": counts.invalid,
                    "failed": {key: str(error) for key, error in sorted(outcome.failures.items())},
                    "unknown_places": outcome.unknown,
                },
                ensure_ascii=False,
            )
        )
        return
    parts = [f"{hours} hours of {len(outcome.places)} place(s) published to {HOURLY.topic}"]
    if outcome.first and outcome.last:
        parts[0] += f", {outcome.first:%Y-%m-%dT%H:%MZ} to {outcome.last:%Y-%m-%dT%H:%MZ}"
    parts += [
        f"no data for {key} {found.first:%Y-%m-%dT%H:%MZ} to {found.last:%Y-%m-%dT%H:%MZ}, {found.hours} hours"
        for key, found in sorted(outcome.without_data.items())
    ]
    if counts.out_of_range:
        parts.append(f"{counts.out_of_range} out of range")
    if outcome.failures:
        parts.append(f"failed: {', '.join(sorted(outcome.failures))}")
    parts += [f"{count} answer(s) skipped, no known place: {name} (weir add-city)" for name, count in sorted(outcome.unknown.items())]
    print("; ".join(parts))
