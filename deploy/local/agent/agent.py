"""What keeps the stack running? The agent, one process per home: it starts the parts, restarts them when they end, and serves the metrics.

    SIGTERM, SIGINT   stop every part in order, then end
    SIGUSR1           end and leave the parts running: the next agent, or `weir down`, takes them over

A part that ended is restarted after 1 s, then 2, 4, 8 … up to a minute, or up to five minutes if its exit code means that a retry does not
help (1 or 2). After five minutes without a failure the waits start at 1 s again.

    python -m deploy.local.agent.agent --parts kafka,metrics[,stream,producer]
"""

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests
import structlog

from deploy.local.agent.maintenance_rounds import Rounds
from deploy.local.agent.processes import ProcessKey, free_ports, kill_group, port_is_free
from deploy.local.agent.run_files import (
    MONITORS,
    MULTIPROC,
    PRODUCERS,
    PartName,
    PartState,
    log_file,
    metrics_folder,
    read_state,
    remove_state,
    run_folder,
    running_kafka,
    write_state,
)
from deploy.local.agent.stack_parts import command_of, last_line, launch, launch_program, rotate, stop_parts
from deploy.local.services.kafka_broker import EmbeddedKafka
from deploy.local.status import query_names
from lakehouse.domain_names import DOMAINS
from lakehouse.errors import WeirError
from lakehouse.machine.java import find_java
from lakehouse.machine.logs import configure_logs
from lakehouse.machine.terminal import speak_plainly
from lakehouse.settings import Settings, load_settings

LOOP_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 60.0
LONGEST_WAIT_WHEN_FATAL_SECONDS = 300.0
GOOD_AFTER_SECONDS = 300.0
EXIT_TRY_AGAIN = 75

log = structlog.get_logger("weir.agent")


class Supervised:
    """One part with its own process, which runs or waits for its restart."""

    def __init__(
        self, name: PartName, settings: Settings, environment: Mapping[str, str], restarted: Callable[[PartName], None] = lambda _: None
    ) -> None:
        self.name, self.settings, self.environment, self.restarted = name, settings, environment, restarted
        self.run, self.log = run_folder(settings), log_file(settings, name)
        self.process: subprocess.Popen[bytes] | None = None
        self.state = PartState(name, "starting", log=str(self.log))
        self.failures = 0
        self.try_at = 0.0
        self.good_at = 0.0

    def adopt(self) -> bool:
        """Take over the process that an earlier agent left running, if any; return whether there was one."""
        state = read_state(self.run, self.name)
        if state is None or not state.alive:
            return False
        self.state = state
        log.info("took over", part=self.name, pid=state.pid)
        return True

    def tend(self, stopping: threading.Event) -> None:
        """Check the part once: note that it is ready or has ended, or start it if its start is due."""
        now = time.monotonic()
        if self.process is not None:
            self.process.poll()  # reaps it if it ended, since a zombie keeps its id
        if self.state.alive:
            if self.state.condition != "up" and self.is_ready():
                self.note(condition="up")
                self.good_at = now + GOOD_AFTER_SECONDS
            elif self.state.condition == "up" and now > self.good_at:
                self.failures = 0
        elif self.state.process is not None:
            self.ended(now)
        elif now >= self.try_at:
            self.start(stopping)

    def start(self, stopping: threading.Event) -> None:
        """Start the process, and write its state file immediately."""
        self.process = launch(("-m", "weir", *command_of(self.name, self.settings.is_on_yarn)), self.log, self.environment)
        key = ProcessKey.of(self.process.pid)
        self.note(condition="starting", pid=key.pid, created=key.created)
        log.info("started", part=self.name, pid=key.pid)

    def is_ready(self) -> bool:
        """Return whether the running process is ready: a driver writes a file then; a producer is ready at once."""
        if self.name != "stream":
            return True
        try:
            ready = [json.loads((self.run / f"stream-{domain}.ready.json").read_text()) for domain in DOMAINS]
        except (OSError, ValueError):
            return False
        return all(one.get("pid") == self.state.pid for one in ready)

    def ended(self, now: float) -> None:
        """Clean up after a process that ended, and schedule its restart."""
        assert self.state.process is not None
        code: int | None = None
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(5)
        # A driver's JVM may outlive its Python process, and would keep writing beside the next driver.
        kill_group(self.state.process)
        how = "ended" if code is None else f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self.failed(f"{how}; the last line of its log: {last_line(self.log)}", now, fatal=code in (1, 2))

    def failed(self, failure: str, now: float, fatal: bool) -> None:
        """Note a failure, and schedule the next start."""
        wait = min(2.0**self.failures, LONGEST_WAIT_WHEN_FATAL_SECONDS if fatal else LONGEST_WAIT_SECONDS)
        self.failures = min(self.failures + 1, 10)
        self.try_at = now + wait
        self.process = None
        self.note(condition="restarting", pid=None, created=None, restarts=self.state.restarts + 1, failure=failure)
        self.restarted(self.name)
        log.warning("will be restarted", part=self.name, failure=failure, in_seconds=wait)

    def note(self, **changes: object) -> None:
        """Change the state and write the state file."""
        before = {name: getattr(self.state, name) for name in PartState.__dataclass_fields__}
        self.state = PartState(**{**before, **changes})
        write_state(self.run, self.state)


