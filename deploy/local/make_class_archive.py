"""How does a driver start sooner? With an archive of the classes that its JVM loads, made once per Java and set of jars.

A driver runs here once for real, in a home of its own that goes when it ends: the embedded Kafka, recorded readings, their revision, all
tables, joined files. When its JVM ends it writes what it had loaded into the archive. lakehouse/machine/class_archive.py names the file.

    python -m deploy.local.make_class_archive [--force]      an archive that is there and fits is left alone
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import NoReturn

import psutil

from deploy.local.agent.processes import ProcessKey, kill_group, wait_gone, wait_group_empty
from deploy.local.agent.stack_parts import COMMANDS, PYTHON, last_line, launch
from deploy.local.demo.demo import BEFORE_THE_REVISION, FIRST_SLICE, REVISION, Slice, environment_for
from deploy.local.demo.tables import DemoTables
from deploy.local.errors import ArchiveNotMade
from deploy.local.services.kafka_broker import EmbeddedKafka
from deploy.local.services.open_meteo_server import OpenMeteoServer
from lakehouse.broker.offsets import end_offsets
from lakehouse.domains.air_quality.contract import TOPIC
from lakehouse.errors import WeirError
from lakehouse.machine.class_archive import PATTERN, archive_file, archive_stem, find_archive
from lakehouse.machine.environment import java_option
from lakehouse.machine.fitness import raise_open_files
from lakehouse.machine.terminal import speak_plainly
from lakehouse.settings import Settings, load_settings
from lakehouse.spark import driver_jars

# A micro-batch too large for one task; a small one; one that revises what is there.
SLICES = (FIRST_SLICE, Slice(date(2025, 9, 12), date(2025, 9, 20), "hanoi"), REVISION)
# A step takes seconds, on a busy machine a minute; one that takes longer hangs.
STEP_SECONDS = 240.0
# A driver ends after its running micro-batch; then its JVM writes some 210 MB.
END_SECONDS = 60.0
DUMP_SECONDS = 180.0
POLL_SECONDS = 0.3
# The first bytes of a dynamic archive, written last: a dump that was cut off has none. In the machine's byte order.
MAGIC = (0xF00BABA8).to_bytes(4, sys.byteorder)
# Folders that Spark puts on the class path behind its jars. The JVM dumps none with a folder on it, but uses one without them.
FOLDERS = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_DIST_CLASSPATH")


def make_archive(settings: Settings, environment: Mapping[str, str], say: Callable[[str], None] = print, force: bool = False) -> Path:
    """Make the archive of the driver's classes unless it is there, and remove those of other Javas and jars. Safe to repeat.

    Args:
        settings: where the jars are.
        environment: where JAVA_HOME and PATH are looked up; what leads to other data has no say.
        say: told what is there or was made.
        force: make it anew.

    Returns:
        The archive.

    Raises:
        WrongJava, JarsMissing: before anything is started.
        ArchiveNotMade, PartFailed: the run failed; nothing of it is left, and an archive that was there stays.
    """
    with tempfile.TemporaryDirectory(prefix="weir-cds-", ignore_cleanup_errors=True) as name:
        home, began = Path(name), time.monotonic()
        inherited = environment_for(environment, home)
        inherited = {key: value for key, value in inherited.items() if key not in FOLDERS} | {"WEIR_JARS_PATH": settings.jars_path}
        stem = archive_stem(driver_jars(settings), inherited)
        if stem is None:
            raise ArchiveNotMade("the Java or Spark's jars cannot be read", inherited["JAVA_HOME"])
        archive = find_archive(stem)
        if archive is not None and not force:
            say(f"{archive} is there, {_mib(archive)} MiB")
        else:
            say("one driver runs for about a minute, to leave an archive of its classes")
            beside = stem.with_name(f".{stem.name}.jsa.{os.getpid()}")
            try:
                run_once(home, inherited, beside)
                archive = _put_in_place(beside, stem)
            finally:
                beside.unlink(missing_ok=True)
            say(f"{archive}: {_mib(archive)} MiB, made in {time.monotonic() - began:.0f} s; drivers use it from their next start on")
        _remove_others(archive, say)
        return archive


def is_whole(archive: Path) -> bool:
    """Say whether a JVM wrote the file to its end."""
    try:
        with archive.open("rb") as content:
            return content.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def run_once(home: Path, inherited: Mapping[str, str], archive: Path) -> None:
    """Run a driver over all slices, end it, and wait until its JVM has left the archive; nothing that was started outlives this."""
    log = home / "logs" / "stream.log"
    scratch = home / "tmp"
    scratch.mkdir()
    with ExitStack() as exits:
        kafka = EmbeddedKafka(home / "kafka", home / "logs" / "kafka.log", environment=inherited)
        exits.callback(kafka.stop)
        kafka.start()
        api = exits.enter_context(OpenMeteoServer(as_of=BEFORE_THE_REVISION))
        environment = {
            **inherited,
            "TMPDIR": str(scratch),
            "WEIR_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "WEIR_OPEN_METEO_URL": api.url,
            # Small files are joined after every micro-batch, so that the classes for it are loaded, too.
            "WEIR_COMPACT_AFTER": "1",
            "WEIR_SPARK_JAVA_OPTIONS": f"-XX:TieredStopAtLevel=1 {java_option(f'-XX:ArchiveClassesAtExit={archive}')}",
        }
        tables = DemoTables(Settings(home=home, warehouse_uri="", checkpoints_uri="", state_uri="", catalog_uri="", kafka_bootstrap=""))
        exits.callback(tables.close)
        driver = launch(("-m", "weir", *COMMANDS["stream"]), log, environment)
        key = ProcessKey.of(driver.pid)
        exits.callback(driver.wait)
        exits.callback(kill_group, key)
        for one in SLICES:
            if one is REVISION:
                api.as_of = None
            _publish(one, environment)
            ends = end_offsets(kafka.bootstrap, TOPIC)
            _wait(lambda ends=ends: tables.is_all_in_gold(ends), driver, log, f"{one.since} to {one.until} did not come into gold")  # type: ignore[misc]
        os.kill(driver.pid, signal.SIGTERM)
        if not wait_gone(key, END_SECONDS) or not wait_group_empty(key.pid, DUMP_SECONDS):
            raise ArchiveNotMade("the driver did not end in time", last_line(log))
        if not is_whole(archive):
            raise ArchiveNotMade("the JVM left none, or half of one", last_line(log))


def _publish(what: Slice, environment: Mapping[str, str]) -> None:
    command = [*PYTHON, "-m", "weir", *what.arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=STEP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ArchiveNotMade("the producer hangs", f"no end within {STEP_SECONDS:.0f} s") from error
    if done.returncode:
        raise ArchiveNotMade("the producer failed", (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300])


def _wait(is_so: Callable[[], bool], driver: "subprocess.Popen[bytes]", log: Path, otherwise: str) -> None:
    deadline = time.monotonic() + STEP_SECONDS
    while not is_so():
        if driver.poll() is not None:
            raise ArchiveNotMade(f"the driver ended with {driver.returncode}", last_line(log))
        if time.monotonic() > deadline:
            raise ArchiveNotMade(otherwise, last_line(log))
        time.sleep(POLL_SECONDS)


def _put_in_place(beside: Path, stem: Path) -> Path:
    """Give a whole archive its name, once its bytes are on the disk: a crash must not leave the name on half of them."""
    with beside.open("rb") as content:
        os.fsync(content.fileno())
        archive = archive_file(stem, os.fstat(content.fileno()).st_size)
    return beside.replace(archive)


def _remove_others(archive: Path, say: Callable[[str], None]) -> None:
    """Remove every other archive, and what a run that was killed has left of one."""
    for other in set(archive.parent.glob(PATTERN)) - {archive}:
        other.unlink(missing_ok=True)
        say(f"{other} does not fit or is older: removed")
    for half in archive.parent.glob(f".{PATTERN}.*"):
        if not psutil.pid_exists(int(half.suffix[1:])):
            half.unlink(missing_ok=True)


def _mib(file: Path) -> str:
    return f"{file.stat().st_size / 2**20:.0f}"


def main(arguments: list[str] | None = None) -> int:
    """Make the archive; a known error is one clear message on stderr."""
    parser = argparse.ArgumentParser(prog="deploy.local.make_class_archive", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--force", action="store_true", help="make it anew")
    chosen = parser.parse_args(arguments)
    speak_plainly()
    raise_open_files()

    def leave(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    # A stop from outside, too, must take Kafka and the driver along.
    for one in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(one) != signal.SIG_IGN:
            signal.signal(one, leave)
    try:
        make_archive(load_settings(dict(os.environ)), os.environ, force=chosen.force)
    except WeirError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
