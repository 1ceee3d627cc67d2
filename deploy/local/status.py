"""Which parts run, how far behind are they, and how fresh are the tables?

`collect` returns the facts as plain values, instants in ISO 8601 UTC, and works without any service: an unknown value is null, with the
reason beside it. `show` prints them.

    parts      part, state (up, starting, restarting, down, stale; off where `weir up` leaves it out, and says tells why), pid, since,
               address, restarts, says, log
    queries    query, table and tables (that it writes), lag_messages, lag_seconds, last_commit, says; waiting_messages: written to the
               topics within a transaction that is still open, or after one began (null for silver); state (running, restarting,
               stopped, done; null without a driver), state_since, restarts, reason and note, as the driver reports them;
               held (by source, why the breaker holds it back while the query runs)
    tables     table, rows, last_commit, age_seconds, files; engine: what computed the last commit's rows, null where they only arrived
    freshness  city, newest_ts_utc, newest_retrieved_ts, age_seconds   (of the hourly fact; the age of the newest hour's start)
    rejects    total, by_rule
    unknown_fields  domain, field, messages, first_seen, last_seen: fields of messages that the contract does not know
    sources    source, last_success, every_minutes, is_late, upstream (unknown, new, nothing new, late), upstream_changed, says,
               problem, failing (location, since, reason): what the polls noted
    objectives objective, domain, table, value_seconds (null where it is not known), bound_seconds, is_met, late_stage (of the domain: the
               first of upstream, producer, kafka, bronze, silver, gold that is not as it should be; null where all are)
    references domain, in_force and noted (release by name, such as tzdata), outdated (entity, since, until, rows with an older one), advice
    paths      home, warehouse, checkpoints, catalog, logs
"""

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from deploy.local.agent.run_files import MONITORS, PARTS, PartName, PartState, not_ready, read_state, run_folder, running_kafka, seen
from deploy.local.errors import StaleProcessId
from deploy.local.services.kafka_broker import answers
from lakehouse.domain_names import DOMAINS
from lakehouse.errors import WeirError
from lakehouse.machine.terminal import console_for_tables
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from lakehouse.domain import Domain
    from monitoring.freshness import TableFacts
    from monitoring.lag import Lag, TopicLag
    from streaming.query_states import QueryState

REJECTS = "ops.rejects"


def collect(settings: Settings, now: datetime | None = None) -> dict[str, Any]:
    """Gather everything that `weir status` shows."""
    moment = now or datetime.now(UTC)
    lacking = not_ready(settings)
    run = run_folder(settings)
    shown = [*PARTS, *(part for part in MONITORS if read_state(run, part) is not None)]
    parts = [_part(settings, part, lacking.get(part, "")) for part in shown]
    facts, says = _facts(settings)
    domains, unreadable = _domains(settings)
    tables: list[dict[str, Any]] = [
        {"table": f"lh.{one.name}", "rows": one.rows, "files": one.files, "last_commit": _iso(one.last_commit_ts), "engine": one.engine}
        for one in facts
    ]
    commits = {table["table"]: table["last_commit"] for table in tables}
    lags = [_lags(settings, domain) for domain in domains]
    return {
        "now": _iso(moment),
        "parts": parts,
        "queries": [
            *(query for behind in lags for query in _queries(settings, behind, commits, moment)),
            *(query for name, reason in unreadable.items() for query in _only_states(settings, name, reason)),
        ],
        "tables": [{**table, "age_seconds": _age(table["last_commit"], moment)} for table in tables],
        "tables_say": says,
        "freshness": [city for domain in domains for city in _freshness(settings, domain, facts, moment)],
        "rejects": _rejects(settings, tables),
        "unknown_fields": [one for domain in domains for one in _unknown_fields(settings, domain)],
        "sources": _sources(settings, moment),
        "objectives": _objectives(settings, lags, facts, moment),
        "references": [one for domain in domains for one in _references(settings, domain)],
        "paths": {
            "home": str(settings.home),
            "warehouse": settings.warehouse_uri,
            "checkpoints": settings.checkpoints_uri,
            "catalog": settings.catalog_uri,
            "logs": str(settings.home / "logs"),
        },
    }


