"""Where does a benchmark run? A broker, homes and processes of its own, on the loopback, in a folder that goes when it ends."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from bench.catalog_reader import CatalogReader
from bench.load import write_places
from bench.measure import wait_until
from deploy.local.agent.processes import ProcessKey, stop_process
from deploy.local.services.kafka_broker import EmbeddedKafka
from lakehouse.broker.topics import ensure_topic
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.settings import OLDER_NAMES

PARTITIONS = 2
START_SECONDS = 300.0
# A driver ends after its running micro-batch, or after 45 s; then its JVM.
STOP_SECONDS = 60.0
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Home:
    """A home folder: its list of places, its tables, its checkpoints."""

    folder: Path

    @property
    def reader(self) -> CatalogReader:
        """A reader of its tables."""
        return CatalogReader(self.folder / "catalog.db")


@dataclass(slots=True)
class Program:
    """A process that was started for a benchmark, and its log."""

    process: "subprocess.Popen[bytes]"
    log: Path
    key: ProcessKey

    @property
    def pid(self) -> int:
        """Its id; it leads a group of its own."""
        return self.process.pid

    def running(self) -> bool:
        """Say whether it still runs.

        Raises:
            RuntimeError: it ended with an error.
        """
        code = self.process.poll()
        if code:
            raise RuntimeError(f"{' '.join(map(str, self.process.args))[:200]} ended with {code}:\n{self.log.read_text()[-3000:]}")  # type: ignore[arg-type]
        return code is None

    def wait(self, seconds: float) -> None:
        """Wait until it has ended by itself."""
        wait_until(lambda: not self.running(), seconds, self.log.name, every=0.02)

    def stop(self) -> None:
        """End it, and what it started, by id."""
        stop_process(self.key, STOP_SECONDS)
        self.process.wait()

    def kill(self) -> None:
        """End it at once, and what it started, by id."""
        stop_process(self.key, 0)
        self.process.wait()


@dataclass(slots=True)
class Stage:
    """A broker with the topic, where one is wanted, and a folder for the homes."""

    folder: Path
    broker: EmbeddedKafka | None
    exits: ExitStack
    homes: int = field(default=0)

    @property
    def bootstrap(self) -> str:
        """The broker's host:port; empty without one."""
        return self.broker.bootstrap if self.broker else ""

    @property
    def broker_pid(self) -> int:
        """The broker's process."""
        assert self.broker is not None and self.broker.key is not None
        return self.broker.key.pid

    def home(self, places: int | None) -> Home:
        """Make a new home with so many places, or without a list: it has the shipped one then."""
        self.homes += 1
        home = Home(self.folder / f"home-{self.homes}")
        if places is None:
            home.folder.mkdir()
        else:
            write_places(home.folder, places)
        return home

    def start(self, command: list[str], log: Path, environment: Mapping[str, str] | None = None) -> Program:
        """Start a process, which is ended at the latest when the stage is."""
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment or clean_environment(),
                cwd=ROOT,
                start_new_session=True,
            )
        program = Program(process, log, ProcessKey.of(process.pid))
        self.exits.callback(program.kill)
        return program

    def python(self, home: Home, *arguments: str, settings: Mapping[str, str] | None = None, log: str = "program.log") -> Program:
        """Start a Python program of ours on a home; `settings` are WEIR_ names without the prefix, `log` is a file of the home."""
        chosen = {"HOME": str(home.folder), "KAFKA_BOOTSTRAP": self.bootstrap, "LOG_FORMAT": "json", **(settings or {})}
        environment = clean_environment() | {f"WEIR_{name}": value for name, value in chosen.items()}
        return self.start([sys.executable, "-m", *arguments], home.folder / log, environment)

    def driver(self, home: Home, settings: Mapping[str, str] | None = None, available_now: bool = False) -> Program:
        """Start the production driver of air quality, with bronze, silver and gold."""
        return self.python(home, "weir", "stream", "air_quality", *(["--available-now"] if available_now else []), settings=settings)

    def ends(self) -> dict[int, int]:
        """Ask the broker for the next offset of every partition."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "bench", "enable.auto.commit": False})
        try:
            return {p: consumer.get_watermark_offsets(TopicPartition(HOURLY.topic, p), timeout=10)[1] for p in range(PARTITIONS)}
        finally:
            consumer.close()


@contextmanager
def stage(with_broker: bool = True) -> Iterator[Stage]:
    """Set a stage up, and leave nothing of it."""
    with tempfile.TemporaryDirectory(prefix="weir-bench-", ignore_cleanup_errors=True) as name, ExitStack() as exits:
        folder = Path(name)
        if not with_broker:
            yield Stage(folder, None, exits)
            return
        broker = EmbeddedKafka(folder / "kafka", folder / "kafka.log", environment=clean_environment())
        broker.start()
        exits.callback(broker.stop)
        ensure_topic(broker.bootstrap, HOURLY, PARTITIONS)
        yield Stage(folder, broker, exits)


def clean_environment() -> dict[str, str]:
    """This process's environment without the settings of some other home."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("WEIR_")}
    return {name: value for name, value in own.items() if name not in (*OLDER_NAMES, "PROMETHEUS_MULTIPROC_DIR")}


def wait_ready(home: Home, driver: Program, *domains: str) -> None:
    """Wait until the driver's queries of some domains run; of air quality where none is named."""
    files = [home.folder / "run" / f"stream-{domain}.ready.json" for domain in domains or ("air_quality",)]
    wait_until(lambda: driver.running() and all(file.exists() for file in files), START_SECONDS, "start of the driver", every=0.2)


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch as the driver's log tells it."""

    query: str
    rows: int
    seconds: float


def logged_batches(log: Path) -> list[Batch]:
    """Read the micro-batches from a driver's log, in order."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{") and '"micro-batch"' in line:
            said = json.loads(line)
            found.append(Batch(said["query"], int(said["rows_in"]), float(said["seconds"])))
    return found
