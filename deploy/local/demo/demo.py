"""What does weir do, shown in minutes? Recorded answers of the API go to gold on real parts, through a crash and a revision.

    start      Kafka, the API over the recorded answers, the stream; the first quarter of 2024 is published meanwhile
    crash      while the first rows come into gold and the rest is published, the driver is killed with SIGKILL and started again
    count      everything that Kafka took against everything that is in the tables
    findings   latest AQI, worst days, longest episodes, agreement with independent results
    revision   the source's later answer for Hanoi comes in, and gold changes

What is promised is checked, and a broken promise ends the demo with exit code 1. Nothing that it started outlives it.
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
from deploy.local.agent.stack_parts import COMMANDS, PYTHON, last_line, launch
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

# Gold agrees with the independent results under the rule that those were computed by.
AQI_RULE = "us-epa-2012"
# Settings that would lead the demo to other data or other results; those of the place are the demo's own.
PLACES = ("warehouse_uri", "checkpoints_uri", "state_uri", "catalog_uri", "locations_path", "pollutants_path")
NOT_TAKEN_OVER = (
    *PLACES,
    *("home", "kafka_bootstrap", "kafka_port", "open_meteo_url", "open_meteo_api_key", "episode_threshold", "episode_hours"),
    *("spark_master", "enable_yarn_defaults", "failpoint"),
)
# The later of the two recorded answers for Hanoi was given on 2025-09-23.
BEFORE_THE_REVISION = datetime(2025, 9, 21, tzinfo=UTC)
POLL_SECONDS = 0.2
# Without any progress for so long, something hangs. A cold driver on a busy machine is the slowest step.
PATIENCE_SECONDS = 180.0
DRIVER_GRACE_SECONDS = 30.0
# A pipe has no width, and 80 would cut paths.
PIPE_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Slice:
    """Days of some places that one `weir produce` publishes; no places are all of them."""

    since: date
    until: date
    places: str = ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of the verb `produce`."""
        places = ("--locations", self.places) if self.places else ()
        return ("produce", "open-meteo", "--since", str(self.since), "--until", str(self.until), *places, "--json")


FIRST_SLICE = Slice(date(2024, 1, 1), date(2024, 3, 31))
OTHER_SLICES = (Slice(date(2024, 4, 1), date(2024, 12, 6)), Slice(date(2025, 9, 12), date(2025, 9, 20), "hanoi"))
REVISION = Slice(date(2025, 9, 19), date(2025, 9, 20), "hanoi")


def run_demo(settings: Settings) -> None:
    """Show it, in the home of the settings or beside it.

    Raises:
        HomeIsTaken, HomeRuns, HomeNotWritable: no folder may be used.
        TooFewOpenFiles, NoTemporaryFolder, ClockWrong, WrongJava: the machine is not fit.
        DemoFailed, PartFailed: something is not as promised, or a part failed.
    """
    started = time.monotonic()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    home, why = choose_home(settings.home)
    if why:
        console.print(f"{settings.home} {why}; the demo leaves it alone and runs in {home}.", markup=False, soft_wrap=True)
    check_home(home, given_home(os.environ) if home == settings.home else None)
    check_machine(settings)
    rule = settings.aqi_rule if "WEIR_AQI_RULE" in os.environ else AQI_RULE
    with only_demo(home), _told_to_stop():
        prepare(home, settings_text(rule))
        # An environment's port may be that of the stack in the other home.
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
    console.print(f"\nall done in {time.monotonic() - started:.0f} s ({phases}); everything that was started is stopped", soft_wrap=True)


def settings_text(rule: str) -> str:
    """Give the demo's weir.toml."""
    return (
        "# Written by `weir demo`. The independent results that it compares with were computed with the breakpoints that the US EPA used\n"
        "# before its change of 2024. One home holds one edition: without this line, later verbs here would expect the newer one.\n"
        f'aqi_rule = "{rule}"\n'
    )