def _part(settings: Settings, part: PartName, lacking: str) -> dict[str, Any]:
    run = run_folder(settings)
    state = seen(run, part)
    own = part == "kafka" and settings.kafka_bootstrap and settings.kafka_bootstrap != running_kafka(settings)
    if own and state.condition == "down":
        reached = answers(settings.kafka_bootstrap)
        state = PartState("kafka", "up" if reached else "down", address=settings.kafka_bootstrap)
    condition: str = state.condition
    says = state.failure
    if condition == "down" and lacking:
        condition, says = "off", lacking
    if state.condition == "stale" and state.pid is not None:
        says = str(StaleProcessId(part, state.pid, run / f"{part}.json"))
    return {
        "part": part,
        "state": condition,
        "pid": state.pid if state.alive else None,
        "since": _iso(state.since_ts) if state.alive else None,
        "address": state.address or None,
        "restarts": state.restarts,
        "says": says or None,
        "log": state.log or None,
    }


def query_names(settings: Settings) -> list[str]:
    """Return the queries' names of all domains whose configuration can be read, bronze's query before silver's."""
    return [name for domain in _domains(settings)[0] for name in (domain.bronze_query, domain.refine_query)]


def _domains(settings: Settings) -> tuple[list["Domain"], dict[str, str]]:
    """Build the domains; also return, by name, why a domain's configuration cannot be read."""
    from lakehouse.registry import build_domain

    domains, unreadable = [], {}
    for name in DOMAINS:
        try:
            domains.append(build_domain(name, settings))
        except WeirError as error:
            unreadable[name] = str(error)
    return domains, unreadable


def _only_states(settings: Settings, name: str, reason: str) -> list[dict[str, Any]]:
    """Return the queries' states as the domain's driver reported them, where nothing else can be read."""
    from lakehouse.storage.folders import open_folder
    from streaming.query_states import read_states

    return [_query(state.query, [], None, None, None, reason, state, None) for state in read_states(open_folder(settings.state_uri), name)]


@dataclass(frozen=True, slots=True)
class _Lags:
    """What bronze lacks of each topic, and silver and gold of each source of bronze; None where it is not known, with the reason."""

    domain: "Domain"
    topics: "list[TopicLag] | None"
    rows: "list[Lag] | None"
    topics_say: str | None
    rows_say: str | None


def _lags(settings: Settings, domain: "Domain") -> _Lags:
    from monitoring.lag import bronze_lag, silver_lags

    topics, rows = None, None
    says: list[str | None] = [None, None]
    try:
        topics = [bronze_lag(settings, source, running_kafka(settings)) for source in domain.sources]
    except WeirError as error:
        says[0] = str(error)
    try:
        rows = silver_lags(settings, domain)
    except WeirError as error:
        says[1] = str(error)
    return _Lags(domain, topics, rows, *says)


def _queries(settings: Settings, behind: _Lags, commits: dict[str, str | None], now: datetime) -> list[dict[str, Any]]:
    from lakehouse.storage.folders import open_folder
    from monitoring.lag import whole_of
    from streaming.query_states import read_states

    domain = behind.domain
    states = {state.query: state for state in read_states(open_folder(settings.state_uri), domain.name)}
    tables = {
        domain.bronze_query: [source.bronze.name for source in domain.sources],
        domain.refine_query: [source.silver.name for source in domain.sources],
    }
    queries: list[dict[str, Any]] = []
    for query, written in tables.items():
        lag, waiting = None, None
        if query == domain.bronze_query:
            says = behind.topics_say
            if behind.topics is not None:
                lag = whole_of(topic.whole for topic in behind.topics)
                waiting = sum(sum(topic.waiting.values()) for topic in behind.topics)
        else:
            says = behind.rows_say
            lag = None if behind.rows is None else whole_of(behind.rows)
        last = max((at for table in written if (at := commits.get(table))), default=None)
        queries.append(_query(query, written, lag, waiting, last, says, states.get(query), now))
    return queries


