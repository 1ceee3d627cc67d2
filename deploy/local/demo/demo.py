"""How does weir work, shown in minutes? Recorded answers of the API go through the real parts to gold, with a crash and a revision.

    start      start Kafka, the API with recorded answers and the stream; publish the first quarter of 2024 meanwhile
    crash      while the first rows reach gold and the rest is published, kill the driver with SIGKILL and start it again
    count      compare all messages in Kafka with all rows in the tables
    findings   latest AQI, worst days, longest episodes, agreement with independent results
    dump       what a recorded dump of Kaggle, the second domain, has become meanwhile
    revision   publish the source's later answer for Hanoi, which changes gold

Each step checks its result; a failed check ends the demo with exit code 1. All processes that it started end before it does.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO

import psutil
from rich.console import Console
from rich.text import Text

from deploy.local.agent.processes import ProcessKey, kill_group, stop_process, wait_gone
from deploy.local.agent.run_files import MULTIPROC, PartCondition, PartName, PartState, log_file, remove_state, run_folder, write_state
from deploy.local.agent.stack_parts import PYTHON, command_of, last_line, launch
from deploy.local.demo.dump import DumpShown
from deploy.local.demo.home import SETTINGS_FILE, choose_home, note_what_is_left, only_demo, prepare
from deploy.local.demo.report import Agreement, freshness_seconds, print_findings, print_revision, read_agreement
from deploy.local.demo.tables import DOMAIN, DemoFailed, DemoTables, read_revised
from deploy.local.errors import PartFailed
from deploy.local.services.kafka_broker import EmbeddedKafka
from deploy.local.services.open_meteo_server import OpenMeteoServer
from lakehouse.broker.offsets import end_offsets
from lakehouse.domains.air_quality.contract import TOPIC
from lakehouse.machine.fitness import check_home, check_machine, given_home
from lakehouse.machine.java import find_java
from lakehouse.settings import OLDER_NAMES, Settings

# The rule by which the independent results were computed; only with it does gold agree with them.
AQI_RULE = "us-epa-2012"
# Settings that would lead the demo to other data or results. Those of places come first.
PLACES = ("warehouse_uri", "checkpoints_uri", "state_uri", "catalog_uri", "locations_path", "pollutants_path")
NOT_TAKEN_OVER = (
    *PLACES,
    *("home", "kafka_bootstrap", "kafka_port", "open_meteo_url", "open_meteo_api_key", "episode_threshold", "episode_hours"),
    *("spark_master", "enable_yarn_defaults", "failpoint"),
)
# The later of the two recorded answers for Hanoi was served on 2025-09-23.
BEFORE_THE_REVISION = datetime(2025, 9, 21, tzinfo=UTC)
POLL_SECONDS = 0.2
# If there is no progress for this long, something hangs. The slowest step is the start of a cold driver on a busy machine.
PATIENCE_SECONDS = 180.0
DRIVER_GRACE_SECONDS = 30.0
# A pipe has no width, and rich's default of 80 would cut paths.
PIPE_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Slice:
    """Days of some places that one `weir produce` publishes; `places` empty for all of them."""

    since: date
    until: date
    places: str = ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of weir for the verb `produce`."""
        places = ("--locations", self.places) if self.places else ()
        return ("produce", "open-meteo", "--since", str(self.since), "--until", str(self.until), *places, "--json")


FIRST_SLICE = Slice(date(2024, 1, 1), date(2024, 3, 31))
OTHER_SLICES = (Slice(date(2024, 4, 1), date(2024, 12, 6)), Slice(date(2025, 9, 12), date(2025, 9, 20), "hanoi"))
REVISION = Slice(date(2025, 9, 19), date(2025, 9, 20), "hanoi")


