"""What runs here, as far as its files say? One JSON file a part in HOME/run, written by the agent, read by everybody.

A file may outlive its process. What it says counts only while the process of that id *and creation time* is alive.
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
from producers.sources.registry import SOURCES

PartName = str  # kafka, stream, metrics, agent, maintain, and those of PRODUCERS
PartCondition = Literal["starting", "up", "restarting", "down", "stale"]


def producer_parts(sources: Iterable[str]) -> dict[PartName, str]:
    """Give the part that polls each source, one process a source; the first is called `producer` alone, as where there is only one."""
    return {f"producer-{name}" if nth else "producer": name for nth, name in enumerate(sources)}


PRODUCERS: dict[PartName, str] = producer_parts(SOURCES)
# A person's order: where data comes in, what moves it, what watches it.
PARTS: tuple[PartName, ...] = ("kafka", "stream", *PRODUCERS, "metrics")
SERVICES: tuple[PartName, ...] = ("kafka", "metrics")
MULTIPROC = "PROMETHEUS_MULTIPROC_DIR"


@dataclass(frozen=True, slots=True)
class PartState:
    """One part as the agent last saw it.

    `created` is the process's creation time in seconds since 1970 and null, like `pid`, while no process runs. `address` is
    host:port or a URL, empty for a part that listens on none. `failure` says how the part ended the last time it did.
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
    """The folder of the state files."""
    return settings.home / "run"


def log_file(settings: Settings, part: PartName) -> Path:
    """Where a part's output goes."""
    return settings.home / "logs" / f"{part}.log"


def metrics_folder(settings: Settings) -> Path:
    """Where the parts keep their numbers for the one metrics page; in their environment it also marks a process as this copy's."""
    return run_folder(settings) / "metrics"


def read_state(run: Path, part: PartName) -> PartState | None:
    """Read a part's file; null where there is none, or it is cut (the next write replaces it whole)."""
    try:
        return PartState(**json.loads((run / f"{part}.json").read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def write_state(run: Path, state: PartState) -> None:
    """Replace a part's file in one step."""
    beside = run / f".{state.part}.json.new"
    beside.write_text(json.dumps(asdict(state)))
    beside.replace(run / f"{state.part}.json")


def remove_state(run: Path, part: PartName) -> None:
    """Forget a part."""
    (run / f"{part}.json").unlink(missing_ok=True)


def seen(run: Path, part: PartName) -> PartState:
    """Judge a part: what its file says if that still holds, else down (no file) or stale (its process is gone, and nobody minds it)."""
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
    """Give the address of the embedded broker of this home, host:port; null when it does not run."""
    state = read_state(run_folder(settings), "kafka")
    return state.address if state is not None and state.alive and state.condition == "up" else None


def strays(settings: Settings) -> Iterator[ProcessKey]:
    """Find processes of this home that no file names: their environment carries the folder of its metrics.

    An agent that was killed between starting a part and noting it leaves one; so does a driver whose JVM outlived it.
    """
    ours = str(metrics_folder(settings))
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    for process in psutil.process_iter():
        if process.pid in spared:
            continue
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MULTIPROC) == ours:
                yield ProcessKey(process.pid, process.create_time())
