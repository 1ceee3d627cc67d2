"""How does a driver start faster? With an archive of the classes that its JVM loads, created once per Java and set of jars.

To create it, a real driver runs once in a temporary home, with the embedded Kafka, recorded readings and their revision, all tables and
compaction. When its JVM ends, it writes the loaded classes into the archive. lakehouse/machine/class_archive.py names the file.

    python -m deploy.local.make_class_archive [--force]      create the archive if none fits this Java and these jars
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
from deploy.local.agent.stack_parts import PYTHON, command_of, last_line, launch
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

# A micro-batch too large for one task, a small one, and one that revises existing rows.
SLICES = (FIRST_SLICE, Slice(date(2025, 9, 12), date(2025, 9, 20), "hanoi"), REVISION)
# A step takes seconds, or a minute on a busy machine; one that takes longer hangs.
STEP_SECONDS = 240.0
# A driver ends after its current micro-batch; then its JVM writes about 210 MB.
END_SECONDS = 60.0
DUMP_SECONDS = 180.0
POLL_SECONDS = 0.3
# The first bytes of a dynamic archive, in the machine's byte order. They are written last, so an incomplete archive lacks them.
MAGIC = (0xF00BABA8).to_bytes(4, sys.byteorder)
# Variables by which Spark appends folders to the class path. The JVM writes no archive if the class path has a folder, but can use one that
# was written without them.
FOLDERS = ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_DIST_CLASSPATH")


def make_archive(settings: Settings, environment: Mapping[str, str], say: Callable[[str], None] = print, force: bool = False) -> Path:
    """Create the archive of the driver's classes unless it exists, and remove those of other Javas and jars. Safe to repeat.

    Args:
        settings: with the folder of the jars.
        environment: where JAVA_HOME and PATH are looked up; variables that lead to other data are ignored.
        say: called with a message about each archive that exists, was created or was removed.
        force: create it even if it exists.

    Returns:
        The archive.

    Raises:
        WrongJava, JarsMissing: before anything is started.
        ArchiveNotMade, PartFailed: the run failed. It leaves no files, and an existing archive stays.
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
            say(f"{archive} exists, {_mib(archive)} MiB")
        else:
            say("running one driver for about a minute to create the archive of its classes")
            beside = stem.with_name(f".{stem.name}.jsa.{os.getpid()}")
            try:
                run_once(home, inherited, beside)
                archive = _put_in_place(beside, stem)
            finally:
                beside.unlink(missing_ok=True)
            say(f"{archive}: {_mib(archive)} MiB, created in {time.monotonic() - began:.0f} s; drivers use it from their next start on")
        _remove_others(archive, say)
        return archive


def is_whole(archive: Path) -> bool:
    """Return whether a JVM wrote the whole file."""
    try:
        with archive.open("rb") as content:
            return content.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def run_once(home: Path, inherited: Mapping[str, str], archive: Path) -> None:
    """Run a driver over all slices, stop it, and wait until its JVM has written the archive. All started processes end before this does."""
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
            # Compact small files after every micro-batch, so that the classes for compaction are loaded too.
            "WEIR_COMPACT_AFTER": "1",
            "WEIR_SPARK_JAVA_OPTIONS": f"-XX:TieredStopAtLevel=1 {java_option(f'-XX:ArchiveClassesAtExit={archive}')}",
        }
        tables = DemoTables(Settings(home=home, warehouse_uri="", checkpoints_uri="", state_uri="", catalog_uri="", kafka_bootstrap=""))
        exits.callback(tables.close)
        driver = launch(("-m", "weir", *command_of("stream", is_on_yarn=False)), log, environment)
        key = ProcessKey.of(driver.pid)
        exits.callback(driver.wait)
        exits.callback(kill_group, key)
        for one in SLICES:
            if one is REVISION:
                api.as_of = None
            _publish(one, environment)
            ends = end_offsets(kafka.bootstrap, TOPIC)
            _wait(lambda ends=ends: tables.is_all_in_gold(ends), driver, log, f"{one.since} to {one.until} did not reach gold")  # type: ignore[misc]
        os.kill(driver.pid, signal.SIGTERM)
        if not wait_gone(key, END_SECONDS) or not wait_group_empty(key.pid, DUMP_SECONDS):
            raise ArchiveNotMade("the driver did not end in time", last_line(log))
        if not is_whole(archive):
            raise ArchiveNotMade("the JVM wrote no archive, or an incomplete one", last_line(log))


def _publish(what: Slice, environment: Mapping[str, str]) -> None:
    command = [*PYTHON, "-m", "weir", *what.arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=STEP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ArchiveNotMade("the producer hangs", f"it did not end within {STEP_SECONDS:.0f} s") from error
    if done.returncode:
        raise ArchiveNotMade("the producer failed", (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:300])


def _wait(is_so: Callable[[], bool], driver: "subprocess.Popen[bytes]", log: Path, otherwise: str) -> None:
    deadline = time.monotonic() + STEP_SECONDS
    while not is_so():
        if driver.poll() is not None:
            raise ArchiveNotMade(f"the driver ended with exit code {driver.returncode}", last_line(log))
        if time.monotonic() > deadline:
            raise ArchiveNotMade(otherwise, last_line(log))
        time.sleep(POLL_SECONDS)


def _put_in_place(beside: Path, stem: Path) -> Path:
    """Rename a complete archive to its final name once its bytes are on disk, so that a crash never leaves an incomplete one there."""
    with beside.open("rb") as content:
        os.fsync(content.fileno())
        archive = archive_file(stem, os.fstat(content.fileno()).st_size)
    return beside.replace(archive)


def _remove_others(archive: Path, say: Callable[[str], None]) -> None:
    """Remove every other archive, and incomplete ones of runs that were killed."""
    for other in set(archive.parent.glob(PATTERN)) - {archive}:
        other.unlink(missing_ok=True)
        say(f"removed {other}, which does not fit or is older")
    for incomplete in archive.parent.glob(f".{PATTERN}.*"):
        if not psutil.pid_exists(int(incomplete.suffix[1:])):
            incomplete.unlink(missing_ok=True)


def _mib(file: Path) -> str:
    return f"{file.stat().st_size / 2**20:.0f}"


def main(arguments: list[str] | None = None) -> int:
    """Create the archive; a known error prints its message on stderr and exits with 1."""
    parser = argparse.ArgumentParser(prog="deploy.local.make_class_archive", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--force", action="store_true", help="create the archive even if it exists")
    chosen = parser.parse_args(arguments)
    speak_plainly()
    raise_open_files()

    def leave(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    # A signal must also stop Kafka and the driver.
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
