"""How does a program of the edge node stay with an application? It asks the ResourceManager until the application has ended."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

import typer

from deploy.yarn.errors import NoYarn
from deploy.yarn.manager import App, Manager
from deploy.yarn.submit import Submission, streaming, submit
from lakehouse.settings import Settings
from streaming.cli import ready_file, say_ready

EXIT_FAILED, EXIT_TRY_AGAIN = 1, 75
# A ResourceManager that restarts is away for less.
AWAY_SECONDS = 300.0
LOOK_SECONDS = 1.0


def running_streams(settings: Settings, domains: Sequence[str]) -> dict[str, str]:
    """Return the applications that stream some domains, by domain.

    Raises:
        NoYarn: the ResourceManager does not answer.
    """
    apps = Manager(settings).apps() if domains else []
    return {domain: app.id for app in reversed(apps) for domain in app.domains if domain in domains}


def wait_for_end(settings: Settings, application: str) -> bool:
    """Print the states of an application until it has ended; return whether it succeeded."""
    app = None
    for app in states(Manager(settings), application):
        print(app.state.lower(), flush=True)
    assert app is not None
    if app.result != "SUCCEEDED":
        print(f"{app.result.lower()}: {app.says}", flush=True)
    return app.result == "SUCCEEDED"


def states(manager: Manager, application: str) -> Iterator[App]:
    """Yield an application whenever its state has changed, until it has ended; a ResourceManager may be away for minutes meanwhile.

    Raises:
        NoYarn: it was away for longer.
        UnknownApplication: it has forgotten the application.
    """
    before, look = "", _Patient(manager)
    while True:
        if (app := look.at(application)) is not None:
            if app.state != before:
                before = app.state
                yield app
            if app.has_ended:
                return
        time.sleep(LOOK_SECONDS)


class _Patient:
    """Looks at applications, and gives None while the ResourceManager is away, up to some minutes."""

    def __init__(self, manager: Manager) -> None:
        self._manager, self._answered_at = manager, time.monotonic()

    def at(self, application: str) -> App | None:
        try:
            app = self._manager.app(application)
        except NoYarn:
            if time.monotonic() - self._answered_at > AWAY_SECONDS:
                raise
            return None
        self._answered_at = time.monotonic()
        return app


def follow(settings: Settings, wanted: Submission, running: Mapping[str, str]) -> None:
    """Stay with the applications that stream the domains; submit one for those that none streams. A signal ends this process alone.

    While all of them run, the files that say that a stream is ready name this process, so `weir up` knows when it is.

    Raises:
        typer.Exit: one of them has ended: 0 where it was asked to, 1 where an operator must act, 75 where YARN gave up on it.
    """
    applications = sorted(set(running.values()))
    if missing := [domain for domain in wanted.domains if domain not in running]:
        applications.append(submit(settings, streaming(missing, wanted.resources)))
    manager, run = Manager(settings), settings.home / "run"
    look, before = _Patient(manager), dict.fromkeys(applications, "")
    run.mkdir(parents=True, exist_ok=True)
    try:
        while True:
            for application in applications:
                app = look.at(application)
                if app is None or app.state == before[application]:
                    continue
                before[application] = app.state
                print(f"{application} is {app.state.lower()}  {app.url}", flush=True)
                if app.has_ended:
                    print(f"{application} has ended: {app.result.lower()}{f': {app.says}' if app.says else ''}", flush=True)
                    raise typer.Exit({"SUCCEEDED": 0, "KILLED": EXIT_FAILED}.get(app.result, EXIT_TRY_AGAIN))
                if all(state == "RUNNING" for state in before.values()):
                    for domain in wanted.domains:
                        say_ready(run, domain)
            time.sleep(LOOK_SECONDS)
    finally:
        for domain in wanted.domains:
            with contextlib.suppress(OSError):
                ready_file(run, domain).unlink(missing_ok=True)
