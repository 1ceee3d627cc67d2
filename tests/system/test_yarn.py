"""Does the pipeline run on a real YARN and HDFS as on one machine, on nodes that have none of its code? Every part is real.

`weir up` of an edge node keeps one application that streams both domains. It is killed, its node and HDFS fail, Kafka stops; afterwards the
same messages are drained on another catalog and without a cluster, and gold is the same.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import requests
from confluent_kafka import Producer

from batch.compare import compare
from batch.prove.oracle.recompute import recompute
from batch.prove.prove import dimensions_of
from deploy.local.services.kafka_broker import EmbeddedKafka
from deploy.local.services.open_meteo_server import OpenMeteoServer
from deploy.yarn.hadoop_files import HOST, Capacity
from deploy.yarn.local_cluster import DATANODE, NAMENODE, NODE, Daemon, LocalCluster
from deploy.yarn.manager import App, Manager
from deploy.yarn.watching import scrape_targets
from lakehouse.broker.topics import ensure_topic
from lakehouse.domain import Domain
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.storage.hdfs import client_of
from lakehouse.tables.catalog import open_catalog
from tests.kaggle.dumps import messages
from tests.kaggle.published import publish
from tests.support.frames import assert_rows
from tests.support.pipeline import Record, reading, write_locations
from tests.support.services import Kafka, Postgres
from tests.system.test_kaggle import FIRST, SECOND

REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 300
# How long HDFS is in safe mode, and Kafka stands still.
OUTAGE_SECONDS = 60
PLACES = ("hanoi", "hue", "saigon")
DOMAINS = ("air_quality", "kaggle")
USERS = "gold.dim_user"
SMALL = ("--executor-memory", "512m")
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
class Home:
    """A home, and `weir` in processes of their own on it."""

    environment: Mapping[str, str]
    words: Callable[[], str] = lambda: ""

    @property
    def settings(self) -> Settings:
        values = {name.removeprefix("WEIR_").lower(): value for name, value in self.environment.items()}
        return Settings(**values)  # type: ignore[arg-type]  # pydantic reads each from its text

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | self.environment
        return subprocess.run(
            command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )

    def weir(self, *arguments: str, code: int = 0) -> str:
        done = self.run(sys.executable, "-m", "weir", *arguments)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}\n{self.words()}"
        return done.stdout

    def table(self, name: str) -> pa.Table:
        with contextlib.closing(open_catalog(self.settings)) as catalog:
            return catalog.load_table(name).scan().to_arrow()

    def rows(self, name: str) -> int:
        try:
            return int(self.table(name).num_rows)
        except Exception:  # not there yet
            return 0

    def hours(self) -> int:
        return self.rows("gold.fact_air_quality_hourly")

    def domain(self, name: str) -> Domain:
        return build_domain(name, self.settings)

    def assert_gold_is_right(self) -> None:
        """Compare gold of air quality with DuckDB's recomputation, and see that bronze has no message twice."""
        domain = self.domain("air_quality")
        (source,) = domain.sources
        bronze = self.table("bronze.open_meteo_hourly")
        # A row of a backfill came by no topic.
        places = [row for row in bronze.select(["partition", "kafka_offset"]).to_pylist() if row["partition"] is not None]
        assert len({(row["partition"], row["kafka_offset"]) for row in places}) == len(places), "a message was appended twice"
        wanted = recompute(domain.oracle, {source.name: bronze}, dimensions_of(domain), domain.edition)
        for gold in domain.derived:
            found = self.table(gold.table.name.removeprefix("lh."))
            assert_rows(found, wanted[gold.table.name.rpartition(".")[2]], gold.table.key)

    def assert_gold_is_that_of(self, other: "Home") -> None:
        for name in DOMAINS:
            for gold in self.domain(name).derived:
                bare = gold.table.name.removeprefix("lh.")
                compared = compare(gold.table, self.table(bare), other.table(bare), None, gold.times)
                assert not compared.differences, compared


