"""Where can a fault test end a process, or hold it? At named points.

A point does nothing unless it is armed by the setting `failpoint`:

    NAME, NAME:N    kill -9 to the process and the JVM it drives, the first or N-th time it is reached
    NAME@FILE       the process waits there for as long as the file exists, each time
"""

import os
import signal
import time
from pathlib import Path
from typing import Literal

Point = Literal[
    "bronze.table",
    "bronze.committed",
    "silver.merged",
    "gold.first_table",
    "gold.merged",
    "producer.sent",
    "producer.reported",
    "producer.noticed",
    "dump.noticed",
    "dump.kept",
    "chunk.appended",
    "chunk.applied",
    "chunk.noted",
    "publishing.noted",
    "publishing.table",
]

_armed: dict[str, int] = {}
_held: dict[str, Path] = {}
_HOLD_SECONDS = 0.2
_victims: list[int] = []


def arm(spec: str, victims: list[int]) -> None:
    """Arm one point.

    Args:
        spec: the setting; empty arms nothing.
        victims: process ids to kill before this one, such as the driver's JVM.
    """
    if not spec:
        return
    if "@" in spec:
        name, _, file = spec.partition("@")
        _held[name] = Path(file)
        return
    name, _, nth = spec.partition(":")
    _armed[name] = int(nth or 1)
    _victims[:] = victims


def reach(point: Point) -> None:
    """Pass a point; ends everything here if it is armed and this is its time, or waits."""
    while point in _held and _held[point].exists():
        time.sleep(_HOLD_SECONDS)
    if point not in _armed:
        return
    _armed[point] -= 1
    if _armed[point] == 0:
        for pid in (*_victims, os.getpid()):
            os.kill(pid, signal.SIGKILL)
