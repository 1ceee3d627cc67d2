"""How is a running stream hurt, and seen to be well again? Real processes, a broker that can be killed, disks that are full."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message, Producer
from pyiceberg.exceptions import NoSuchTableError
from pyspark.sql import SparkSession

from deploy.local.agent.processes import ProcessKey, kill_group
from deploy.local.services.kafka_broker import EmbeddedKafka
from lakehouse.contract import Value
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.settings import Settings
from lakehouse.storage.folders import LocalFolder
from lakehouse.tables.catalog import NoTables, open_catalog
from streaming.cli import ready_file
from streaming.query_states import QueryState, read_states
from tests.support.pipeline import Pipeline, reading, write_locations

BRONZE, SILVER = "bronze.open_meteo_hourly", "silver.air_quality_hourly_clean"
PLACES = ("a", "b", "c")
ROOT = Path(__file__).parents[2]
# How long anything may take that is waited for: a hang is a failure, a slow machine is none.
LIMIT_SECONDS = 300.0


def wait_until(
    what: Callable[[], object], says: Callable[[], object] = lambda: "", seconds: float = LIMIT_SECONDS, every: float = 0.1
) -> float:
    """Wait until something is true, asked every so many seconds; give the seconds it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, says()
        time.sleep(every)
    return time.monotonic() - began


class Broker:
    """A broker of its own that keeps its address over all its lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kafka = EmbeddedKafka(folder / "kafka", folder.with_name(f"{folder.name}.log"), environment=dict(os.environ))
        self.start()
        self._kafka.wanted_port = self._kafka.port

    @property
    def bootstrap(self) -> str:
        return self._kafka.bootstrap

    def start(self) -> None:
        self._kafka.start()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._signal(signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        if self.is_alive():
            self._signal(signal.SIGCONT)  # a process that is held up takes no SIGTERM
        self._kafka.stop()

    def pause(self, seconds: float) -> None:
        """Hold it up: its connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._signal(signal.SIGCONT)

    def is_alive(self) -> bool:
        return self._kafka.process is not None and self._kafka.process.poll() is None

    def move_data(self, name: str, back: bool = False) -> None:
        """Put all it has kept aside, or back in place; it must not run."""
        here, aside = self.folder / "kafka", self.folder / name
        first, second = (aside, here) if back else (here, aside)
        first.rename(second)

    def _signal(self, number: signal.Signals) -> None:
        assert self._kafka.process is not None
        os.kill(self._kafka.process.pid, number)