@dataclass
class Yarn(Home):
    """A home that uses a cluster, and the application of its edge node."""

    cluster: LocalCluster = field(kw_only=True)
    broker: EmbeddedKafka = field(kw_only=True)
    given: int = 0

    def __post_init__(self) -> None:
        self.words = self.last_words

    @property
    def manager(self) -> Manager:
        return Manager(self.settings)

    def stream(self) -> App:
        (app,) = [app for app in self.manager.apps() if app.domains]
        return app

    def publish(self, records: list[Record]) -> None:
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "partitioner": "murmur2_random"})
        for record in records:
            producer.produce(HOURLY.topic, HOURLY.encode(record), key=HOURLY.encode_key(record))
        assert producer.flush(30) == 0

    def give(self, more: int = 10) -> None:
        """Publish the next hours of each place, and change the last ones."""
        changed = range(max(0, self.given - 2), self.given)
        self.publish([*hours(self.given, self.given + more), *hours(changed.start, changed.stop, version=self.given)])
        self.given += more

    def goes_on(self) -> None:
        """What it is given reaches gold, which is right."""
        self.give()
        self.until(lambda: self.hours() >= len(PLACES) * self.given, f"{self.given} hours of each place in gold")
        self.until_settled()

    def until(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS} s\n{self.last_words()}"
            time.sleep(0.5)

    def until_settled(self) -> None:
        """Wait until silver and gold have taken all of bronze: days and episodes come after the hours."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):
                self.assert_gold_is_right()
                return
            time.sleep(1)
        self.assert_gold_is_right()

    def process_of(self, main: str) -> psutil.Process:
        """Return the JVM in a container of the stream by its main class, such as ApplicationMaster."""
        found, application = [], self.stream().id
        for process in self.cluster.container_processes():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if process.name() == "java" and application in process.cwd() and any(word.endswith(f".{main}") for word in words):
                    found.append(process)
        (one,) = found
        return one

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

    def page(self, path: str) -> requests.Response:
        """Ask the metrics page of the edge node."""
        state = json.loads((self.settings.home / "run" / "metrics.json").read_text())
        return requests.get(state["address"].replace("/metrics", path), timeout=30)

    def driver_metrics(self) -> tuple[str, str]:
        """Return where Prometheus finds the driver's metrics, and what is there; waits until a driver says so."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for target in self.page("/targets").json():
                with contextlib.suppress(requests.RequestException):
                    if target["labels"]["component"] == "driver":
                        (address,) = target["targets"]
                        return address, requests.get(f"http://{address}/metrics", timeout=30).text
            time.sleep(1)
        raise AssertionError("no driver's metrics were found")

    def last_words(self) -> str:
        logs = sorted((self.cluster.folder / "data" / "node-logs").rglob("*"), key=lambda one: one.stat().st_mtime)
        texts = [one for one in logs if one.name in ("stdout", "stderr", "weir.log")]
        return "\n".join(f"{one.name}: {one.read_text(errors='replace')[-1500:]}" for one in texts[-5:])


def hours(first: int, last: int, version: int = 0) -> list[Record]:
    return [reading(place, hour, version=version) for place in PLACES for hour in range(first, last)]


@pytest.fixture(scope="module")
def yarn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yarn]:
    folder = tmp_path_factory.mktemp("yarn")
    cluster = LocalCluster(folder / "cluster", os.environ, capacity=Capacity(8_192, 8), node_prefix=hiding(folder))
    broker = EmbeddedKafka(folder / "kafka", folder / "kafka.log", environment=dict(os.environ))
    try:
        broker.start()
        ports = cluster.start()
        write_locations(folder, PLACES)
        client, path = client_of(f"{ports.hdfs}/lists/places.jsonl")
        client.mkdirs("/lists", create_parent=True)
        with client.create(path) as file:
            file.write((folder / "locations.jsonl").read_bytes())
        own = {
            "WEIR_HOME": str(folder / "home"),
            "WEIR_KAFKA_BOOTSTRAP": broker.bootstrap,
            "WEIR_LOCATIONS_PATH": f"{ports.hdfs}{path}",
            "WEIR_SPARK_DRIVER_MEMORY": "1g",
            "WEIR_DUCKDB_MEMORY": "256MB",
            "WEIR_SPARK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1",
            "WEIR_MAINTAIN_HOURS": "0",
            # Nobody answers there: what the tests publish is all there is.
            "WEIR_OPEN_METEO_URL": "http://127.0.0.1:9",
        }
        ensure_topic(broker.bootstrap, HOURLY, 2)
        publish(Kafka(broker.bootstrap), messages([FIRST, SECOND]))
        yield Yarn(cluster.settings() | own, cluster=cluster, broker=broker)
    finally:
        cluster.stop()
        broker.stop()