def run_demo(settings: Settings) -> None:
    """Run the demo in the home of the settings or in a folder beside it.

    Raises:
        HomeIsTaken, HomeRuns, HomeNotWritable: no folder can be used.
        TooFewOpenFiles, NoTemporaryFolder, ClockWrong, WrongJava: the machine does not meet the requirements.
        DemoFailed, PartFailed: a check failed, or a part did.
    """
    started = time.monotonic()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    home, why = choose_home(settings.home)
    if why:
        console.print(f"{settings.home} {why}; the demo leaves it as it is and runs in {home}.", markup=False, soft_wrap=True)
    check_home(home, given_home(os.environ) if home == settings.home else None)
    check_machine(settings)
    rule = settings.aqi_rule if "WEIR_AQI_RULE" in os.environ else AQI_RULE
    with only_demo(home), _stopping_on_signals():
        prepare(home, settings_text(rule))
        # The environment's port may be in use by the stack in the other home.
        port = settings.kafka_port if home == settings.home else None
        demo = Demo(home, port, environment_for(os.environ, home), console, started)
        grace_seconds = DRIVER_GRACE_SECONDS / 3
        try:
            demo.show(expects_agreement=rule == AQI_RULE)
            grace_seconds = DRIVER_GRACE_SECONDS
        finally:
            demo.stop(grace_seconds)
            note_what_is_left(home)
    print_next(console, home, os.environ)
    phases = " · ".join(f"{name} {seconds:.0f} s" for name, seconds in demo.phases)
    console.print(f"\nall done in {time.monotonic() - started:.0f} s ({phases}); all started parts have stopped", soft_wrap=True)


def settings_text(rule: str) -> str:
    """Return the text of the demo's weir.toml."""
    return (
        "# Written by `weir demo`. The independent results that it compares with were computed with the breakpoints that the US EPA used\n"
        "# before its change of 2024. A home has one edition: without this line, later commands for this home would expect the newer one.\n"
        f'aqi_rule = "{rule}"\n'
    )