class StreamProcess:
    """`weir stream air_quality` in a process of its own, which leads a group with its JVM."""

    def __init__(self, settings: Settings, environment: Mapping[str, str], log: Path, *arguments: str) -> None:
        self.settings, self.log, self._environment = settings, log, environment
        command = [sys.executable, "-m", "weir", "stream", "air_quality", *arguments]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.key = ProcessKey.of(self.process.pid)

    def until_ready(self) -> float:
        """Wait until its queries were started; give the seconds."""
        file = ready_file(self.settings.home / "run", "air_quality")
        return self.until(lambda: file.exists() and f'"pid": {self.process.pid},' in file.read_text())

    def until(self, what: Callable[[], object], seconds: float = LIMIT_SECONDS, every: float = 0.1) -> float:
        """Wait for something while the driver lives: it must not end by itself."""

        def lives() -> object:
            assert self.process.poll() is None, f"the driver ended with {self.process.returncode}: {self.said()[-3000:]}"
            return what()

        return wait_until(lives, lambda: f"{self.queries()}\n{self.said()[-3000:]}", seconds, every)

    def live(self, seconds: float) -> None:
        """Let it run for so long; it must not end by itself."""
        over = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= over, seconds + LIMIT_SECONDS)

    def queries(self) -> dict[str, QueryState]:
        """What the driver says of its queries."""
        return {state.query: state for state in read_states(LocalFolder(self.settings.home / "state"), "air_quality")}

    def status(self) -> dict[str, dict[str, Any]]:
        """What `weir status` says of the queries."""
        command = [sys.executable, "-m", "weir", "status", "--json"]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | self._environment, capture_output=True, text=True, timeout=LIMIT_SECONDS)
        assert done.returncode == 0, done.stderr
        return {query["query"]: query for query in json.loads(done.stdout)["queries"]}

    def all_run(self) -> bool:
        """Whether the driver says that both queries run."""
        return [state.state for state in self.queries().values()] == ["running"] * 2

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end between two micro-batches; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT_SECONDS)

    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Load:
    """Readings published all the time, in a thread: the next hour of every place, some told twice, some revised, some out of order.

    What a delivery report was had for is known: it must not be lost.
    """

    def __init__(self, bootstrap: str, rows_per_second: float, seed: int) -> None:
        self.delivered: list[dict[str, Value]] = []
        self.failed: list[str] = []
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "message.timeout.ms": 600_000, "log_level": 0}
        )
        self._rows_per_second, self._chance = rows_per_second, random.Random(seed)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def end(self) -> int:
        """Publish no more, and wait for all reports; how many readings were delivered."""
        self._ending.set()
        self._thread.join()
        assert self._producer.flush(LIMIT_SECONDS) == 0
        assert self.failed == []
        return len(self.delivered)

    def _run(self) -> None:
        recent: deque[dict[str, Value]] = deque(maxlen=300)
        hour, late = 0, []
        while not self._ending.is_set():
            for place in PLACES:
                one = reading(place, hour, pm25=float(self._chance.randrange(5, 300)), o3=float(self._chance.randrange(280)))
                if self._chance.random() < 0.1:
                    late.append(one)
                else:
                    recent.append(one)
                    self._send(one)
            dice = self._chance.random()
            if dice < 0.2:
                self._send(recent[self._chance.randrange(len(recent))])
            elif dice < 0.4:
                revised = dict(recent[self._chance.randrange(len(recent))])
                revised["retrieved_ts"] = reading(version=hour + 1)["retrieved_ts"]
                revised["pm25"] = float(self._chance.randrange(5, 300))
                recent.append(revised)
                self._send(revised)
            elif dice < 0.6 and late:
                self._send(late.pop(self._chance.randrange(len(late))))
            hour += 1
            self._producer.poll(0)
            self._ending.wait(len(PLACES) / self._rows_per_second)

    def _send(self, record: dict[str, Value]) -> None:
        def reported(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self.delivered.append(record)
            else:
                self.failed.append(str(error))

        while True:
            try:
                self._producer.produce(HOURLY.topic, HOURLY.encode(record), key=HOURLY.encode_key(record), on_delivery=reported)
                return
            except BufferError:
                self._producer.poll(0.5)


class Stand:
    """One home, its broker, and the drivers that run on it.

    Args:
        spark: whose catalog is set to the home's, to look at the tables.
        folder: made; holds everything.
        settings: of the home, as texts; `kafka_folder` is the broker's folder.
    """

    settings: Settings
    pipeline: Pipeline

    def __init__(self, spark: SparkSession, folder: Path, **settings: str) -> None:
        self.folder = folder
        folder.mkdir()
        self._given, self._spark, self._started = settings, spark, list[StreamProcess]()
        self.broker = Broker(Path(settings.pop("kafka_folder", folder / "broker")))
        try:
            self.move_to(folder / "home")
        except BaseException:
            self.broker.stop()
            raise

    def move_to(self, home: Path) -> None:
        """Begin a home of its own on the same broker."""
        write_locations(home, PLACES)
        given = {"kafka_bootstrap": self.broker.bootstrap, "home": str(home), **self._given}
        self.environment = {f"WEIR_{name.upper()}": value for name, value in given.items()}
        self.settings = Settings(**given)  # type: ignore[arg-type]
        self.pipeline = Pipeline.open(self._spark, self.settings)

    def start(self, *arguments: str, **more: str) -> StreamProcess:
        """Start a driver."""
        log = self.folder / f"stream.{len(self._started)}.log"
        self._started.append(StreamProcess(self.settings, self.environment | more, log, *arguments))
        return self._started[-1]

    def drain(self) -> None:
        """Let a driver run to the end of what is there."""
        driver = self.start("--available-now")
        assert driver.process.wait(2 * LIMIT_SECONDS) == 0, driver.said()[-3000:]

    def load(self, rows_per_second: float = 30, seed: int = 4) -> Load:
        return Load(self.broker.bootstrap, rows_per_second, seed)

    def is_in_batch(self, query: str) -> bool:
        """Whether a micro-batch of a query was begun and not committed."""
        return self.newest(query, "offsets") > self.newest(query, "commits")

    def newest(self, query: str, kind: str) -> int:
        """The number of the newest file in a checkpoint's `offsets` or `commits`; -1 for none."""
        folder = Path(self.settings.checkpoint(query).removeprefix("file://")) / kind
        return max((int(file.name) for file in folder.glob("[0-9]*") if file.name.isdigit()), default=-1)

    def until_commit(self, driver: StreamProcess, query: str, after: int | None = None) -> float:
        """Wait until a query commits a micro-batch after now, or after one that is named; give the seconds."""
        before = self.newest(query, "commits") if after is None else after
        return driver.until(lambda: self.newest(query, "commits") > before)

    def rows(self, table: str) -> int:
        """Rows of a table that nothing is deleted from, by its head alone; 0 before it is made."""
        try:
            head = open_catalog(self.settings).load_table(table).current_snapshot()
        except (NoTables, NoSuchTableError):
            return 0
        return 0 if head is None or head.summary is None else int(head.summary.additional_properties["total-records"])

    def until_all(self, driver: StreamProcess, delivered: list[dict[str, Value]]) -> float:
        """Wait until silver holds the newest version of all that was delivered; give the seconds."""
        return driver.until(lambda: self.has_all(delivered), every=1)

    def has_all(self, delivered: list[dict[str, Value]]) -> bool:
        """Whether silver holds the newest version of all that was delivered."""
        return self.rows(BRONZE) >= len(delivered) and not _differences(self._silver(), delivered)

    def assert_right(self, delivered: list[dict[str, Value]]) -> None:
        """The checks of every fault: nothing lost, nothing doubled, every file whole, gold as a batch and as DuckDB make it."""
        assert delivered
        self.pipeline.assert_bronze_holds_the_topic()
        differing = _differences(self._silver(), delivered)
        assert not differing, f"{len(differing)} rows of silver differ from what was delivered: {sorted(differing, key=str)[:5]}"
        self.pipeline.assert_gold_is_right()

    def _silver(self) -> list[tuple[object, ...]]:
        columns = ("location_key", "ts_utc", "retrieved_ts", "pm25")
        rows = open_catalog(self.settings).load_table(SILVER).scan(selected_fields=columns).to_arrow().to_pylist()
        return [tuple(row[name] for name in columns) for row in rows]

    def close(self) -> None:
        """End all that runs, and what is left of drivers that ended by themselves."""
        for driver in self._started:
            kill_group(driver.key)
            driver.process.wait()
        self.broker.stop()


def _differences(silver: list[tuple[object, ...]], delivered: list[dict[str, Value]]) -> set[object]:
    """Rows that stand in silver and should not, or the other way round, or twice."""
    newest: dict[object, dict[str, Value]] = {}
    for record in list(delivered):
        key = record["location_key"], record["ts_utc"]
        if key not in newest or record["retrieved_ts"] > newest[key]["retrieved_ts"]:  # type: ignore[operator]
            newest[key] = record
    wanted = {(*key, record["retrieved_ts"], record["pm25"]) for key, record in newest.items()}  # type: ignore[misc]
    doubled = {row for row, count in _counts(silver).items() if count > 1}
    return (set(silver) ^ wanted) | doubled


def _counts(rows: list[tuple[object, ...]]) -> dict[object, int]:
    counted: dict[object, int] = {}
    for row in rows:
        counted[row[:2]] = counted.get(row[:2], 0) + 1
    return counted


class SmallDisk:
    """A disk of a few megabytes that can be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, leaving: int = 0) -> None:
        """Leave so many bytes, though others write meanwhile."""
        with self._ballast.open("ab") as ballast:
            free = self.free_bytes()
            while free > leaving:
                try:
                    os.posix_fallocate(ballast.fileno(), ballast.seek(0, os.SEEK_END), free - leaving)
                except OSError as error:
                    if error.errno != errno.ENOSPC:  # others may take what was free a moment ago
                        raise
                ballast.seek(0, os.SEEK_END)
                free = self.free_bytes()

    def empty(self) -> None:
        """Give back what was filled."""
        self._ballast.unlink()

    def free_bytes(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mount a small disk in memory, and take it away at the end; the test is skipped where that is not allowed."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "weir-test", str(folder)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: whatever a failed test left open on it goes when its process does.
        subprocess.run(["umount", "-l", str(folder)], check=True)
