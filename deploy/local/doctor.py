"""Is anything wrong with this machine, or with weir's files on it? Each check prints one sentence, with the next step if it fails."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deploy.local.agent.processes import port_is_free, port_owner
from deploy.local.agent.run_files import PARTS, PartName, read_state, run_folder, running_kafka, seen
from deploy.local.errors import DataFileDiffers, OutdatedGold, PortInUse, StaleProcessId
from deploy.local.jars import jars_for
from deploy.local.services.kafka_broker import answers, check_room
from deploy.local.stack import check_kafka_folder
from deploy.yarn import checks as checks_of_cluster
from lakehouse.errors import Retryable, WeirError
from lakehouse.machine import fitness
from lakehouse.machine.java import find_java
from lakehouse.machine.proxies import proxies_argument, proxy_of
from lakehouse.machine.terminal import NOT_INSTALLED, is_utf8
from lakehouse.settings import Settings
from lakehouse.storage.paths import local_path

# Synchronised clocks differ by less than a second.
CLOCK_OFF = timedelta(minutes=5)
API_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; a failure is temporary where the check may succeed later by itself."""

    check: str
    ok: bool
    says: str
    is_temporary: bool = False


def examine(settings: Settings, *, files: bool = False) -> list[Finding]:
    """Run every check, even after one fails.

    Args:
        settings: of the home.
        files: also open every data file of every table; the time grows with the number of files.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        ("java", _java),
        ("jars", _jars),
        ("host name", fitness.host_name),
        ("temp folder", lambda: fitness.temporary_folder(settings)),
        ("open files", fitness.open_files),
        ("locale", _locale),
        ("home", lambda: fitness.home_folder(settings)),
        ("disk", lambda: _disk(settings)),
        ("ports", lambda: _ports(settings)),
        ("processes", lambda: _processes(settings)),
        ("kafka folder", lambda: _kafka_folder(settings)),
        ("kafka", lambda: _kafka(settings)),
        ("topic", lambda: _topic(settings)),
        ("domains", lambda: _domains(settings)),
        ("tables", lambda: _tables(settings)),
        ("proxy", lambda: _proxy(settings)),
        ("clock", lambda: _clock(settings)),
    ]
    if settings.is_on_yarn:
        checks += [
            ("hdfs", lambda: checks_of_cluster.hdfs(settings)),
            ("yarn", lambda: checks_of_cluster.yarn(settings)),
            ("versions", lambda: checks_of_cluster.versions(settings)),
            ("catalog", lambda: checks_of_cluster.catalog(settings)),
            ("checkpoints", lambda: checks_of_cluster.checkpoints(settings)),
        ]
    if files:
        checks.append(("data files", lambda: _data_files(settings)))
    return [_finding(name, check) for name, check in checks]


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except (WeirError, OSError) as error:
        return Finding(name, False, str(error), isinstance(error, Retryable))


def _python() -> str:
    return f"Python {sys.version.split()[0]} in {sys.prefix}"


def _java() -> str:
    java = find_java(os.environ)
    return f"Java {java.version} in {java.home}"


def _locale() -> str:
    encoding = getattr(sys.stdout, "encoding", None) or "no encoding"
    if NOT_INSTALLED:
        return fitness.Noted(f"{', '.join(NOT_INSTALLED)}: no such locale is installed, weir uses C.UTF-8. Set LANG=C.UTF-8, or install it")
    if not is_utf8(encoding):
        return fitness.Noted(f"output is in {encoding}: other characters are printed as ?. Set LANG=C.UTF-8 to see every name")
    return encoding


def _proxy(settings: Settings) -> str:
    proxy = proxy_of(settings.open_meteo_url)
    return f"{settings.open_meteo_url} is called {f'through {proxy}' if proxy else 'directly'}"


def _clock(settings: Settings) -> str:
    """Compare the clock with the newest commit, which cannot be later, and with the API's clock, if it answers in time."""
    from lakehouse.tables.catalog import NoTables

    now = datetime.now(UTC)
    fitness.clock(now)
    try:
        for name, table in _open_tables(settings):
            head = table.current_snapshot()
            if head is not None and (committed := datetime.fromtimestamp(head.timestamp_ms / 1000, UTC)) > now + CLOCK_OFF:
                raise fitness.ClockWrong(now, f"the newest commit of {name} is from {committed:%Y-%m-%dT%H:%M:%SZ}")
    except NoTables:
        pass
    there, why = _api_clock(settings)
    if there is None:
        return f"{now:%Y-%m-%dT%H:%M:%SZ}; not compared with the API's clock ({why})"
    if abs(now - there) > CLOCK_OFF:
        raise fitness.ClockWrong(now, f"that of {settings.open_meteo_url} says {there:%Y-%m-%dT%H:%M:%SZ}")
    return f"{now:%Y-%m-%dT%H:%M:%SZ}, within {CLOCK_OFF.seconds // 60} min of the API's"


