"""Which parts run, according to their state files? Each part has a JSON file in HOME/run, written by the agent and read by any program.

A file may outlive its process. It is valid only while the process with its id *and creation time* is alive.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psutil

from deploy.local.agent.processes import ProcessKey
from lakehouse.settings import Settings
from producers.sources.registry import SOURCES, load_source

PartName = str  # kafka, stream, metrics, agent, maintain, those of PRODUCERS and of MONITORS
PartCondition = Literal["starting", "up", "restarting", "down", "stale"]


def producer_parts(sources: Iterable[str]) -> dict[PartName, str]:
    """Return the part that polls each source, one process per source; the first part's name is just `producer`."""
    return {f"producer-{name}" if nth else "producer": name for nth, name in enumerate(sources)}


PRODUCERS: dict[PartName, str] = producer_parts(SOURCES)


def not_ready(settings: Settings) -> dict[PartName, str]:
    """Return the parts that cannot poll their source with these settings, each with the reason and what to do."""
    reasons = {part: load_source(source).not_ready(settings) for part, source in PRODUCERS.items()}
    return {part: reason for part, reason in reasons.items() if reason}


# In the order of the data flow: intake, processing, monitoring.
PARTS: tuple[PartName, ...] = ("kafka", "stream", *PRODUCERS, "metrics")
SERVICES: tuple[PartName, ...] = ("kafka", "metrics")
# Started by `weir up --with-prometheus` alone.
MONITORS: tuple[PartName, ...] = ("alertmanager", "prometheus")
MULTIPROC = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True, slots=True)
class PartState:
    """One part as the agent last saw it.

    `created` is the process's creation time in seconds since 1970; like `pid` it is None while no process runs. `address` is host:port or a
    URL, empty for a part without one. `failure` describes how the part last ended.
    """

    part: PartName
    condition: PartCondition
    pid: int | None = None
    created: float | None = None
    address: str = ""
    restarts: int = 0
    failure: str = ""
    log: str = ""

    @property
    def process(self) -> ProcessKey | None:
        """The process that the state names."""
        return None if self.pid is None or self.created is None else ProcessKey(self.pid, self.created)

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return self.process is not None and self.process.alive()

    @property
    def since_ts(self) -> datetime | None:
        """When the process was created, UTC."""
        return None if self.created is None else datetime.fromtimestamp(self.created, UTC)


def run_folder(settings: Settings) -> Path:
    """Return the folder of the state files."""
    return settings.home / "run"


def log_file(settings: Settings, part: PartName) -> Path:
    """Return the file to which a part's output is appended."""
    return settings.home / "logs" / f"{part}.log"


def metrics_folder(settings: Settings) -> Path:
    """Return the folder with the parts' metrics. In a process's environment it also marks the process as one of this home."""
    return run_folder(settings) / "metrics"


def read_state(run: Path, part: PartName) -> PartState | None:
    """Read a part's file; return None where there is none or it is truncated (the next write replaces it)."""
    try:
        return PartState(**json.loads((run / f"{part}.json").read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def write_state(run: Path, state: PartState) -> None:
    """Replace a part's file atomically."""
    beside = run / f".{state.part}.json.new"
    beside.write_text(json.dumps(asdict(state)))
    beside.replace(run / f"{state.part}.json")


def remove_state(run: Path, part: PartName) -> None:
    """Remove a part's file."""
    (run / f"{part}.json").unlink(missing_ok=True)


def seen(run: Path, part: PartName) -> PartState:
    """Return a part's actual state: its file's while it is valid, else restarting (an agent runs), stale (none runs) or down (no file)."""
    state = read_state(run, part)
    if state is None:
        return PartState(part, "down")
    if state.alive:
        return state
    agent = read_state(run, "agent")
    if agent is not None and agent.alive:
        return state if state.condition == "restarting" else replace(state, condition="restarting", pid=None, created=None)
    return replace(state, condition="stale")


def running_kafka(settings: Settings) -> str | None:
    """Return the address of this home's embedded broker, host:port; None when it does not run."""
    state = read_state(run_folder(settings), "kafka")
    return state.address if state is not None and state.alive and state.condition == "up" else None


def strays(settings: Settings) -> Iterator[ProcessKey]:
    """Find processes of this home without a state file: their environment has the folder of its metrics.

    An agent that was killed between starting a part and writing its file leaves one; so does a driver whose JVM outlived it.
    """
    ours = str(metrics_folder(settings))
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        if process.pid in spared:
            continue
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MULTIPROC) == ours:
                yield ProcessKey(process.pid, process.create_time())
