"""Y1: what does a cluster cost? The live load on one machine, and the same on a real YARN and HDFS of the same machine, in one run.

100 readings a second go through the production driver: embedded, as an application with a hadoop catalog, and as one with a catalog in
PostgreSQL where a server can be started. An independent process polls each catalog every 100 ms; a reading is visible in a table when a
snapshot says that it was made of a micro-batch with the reading's offset (the property `weir.offset-range`).

Also: from `weir submit` to the first row in gold, once with archives that the node does not have and once with those that it has; memory of
each process; and the time from kill -9 of a process until a reading that was sent after it is in gold.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.synchronize import Event
from typing import Any

import psutil
from pyiceberg.exceptions import NoSuchTableError

from bench.catalog_reader import offset_ranges
from bench.load import LiveLoad, Sent
from bench.measure import MIB, median, percentile, pss_of, wait_until
from bench.report import goal, show
from bench.stage import Batch, Program, Stage, clean_environment, logged_batches, stage, wait_ready
from deploy.yarn.hadoop_files import Capacity
from deploy.yarn.local_cluster import DAEMONS, DATANODE, NAMENODE, NODE, Daemon, LocalCluster
from lakehouse.settings import Settings
from lakehouse.storage.hdfs import client_of
from lakehouse.tables.catalog import NoTables, open_catalog

TABLES = ("gold.fact_air_quality_hourly", "gold.fact_city_daily", "gold.fact_episode")
POLL_SECONDS, PATIENCE_SECONDS = 0.1, 300.0
# So that the time until the first row is not that of a whole backlog.
FIRST_SECONDS = 2
DRIVER, EXECUTOR = "ApplicationMaster", "YarnCoarseGrainedExecutorBackend"


@dataclass(slots=True)
class Run:
    """One run of the load: seconds until a reading was visible in the hourly table and in every table, and what the driver logged."""

    hourly: list[float]
    every: list[float]
    batches: list[Batch]
    # Memory by process [MiB], and by killed process the seconds until the stream had recovered.
    memory: dict[str, float] = field(default_factory=dict)
    recovered: dict[str, float] = field(default_factory=dict)
    first: float = 0.0


def on_yarn(quick: bool, repeats: int | None = None) -> None:
    """Measure and print Y1."""
    warm_up, measured = (15, 25) if quick else (60, 120)
    for _ in range(repeats or 1):
        with stage() as here:
            embedded = _embedded(here, warm_up, measured)
            cluster = LocalCluster(here.folder / "cluster", clean_environment(), capacity=Capacity(8_192, 8))
            try:
                cluster.start()
                runs = {"embedded": embedded, "hadoop catalog": _on_cluster(here, cluster, warm_up, measured, {}, with_kills=True)}
                with _postgres() as uri:
                    if uri:
                        runs["PostgreSQL"] = _on_cluster(here, cluster, warm_up, measured, {"CATALOG_URI": uri}, with_kills=False)
            finally:
                cluster.stop()
        _print(runs, measured)


def _embedded(here: Stage, warm_up: float, measured: float) -> Run:
    load = LiveLoad(here.bootstrap)
    home = here.home(load.places)
    driver = here.driver(home)
    wait_ready(home, driver)
    with _looking({"HOME": str(home.folder)}) as seen:
        run = _measure(load, warm_up, measured, seen, lambda: logged_batches(driver.log))
    driver.stop()
    return run


def _on_cluster(here: Stage, cluster: LocalCluster, warm_up: float, measured: float, more: Mapping[str, str], with_kills: bool) -> Run:
    load = LiveLoad(here.bootstrap)
    home = here.home(load.places)
    hdfs = cluster.settings()["WEIR_WAREHOUSE_URI"].partition("/weir/")[0]
    client, path = client_of(f"{hdfs}/{home.folder.name}/locations.jsonl")
    client.mkdirs(path.rpartition("/")[0], create_parent=True)
    with client.create(path) as file:
        file.write((home.folder / "locations.jsonl").read_bytes())
    named = {name.removeprefix("WEIR_"): value for name, value in cluster.settings().items()}
    places = {f"{name}_URI": f"{hdfs}/{home.folder.name}/{name.lower()}" for name in ("WAREHOUSE", "CHECKPOINTS", "STATE")}
    at = {"HOME": str(here.folder / "edge"), "LOCATIONS_PATH": f"{hdfs}{path}", "CATALOG_URI": places["WAREHOUSE_URI"]}
    own = {**named, **places, **at, **more}
    load.run(FIRST_SECONDS)
    submitted = time.time()
    program = here.python(home, "weir", "submit", "air_quality", settings=own, log="submit.log")
    program.wait(PATIENCE_SECONDS)
    application = _application(program)
    with _looking(own) as seen:
        first = wait_until(lambda: seen.covers(TABLES[0], load.sent[:1]), PATIENCE_SECONDS, "the first row in gold") - submitted
        run = _measure(load, warm_up, measured, seen, lambda: _container_batches(cluster, application))
        run.first, run.memory = first, _memory(cluster, application)
        if with_kills:
            _kill_each(cluster, application, load, seen, run)
    stopping = here.python(home, "weir", "stop", application, settings=own, log="stop.log")
    stopping.wait(PATIENCE_SECONDS)
    return run


def _measure(load: LiveLoad, warm_up: float, measured: float, seen: "Seen", batches: Any) -> Run:  # noqa: ANN401 - a function of no arguments
    load.run(warm_up)
    sent, logged = len(load.sent), len(batches())
    load.run(measured)
    counted = load.sent[sent:]
    took = batches()[logged:]
    # The last readings may be of places without an episode: one that has comes within a second.
    load.run(2)
    wait_until(lambda: all(seen.covers(table, counted) for table in TABLES), PATIENCE_SECONDS, "the load in gold")
    at = {table: [seen.at(table, one) - one.retrieved / 1000 for one in counted] for table in TABLES}
    return Run(at[TABLES[0]], [max(each) for each in zip(*at.values(), strict=True)], took)


def _kill_each(cluster: LocalCluster, application: str, load: LiveLoad, seen: "Seen", run: Run) -> None:
    """Kill one process after the other; a daemon is started again at once, as its init system would."""
    for name in ("executor", "driver", NODE.name, DATANODE.name, NAMENODE.name):
        load.run(5)
        before, sent = load.sent, len(load.sent)
        wait_until(partial(seen.covers, TABLES[0], before), PATIENCE_SECONDS, f"the load in gold before {name} is killed")
        killed = time.time()
        if name in ("executor", "driver"):
            _container(cluster, application, EXECUTOR if name == "executor" else DRIVER).kill()
        else:
            _again(cluster, next(daemon for daemon in DAEMONS if daemon.name == name))
        load.run(1)
        after = load.sent[sent:]
        wait_until(partial(seen.covers, TABLES[0], after), PATIENCE_SECONDS, f"the load in gold after {name} was killed")
        run.recovered[name] = max(seen.at(TABLES[0], one) for one in after) - killed


def _again(cluster: LocalCluster, daemon: Daemon) -> None:
    cluster.stop_daemon(daemon, 0)
    cluster.start_daemon(daemon)


def _container(cluster: LocalCluster, application: str, main: str) -> psutil.Process:
    for process in cluster.container_processes():
        with suppress(psutil.Error):
            if process.name() == "java" and application in process.cwd() and any(word.endswith(f".{main}") for word in process.cmdline()):
                return process
    raise RuntimeError(f"{application} has no container with {main}")


def _memory(cluster: LocalCluster, application: str) -> dict[str, float]:
    """Return the memory of each process of the cluster and the application [MiB of PSS]."""
    found = {}
    for daemon in DAEMONS:
        if (process := cluster.process_of(daemon)) is not None:
            found[daemon.name] = pss_of(process.pid) / MIB
    driver = _container(cluster, application, DRIVER)
    found["driver's JVM"] = pss_of(driver.pid) / MIB
    found["driver's Python"] = sum(pss_of(one.pid) for one in driver.children(recursive=True)) / MIB
    found["executor"] = pss_of(_container(cluster, application, EXECUTOR).pid) / MIB
    return found


def _container_batches(cluster: LocalCluster, application: str) -> list[Batch]:
    logs = (cluster.folder / "data" / "node-logs").glob(f"{application}/*/weir.log")
    return [batch for log in sorted(logs) for batch in logged_batches(log)]


def _application(program: Program) -> str:
    for word in program.log.read_text().split():
        if word.startswith("application_"):
            return word
    raise RuntimeError(program.log.read_text()[-2000:])


class Seen:
    """What the independent process has found so far: by table, when a snapshot was found and the last offset of each partition in it."""

    def __init__(self, queue: Any) -> None:  # noqa: ANN401 - a multiprocessing queue has no public type
        self._queue = queue
        self._found: dict[str, list[tuple[float, dict[int, int]]]] = {table: [] for table in TABLES}

    def covers(self, table: str, sent: list[Sent]) -> bool:
        """Return whether all of some readings are visible in a table."""
        self._take()
        ends: dict[int, int] = {}
        for one in sent:
            ends[one.partition] = max(one.offset, ends.get(one.partition, -1))
        reached: dict[int, int] = {}
        for _, last in self._found[table]:
            for partition, offset in last.items():
                reached[partition] = max(offset, reached.get(partition, -1))
        return all(reached.get(partition, -1) >= end for partition, end in ends.items())

    def at(self, table: str, one: Sent) -> float:
        """Return when a reading became visible in a table, seconds since 1970."""
        self._take()
        for at, last in self._found[table]:
            if last.get(one.partition, -1) >= one.offset:
                return at
        raise RuntimeError(f"no snapshot of {table} covers partition {one.partition}, offset {one.offset}")

    def _take(self) -> None:
        while not self._queue.empty():
            table, at, last = self._queue.get()
            self._found[table].append((at, last))


@contextmanager
def _looking(own: Mapping[str, str]) -> Iterator[Seen]:
    """Poll a home's catalog in a process of its own while the block runs."""
    context = multiprocessing.get_context("spawn")
    done, queue = context.Event(), context.Queue()
    process = context.Process(target=_look, args=({f"WEIR_{name}": value for name, value in own.items()}, done, queue), daemon=True)
    process.start()
    try:
        yield Seen(queue)
    finally:
        done.set()
        process.join(30)
        if process.is_alive():
            process.kill()