def _api_clock(settings: Settings) -> tuple[datetime | None, str]:
    """Return the `Date` of an answer, or None and the reason. The request is for the root path, which costs no API call."""
    import requests

    from producers.sources.open_meteo.client import answered_at

    url = settings.open_meteo_url
    try:
        proxies = proxies_argument(proxy_of(url))
        with requests.head(f"{url}/", timeout=API_SECONDS, proxies=proxies, allow_redirects=False) as answer:
            return answered_at(answer.headers), "its answer has no header Date"
    except WeirError:
        return None, "the proxy cannot be used"
    except (requests.RequestException, ValueError):
        return None, f"{url} did not answer within {API_SECONDS:g} s"


def _jars() -> str:
    return f"{len(jars_for('spark'))} jars for Spark, {len(jars_for('kafka'))} for Kafka"


def _disk(settings: Settings) -> str:
    check_room(settings.home)
    existing = next(parent for parent in (settings.home, *settings.home.parents) if parent.exists())
    return f"{shutil.disk_usage(existing).free // 2**30} GiB free for {settings.home}"


def _ports(settings: Settings) -> str:
    wanted: tuple[tuple[PartName, str, int | None, str], ...] = (
        ("kafka", "Kafka", settings.kafka_port, "WEIR_KAFKA_PORT"),
        ("metrics", "The metrics page", settings.metrics_port, "WEIR_METRICS_PORT"),
    )
    for part, what, port, setting in wanted:
        state = read_state(run_folder(settings), part)
        ours = state is not None and state.alive and str(port) in state.address
        if port is not None and not ours and not port_is_free(port):
            raise PortInUse(what, port, port_owner(port), setting)
    given = [f"{what} {port}" for _, what, port, _ in wanted if port is not None]
    return f"set: {', '.join(given)}" if given else "none is set: free ports are used"


def _processes(settings: Settings) -> str:
    run = run_folder(settings)
    states = [seen(run, part) for part in (*PARTS, "agent")]
    for state in states:
        if state.condition == "stale" and state.pid is not None:
            raise StaleProcessId(state.part, state.pid, run / f"{state.part}.json")
    alive = [f"{state.part} {state.pid}" for state in states if state.alive]
    return f"running: {', '.join(alive)}" if alive else "nothing runs"


def _kafka_folder(settings: Settings) -> str:
    check_kafka_folder(settings.home / "kafka")
    return str(settings.home / "kafka") if (settings.home / "kafka").exists() else "does not exist yet: the first `weir up` creates it"


def _kafka(settings: Settings) -> str:
    address = running_kafka(settings) or settings.kafka_bootstrap
    if not address:
        return "does not run; `weir up` starts it"
    return f"{address} answers" if answers(address) else f"{address} does not answer; `weir status` has details"


def _topic(settings: Settings) -> str:
    """Check the settings of each domain's topics, which another program may have created.

    Raises:
        UnfitTopicError: weir cannot work with these settings.
    """
    from lakehouse.broker.topics import check_topic, topic_names
    from lakehouse.domain_names import DOMAINS
    from lakehouse.registry import build_domain

    address = running_kafka(settings) or settings.kafka_bootstrap
    if not address or not answers(address):
        return "not checked: Kafka does not answer"
    present, described = topic_names(address), []
    for topic in (topic for name in DOMAINS for topic in build_domain(name, settings).topics):
        if topic not in present:
            described.append(f"{topic} does not exist yet: the stream or the producer creates it")
        elif (values := check_topic(address, topic)) is None:
            described.append(f"{topic}: the broker does not let weir describe its settings")
        else:
            described.append(f"{topic} has {', '.join(f'{name}={value}' for name, value in sorted(values.items()))}")
    return "; ".join(described)


