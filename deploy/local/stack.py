"""How is the stack started, and how is it stopped without leaving a process?"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table as Grid

from deploy.local.agent.agent import environment_of_parts
from deploy.local.agent.processes import ProcessKey, port_is_free, port_owner, stop_process, wait_gone
from deploy.local.agent.run_files import (
    MONITORS,
    PARTS,
    SERVICES,
    PartName,
    PartState,
    log_file,
    metrics_folder,
    not_ready,
    read_state,
    remove_state,
    run_folder,
    running_kafka,
    seen,
)
from deploy.local.agent.stack_parts import PYTHON, launch, stop_parts
from deploy.local.errors import PartFailed, PortInUse, StaleProcessId, StartFailed
from deploy.local.jars import jars_for
from deploy.local.services.kafka_broker import check_room, check_storage
from deploy.local.services.prometheus_server import tool
from lakehouse.domain_names import DOMAINS
from lakehouse.machine.fitness import check_machine
from lakehouse.machine.java import find_java
from lakehouse.settings import Settings

KAFKA_SECONDS = 150.0
# A cold driver took 13 s on two idle cores; on a busy machine, while Kafka starts too, several times that.
DRIVER_SECONDS = 240.0
# The agent checks its flags four times a second, and ten times a second while it waits for Kafka.
LEAVE_SECONDS = 20.0
# `weir up` reports a part as failed after its second failure.
FAILURES_UNTIL_GIVEN_UP = 2


def bring_up(settings: Settings, *, services_only: bool, foreground: bool, with_prometheus: bool = False) -> None:
    """Start the parts that do not run yet, and return when they are up.

    Raises:
        PortInUse, DiskFull, WrongJava, MissingJars, MissingPrometheus, HalfFormattedKafka, ForeignKafkaFolder: raised before anything is
            started.
        StartFailed, PartFailed: a part did not come up; the reason is from its log.
    """
    console = Console(stderr=True)
    run = run_folder(settings)
    wanted = (*wanted_parts(settings, services_only), *(MONITORS if with_prometheus else ()))
    agent = read_state(run, "agent")
    if agent is not None and agent.alive:
        running = set(agent.address.split(","))
        if running >= set(wanted):
            console.print("weir is already up; nothing was started.")
            _print_summary(console, settings, tuple(part for part in (*PARTS, *MONITORS) if part in running))
            return
        wanted = tuple(part for part in (*PARTS, *MONITORS) if part in running | set(wanted))
        preflight(settings, wanted)
        _let_go(agent)
    else:
        preflight(settings, wanted)
        _clear_leftovers(settings, console)
    if not services_only:
        for reason in not_ready(settings).values():
            console.print(f"note: {reason}", markup=False, soft_wrap=True, highlight=False)
    environment = environment_of_parts(settings, os.environ)
    metrics_folder(settings).mkdir(parents=True, exist_ok=True)
    (run / "agent-failure.txt").unlink(missing_ok=True)
    arguments = ("-m", "deploy.local.agent.agent", "--parts", ",".join(wanted))
    if foreground:
        console.print("weir runs in this terminal; Ctrl-C stops everything.")
        os.execve(sys.executable, [*PYTHON, *arguments], environment)
    process = launch(arguments, log_file(settings, "agent"), environment)
    _wait_until_up(settings, wanted, ProcessKey.of(process.pid), console)
    _print_summary(console, settings, wanted)


def wanted_parts(settings: Settings, services_only: bool) -> tuple[PartName, ...]:
    """Return the parts to run: no embedded Kafka if WEIR_KAFKA_BOOTSTRAP names another one, no source that is not ready."""
    lacking = not_ready(settings)
    parts = SERVICES if services_only else tuple(part for part in PARTS if part not in lacking)
    own = settings.kafka_bootstrap and settings.kafka_bootstrap != running_kafka(settings)
    return tuple(part for part in parts if not (part == "kafka" and own))


def preflight(settings: Settings, parts: tuple[PartName, ...]) -> None:
    """Check for problems that would make a start fail, so that they are reported at once.

    Raises:
        TooFewOpenFiles, NoTemporaryFolder, ClockWrong, PortInUse, DiskFull, WrongJava, MissingJars, HalfFormattedKafka, ForeignKafkaFolder:
            the first problem found.
    """
    check_machine(settings)
    find_java(os.environ)
    check_room(settings.home)
    run = run_folder(settings)
    if "kafka" in parts:
        jars_for("kafka")
        if not seen_alive(run, "kafka"):
            _check_port("Kafka", settings.kafka_port, "WEIR_KAFKA_PORT")
            check_kafka_folder(settings.home / "kafka")
    if "stream" in parts:
        jars_for("spark")
    if "prometheus" in parts:
        for name, port in (("prometheus", settings.prometheus_port), ("alertmanager", settings.alertmanager_port)):
            tool(name)
            if not seen_alive(run, name):
                _check_port(name.capitalize(), port, f"WEIR_{name.upper()}_PORT")
    metrics = read_state(run, "metrics")
    if metrics is None or not metrics.alive or urlsplit(metrics.address).port != settings.metrics_port:
        _check_port("The metrics page", settings.metrics_port, "WEIR_METRICS_PORT")


def check_kafka_folder(folder: Path) -> None:
    """Check the embedded broker's storage, if it exists already.

    Raises:
        HalfFormattedKafka, ForeignKafkaFolder: the broker cannot start with that folder.
    """
    data, note = folder / "data", folder / "cluster-id"
    if data.exists() and any(data.iterdir()):
        check_storage(data, note.read_text().strip() if note.exists() else None)


def seen_alive(run: Path, part: PartName) -> bool:
    """Return whether a part's process runs."""
    state = read_state(run, part)
    return state is not None and state.alive