class SupervisedKafka(Supervised):
    """The broker. It keeps its port across restarts, since the other parts use it."""

    def start(self, stopping: threading.Event) -> None:
        """Start the broker and wait until it answers; a failure of the very first start ends the agent, with its message."""
        address = self.state.address
        rotate(self.log)
        broker = EmbeddedKafka(
            self.settings.home / "kafka",
            self.log,
            port=int(address.rpartition(":")[2]) if address else self.settings.kafka_port,
            environment=self.environment,
        )
        try:
            broker.start(
                launched=lambda key: self.note(condition="starting", pid=key.pid, created=key.created, address=broker.bootstrap),
                stopping=stopping.is_set,
            )
        except WeirError as error:
            if not address or stopping.is_set():
                raise
            self.failed(str(error), time.monotonic(), fatal=False)
            return
        self.process = broker.process
        self.note(condition="up")
        self.good_at = time.monotonic() + GOOD_AFTER_SECONDS
        log.info("started", part="kafka", pid=self.state.pid, address=self.state.address)


class SupervisedMonitor(Supervised):
    """Prometheus or Alertmanager. It keeps its port across restarts.

    Args:
        command: writes its configuration, and returns the command that starts it on a port.
        wanted_port: that the settings name; None for a free one.
    """

    def __init__(
        self,
        name: PartName,
        settings: Settings,
        environment: Mapping[str, str],
        restarted: Callable[[PartName], None],
        command: Callable[[int], list[str]],
        wanted_port: int | None,
    ) -> None:
        super().__init__(name, settings, environment, restarted)
        self._command, self._wanted_port = command, wanted_port

    def start(self, stopping: threading.Event) -> None:
        """Start the process; what it lacks is noted as a failure, and does not concern the other parts."""
        known = urlsplit(self.state.address).port
        port = known or self._wanted_port or free_ports(1)[0]
        try:
            self.process = launch_program(self._command(port), self.log, self.environment)
        except (WeirError, OSError) as error:
            self.failed(str(error), time.monotonic(), fatal=True)
            return
        key = ProcessKey.of(self.process.pid)
        self.note(condition="starting", pid=key.pid, created=key.created, address=f"http://127.0.0.1:{port}")
        log.info("started", part=self.name, pid=key.pid, address=self.state.address)

    def is_ready(self) -> bool:
        """Return whether it answers."""
        try:
            return requests.get(f"{self.state.address}/-/ready", timeout=1).ok
        except requests.RequestException:
            return False


