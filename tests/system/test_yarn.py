"""Does the pipeline run on a real YARN and HDFS as on one machine, on nodes that have none of its code? Every part is real."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import requests
from confluent_kafka import Producer

from batch.prove.oracle.recompute import recompute
from batch.prove.prove import dimensions_of
from deploy.yarn.hadoop_files import HOST, Capacity
from deploy.yarn.local_cluster import DATANODE, NAMENODE, NODE, Daemon, LocalCluster
from deploy.yarn.manager import Manager
from lakehouse.broker.topics import ensure_topic
from lakehouse.domain import Domain
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.storage.hdfs import client_of
from lakehouse.tables.catalog import open_catalog
from tests.support.frames import assert_rows
from tests.support.pipeline import Record, reading, write_locations
from tests.support.services import Kafka, Postgres

REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 300
PLACES = ("hanoi", "hue", "saigon")
# What a node must do without: the clone, its environment, and the interpreter that the environment was made from.
HIDDEN = (
    *(REPOSITORY / name for name in (".venv", ".jars/spark", "lakehouse", "streaming", "batch", "producers", "deploy", "monitoring")),
    Path(sys.base_prefix) / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}",
)


def hiding(folder: Path) -> tuple[str, ...]:
    """Return a command that starts a program for which some folders are empty; none where this machine may not mount."""
    empty = folder / "empty"
    empty.mkdir()
    mounts = "; ".join(f"mount --bind '{empty}' '{path.resolve()}'" for path in HIDDEN if path.exists())
    command = ("unshare", "--mount", "--propagation", "private", "sh", "-c", f'set -e; {mounts}; exec "$@"', "sh")
    is_possible = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    return command if is_possible else ()


@dataclass
class Yarn:
    """A cluster with a home that uses it."""

    cluster: LocalCluster
    environment: Mapping[str, str]
    kafka: Kafka

    @property
    def settings(self) -> Settings:
        values = {name.removeprefix("WEIR_").lower(): value for name, value in self.environment.items()}
        return Settings(**values)  # type: ignore[arg-type]  # pydantic reads each from its text

    @property
    def domain(self) -> Domain:
        return build_domain("air_quality", self.settings)

    @property
    def manager(self) -> Manager:
        return Manager(self.settings)

    def weir(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "weir", *arguments]
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{self.last_words()}"
        return done.stdout

    def publish(self, records: list[Record]) -> None:
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap, "partitioner": "murmur2_random"})
        for record in records:
            producer.produce(HOURLY.topic, HOURLY.encode(record), key=HOURLY.encode_key(record))
        assert producer.flush(30) == 0

    def table(self, name: str) -> pa.Table:
        with contextlib.closing(open_catalog(self.settings)) as catalog:
            return catalog.load_table(name).scan().to_arrow()

    def until_gold_has(self, hours: int, application: str) -> None:
        self.until(lambda: self.hours() >= hours, f"{hours} hours in gold", application)

    def until(self, is_so: Callable[[], bool], what: str, application: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            app = self.manager.app(application)
            assert not app.has_ended, f"{app.result}: {app.says}\n{self.last_words()}"
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS} s\n{self.last_words()}"
            time.sleep(0.5)

    def assert_gold_is_right(self) -> None:
        (source,) = self.domain.sources
        bronze = self.table("bronze.open_meteo_hourly")
        places = bronze.select(["partition", "kafka_offset"]).to_pylist()
        assert len({(row["partition"], row["kafka_offset"]) for row in places}) == len(places), "a message was appended twice"
        wanted = recompute(self.domain.oracle, {source.name: bronze}, dimensions_of(self.domain), self.domain.edition)
        for gold in self.domain.derived:
            found = self.table(gold.table.name.removeprefix("lh."))
            assert_rows(found, wanted[gold.table.name.rpartition(".")[2]], gold.table.key)

    def process_of(self, application: str, main: str) -> psutil.Process:
        """Return the JVM in a container of an application by its main class, such as ApplicationMaster."""
        found = []
        for process in self.cluster.container_processes():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if process.name() == "java" and application in process.cwd() and any(word.endswith(f".{main}") for word in words):
                    found.append(process)
        (one,) = found
        return one

    def until_settled(self) -> None:
        """Wait until silver and gold have taken all of bronze: days and episodes come after the hours."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                self.assert_gold_is_right()
                return
            time.sleep(1)

    def until_no_container_is_left(self) -> None:
        """Wait until the node has cleaned up, which comes after the application's end."""
        deadline = time.monotonic() + 60
        while left := self.cluster.container_processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.5)

    def in_history(self) -> set[str]:
        """Return the applications that the history server shows."""
        assert self.cluster.ports is not None
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = requests.get(f"http://{HOST}:{self.cluster.ports.history}/api/v1/applications", timeout=30)
            if answer.ok and answer.json():
                return {str(one["id"]) for one in answer.json()}
            time.sleep(1)
        return set()

    def last_words(self) -> str:
        logs = sorted((self.cluster.folder / "data" / "node-logs").rglob("std*"), key=lambda one: one.stat().st_mtime)
        return "\n".join(f"{one.name}: {one.read_text(errors='replace')[-1500:]}" for one in logs[-4:])

    def hours(self) -> int:
        try:
            return int(self.table("gold.fact_air_quality_hourly").num_rows)
        except Exception:  # not there yet
            return 0


