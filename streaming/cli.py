"""How is a stream started by hand? The verb `stream`."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse import completion
from lakehouse.machine.yarn_check import NoYarnCheck, without_yarn_check
from lakehouse.settings import Settings
from streaming.errors import AlreadyRunning

if TYPE_CHECKING:
    from lakehouse.storage.folders import Folder

# A driver looks five times a second, and asks the broker what is lost.
ANSWER_SECONDS = 20.0


def stream(
    ctx: typer.Context,
    domains: Annotated[list[str], typer.Argument(metavar="DOMAIN", help="domains to run in one driver", autocompletion=completion.domains)],
    available_now: Annotated[
        bool, typer.Option("--available-now", help="drain what is there now, Kafka to bronze and bronze to gold, and end")
    ] = False,
    new_checkpoint: Annotated[
        bool, typer.Option("--new-checkpoint", help="move the checkpoints aside; go on after the rows in bronze, apply all of bronze again")
    ] = False,
    no_yarn_check: NoYarnCheck = False,
) -> None:
    """Run the queries of one or more domains: Kafka to bronze, bronze to silver and gold.

    Example: weir stream air_quality --available-now
    """
    from lakehouse.machine.logs import configure_logs
    from lakehouse.registry import build_domain
    from streaming.drivers import run_drivers

    settings: Settings = without_yarn_check(ctx.obj, no_yarn_check)
    configure_logs(settings.log_format, settings.log_level)
    names = list(dict.fromkeys(domains))
    for name in names:
        build_domain(name, settings)
    run = settings.home / "run"
    with ExitStack() as held:
        for name in names:
            held.enter_context(_only_driver(run, name))
        run_drivers(names, settings, available_now, lambda name: say_ready(run, name), new_checkpoint)


def resume(
    ctx: typer.Context,
    domain: Annotated[
        str, typer.Argument(help="domain whose query or source stopped, such as air_quality", autocompletion=completion.domains)
    ],
    accept: Annotated[
        bool, typer.Option("--accept", help="let the rows that are in bronze by then through, whatever share of them breaks the rules")
    ] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="go on without what Kafka has lost, and record it in lh.ops.losses")
    ] = False,
) -> None:
    """Start a domain's stopped queries and sources again, in the driver that runs or with its next start.

    Example: weir resume air_quality --accept
    """
    from lakehouse.registry import build_domain
    from lakehouse.storage.folders import open_folder
    from streaming.query_states import read_states
    from streaming.resume import Request, ask

    settings: Settings = ctx.obj
    build_domain(domain, settings)
    state = open_folder(settings.state_uri)
    running = read_states(state, domain)
    halted = [state.query for state in running if state.state in ("stopped", "restarting")]
    halted += [f"{state.query} with {', '.join(state.held)}" for state in running if state.held]
    if running and not halted:
        more = " Nothing was accepted or recorded." if accept or accept_loss else ""
        print(f"All queries of {domain} run: nothing to resume.{more}")
        return
    request = ask(state, domain, Request(accept, accept_loss))
    if running:
        print(f"The driver starts {', '.join(halted)} again; `weir status` says how it went.", flush=True)
        if accept or accept_loss:
            _say_what_came(state, domain, request)
        return
    print(f"No driver of {domain} runs here: its next start takes it (`weir up`, or `weir stream {domain}`).")
    if accept_loss:
        print("It records in lh.ops.losses what Kafka has lost by then, and its log names it; where nothing is lost, nothing is recorded.")
    if accept:
        print("It lets the rows that are in bronze by then through.")


def _say_what_came(state: "Folder", domain: str, request: str) -> None:
    """Wait for a driver to take a request, and print what it says."""
    import time

    from streaming.resume import answered

    until = time.monotonic() + ANSWER_SECONDS
    while (answer := answered(state, domain, request)) is None:
        if time.monotonic() >= until:
            print(f"The driver has not taken the request within {ANSWER_SECONDS:g} s; it does as soon as it can, and its log says so.")
            return
        time.sleep(0.1)
    for sentence in answer.says:
        print(sentence)


def ready_file(run: Path, domain: str) -> Path:
    """The file that says, while the lock is held, that the queries run."""
    return run / f"stream-{domain}.ready.json"


def say_ready(run: Path, domain: str) -> None:
    """Write that file: this process is with queries that run."""
    ready_file(run, domain).write_text(json.dumps({"pid": os.getpid(), "since": datetime.now(UTC).isoformat()}))


@contextmanager
def _only_driver(run: Path, domain: str) -> Iterator[None]:
    """Hold this machine's lock on the domain; the kernel lets go of it however the process ends."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / f"stream-{domain}.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise AlreadyRunning(domain, lock.read().strip()) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        ready_file(run, domain).unlink(missing_ok=True)
        try:
            yield
        finally:
            ready_file(run, domain).unlink(missing_ok=True)
