"""Which parts does the stack have, how is each started, and in which order do they stop?

    part       what                                started after        stopped     by SIGTERM, killed after
    kafka      broker and controller, one JVM      -                    third       30 s
    metrics    the page, a thread of the agent     -                    with the agent
    stream     `weir stream DOMAIN…` of all        kafka answers        second      60 s
               on YARN: `weir submit --attach`                          leaves the application running
    producer   `weir produce SOURCE`, one each     kafka answers        first       20 s
    maintain   `weir maintain`, ends by itself     the stream is up     before all  10 s
    prometheus, alertmanager: with --with-prometheus, after the page    before all  10 s

Maintenance may be interrupted anywhere. The producer stops before the stream, so that the stream can still process its messages. Kafka
stops last, because both need it while they stop.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deploy.local.agent.processes import ProcessKey, kill_group, stop_process, wait_gone
from deploy.local.agent.run_files import MONITORS, PRODUCERS, PartName, read_state, remove_state, run_folder, strays
from lakehouse.domain_names import DOMAINS
from lakehouse.settings import Settings

MAINTAIN: PartName = "maintain"
STOP_ORDER: tuple[tuple[PartName, float], ...] = (
    (MAINTAIN, 10.0),
    *((part, 10.0) for part in MONITORS),
    *((part, 20.0) for part in PRODUCERS),
    ("stream", 60.0),
    ("kafka", 30.0),
)


def command_of(part: PartName, is_on_yarn: bool) -> tuple[str, ...]:
    """Return the arguments of `weir` that run a part; on YARN, those that wait for an application there."""
    if part == "stream":
        return ("submit", "--attach", *DOMAINS) if is_on_yarn else ("stream", *DOMAINS)
    if part == MAINTAIN:
        return ("submit", "--wait", "--", MAINTAIN) if is_on_yarn else (MAINTAIN,)
    return ("produce", PRODUCERS[part])


# A log larger than this is rotated at the next start of its part; two older ones are kept.
LOG_BYTES = 10 * 2**20
# -P keeps the working folder off the import path: a file kafka.py in it would hide the client.
PYTHON = (sys.executable, "-P")


def launch(arguments: tuple[str, ...], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program of weir in its own session, so that it gets no signals from a terminal, with its output appended to a log."""
    return launch_program([*PYTHON, *arguments], log, environment)


def launch_program(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start any program in the same way."""
    rotate(log)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )


def rotate(log: Path) -> None:
    """Rotate a log that has grown large, and create its folder."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        for older, newer in ((2, 1), (1, 0)):
            source = log.with_name(f"{log.name}.{newer}") if newer else log
            if source.exists():
                source.replace(log.with_name(f"{log.name}.{older}"))


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank, at most 300 characters."""
    try:
        with log.open("rb") as content:
            content.seek(max(0, log.stat().st_size - 8192))
            lines = [line.strip() for line in content.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "its log cannot be read"
    return lines[-1][:300] if lines else "its log is empty"


def stop_parts(settings: Settings, say: Callable[[PartName, int, bool], None]) -> int:
    """Stop every part of this home in order, then its processes without a state file. Safe to repeat.

    Args:
        settings: of the home.
        say: called for each part that ran, with its name, its process id and whether it ended by itself.

    Returns:
        The number of processes without a state file that were killed.
    """
    run = run_folder(settings)
    for part, grace_seconds in STOP_ORDER:
        state = read_state(run, part)
        if state is not None and state.process is not None:
            ran = state.alive
            ended = stop_process(state.process, grace_seconds)
            if ran:
                say(part, state.process.pid, ended)
        remove_state(run, part)
    return _kill_strays(settings)


def _kill_strays(settings: Settings) -> int:
    processes = [process for process in strays(settings) if not _is_agent(settings, process)]
    for process in processes:
        kill_group(process)
        with contextlib.suppress(ProcessLookupError):
            if process.alive():
                os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        wait_gone(process, 10)
    return len(processes)


def _is_agent(settings: Settings, process: ProcessKey) -> bool:
    agent = read_state(run_folder(settings), "agent")
    return agent is not None and agent.pid == process.pid