def _domains(settings: Settings) -> str:
    """Check each domain's configuration, and whether gold was computed with the current reference data."""
    from lakehouse.domain_names import DOMAINS
    from lakehouse.registry import build_domain
    from lakehouse.tables.catalog import NoTables, UnsupportedCatalog
    from lakehouse.tables.references import look_at_references

    described = []
    for name in DOMAINS:
        domain = build_domain(name, settings)
        described.append(f"{name}: {domain.configuration() or 'no files of its own'}")
        try:
            references = look_at_references(settings, domain)
        except (NoTables, UnsupportedCatalog):
            continue
        if references.outdated:
            raise OutdatedGold(references.advice)
    return "; ".join(described)


def _tables(settings: Settings) -> str:
    from lakehouse.tables.catalog import NoTables

    try:
        names = [name for name, _ in _open_tables(settings)]
    except NoTables:
        return "none yet: the stream creates them"
    return f"{len(names)} tables can be opened, in {settings.warehouse_uri}"


def _data_files(settings: Settings) -> str:
    from lakehouse.tables.catalog import NoTables

    checked = 0
    try:
        for name, table in _open_tables(settings):
            checked += _check_files(name, table)
    except NoTables:
        return "no tables yet"
    return f"{checked} files have the size and the number of rows in their manifests"


def _check_files(name: str, table: Any) -> int:  # noqa: ANN401 - pyiceberg's Table, whose import takes a second
    """Open every data file of a table's current snapshot, and compare it with its manifest entry.

    Raises:
        DataFileDiffers: a file is missing, cannot be opened, or has another size or number of rows.
    """
    import pyarrow.parquet as pq

    head = table.current_snapshot()
    if head is None or not head.manifests(table.io):  # a MERGE without changes leaves a snapshot without manifests
        return 0
    entries = table.inspect.files().select(["content", "file_path", "file_format", "record_count", "file_size_in_bytes"]).to_pylist()
    for entry in entries:
        file = local_path(entry["file_path"])
        if file is None:
            continue
        expected = f"{entry['file_size_in_bytes']} bytes and {entry['record_count']} rows"
        if not file.exists():
            raise DataFileDiffers(name, file, "no such file", expected)
        size = file.stat().st_size
        try:
            # Delete files have their own counts; deletion vectors share one file, whose size is the total of all.
            rows = pq.read_metadata(file).num_rows if entry["content"] == 0 else entry["record_count"]
        except OSError as error:  # for a file that is not Parquet, pyarrow raises ArrowInvalid, a ValueError, see below
            raise DataFileDiffers(name, file, str(error), expected) from error
        except ValueError as error:
            raise DataFileDiffers(name, file, f"{size} bytes that are not Parquet", expected) from error
        if size != entry["file_size_in_bytes"] or rows != entry["record_count"]:
            raise DataFileDiffers(name, file, f"{size} bytes and {rows} rows", expected)
    return len(entries)


def _open_tables(settings: Settings) -> Iterator[tuple[str, Any]]:
    from lakehouse.tables.catalog import open_catalog

    catalog = open_catalog(settings)
    for space in catalog.list_namespaces():
        for name in catalog.list_tables(space):
            yield "lh." + ".".join(name), catalog.load_table(name)


def show(findings: list[Finding]) -> None:
    """Print the findings, one line each, failed checks in red."""
    from rich.console import Console

    console = Console(highlight=False)
    for one in findings:
        good = "[yellow]note[/yellow] " if isinstance(one.says, fitness.Noted) else "[green]ok[/green]   "
        mark = good if one.ok else "[bold red]wrong[/bold red]"
        text = one.says.replace("[", r"\[")
        console.print(f"{mark}  {one.check:<13} {text}", soft_wrap=True)
