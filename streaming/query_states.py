"""In which state is each query of a driver? A file in the state folder, which the driver writes and any program reads.

It holds only while its driver lives. A driver of this machine is known by its process. One in a container of YARN is elsewhere, so it
writes the file again every ten seconds, with the time, and with the address of its metrics.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import psutil

from lakehouse.locks.lease import SAME_START_SECONDS
from lakehouse.machine.container import container_of
from lakehouse.storage.folders import Folder

# How often a driver in a container says that it lives, and after how long without a word it counts as gone.
BEAT_SECONDS = 10.0
SILENT_SECONDS = 60.0

State = Literal["running", "restarting", "stopped", "done"]


@dataclass(frozen=True, slots=True)
class QueryState:
    """The state of one query, as `weir status` shows it.

    Attributes:
        query: its name.
        state: the state.
        reason: why it does not run.
        restarts: how often it was restarted.
        since: start of the state, ISO 8601 in UTC.
        note: information for the operator while it runs, such as that it began a new checkpoint; may be empty.
        held: by source, why the breaker holds it back while the query goes on with the others.
    """

    query: str
    state: State
    reason: str
    restarts: int
    since: str
    note: str = ""
    held: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoteDriver:
    """A driver in a container.

    Attributes:
        domain: that it runs.
        application: its application on YARN.
        metrics: host:port of its metrics; empty where it serves none.
    """

    domain: str
    application: str
    metrics: str


def states_file(domain: str) -> str:
    """Return the name of the file with the states of a driver's queries."""
    return f"stream-{domain}.queries.json"


def write_states(folder: Folder, domain: str, states: Sequence[QueryState], metrics: str = "") -> None:
    """Replace the file in one step.

    Args:
        folder: the state folder.
        domain: of the driver.
        states: of its queries.
        metrics: host:port of the driver's metrics, where it serves them itself.
    """
    held: dict[str, Any] = {"domain": domain, "queries": [asdict(state) for state in states]}
    if (container := container_of(os.environ)) is None:
        me = psutil.Process()
        held |= {"pid": me.pid, "created": me.create_time()}
    else:
        held |= {"application": container.application, "metrics": metrics, "written_ts": datetime.now(UTC).isoformat()}
    folder.write(states_file(domain), json.dumps(held))


def read_states(folder: Folder, domain: str) -> list[QueryState]:
    """Read the states; empty where there is no file, or the driver that wrote it has ended."""
    try:
        held = _read(folder, domain)
        return [QueryState(**state) for state in held["queries"]] if _is_alive(held) else []
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return []


def read_remote_driver(folder: Folder, domain: str) -> RemoteDriver | None:
    """Read where the driver of a domain runs in a container; None where none does."""
    try:
        held = _read(folder, domain)
        is_there = "application" in held and _is_alive(held)
        return RemoteDriver(domain, held["application"], held["metrics"]) if is_there else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(folder: Folder, domain: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(folder.text(states_file(domain)) or "")
    return found


def _is_alive(held: Mapping[str, Any]) -> bool:
    if "application" in held:
        return (datetime.now(UTC) - datetime.fromisoformat(held["written_ts"])).total_seconds() < SILENT_SECONDS
    return bool(abs(psutil.Process(held["pid"]).create_time() - held["created"]) < SAME_START_SECONDS)