def environment_for(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the environment of the demo's processes: the caller's, without variables that lead to other data or results."""
    dropped = {MULTIPROC, *(name for setting in NOT_TAKEN_OVER for name in names_of(setting))}
    kept = {name: value for name, value in environment.items() if name not in dropped}
    # The demo's drivers live for a minute, so the JVM's optimising compiler would use half of the processor without benefit.
    short_lived = {"WEIR_SPARK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"}
    return {**short_lived, **kept, "WEIR_HOME": str(home), "JAVA_HOME": str(find_java(environment).home)}


def names_of(setting: str) -> list[str]:
    """Return the environment variables of a setting."""
    return [f"WEIR_{setting.upper()}", *(older for older, name in OLDER_NAMES.items() if name == setting)]


@contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does, so that everything is stopped."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    # Ignored signals stay ignored: under nohup a closed terminal must not end the demo.
    handled = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]
    before = {one: signal.signal(one, leave) for one in handled}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class Demo:
    """One run of the demo: its processes and its steps."""

    def __init__(self, home: Path, kafka_port: int | None, environment: dict[str, str], console: Console, started: float) -> None:
        self.settings = Settings(home=home, warehouse_uri="", checkpoints_uri="", state_uri="", catalog_uri="", kafka_bootstrap="")
        self.run = run_folder(self.settings)
        self.environment, self.console = environment, console
        self.tables = DemoTables(self.settings)
        self.kafka = EmbeddedKafka(home / "kafka", log_file(self.settings, "kafka"), port=kafka_port, environment=environment)
        self.api = OpenMeteoServer(as_of=BEFORE_THE_REVISION)
        self.serves_api = False
        self.driver: subprocess.Popen[bytes] | None = None
        self.producers: list[tuple[Slice, subprocess.Popen[str], IO[str]]] = []
        self.published = 0
        self.end_offsets: dict[int, int] = {}
        # Spark leaves its temporary folders behind when it is killed; these are removed with the demo's.
        self.scratch = self.run / "tmp"
        self.dump = DumpShown(log_file(self.settings, "producer"), self.environment)
        self.phases: list[tuple[str, float]] = []
        self._phase_began = started

    def show(self, expects_agreement: bool) -> None:
        """Run all steps."""
        self.start_and_publish()
        self.crash_and_come_back()
        self.count()
        self.findings(expects_agreement)
        self.second_domain()
        self.revision()

    # --- the steps

    def start_and_publish(self) -> None:
        """Start all parts, and publish the first quarter of 2024 while the driver starts."""
        self._title("Start")
        self.kafka.start(launched=lambda key: self._note("kafka", key, self.kafka.bootstrap, "starting"))
        self._note("kafka", self.kafka.key, self.kafka.bootstrap)
        self.api.start()
        self.serves_api = True
        self.environment |= {"WEIR_KAFKA_BOOTSTRAP": self.kafka.bootstrap, "WEIR_OPEN_METEO_URL": self.api.url}
        self.console.print(f"Kafka on {self.kafka.bootstrap}, recorded answers of Open-Meteo on {self.api.url}", soft_wrap=True)
        self._start_driver()
        self._publish(FIRST_SLICE)
        self._wait("the driver starts", self._driver_is_ready)
        self._end_of_phase("start")
        self.console.print(f"the stream was ready {time.monotonic() - self._driver_began:.1f} s after its start\n")

    def crash_and_come_back(self) -> None:
        """Publish the rest, kill the driver while it works, start it again, and wait until everything is in gold."""
        self._title("A crash in the middle")
        self._wait("rows reach bronze", lambda: self.tables.counts().bronze > 0)
        for one in OTHER_SLICES:
            self._publish(one)
        self._wait("the first rows reach gold", lambda: self.tables.counts().hours > 0)
        killed_at = self._kill_driver()
        counts, heads = self.tables.counts(), self.tables.heads()
        taken = sum(end_offsets(self.kafka.bootstrap, TOPIC).values())
        self.console.print(f"at that moment: Kafka {taken:,} hours · {counts}", soft_wrap=True)
        self._start_driver()
        self._wait("the driver starts again", lambda: self.tables.first_commit_after(heads) is not None)
        first = self.tables.first_commit_after(heads)
        assert first is not None
        self.back_seconds = (first.committed_ts - killed_at).total_seconds()
        self._wait("everything is published", lambda: not self._publishing())
        if self.dump.is_there:
            self.dump.publish()
        self.end_offsets = end_offsets(self.kafka.bootstrap, TOPIC)
        self._wait("the rest reaches gold", lambda: self.tables.is_all_in_gold(self.end_offsets))
        after = self.tables.counts()
        self.console.print(f"now:            Kafka {sum(self.end_offsets.values()):,} hours · {after}", soft_wrap=True)
        if counts.bronze == 0 or counts.days >= after.days:
            raise DemoFailed(f"The driver was not killed while it worked: {counts} at the kill, {after} in the end.")
        self._end_of_phase("crash")

    def count(self) -> None:
        """Compare all messages with all rows, and print the result in one line.

        Raises:
            DemoFailed: something is lost or duplicated.
        """
        presences = self.tables.presence(self.end_offsets)
        taken = sum(self.end_offsets.values())
        for one in presences:
            self.console.print(f"  {one.what:<27} expected {one.expected:>6,} · present {one.present:>6,} · rows {one.rows:>6,}")
        lost = sum(one.lost for one in presences) + max(0, self.published - taken)
        doubled = sum(one.doubled for one in presences) + max(0, taken - self.published)
        line = f"back in {self.back_seconds:.0f} s, {lost} lost, {doubled} doubled"
        self.console.print(f"[bold]{line}[/bold]")
        self.console.print("  back: from the kill to the first new commit of a table; counted: offsets and keys, row by row\n", style="dim")
        if lost or doubled:
            raise DemoFailed(
                f"{line}, expected 0 lost and 0 doubled of {self.published:,} published hours. The tables are kept in {self.settings.home}."
            )
        self._end_of_phase("count")

    def findings(self, expects_agreement: bool) -> None:
        """Print results from gold, and whether independent results agree with them.

        Raises:
            DemoFailed: they agree less than expected.
        """
        self._title("What is in gold")
        print_findings(self.console, self.tables)
        agreement = read_agreement(self.tables)
        if agreement is None:
            self.console.print("not compared with the independent results, which are in the repository but not in this installation\n")
        else:
            self._print_agreement(agreement, expects_agreement)
        self._end_of_phase("findings")

    def _print_agreement(self, agreement: Agreement, expects_agreement: bool) -> None:
        self.console.print(f"[bold]{agreement}[/bold]", soft_wrap=True)
        about = "another lakehouse's tables over the same hours: a day's highest AQI and six hour counts, an episode's span and peak"
        self.console.print(f"  {about}\n", style="dim", soft_wrap=True)
        if not expects_agreement:
            self.console.print(f"WEIR_AQI_RULE is not {AQI_RULE}, by which the independent results were computed, so they may differ\n")
        elif not agreement.is_as_promised:
            raise DemoFailed(
                f"Gold agrees too little with the independent results: {agreement}. The tables are kept in {self.settings.home}."
            )

    def second_domain(self) -> None:
        """Show what the recorded dump has become, where this installation has it.

        Raises:
            DemoFailed: rows of it were rejected.
        """
        if self.dump.is_there:
            self._title("Another kind of source: a dump")
            self._wait("the dump reaches gold", lambda: self.dump.is_in_gold(self.tables))
            self.dump.show(self.console, self.tables)
            self._end_of_phase("dump")

    def revision(self) -> None:
        """Publish the source's later answer, and print its changes in gold.

        Raises:
            DemoFailed: it changed nothing.
        """
        self._title("The source corrects itself")
        before = read_revised(self.tables)
        self.api.as_of = None
        since = datetime.now(UTC)
        self._publish(REVISION)
        self._wait("the revised answer is published", lambda: not self._publishing())
        self.end_offsets = end_offsets(self.kafka.bootstrap, TOPIC)
        self._wait("it reaches gold", lambda: self.tables.is_all_in_gold(self.end_offsets))
        after = read_revised(self.tables)
        self.console.print("Open-Meteo answered twice for 2025-09-20 in Hanoi, on the day itself and three days later:")
        print_revision(self.console, before, after)
        if before == after:
            raise DemoFailed("The revised answer changed nothing: PM2.5 in Hanoi at 2025-09-20 00:00 should go from 143.0 to 130.9.")
        rows, from_first, from_last = freshness_seconds(self.tables, since)
        self.console.print(
            f"[bold]fresh: {rows} hours were in gold {from_last:.1f} s after Kafka received the last of them[/bold]", soft_wrap=True
        )
        about = f"{from_first:.1f} s after the first; until the commit of the last gold table that they change"
        self.console.print(f"  {about}\n", style="dim", soft_wrap=True)
        self._end_of_phase("revision")

    # --- processes

    def _start_driver(self) -> None:
        self.scratch.mkdir(exist_ok=True)
        environment = {**self.environment, "TMPDIR": str(self.scratch)}
        self._driver_began = time.monotonic()
        self.driver = launch(("-m", "weir", *command_of("stream", is_on_yarn=False)), log_file(self.settings, "stream"), environment)
        self._driver_key = ProcessKey.of(self.driver.pid)
        self._note("stream", self._driver_key, "", "starting")

    def _driver_is_ready(self) -> bool:
        try:
            ready = json.loads((self.run / f"stream-{DOMAIN}.ready.json").read_text())
        except (OSError, ValueError):
            return False
        if ready.get("pid") == self._driver_key.pid:
            self._note("stream", self._driver_key, "")
            return True
        return False

    def _kill_driver(self) -> datetime:
        """Kill the driver's whole group, Python and its JVM, wait until both have ended, and return the time of the kill."""
        assert self.driver is not None
        group = [psutil.Process(self.driver.pid), *psutil.Process(self.driver.pid).children(recursive=True)]
        names = ", ".join(f"{one.name()} {one.pid}" for one in group)
        keys = [ProcessKey.of(one.pid) for one in group]
        killed_at = datetime.now(UTC)
        kill_group(self._driver_key)
        self.driver.wait()
        if not all(wait_gone(key, 20) for key in keys):
            raise DemoFailed(f"The driver's processes ({names}) survived SIGKILL.")
        self.driver = None
        self.console.print(f"[bold]kill -9[/bold] of the driver, the whole process group: {names}", soft_wrap=True)
        return killed_at

    def _publish(self, what: Slice) -> None:
        log = log_file(self.settings, "producer")
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [*PYTHON, "-m", "weir", *what.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self.environment,
                text=True,
                start_new_session=True,
            )
        assert process.stdout is not None
        self.producers.append((what, process, process.stdout))

    def _publishing(self) -> bool:
        """Return whether a producer still runs; add up the counts of those that have ended."""
        for entry in list(self.producers):
            what, process, output = entry
            code = process.poll()
            if code is None:
                continue
            self.producers.remove(entry)
            with output:
                summary = output.read()
            if code != 0:
                log = log_file(self.settings, "producer")
                raise PartFailed("producer", f"{_how_it_ended(code)} at {what.since} to {what.until}", last_line(log), log)
            self.published += int(json.loads(summary)["hours"])
        return bool(self.producers)

    def stop(self, grace_seconds: float) -> None:
        """Stop everything that was started and still runs: the producers, the stream, the API and Kafka. Signals are ignored meanwhile."""
        before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            for _, process, output in self.producers:
                if process.poll() is None:
                    stop_process(ProcessKey.of(process.pid), 2)
                process.wait()
                output.close()
            self.producers.clear()
            self.dump.stop()
            if self.driver is not None:
                stop_process(self._driver_key, grace_seconds)
                self.driver.wait()
                self.driver = None
            self.tables.close()
            if self.serves_api:
                self.api.stop()
                self.serves_api = False
            self.kafka.stop()
            self._kill_what_was_not_noted()
            for part in ("stream", "kafka"):
                remove_state(self.run, part)
            shutil.rmtree(self.scratch, ignore_errors=True)
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
        self._end_of_phase("stop")

    def _kill_what_was_not_noted(self) -> None:
        """Kill a process that was started just when a signal stopped the demo, before it was noted."""
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if child.environ().get("WEIR_HOME") == str(self.settings.home):
                    kill_group(ProcessKey.of(child.pid))
                    child.wait(10)

    def _note(self, part: PartName, key: ProcessKey | None, address: str, condition: PartCondition = "up") -> None:
        """Write the part's state, so that `weir status` and `weir down` know it, even if the demo itself is killed."""
        assert key is not None
        write_state(self.run, PartState(part, condition, key.pid, key.created, address, log=str(log_file(self.settings, part))))

    # --- waiting and output

    def _wait(self, what: str, is_so: Callable[[], bool]) -> None:
        """Wait for a condition; meanwhile show the tables' progress and check the parts.

        Raises:
            PartFailed: a part ended, or there was no progress for `PATIENCE_SECONDS`.
        """
        began = moved_at = time.monotonic()
        before = None
        with self.console.status(what, refresh_per_second=4) as line:
            while not is_so():
                self._publishing()
                self._check_parts()
                counts = self.tables.counts()
                if counts != before:
                    before, moved_at = counts, time.monotonic()
                if time.monotonic() - moved_at > PATIENCE_SECONDS:
                    raise self._hangs(what)
                line.update(Text(f"{what} · {time.monotonic() - began:.0f} s · {counts.short}", no_wrap=True, overflow="ellipsis"))
                time.sleep(POLL_SECONDS)
        if not self.console.is_terminal:
            self.console.print(f"{what}: {time.monotonic() - began:.1f} s", style="dim")

    def _check_parts(self) -> None:
        if self.kafka.process is not None and (code := self.kafka.process.poll()) is not None:
            raise PartFailed("kafka", _how_it_ended(code), last_line(self.kafka.log), self.kafka.log)
        if self.driver is not None and (code := self.driver.poll()) is not None:
            log = log_file(self.settings, "stream")
            raise PartFailed("stream", _how_it_ended(code), last_line(log), log)

    def _hangs(self, what: str) -> PartFailed:
        log = log_file(self.settings, "stream")
        lines = log.read_text(errors="replace").splitlines()[-5:]
        return PartFailed("stream", f"made no progress for {PATIENCE_SECONDS:.0f} s ({what})", "\n  " + "\n  ".join(lines), log)

    def _title(self, text: str) -> None:
        self.console.rule(f"[bold]{text}[/bold]", align="left") if self.console.is_terminal else self.console.print(f"== {text}")

    def _end_of_phase(self, name: str) -> None:
        now = time.monotonic()
        self.phases.append((name, now - self._phase_began))
        self._phase_began = now


def _how_it_ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def print_next(console: Console, home: Path, environment: Mapping[str, str]) -> None:
    """Print commands to try with the demo's data, without any part running."""
    command = Path(sys.executable).parent / "weir"
    shown = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command
    prefix = "" if home == (Path.cwd() / ".weir").resolve() else f"WEIR_HOME={shlex.quote(str(home))} "
    tries = {
        'query "SELECT * FROM gold.fact_city_daily ORDER BY max_aqi DESC LIMIT 5"': "SQL, without Spark, while nothing runs",
        "query": "list every table, with its grain and columns",
        "connect": "read the same tables with DuckDB, PyIceberg and Spark",
        "up": "run the stack, with the live API from now on",
        "status": "see what runs, the lag and the freshness",
        "add-city Madrid 40.4168 -3.7038 --timezone Europe/Madrid": "one more city; `up` polls it",
        "down": "stop the stack",
    }
    console.print(f"The tables are in {home} ({SETTINGS_FILE} there sets the AQI rule). Try:", markup=False, soft_wrap=True)
    for verb, about in tries.items():
        console.print(f"  {prefix}{shlex.quote(str(shown))} {verb}", markup=False, soft_wrap=True)
        console.print(f"      {about}", style="dim", soft_wrap=True)
    ignored = [name for place in PLACES for name in names_of(place) if name in environment]
    if ignored:
        console.print(f"The demo ignored {', '.join(ignored)}: unset it to read these tables.", soft_wrap=True)