def _check_port(what: str, port: int | None, setting: str) -> None:
    if port is not None and not port_is_free(port):
        raise PortInUse(what, port, port_owner(port), setting)


def _let_go(agent: PartState) -> None:
    """Stop an agent and leave its parts running."""
    assert agent.process is not None
    os.kill(agent.process.pid, signal.SIGUSR1)
    if not wait_gone(agent.process, LEAVE_SECONDS):
        stop_process(agent.process, 0)


def _clear_leftovers(settings: Settings, console: Console) -> None:
    """Clean up after an agent that ended unexpectedly: keep usable parts, report those that have ended, stop those without a Kafka."""
    run = run_folder(settings)
    for part in ("agent", *PARTS, *MONITORS):
        state = read_state(run, part)
        if state is not None and state.pid is not None and not state.alive:
            console.print(f"note: {StaleProcessId(part, state.pid, run / f'{part}.json')}", markup=False, soft_wrap=True, highlight=False)
            remove_state(run, part)
    remove_state(run, "agent")
    if not seen_alive(run, "kafka"):
        # The other parts use Kafka's address, and the next Kafka may have another.
        stop_parts(settings, lambda part, pid, _: console.print(f"stopped {part} (process {pid}), left over from an agent that has ended"))
        # The metrics of processes that have all ended.
        shutil.rmtree(metrics_folder(settings), ignore_errors=True)


def _wait_until_up(settings: Settings, parts: tuple[PartName, ...], agent: ProcessKey, console: Console) -> None:
    run = run_folder(settings)
    with console.status("") as line:
        for part in parts:
            limit = DRIVER_SECONDS if part == "stream" else KAFKA_SECONDS
            line.update(f"waiting for {part}")
            deadline = time.monotonic() + limit
            while True:
                state = read_state(run, part)
                if state is not None and state.alive and state.condition == "up":
                    break
                if not agent.alive():
                    failure = run / "agent-failure.txt"
                    if failure.exists():
                        raise StartFailed(failure.read_text(encoding="utf-8"))
                    raise PartFailed("The agent", "ended while starting the parts", "its log has the reason", log_file(settings, "agent"))
                if state is not None and state.restarts >= FAILURES_UNTIL_GIVEN_UP:
                    raise PartFailed(part, "failed again; the agent keeps restarting it", state.failure, log_file(settings, part))
                if time.monotonic() > deadline:
                    raise PartFailed(part, f"was not ready within {limit:.0f} s", "it is still starting", log_file(settings, part))
                time.sleep(0.1)


def _print_summary(console: Console, settings: Settings, parts: tuple[PartName, ...]) -> None:
    out = Console()
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for heading in ("part", "state", "process", "address"):
        grid.add_column(heading)
    for part in parts:
        state = seen(run_folder(settings), part)
        grid.add_row(part, state.condition, str(state.pid or ""), state.address)
    out.print(grid)
    out.print(f"home {settings.home}", markup=False, soft_wrap=True, highlight=False)
    after = ("status", "query", "down")
    if "stream" not in parts:
        after = ("up (adds the stream and the producer)", f"stream {' '.join(DOMAINS)}", "down")
    console.print("next: " + " · ".join(f"weir {verb}" for verb in after), soft_wrap=True, highlight=False)


def bring_down(settings: Settings) -> None:
    """Stop every part, in order, with or without an agent, and print what was stopped."""
    out = Console()
    run = run_folder(settings)
    stopped = 0

    def say(part: str, pid: int, ended: bool) -> None:
        nonlocal stopped
        stopped += 1
        out.print(f"stopped {part} (process {pid}){'' if ended else ': it did not stop in time and was killed'}", highlight=False)

    with _no_interruption():
        agent = read_state(run, "agent")
        is_supervised = agent is not None and agent.alive
        if agent is not None and is_supervised:
            _let_go(agent)
        killed = stop_parts(settings, say)
        if agent is not None and agent.pid is not None and is_supervised:
            say("agent and metrics", agent.pid, True)
        for part in ("metrics", "agent"):
            remove_state(run, part)
        shutil.rmtree(metrics_folder(settings), ignore_errors=True)
    if killed:
        out.print(f"killed {killed} process(es) of this home that had no state file")
    if settings.is_on_yarn:
        out.print("applications on YARN go on: `weir apps` lists them, `weir stop APP` ends one", highlight=False)
    if not stopped and not killed:
        out.print(f"nothing runs for {settings.home}", markup=False, soft_wrap=True, highlight=False)


@contextmanager
def _no_interruption() -> Iterator[None]:
    """Ignore Ctrl-C: an interrupted stop would leave processes."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
