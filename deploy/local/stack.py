"""How does the stack come up, and how does it go down without leaving a process?"""

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
    PARTS,
    SERVICES,
    PartName,
    PartState,
    log_file,
    metrics_folder,
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
from lakehouse.domain_names import DOMAINS
from lakehouse.machine.fitness import check_machine
from lakehouse.machine.java import find_java
from lakehouse.settings import Settings

KAFKA_SECONDS = 150.0
# A cold driver took 13 s on two free cores; with Kafka starting beside it on a busy machine, several times that.
DRIVER_SECONDS = 240.0
# The agent looks at its flags four times a second, and while it waits for Kafka ten times.
LEAVE_SECONDS = 20.0
# Of a part that keeps failing, the second failure is taken for an answer.
FAILURES_UNTIL_GIVEN_UP = 2


def bring_up(settings: Settings, *, services_only: bool, foreground: bool) -> None:
    """Start what does not run yet, and return when it works.

    Raises:
        PortInUse, DiskFull, WrongJava, MissingJars, HalfFormattedKafka, ForeignKafkaFolder: found before anything is started.
        StartFailed, PartFailed: a part did not come up; the reason is the log's.
    """
    console = Console(stderr=True)
    run = run_folder(settings)
    wanted = wanted_parts(settings, services_only)
    agent = read_state(run, "agent")
    if agent is not None and agent.alive:
        running = set(agent.address.split(","))
        if running >= set(wanted):
            console.print("weir is up already; nothing was started.")
            _print_summary(console, settings, tuple(part for part in PARTS if part in running))
            return
        wanted = tuple(part for part in PARTS if part in running | set(wanted))
        preflight(settings, wanted)
        _let_go(agent)
    else:
        preflight(settings, wanted)
        _clear_leftovers(settings, console)
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
    """Name the parts to run; with a Kafka of one's own (WEIR_KAFKA_BOOTSTRAP) the embedded one stays out."""
    parts = SERVICES if services_only else PARTS
    own = settings.kafka_bootstrap and settings.kafka_bootstrap != running_kafka(settings)
    return tuple(part for part in parts if not (part == "kafka" and own))


def preflight(settings: Settings, parts: tuple[PartName, ...]) -> None:
    """Look for what would make a start fail, and name it while the operator is looking.

    Raises:
        TooFewOpenFiles, NoTemporaryFolder, ClockWrong, PortInUse, DiskFull, WrongJava, MissingJars, HalfFormattedKafka, ForeignKafkaFolder:
            the first one found.
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
    metrics = read_state(run, "metrics")
    if metrics is None or not metrics.alive or urlsplit(metrics.address).port != settings.metrics_port:
        _check_port("The metrics page", settings.metrics_port, "WEIR_METRICS_PORT")


def check_kafka_folder(folder: Path) -> None:
    """Check the embedded broker's storage, if it has one already.

    Raises:
        HalfFormattedKafka, ForeignKafkaFolder: it cannot be started on that folder.
    """
    data, note = folder / "data", folder / "cluster-id"
    if data.exists() and any(data.iterdir()):
        check_storage(data, note.read_text().strip() if note.exists() else None)


def seen_alive(run: Path, part: PartName) -> bool:
    """Say whether a part's process runs."""
    state = read_state(run, part)
    return state is not None and state.alive


def _check_port(what: str, port: int | None, setting: str) -> None:
    if port is not None and not port_is_free(port):
        raise PortInUse(what, port, port_owner(port), setting)


def _let_go(agent: PartState) -> None:
    """Ask an agent to end and to leave its parts running."""
    assert agent.process is not None
    os.kill(agent.process.pid, signal.SIGUSR1)
    if not wait_gone(agent.process, LEAVE_SECONDS):
        stop_process(agent.process, 0)


def _clear_leftovers(settings: Settings, console: Console) -> None:
    """After an agent that ended without a word: keep what may be taken over, say what is gone, stop what is of no use."""
    run = run_folder(settings)
    for part in ("agent", *PARTS):
        state = read_state(run, part)
        if state is not None and state.pid is not None and not state.alive:
            console.print(f"note: {StaleProcessId(part, state.pid, run / f'{part}.json')}", markup=False, soft_wrap=True, highlight=False)
            remove_state(run, part)
    remove_state(run, "agent")
    if not seen_alive(run, "kafka"):
        # The others know Kafka by its address, and the next one may have another.
        stop_parts(settings, lambda part, pid, _: console.print(f"stopped {part} (process {pid}), left over by an agent that is gone"))
        # Numbers of processes that are all gone.
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
                    raise PartFailed("The agent", "ended while it started the parts", "its log says why", log_file(settings, "agent"))
                if state is not None and state.restarts >= FAILURES_UNTIL_GIVEN_UP:
                    raise PartFailed(part, "failed again and is tried on in the background", state.failure, log_file(settings, part))
                if time.monotonic() > deadline:
                    raise PartFailed(part, f"was not ready within {limit:.0f} s", "it goes on starting", log_file(settings, part))
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
    """Stop every part, in order, whether or not there is an agent; print what was stopped."""
    out = Console()
    run = run_folder(settings)
    stopped = 0

    def say(part: str, pid: int, ended: bool) -> None:
        nonlocal stopped
        stopped += 1
        out.print(f"stopped {part} (process {pid}){'' if ended else ': it did not end in time and was killed'}", highlight=False)

    with _no_interruption():
        agent = read_state(run, "agent")
        minded = agent is not None and agent.alive
        if agent is not None and minded:
            _let_go(agent)
        killed = stop_parts(settings, say)
        if agent is not None and agent.pid is not None and minded:
            say("agent and metrics", agent.pid, True)
        for part in ("metrics", "agent"):
            remove_state(run, part)
        shutil.rmtree(metrics_folder(settings), ignore_errors=True)
    if killed:
        out.print(f"killed {killed} process(es) of this home that no file named")
    if not stopped and not killed:
        out.print(f"nothing runs for {settings.home}", markup=False, soft_wrap=True, highlight=False)


@contextmanager
def _no_interruption() -> Iterator[None]:
    """Hold back Ctrl-C: half a stop leaves processes."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