@pytest.fixture(scope="module")
def edge(yarn: Yarn) -> Iterator[Yarn]:
    """The edge node's stack, whose stream is an application on the cluster."""
    try:
        yarn.weir("up")
        yarn.goes_on()
        yarn.until(lambda: yarn.rows(USERS) > 0, "users in gold")
        yield yarn
    finally:
        yarn.weir("down")


def test_a_stream_is_seen_from_the_edge_node(edge: Yarn) -> None:
    status = json.loads(edge.weir("status", "--json"))
    assert {query["state"] for query in status["queries"]} == {"running"}
    findings = {one["check"]: one for one in json.loads(edge.weir("doctor", "--master", "yarn", "--json"))}
    assert all(findings[check]["ok"] for check in ("hdfs", "yarn", "versions", "catalog", "checkpoints")), findings
    assert "queue default is" in findings["yarn"]["says"]
    edge.weir("check", "air_quality")
    edge.weir("why", "gold.fact_city_daily", "location_key=hanoi")
    # A hadoop catalog is read without Spark, and written by Spark alone.
    assert "not stored: a hadoop catalog" in edge.weir("prove", "air_quality", "--witness", "duckdb")
    _, driver = edge.driver_metrics()
    assert 'weir_query_up{query="air_quality_bronze"} 1.0' in driver or "weir_query_up{" in driver
    executors = [one for one in scrape_targets(edge.settings) if one["labels"]["component"] == "executors"]
    (address,), path = executors[0]["targets"], executors[0]["labels"]["__metrics_path__"]
    assert "metrics_executor_memoryUsed_bytes" in requests.get(f"http://{address}{path}", timeout=30).text
    shown = edge.page("/metrics").text
    assert 'weir_yarn_application_up{domain="kaggle"} 1.0' in shown
    assert 'weir_yarn_queue_used_ratio{queue="default"} 0.' in shown


def test_the_driver_is_killed(edge: Yarn) -> None:
    before, (address, _) = edge.process_of("ApplicationMaster"), edge.driver_metrics()
    before.kill()
    edge.goes_on()
    assert edge.process_of("ApplicationMaster").pid != before.pid
    edge.until(lambda: edge.driver_metrics()[0] != address, "metrics at the new driver's address")


def test_an_executor_is_killed(edge: Yarn) -> None:
    edge.process_of("YarnCoarseGrainedExecutorBackend").kill()
    edge.goes_on()


def test_the_node_manager_is_killed_and_finds_its_containers_again(edge: Yarn) -> None:
    driver = edge.process_of("ApplicationMaster")
    edge.cluster.stop_daemon(NODE, 0)
    edge.give()
    edge.cluster.start_daemon(NODE)
    edge.goes_on()
    assert edge.process_of("ApplicationMaster").pid == driver.pid


@pytest.mark.parametrize("daemon", [DATANODE, NAMENODE], ids=lambda one: one.name)
def test_a_daemon_of_hdfs_is_killed_and_started_again(edge: Yarn, daemon: Daemon) -> None:
    edge.cluster.stop_daemon(daemon, 0)
    edge.give()
    edge.cluster.start_daemon(daemon)
    edge.goes_on()


def test_hdfs_is_in_safe_mode_for_a_minute(edge: Yarn) -> None:
    edge.cluster.administer_hdfs("-safemode", "enter")
    try:
        edge.give()
        found = json.loads(edge.weir("doctor", "--json", code=75))
        assert [one["check"] for one in found if not one["ok"]] == ["hdfs"]
        time.sleep(OUTAGE_SECONDS)
    finally:
        edge.cluster.administer_hdfs("-safemode", "leave")
    edge.goes_on()


def test_kafka_stands_still_for_a_minute(edge: Yarn) -> None:
    edge.give()
    assert edge.broker.process is not None
    broker = psutil.Process(edge.broker.process.pid)
    broker.suspend()
    try:
        time.sleep(OUTAGE_SECONDS)
    finally:
        broker.resume()
    edge.goes_on()