def _query(
    query: str,
    tables: list[str],
    lag: "Lag | None",
    waiting: int | None,
    last_commit: str | None,
    says: str | None,
    state: "QueryState | None",
    now: datetime | None,
) -> dict[str, Any]:
    return {
        "query": query,
        "table": tables[0] if tables else None,
        "tables": tables,
        "lag_messages": lag.messages if lag else None,
        "lag_seconds": _rounded(lag.seconds(now)) if lag and now else None,
        "waiting_messages": waiting,
        "last_commit": last_commit,
        "says": says,
        "state": state.state if state else None,
        "state_since": state.since if state else None,
        "restarts": state.restarts if state else 0,
        "reason": (state.reason or None) if state else None,
        "note": (state.note or None) if state else None,
        "held": dict(state.held) if state else {},
    }


def _facts(settings: Settings) -> tuple[list["TableFacts"], str | None]:
    from monitoring.freshness import read_facts

    try:
        return read_facts(settings), None
    except WeirError as error:
        return [], str(error)


def _freshness(settings: Settings, domain: "Domain", facts: list["TableFacts"], now: datetime) -> list[dict[str, Any]]:
    from monitoring.freshness import bare_name, read_cities

    if not domain.fresh:
        return []
    name = bare_name(domain.fresh[-1])
    return [
        {
            "city": one.city,
            "newest_ts_utc": _iso(one.newest_ts),
            "newest_retrieved_ts": _iso(one.retrieved_ts),
            "age_seconds": round((now - one.newest_ts).total_seconds(), 3),
        }
        for one in read_cities(settings, domain, [table for table in facts if table.name == name]).get(name, [])
    ]


def _rejects(settings: Settings, tables: list[dict[str, Any]]) -> dict[str, Any]:
    from monitoring.freshness import ROWS_AT_A_GLANCE

    total = _rows_of(tables, REJECTS)
    if not 0 < total <= ROWS_AT_A_GLANCE:
        return {"total": total, "by_rule": {}}
    rules = Counter(_scan(settings, REJECTS, ("rule",)).column("rule").to_pylist())
    return {"total": total, "by_rule": dict(rules.most_common())}


def _unknown_fields(settings: Settings, domain: "Domain") -> list[dict[str, Any]]:
    from lakehouse.codecs.unknown_fields import read_unknown_fields, unknown_fields_file
    from lakehouse.storage.folders import open_folder

    fields = []
    for source in domain.sources:
        file = unknown_fields_file(domain.name, "" if len(domain.sources) == 1 else source.name)
        known = read_unknown_fields(open_folder(settings.state_uri), file)
        fields += [{"domain": domain.name, "field": name, **asdict(seen)} for name, seen in sorted(known.items())]
    return fields


def _sources(settings: Settings, now: datetime) -> list[dict[str, Any]]:
    from producers.sources.registry import SOURCES

    return [source for name in SOURCES if (source := _source(settings, name, now)) is not None]


def _source(settings: Settings, name: str, now: datetime) -> dict[str, Any] | None:
    from producers.polls import Polls
    from producers.sources.registry import load_source
    from producers.upstream import judge_upstream, lateness

    known = Polls(settings.home / "state", name).read()
    if known.last_poll is None:
        return None
    source = load_source(name)
    try:
        watched = set(source.watched(settings).entities)
    except WeirError:  # the list cannot be read; `weir doctor` reports it
        watched = set(known.failing)
    late = lateness(known.last_success, known.every, now)
    upstream = judge_upstream(known.upstream_changed, now, timetable=source.timetable)
    return {
        "source": name,
        "last_success": _iso(known.last_success),
        "every_minutes": known.every.total_seconds() / 60 if known.every else None,
        "is_late": bool(late),
        "upstream": upstream.state,
        "upstream_changed": _iso(known.upstream_changed),
        "says": late or upstream.says,
        "problem": known.problem or None,
        "failing": [
            {"location": key, "since": _iso(one.since), "reason": one.reason}
            for key, one in sorted(known.failing.items())
            if key in watched
        ],
    }