class Agent:
    """Keeps the parts of one home running until it is stopped."""

    def __init__(self, settings: Settings, parts: tuple[PartName, ...], environment: Mapping[str, str]) -> None:
        self.settings, self.parts, self.environment = settings, parts, dict(environment)
        self.run_folder = run_folder(settings)
        self.stopping = threading.Event()  # set to end, with or without the parts: nothing is started any more
        self.leaving = threading.Event()  # set to leave the parts running

    def run(self) -> None:
        """Keep the parts running until a signal arrives."""
        signal.signal(signal.SIGTERM, lambda *_: self.stopping.set())
        signal.signal(signal.SIGINT, lambda *_: self.stopping.set())
        signal.signal(signal.SIGUSR1, lambda *_: self._leave())
        me = ProcessKey.of(os.getpid())
        agent_log = str(log_file(self.settings, "agent"))
        write_state(self.run_folder, PartState("agent", "up", me.pid, me.created, address=",".join(self.parts), log=agent_log))
        failure: WeirError | None = None
        try:
            page = self._serve_metrics()
            write_state(self.run_folder, PartState("metrics", "up", me.pid, me.created, address=page, log=agent_log))
            self._tend_until_stopped()
        except WeirError as error:
            failure = error
            if not self.stopping.is_set():
                (self.run_folder / "agent-failure.txt").write_text(str(error), encoding="utf-8")
                log.error("gave up", failure=str(error))
        finally:
            if not self.leaving.is_set():
                stop_parts(self.settings, lambda part, pid, ended: log.info("stopped", part=part, pid=pid, by_itself=ended))
                for part in ("metrics", "agent"):
                    remove_state(self.run_folder, part)
            log.info("the agent ends", parts="left running" if self.leaving.is_set() else "stopped")
        if failure is not None and not self.stopping.is_set():
            raise failure

    def _leave(self) -> None:
        self.leaving.set()
        self.stopping.set()

    def _tend_until_stopped(self) -> None:
        from monitoring.metrics import PART_RESTARTS, PART_UP, QUERY_UP

        def restarted(part: PartName) -> None:
            PART_RESTARTS.labels(part).inc()

        supervised: list[Supervised] = []
        if "kafka" in self.parts:
            kafka = SupervisedKafka("kafka", self.settings, self.environment, restarted)
            supervised.append(kafka)
            if not kafka.adopt():
                kafka.start(self.stopping)
            self.environment["WEIR_KAFKA_BOOTSTRAP"] = kafka.state.address
        for part in ("stream", *PRODUCERS):
            if part in self.parts:
                one = Supervised(part, self.settings, self.environment, restarted)
                one.adopt()
                supervised.append(one)
        supervised += self._monitors(restarted)
        rounds = Rounds(self.settings, self.environment) if "stream" in self.parts else None
        PART_UP.labels("metrics").set(1)
        while not self.stopping.wait(LOOP_SECONDS):
            for one in supervised:
                try:
                    one.tend(self.stopping)
                except OSError as error:  # a full disk stops the parts that write to it, but not the agent
                    log.error("could not check or start the part", part=one.name, error=str(error))
                PART_UP.labels(one.name).set(int(one.state.condition == "up"))
                if one.name == "stream" and one.state.condition in ("restarting", "down"):
                    for query in query_names(self.settings):  # a driver that was killed could not set it
                        QUERY_UP.labels(query).set(0)
            if rounds is not None:
                try:
                    rounds.tend(any(one.name == "stream" and one.state.condition == "up" for one in supervised))
                except OSError as error:
                    log.error("could not check or start the part", part="maintain", error=str(error))

    def _monitors(self, restarted: Callable[[PartName], None]) -> list[Supervised]:
        from deploy.local.services.prometheus_server import alertmanager_command, prometheus_command

        def address(part: PartName) -> str:
            state = read_state(self.run_folder, part)
            return "127.0.0.1:9" if state is None else urlsplit(state.address).netloc  # where nobody answers

        commands: dict[PartName, tuple[Callable[[int], list[str]], int | None]] = {
            "alertmanager": (lambda port: alertmanager_command(self.settings, port), self.settings.alertmanager_port),
            "prometheus": (
                lambda port: prometheus_command(self.settings, port, address("metrics"), address("alertmanager")),
                self.settings.prometheus_port,
            ),
        }
        found: list[Supervised] = []
        for part in MONITORS:
            if part in self.parts:
                one = SupervisedMonitor(part, self.settings, self.environment, restarted, *commands[part])
                one.adopt()
                found.append(one)
        return found

    def _serve_metrics(self) -> str:
        from deploy.local.observed import running_queries, source_facts
        from deploy.yarn.watching import cluster_facts, scrape_targets
        from monitoring.metrics import serve
        from monitoring.watch import Watch

        before = read_state(self.run_folder, "metrics")
        last = urlsplit(before.address).port if before is not None else None
        port = self.settings.metrics_port or (last if last is not None and port_is_free(last) else free_ports(1)[0])
        # Looked up for each request, since the broker starts later and may be replaced by another.
        watch = Watch(
            self.settings,
            lambda: running_kafka(self.settings) or self.settings.kafka_bootstrap,
            sources=lambda: source_facts(self.settings, datetime.now(UTC)),
            states=lambda: running_queries(self.settings),
            cluster=lambda: cluster_facts(self.settings),
        )
        serve(port, metrics_folder(self.settings), watch, lambda: scrape_targets(self.settings))
        return f"http://127.0.0.1:{port}/metrics"


def environment_of_parts(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the parts' environment: the caller's, with this home's full path, the Java in use and the metrics' folder."""
    java = find_java(environment)
    return {**environment, "WEIR_HOME": str(settings.home), "JAVA_HOME": str(java.home), MULTIPROC: str(metrics_folder(settings))}


def main(arguments: list[str] | None = None) -> int:
    """Run the agent of the environment's home; a second agent for the same home ends at once."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.agent.agent", description="Keep the parts of one home running.")
    parser.add_argument("--parts", required=True, help="the parts' names, separated by commas")
    asked = parser.parse_args(arguments)
    speak_plainly()
    environment = dict(os.environ)
    settings = load_settings(environment)
    configure_logs(settings.log_format, settings.log_level)
    run = run_folder(settings)
    with Path(run / "agent.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("another agent runs for this home", home=str(settings.home))
            return 1
        try:
            Agent(settings, tuple(asked.parts.split(",")), environment).run()
        except WeirError as error:
            print(f"agent: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