def _look(environment: Mapping[str, str], done: Event, queue: Any) -> None:  # noqa: ANN401 - a multiprocessing queue has no public type
    os.environ.update(environment)
    settings = Settings()
    newest = dict.fromkeys(TABLES, -1)
    while not done.is_set():
        began = time.time()
        with suppress(NoTables, NoSuchTableError, OSError, RuntimeError), closing(open_catalog(settings)) as catalog:
            while not done.is_set():
                for name in TABLES:
                    table = catalog.load_table(name)
                    for snapshot in sorted(table.snapshots(), key=lambda one: one.sequence_number or 0):
                        if (snapshot.sequence_number or 0) > newest[name]:
                            newest[name] = snapshot.sequence_number or 0
                            queue.put((name, time.time(), {p: last for p, (_, last) in offset_ranges(snapshot).items()}))
                time.sleep(max(0.0, POLL_SECONDS - (time.time() - began)))
                began = time.time()
        time.sleep(POLL_SECONDS)


@contextmanager
def _postgres() -> Iterator[str]:
    """Give the URI of an empty database of a PostgreSQL of its own; empty where its package is not installed."""
    try:
        from tests.support.services import Postgres

        server = Postgres()
    except (ImportError, AssertionError):
        yield ""
        return
    try:
        server.start()
        yield server.database()
    finally:
        server.stop()