@pytest.fixture(scope="module")
def yarn(tmp_path_factory: pytest.TempPathFactory, kafka: Kafka) -> Iterator[Yarn]:
    folder = tmp_path_factory.mktemp("yarn")
    cluster = LocalCluster(folder / "cluster", os.environ, capacity=Capacity(8_192, 8), node_prefix=hiding(folder))
    try:
        ports = cluster.start()
        write_locations(folder, PLACES)
        client, path = client_of(f"{ports.hdfs}/lists/places.jsonl")
        client.mkdirs("/lists", create_parent=True)
        with client.create(path) as file:
            file.write((folder / "locations.jsonl").read_bytes())
        own = {
            "WEIR_HOME": str(folder / "home"),
            "WEIR_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "WEIR_LOCATIONS_PATH": f"{ports.hdfs}{path}",
            "WEIR_SPARK_DRIVER_MEMORY": "1g",
            "WEIR_DUCKDB_MEMORY": "256MB",
            "WEIR_SPARK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1",
        }
        here = Yarn(cluster, cluster.settings() | own, kafka)
        ensure_topic(kafka.bootstrap, HOURLY, 2)
        yield here
    finally:
        cluster.stop()


def hours(first: int, last: int, version: int = 0) -> list[Record]:
    return [reading(place, hour, version=version) for place in PLACES for hour in range(first, last)]


@dataclass
class Streaming:
    """A stream that runs on the cluster, and how many hours of each place it was given."""

    yarn: Yarn
    application: str
    given: int = 0

    def give(self, more: int = 10) -> None:
        """Publish the next hours of each place, and change the last ones."""
        changed = range(max(0, self.given - 2), self.given)
        self.yarn.publish([*hours(self.given, self.given + more), *hours(changed.start, changed.stop, version=self.given)])
        self.given += more

    def goes_on(self) -> None:
        """What it is given reaches gold, which is right."""
        self.give()
        self.yarn.until_gold_has(len(PLACES) * self.given, self.application)
        self.yarn.until_settled()
        self.yarn.assert_gold_is_right()


@pytest.fixture(scope="module")
def stream(yarn: Yarn) -> Streaming:
    (application, *_) = yarn.weir("submit", "--executor-memory", "512m", "air_quality").split()
    running = Streaming(yarn, application)
    running.goes_on()
    return running


def test_the_driver_is_killed(stream: Streaming) -> None:
    before = stream.yarn.process_of(stream.application, "ApplicationMaster")
    before.kill()
    stream.goes_on()
    assert stream.yarn.process_of(stream.application, "ApplicationMaster").pid != before.pid


def test_an_executor_is_killed(stream: Streaming) -> None:
    stream.yarn.process_of(stream.application, "YarnCoarseGrainedExecutorBackend").kill()
    stream.goes_on()


def test_the_node_manager_is_killed_and_finds_its_containers_again(stream: Streaming) -> None:
    driver = stream.yarn.process_of(stream.application, "ApplicationMaster")
    stream.yarn.cluster.stop_daemon(NODE, 0)
    stream.give()
    stream.yarn.cluster.start_daemon(NODE)
    stream.goes_on()
    assert stream.yarn.process_of(stream.application, "ApplicationMaster").pid == driver.pid


@pytest.mark.parametrize("daemon", [DATANODE, NAMENODE], ids=lambda one: one.name)
def test_a_daemon_of_hdfs_is_killed_and_started_again(stream: Streaming, daemon: Daemon) -> None:
    stream.yarn.cluster.stop_daemon(daemon, 0)
    stream.give()
    stream.yarn.cluster.start_daemon(daemon)
    stream.goes_on()


def test_it_is_listed_and_ends_when_asked_and_its_log_stays(stream: Streaming) -> None:
    yarn, application = stream.yarn, stream.application
    listed: list[dict[str, Any]] = json.loads(yarn.weir("apps", "--json"))
    assert [(one["id"], one["name"], one["state"]) for one in listed] == [(application, "weir air_quality", "RUNNING")]
    assert "ended: succeeded" in yarn.weir("stop", application)
    yarn.until_no_container_is_left()
    assert "micro-batch" in yarn.weir("logs", application)
    yarn.assert_gold_is_right()
    assert application in yarn.in_history()


def test_what_waits_is_drained_by_an_application_that_ends_by_itself(yarn: Yarn, stream: Streaming) -> None:
    stream.give()
    assert "finished" in yarn.weir("submit", "--wait", "--executor-memory", "512m", "--", "air_quality", "--available-now")
    assert yarn.hours() == len(PLACES) * stream.given
    yarn.assert_gold_is_right()


def test_a_catalog_in_postgresql_and_a_proof_as_an_application(yarn: Yarn, stream: Streaming, postgres: Postgres) -> None:
    assert yarn.cluster.ports is not None
    folder = f"{yarn.cluster.ports.hdfs}/on-postgresql"
    uri = postgres.database()
    places = {f"WEIR_{name.upper()}_URI": f"{folder}/{name}" for name in ("warehouse", "checkpoints", "state")}
    here = Yarn(yarn.cluster, {**yarn.environment, **places, "WEIR_CATALOG_URI": uri}, yarn.kafka)
    here.weir("submit", "--wait", "--executor-memory", "512m", "--", "air_quality", "--available-now")
    assert here.hours() == len(PLACES) * stream.given
    here.assert_gold_is_right()
    # It ends with an error where gold is not what a batch pass by Spark, and DuckDB, make of what arrived.
    proof, *_ = here.weir("submit", "--wait", "--executor-memory", "512m", "--", "prove", "air_quality").split()
    assert "s3cret" in uri
    assert "s3cret" not in here.weir("logs", proof)
