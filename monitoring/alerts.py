"""Which alerts of a domain are raised? Figures from its tables, judged by `lakehouse/alerts.py`.

`weir check` judges them, prints them and keeps them as <domain>.alerts.json in the state folder, from which the metrics page reads them:
their queries read bronze, so they are not run for each request of the page.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from lakehouse.alerts import RUNS_BEFORE, Alert, Run, Runs, judge_duplicates, judge_freshness, judge_records
from lakehouse.domain import Domain
from lakehouse.query.reader import Reader, UnknownTable
from lakehouse.settings import Settings
from lakehouse.storage.folders import open_folder
from monitoring.freshness import TableFacts, read_facts

LAYERS = ("bronze", "silver", "gold")

log = structlog.get_logger("weir.alerts")


@dataclass(frozen=True, slots=True)
class Judged:
    """The alerts of a domain as they were last judged."""

    domain: str
    judged_ts: datetime
    alerts: tuple[Alert, ...]


def judge(settings: Settings, domain: Domain, now: datetime) -> Judged:
    """Judge the alerts of a domain, and keep them for the metrics page.

    Raises:
        NoTables, UnsupportedCatalog, UnreadableCatalog: there are no tables, or they cannot be read.
    """
    alerts: list[Alert] = []
    with Reader(settings) as reader:
        for runs in domain.runs:
            in_order = _read_runs(reader, runs)
            alerts += [judge_records(runs, in_order), judge_duplicates(runs, in_order)]
    objective = timedelta(hours=settings.alert_fresh_hours)
    facts = read_facts(settings)
    alerts += [judge_freshness(layer, _age(domain, layer, facts, now), objective) for layer in LAYERS]
    judged = Judged(domain.name, now, tuple(alerts))
    try:
        keep(settings, judged)
    except OSError as error:  # a home that may only be read
        log.info("the alerts are not kept for the metrics page", reason=str(error))
    return judged


def keep(settings: Settings, judged: Judged) -> None:
    """Keep the alerts of a domain for the metrics page, in place of those that were judged before."""
    open_folder(settings.state_uri).write(_file(judged.domain), json.dumps(_as_json(judged), indent=1) + "\n")


def last_judged(settings: Settings, domains: Iterable[str]) -> list[Judged]:
    """Return the alerts of each domain as they were last judged; a domain without any, or with a file that cannot be read, is left out."""
    found, folder = [], open_folder(settings.state_uri)
    for name in domains:
        try:
            kept = json.loads(folder.text(_file(name)) or "")
            alerts = tuple(Alert(**one) for one in kept["alerts"])
            found.append(Judged(name, datetime.fromisoformat(kept["judged_ts"]), alerts))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _read_runs(reader: Reader, runs: Runs) -> list[Run]:
    try:
        rows = reader.query(
            f"SELECT records, duplicates FROM (SELECT * FROM ({runs.sql}) ORDER BY run_ts DESC LIMIT {RUNS_BEFORE + 1}) ORDER BY run_ts"
        ).rows
    except UnknownTable:
        return []  # of an older version; the checks report it
    return [Run(int(records), int(duplicates)) for records, duplicates in rows]


def _age(domain: Domain, layer: str, facts: Iterable[TableFacts], now: datetime) -> timedelta | None:
    tables = {*(source.bronze.name for source in domain.sources), *(table.name for table in domain.merged)}
    ages = [
        now - fact.last_commit_ts
        for fact in facts
        if f"lh.{fact.name}" in tables and fact.name.startswith(f"{layer}.") and fact.rows and fact.last_commit_ts is not None
    ]
    return min(ages, default=None)


def _file(domain: str) -> str:
    return f"{domain}.alerts.json"


def _as_json(judged: Judged) -> dict[str, object]:
    names = ("kind", "name", "table", "value", "bound", "says")
    return {
        "judged_ts": judged.judged_ts.astimezone(UTC).isoformat(),
        "alerts": [{name: getattr(alert, name) for name in names} for alert in judged.alerts],
    }