def test_the_edge_node_leaves_it_running_and_it_ends_when_asked_and_its_log_stays(edge: Yarn) -> None:
    app = edge.stream()
    edge.weir("submit", "air_quality", code=1)  # two would write the same tables
    assert "applications on YARN go on" in edge.weir("down")
    edge.goes_on()
    listed: list[dict[str, Any]] = json.loads(edge.weir("apps", "--json"))
    assert [(one["id"], one["name"], one["state"]) for one in listed] == [(app.id, "weir air_quality kaggle", "RUNNING")]
    assert "ended: succeeded" in edge.weir("stop", app.id)
    edge.until_no_container_is_left()
    assert "micro-batch" in edge.weir("logs", app.id)
    edge.assert_gold_is_right()
    assert app.id in edge.in_history()


def test_an_application_that_an_operator_must_mend_is_not_started_again(yarn: Yarn) -> None:
    said = yarn.weir("submit", "--wait", *SMALL, "--", "prove", "no_such_domain", code=1)
    assert "no_such_domain" in said.splitlines()[-1]
    application = said.split()[0]
    assert (yarn.manager.app(application).result, yarn.manager.attempts(application)) == ("KILLED", 1)


def test_what_waits_is_drained_by_a_driver_of_this_machine_in_client_mode(edge: Yarn) -> None:
    edge.give()
    edge.weir("submit", "--deploy-mode", "client", *SMALL, "--", "air_quality", "kaggle", "--available-now")
    assert edge.hours() == len(PLACES) * edge.given
    edge.assert_gold_is_right()


def test_batch_verbs_run_as_applications_and_by_a_script(edge: Yarn) -> None:
    edge.weir("submit", "--wait", *SMALL, "--", "rebuild", "air_quality", "--layer", "gold", "--yes")
    edge.assert_gold_is_right()
    edge.weir("submit", "--wait", *SMALL, "--", "prove", "kaggle")
    proved = json.loads(edge.weir("query", "--json", "SELECT DISTINCT domain, is_equal FROM ops.proofs"))
    assert proved == [{"domain": "kaggle", "is_equal": True}]
    # What is published again changes nothing: silver and gold have it already.
    edge.weir("submit", "--wait", *SMALL, "--", "replay", "air_quality", "--since", "2024-03-01", "--until", "2024-03-01")
    done = edge.run("deploy/yarn/spark_submit.sh", "--", "maintain", "gold.fact_city_daily")
    assert done.returncode == 0, done.stderr
    (app, *_) = edge.manager.apps(with_ended=True)
    edge.until(lambda: edge.manager.app(app.id).has_ended, "the end of maintenance")
    ended = edge.manager.app(app.id)
    assert (ended.name, ended.result) == ("weir maintain gold.fact_city_daily", "SUCCEEDED"), edge.last_words()


def test_gold_is_the_same_on_postgresql_and_without_a_cluster(edge: Yarn, postgres: Postgres, api: OpenMeteoServer, tmp_path: Path) -> None:
    assert edge.cluster.ports is not None
    folder, uri = f"{edge.cluster.ports.hdfs}/on-postgresql", postgres.database()
    places = {f"WEIR_{name.upper()}_URI": f"{folder}/{name}" for name in ("warehouse", "checkpoints", "state")}
    recommended = Yarn({**edge.environment, **places, "WEIR_CATALOG_URI": uri}, cluster=edge.cluster, broker=edge.broker)
    recommended.weir("submit", "--wait", *SMALL, "--", *DOMAINS, "--available-now")
    recommended.assert_gold_is_right()
    # It ends with an error where gold is not what a batch pass by Spark, and DuckDB, make of what arrived.
    proof, *_ = recommended.weir("submit", "--wait", *SMALL, "--", "prove").split()
    assert "s3cret" in uri
    assert "s3cret" not in recommended.weir("logs", proof)
    write_locations(tmp_path, PLACES)
    embedded = Home({"WEIR_HOME": str(tmp_path), "WEIR_KAFKA_BOOTSTRAP": edge.broker.bootstrap})
    embedded.weir("stream", *DOMAINS, "--available-now")
    assert embedded.rows(USERS) > 0
    embedded.assert_gold_is_that_of(edge)
    embedded.assert_gold_is_that_of(recommended)
    before = recommended.hours()
    recommended.environment = {**recommended.environment, "WEIR_OPEN_METEO_URL": api.url}
    days = ("--since", "2025-09-20", "--until", "2025-09-21")
    recommended.weir("submit", "--wait", *SMALL, "--", "backfill", "air_quality", *days)
    assert recommended.hours() == before + len(PLACES) * 48
    recommended.assert_gold_is_right()
