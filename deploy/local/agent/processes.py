"""Is a process still the one that was started, and how is it stopped?

A process is identified by its id and its creation time, since the system reuses ids.
"""

import contextlib
import os
import signal
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil

# The kernel counts creation times in hundredths of a second since boot; two reads for one process may differ by rounding.
SAME_START_SECONDS = 0.05
# A driver's JVM removes its temporary folders after the Python process has gone.
CHILDREN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ProcessKey:
    """The identity of a process, different from that of a later process with the same id. `created` is in seconds since 1970."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "ProcessKey":
        """Read the creation time of a living process."""
        return cls(pid, psutil.Process(pid).create_time())

    @property
    def started_ts(self) -> datetime:
        """When the process was created, UTC."""
        return datetime.fromtimestamp(self.created, UTC)

    def alive(self) -> bool:
        """Return whether this very process still runs; a zombie does not.

        While a killed JVM's threads end, its first thread is a zombie already, but the JVM still has its port and its files open.
        """
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) >= SAME_START_SECONDS:
                return False
            return bool(process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
        except psutil.Error:
            return False


def stop_process(process: ProcessKey, grace_seconds: float) -> bool:
    """Stop a process that leads its own group: SIGTERM to it alone, and after the grace period SIGKILL to the whole group.

    SIGTERM goes to the process alone, because a Spark driver's JVM is in the group of its Python process and must not receive it.

    Returns:
        Whether it ended by itself within the grace period. A process that was not running counts as ended.
    """
    if not process.alive():
        kill_group(process)
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    ended = wait_gone(process, grace_seconds)
    if ended:
        wait_group_empty(process.pid, CHILDREN_SECONDS)
    kill_group(process)
    if not ended:
        wait_gone(process, 10)
    return ended


def kill_group(leader: ProcessKey) -> None:
    """Send SIGKILL to the rest of a process's group; do nothing if its id belongs to another process now.

    The kernel does not reuse an id while a group still has it, so a group whose leader has ended is that leader's.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        if abs(psutil.Process(leader.pid).create_time() - leader.created) >= SAME_START_SECONDS:
            return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader.pid, signal.SIGKILL)


def wait_group_empty(leader: int, seconds: float) -> bool:
    """Wait up to a number of seconds until no process of a group runs; return whether none does."""
    deadline = time.monotonic() + seconds
    while any(_in_group(process, leader) for process in psutil.process_iter()):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _in_group(process: psutil.Process, leader: int) -> bool:
    try:
        return os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.Error):
        return False


def wait_gone(process: ProcessKey, seconds: float) -> bool:
    """Wait up to a number of seconds until a process has ended; return whether it has."""
    deadline = time.monotonic() + seconds
    while process.alive():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def free_ports(count: int) -> list[int]:
    """Return different ports of the loopback on which no process listens."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def port_is_free(port: int) -> bool:
    """Return whether a process can listen on a port of the loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does, so that a recently closed connection does not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_owner(port: int) -> str:
    """Describe the process that listens on a port, as far as this user may see it."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "another process"