def environment_for(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """Give what the demo's processes inherit: the caller's environment without what leads to other data or results."""
    dropped = {MULTIPROC, *(name for setting in NOT_TAKEN_OVER for name in names_of(setting))}
    kept = {name: value for name, value in environment.items() if name not in dropped}
    # The drivers of a demo live for a minute: the JVM's optimising compiler would take half of the processor in vain.
    short_lived = {"WEIR_SPARK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1"}
    return {**short_lived, **kept, "WEIR_HOME": str(home), "JAVA_HOME": str(find_java(environment).home)}


def names_of(setting: str) -> list[str]:
    """Give the environment's names of a setting."""
    return [f"WEIR_{setting.upper()}", *(older for older, name in OLDER_NAMES.items() if name == setting)]


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the demo as Ctrl-C does: with everything stopped."""

    def leave(number: int, _: object) -> None:
        sys.exit(128 + number)

    # What is ignored stays so: under nohup a closed terminal ends nothing.
    heeded = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) != signal.SIG_IGN]
    before = {one: signal.signal(one, leave) for one in heeded}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class Demo:
    """One run: the processes it started, and the steps in their order."""

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
        # Spark leaves its folders behind when it is killed: here they go with the demo.
        self.scratch = self.run / "tmp"
        self.phases: list[tuple[str, float]] = []
        self._phase_began = started

    def show(self, expects_agreement: bool) -> None:
        """Run all steps."""
        self.start_and_publish()
        self.crash_and_come_back()
        self.count()
        self.findings(expects_agreement)
        self.revision()

    # --- the steps

    def start_and_publish(self) -> None:
        """Start everything; publish the first quarter of 2024 while the driver starts, the rest once rows are in bronze."""
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
        self.console.print(f"the stream runs {time.monotonic() - self._driver_began:.1f} s after its start\n")

    def crash_and_come_back(self) -> None:
        """Kill the driver in the middle of its work, start it again, and wait until everything is in gold."""
        self._title("A crash in the middle")
        self._wait("rows come into bronze", lambda: self.tables.counts().bronze > 0)
        for one in OTHER_SLICES:
            self._publish(one)
        self._wait("the first rows come into gold", lambda: self.tables.counts().hours > 0)
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
        self.end_offsets = end_offsets(self.kafka.bootstrap, TOPIC)
        self._wait("the rest comes into gold", lambda: self.tables.is_all_in_gold(self.end_offsets))
        after = self.tables.counts()
        self.console.print(f"now:            Kafka {sum(self.end_offsets.values()):,} hours · {after}", soft_wrap=True)
        if counts.bronze == 0 or counts.days >= after.days:
            raise DemoFailed(f"The driver was not killed in the middle of its work: then {counts}; in the end {after}.")
        self._end_of_phase("crash")

    def count(self) -> None:
        """Count what is there, and say it in one line.

        Raises:
            DemoFailed: something is lost or there twice.
        """
        found = self.tables.presence(self.end_offsets)
        taken = sum(self.end_offsets.values())
        for one in found:
            self.console.print(f"  {one.what:<27} expected {one.expected:>6,} · there {one.present:>6,} · rows {one.rows:>6,}")
        lost = sum(one.lost for one in found) + max(0, self.published - taken)
        doubled = sum(one.doubled for one in found) + max(0, taken - self.published)
        line = f"back in {self.back_seconds:.0f} s, {lost} lost, {doubled} doubled"
        self.console.print(f"[bold]{line}[/bold]")
        self.console.print("  back: from the kill to the first new commit of a table; counted: offsets and keys, row by row\n", style="dim")
        if lost or doubled:
            raise DemoFailed(f"{line}: nothing may be. {self.published:,} hours were published. The tables stay in {self.settings.home}.")
        self._end_of_phase("count")

    def findings(self, expects_agreement: bool) -> None:
        """Print what gold says, and whether others say the same.

        Raises:
            DemoFailed: the agreement is below what is promised.
        """
        self._title("What is in gold")
        print_findings(self.console, self.tables)
        found = read_agreement(self.tables)
        if found is None:
            self.console.print("the independent results are part of the repository, not of this installation: not compared\n")
        else:
            self._print_agreement(found, expects_agreement)
        self._end_of_phase("findings")

    def _print_agreement(self, found: Agreement, expects_agreement: bool) -> None:
        self.console.print(f"[bold]{found}[/bold]", soft_wrap=True)
        about = "another lakehouse's tables over the same hours: a day's highest AQI and six hour counts, an episode's span and peak"
        self.console.print(f"  {about}\n", style="dim", soft_wrap=True)
        if not expects_agreement:
            self.console.print(f"WEIR_AQI_RULE is another rule than {AQI_RULE}, by which those were computed: they need not agree\n")
        elif not found.is_as_promised:
            raise DemoFailed(
                f"Gold does not agree with the independent results as it should: {found}. The tables stay in {self.settings.home}."
            )

    def revision(self) -> None:
        """Let the source's later answer in, and print what it changes.

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
        self._wait("it comes into gold", lambda: self.tables.is_all_in_gold(self.end_offsets))
        after = read_revised(self.tables)
        self.console.print("Open-Meteo answered twice for 2025-09-20 in Hanoi, on the day itself and three days later:")
        print_revision(self.console, before, after)
        if before == after:
            raise DemoFailed("The revised answer changed nothing: PM2.5 in Hanoi at 2025-09-20 00:00 should go from 143.0 to 130.9.")
        rows, from_first, from_last = freshness_seconds(self.tables, since)
        self.console.print(
            f"[bold]fresh: {rows} hours were in gold {from_last:.1f} s after Kafka took the last of them[/bold]", soft_wrap=True
        )
        about = f"{from_first:.1f} s after the first; until the commit of the last gold table that they change"
        self.console.print(f"  {about}\n", style="dim", soft_wrap=True)
        self._end_of_phase("revision")

    # --- processes

    def _start_driver(self) -> None:
        self.scratch.mkdir(exist_ok=True)
        environment = {**self.environment, "TMPDIR": str(self.scratch)}
        self._driver_began = time.monotonic()
        self.driver = launch(("-m", "weir", *COMMANDS["stream"]), log_file(self.settings, "stream"), environment)
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
        """Kill the driver's whole group, Python and its JVM, and return when both are gone; give the moment of the kill."""
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
        """Say whether a producer still runs; take the counts of those that ended."""
        for entry in list(self.producers):
            what, process, output = entry
            code = process.poll()
            if code is None:
                continue
            self.producers.remove(entry)
            with output:
                said = output.read()
            if code != 0:
                log = log_file(self.settings, "producer")
                raise PartFailed("producer", f"{_how_it_ended(code)} at {what.since} to {what.until}", last_line(log), log)
            self.published += int(json.loads(said)["hours"])
        return bool(self.producers)

    def stop(self, grace_seconds: float) -> None:
        """Stop everything that was started, whatever runs of it: the producers, the stream, the API, Kafka. Not to be interrupted."""
        held = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            for _, process, output in self.producers:
                if process.poll() is None:
                    stop_process(ProcessKey.of(process.pid), 2)
                process.wait()
                output.close()
            self.producers.clear()
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
            for one, handler in held.items():
                signal.signal(one, handler)
        self._end_of_phase("stop")

    def _kill_what_was_not_noted(self) -> None:
        """Kill a process that was started in the very moment in which the demo was told to stop."""
        for child in psutil.Process().children():
            with suppress(psutil.Error):
                if child.environ().get("WEIR_HOME") == str(self.settings.home):
                    kill_group(ProcessKey.of(child.pid))
                    child.wait(10)

    def _note(self, part: PartName, key: ProcessKey | None, address: str, condition: PartCondition = "up") -> None:
        """Write the part's state, so that `weir status` and `weir down` know it, even if the demo itself is killed."""
        assert key is not None
        write_state(self.run, PartState(part, condition, key.pid, key.created, address, log=str(log_file(self.settings, part))))

    # --- waiting and telling

    def _wait(self, what: str, is_so: Callable[[], bool]) -> None:
        """Wait until something is so, show how far the tables are meanwhile, and look after the parts.

        Raises:
            PartFailed: a part ended, or nothing at all moved for a long time.
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
    """Print what to try on the demo's data, with nothing running."""
    command = Path(sys.executable).parent / "weir"
    shown = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else command
    prefix = "" if home == (Path.cwd() / ".weir").resolve() else f"WEIR_HOME={shlex.quote(str(home))} "
    tries = {
        'query "SELECT * FROM gold.fact_city_daily ORDER BY max_aqi DESC LIMIT 5"': "SQL, without Spark, with everything stopped",
        "query": "every table, with its grain and columns",
        "connect": "the same tables from DuckDB, PyIceberg and Spark",
        "up": "keep it running, on the live API from here on",
        "status": "what runs, how far behind, how fresh",
        "add-city Madrid 40.4168 -3.7038 --timezone Europe/Madrid": "one more city; `up` polls it",
        "down": "stop it",
    }
    console.print(f"The tables are in {home} ({SETTINGS_FILE} there sets the AQI rule). Try:", markup=False, soft_wrap=True)
    for verb, about in tries.items():
        console.print(f"  {prefix}{shlex.quote(str(shown))} {verb}", markup=False, soft_wrap=True)
        console.print(f"      {about}", style="dim", soft_wrap=True)
    ignored = [name for place in PLACES for name in names_of(place) if name in environment]
    if ignored:
        console.print(f"{', '.join(ignored)} had no say in the demo: unset it to read these tables.", soft_wrap=True)