def _print(runs: Mapping[str, Run], measured: float) -> None:
    def seconds(run: Run, query: str, percent: float) -> str:
        values = [batch.seconds for batch in run.batches if batch.query.startswith(query) and batch.rows]
        return f"{percentile(values, percent):.2f}" if values else ""

    rows = [
        [
            name,
            *(f"{percentile(values, p):.2f}" for values in (run.hourly, run.every) for p in (50, 99)),
            *(seconds(run, query, p) for query in ("bronze", "silver") for p in (50, 99)),
            f"{run.first:.1f}" if run.first else "",
        ]
        for name, run in runs.items()
    ]
    heads = ["", "hourly p50", "p99", "every p50", "p99", "bronze p50", "p99", "silver p50", "p99", "submit -> gold"]
    embedded = median(runs["embedded"].hourly)
    others = {name: run for name, run in runs.items() if name != "embedded"}
    goals = [goal(f"{name}: p50 of the hourly table, times embedded", median(run.hourly) / embedded, 2) for name, run in others.items()]
    *_, last = others.values()
    goals.append(goal("submit -> first row in gold, archives on the node, s", last.first, 40, digits=1))
    show(f"Y1 produce -> visible, 100 readings/s for {measured:g} s, and seconds of a micro-batch", heads, rows, goals)
    (cluster, *_) = others.values()
    show("Y1 memory, MiB of PSS", [""], [[f"{name:<20}{size:8,.0f}"] for name, size in cluster.memory.items()])
    show("Y1 seconds from kill -9 until a later reading is in gold", [""], [[f"{k:<20}{v:8.1f}"] for k, v in cluster.recovered.items()])