def _objectives(settings: Settings, lags: list[_Lags], facts: list["TableFacts"], now: datetime) -> list[dict[str, Any]]:
    """Judge the objectives as the metrics page does."""
    from deploy.local.observed import running_queries, source_facts
    from monitoring.freshness import most_behind, read_cities
    from monitoring.objectives import judge, late_stage, read_objectives
    from monitoring.stages import ReadTimes, delays, stage_facts

    sources = source_facts(settings, now).values()
    try:
        running = running_queries(settings)
    except OSError:
        running = {}
    late, ages, entities = {}, {}, {}
    for one in lags:
        late[one.domain.name] = late_stage(stage_facts(one.domain, one.topics, one.rows, running, facts, sources, ReadTimes(now, now)))
        ages[one.domain.name] = delays(one.domain, one.topics, one.rows, ReadTimes(now, now))
        for table, hours in read_cities(settings, one.domain, facts).items():
            if behind := most_behind(hours, one.domain.entities, 1):
                entities[table] = (now - behind[0].newest_ts).total_seconds()
    return [
        {
            "objective": one.objective.name,
            "domain": one.objective.domain,
            "table": f"lh.{one.objective.table}",
            "value_seconds": _rounded(one.seconds),
            "bound_seconds": one.objective.within_seconds,
            "is_met": one.is_met,
            "late_stage": one.late,
        }
        for one in judge(read_objectives(settings), ages, entities, late)
    ]


def _references(settings: Settings, domain: "Domain") -> list[dict[str, Any]]:
    from lakehouse.tables.references import References, look_at_references

    if not domain.references:
        return []
    try:
        references = look_at_references(settings, domain)
    except WeirError:  # there are no tables yet, or another part of the status reports their error
        references = References(domain.name, domain.references, {})
    return [{**references.as_dict(), "advice": references.advice or None}]


def _scan(settings: Settings, table: str, columns: tuple[str, ...]) -> Any:  # noqa: ANN401 - pyarrow's Table has no types
    from lakehouse.tables.catalog import open_catalog

    return open_catalog(settings).load_table(table).scan(selected_fields=columns).to_arrow()


def _rows_of(tables: list[dict[str, Any]], name: str) -> int:
    return next((int(table["rows"]) for table in tables if table["table"] == f"lh.{name}"), 0)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _age(commit: str | None, now: datetime) -> float | None:
    return None if commit is None else _rounded((now - datetime.fromisoformat(commit)).total_seconds())


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


_COLOURS = {"up": "green", "starting": "yellow", "restarting": "yellow", "stale": "red", "down": "dim", "off": "dim"}


