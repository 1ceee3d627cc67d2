"""Where can a fault test end a process? Named points; kill -9 to the process itself and the JVM it drives.

A point does nothing unless it is armed by the setting `failpoint` (NAME, or NAME:N for the N-th time it is reached).
"""

import os
import signal
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
_victims: list[int] = []


def arm(spec: str, victims: list[int]) -> None:
    """Arm one point.

    Args:
        spec: the setting; empty arms nothing.
        victims: process ids to kill before this one, such as the driver's JVM.
    """
    if not spec:
        return
    name, _, nth = spec.partition(":")
    _armed[name] = int(nth or 1)
    _victims[:] = victims


def reach(point: Point) -> None:
    """Pass a point; ends everything here if it is armed and this is its time."""
    if point not in _armed:
        return
    _armed[point] -= 1
    if _armed[point] == 0:
        for pid in (*_victims, os.getpid()):
            os.kill(pid, signal.SIGKILL)