def show(found: dict[str, Any]) -> None:
    """Print the result of `collect` for people, only the sections that are not empty."""
    console = console_for_tables()
    parts = _grid("part", "state", "since (UTC)", "process", "address", "restarts")
    for part in found["parts"]:
        colour = _COLOURS[part["state"]]
        state = f"[{colour}]{part['state']}[/{colour}]"
        parts.add_row(
            part["part"], state, _short(part["since"]), str(part["pid"] or ""), part["address"] or "", str(part["restarts"] or "")
        )
    console.print(parts)
    for part in found["parts"]:
        if part["says"]:
            console.print(f"[bold]{part['part']}[/bold] {_plain(part['says'])}", soft_wrap=True)
            if part["log"] and part["state"] == "restarting":
                console.print(f"  log: {part['log']}", markup=False, soft_wrap=True)

    for query in found["queries"]:
        if query["state"] in ("restarting", "stopped"):
            since = f"since {_short(query['state_since'])}, {query['restarts']} restarts"
            console.print(
                f"[red]{query['state']}[/red] [bold]{query['query']}[/bold] {since}: {_plain(query['reason'] or '')}", soft_wrap=True
            )

        for source, reason in query["held"].items():
            console.print(f"[red]held back[/red] [bold]{source}[/bold] of {query['query']}: {_plain(reason)}", soft_wrap=True)
        if query["note"]:
            console.print(f"[yellow]note[/yellow] [bold]{query['query']}[/bold] {_plain(query['note'])}", soft_wrap=True)

    if found["tables"]:
        console.print()
        lags = {query["table"]: query for query in found["queries"]}
        tables = _grid("table", "rows", "last commit (UTC)", "age", "engine", "behind")
        for table in found["tables"]:
            lag = lags.get(table["table"], {})
            behind = _behind(
                lag.get("lag_messages"), lag.get("lag_seconds"), "messages" if table["table"].startswith("lh.bronze") else "rows"
            )
            if waiting := lag.get("waiting_messages"):
                behind += f"; {waiting:,} wait for an open transaction to end"
            tables.add_row(
                table["table"],
                f"{table['rows']:,}",
                _short(table["last_commit"]),
                _span(table["age_seconds"]),
                table["engine"] or "",
                behind,
            )
        console.print(tables)
    elif found["tables_say"]:
        console.print(f"\n{_plain(found['tables_say'])}", soft_wrap=True)

    if found["freshness"]:
        console.print()
        cities = _grid("city", "newest hour (UTC)", "age", "retrieved (UTC)")
        for city in found["freshness"]:
            cities.add_row(city["city"], _short(city["newest_ts_utc"]), _span(city["age_seconds"]), _short(city["newest_retrieved_ts"]))
        console.print(cities)
    for source in found["sources"]:
        console.print(f"\n[bold]{source['source']}[/bold] last polled {_short(source['last_success'])}: {source['says']}", soft_wrap=True)
        if source["problem"]:
            console.print(f"  [red]last poll failed[/red]: {_plain(source['problem'])}", soft_wrap=True)
        for place in source["failing"]:
            console.print(
                f"  [red]failing[/red] {place['location']} since {_short(place['since'])}: {_plain(place['reason'])}", soft_wrap=True
            )
    if found["objectives"]:
        console.print()
        objectives = _grid("objective", "age", "bound", "state", "late at")
        for one in found["objectives"]:
            state = {None: "[dim]not known[/dim]", True: "[green]met[/green]", False: "[red]missed[/red]"}[one["is_met"]]
            age, bound = _span(one["value_seconds"]), _span(one["bound_seconds"])
            objectives.add_row(one["objective"], age, bound, state, one["late_stage"] or "")
        console.print(objectives)
    for reference in found["references"]:
        if reference["advice"]:
            console.print(f"\n[yellow]rebuild[/yellow] {_plain(reference['advice'])}", soft_wrap=True)
    if found["rejects"]["total"]:
        rules = " · ".join(f"{rule} {count:,}" for rule, count in found["rejects"]["by_rule"].items())
        console.print(f"\nrejects {found['rejects']['total']:,}: {rules}", soft_wrap=True)
    for field in found["unknown_fields"]:
        since = f"since {_short(field['first_seen'])}, last {_short(field['last_seen'])}"
        # The name comes from a message, so `repr` escapes control characters of the terminal.
        named = _plain(repr(field["field"]))
        console.print(
            f"\n[yellow]unknown field[/yellow] {named} of {field['domain']}: {field['messages']:,} messages {since}", soft_wrap=True
        )
    console.print()
    paths = _grid("path", "where")
    for name, where in found["paths"].items():
        paths.add_row(name, _plain(where))
    console.print(paths, soft_wrap=True)


def _grid(*headings: str) -> Any:  # noqa: ANN401 - rich is imported only for printing
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        grid.add_column(
            heading, justify="right" if heading in ("rows", "restarts", "age", "behind") else "left", no_wrap=heading == "where"
        )
    return grid


def _short(moment: str | None) -> str:
    return "" if moment is None else moment[:19].replace("T", " ")


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def _behind(messages: int | None, seconds: float | None, noun: str) -> str:
    if messages is None:
        return ""
    return f"{messages:,} {noun}, {_span(seconds) or 'age not known'}" if messages else f"0 {noun}"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
