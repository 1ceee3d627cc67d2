"""B3, B7 and B8, the live load: how old is a reading when somebody else can see it in gold, and how much memory does that take?

100 readings a second, each a new or a changed hour of one of 100 places, go through the production driver. An independent process
polls the catalog every 100 ms and opens each snapshot it has not seen.

In `fact_air_quality_hourly` a reading is visible when its row, or that of a newer retrieval of its hour, has been read from the
files which a snapshot added. In the other tables it is visible when a snapshot says that it was made of a micro-batch with the
reading's offset (the property `weir.offset-range` that `apply` writes; a day or an episode is recomputed whole). That the property
tells the truth is checked on the hourly table for every reading: none may be claimed before its row is there.

Memory is the sum of the proportional set sizes of driver, its JVM and the broker after the whole load.
"""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psutil
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.catalog_reader import CatalogReader, added_files, offset_ranges
from bench.endurance import print_endurance
from bench.load import LiveLoad, Sent
from bench.measure import MIB, Usage, median, percentile, pss_bytes, pss_of, spread, tree, wait_until
from bench.report import goal, show
from bench.stage import Batch, Home, Stage, logged_batches, stage, wait_ready

POLL_SECONDS = 0.1
DRAIN_SECONDS = 300
TRAIL_SECONDS = 2
# The driver's processor time without a load: first it is left alone, so that what the load left to do is done.
SETTLE_SECONDS, IDLE_SECONDS = 10, 20
LIGHT, HEAVY = 100.0, 1_000.0  # readings a second
HOURLY_TABLE, *OTHERS = TABLES = ("gold.fact_air_quality_hourly", "gold.fact_city_daily", "gold.fact_episode")

Key = tuple[str, int]  # place, hour in ms


@dataclass(slots=True)
class Found:
    """What the independent reader found.

    Attributes:
        rows: for each place and hour, the retrievals in the order they were found: retrieved_ts in ms, and when.
        covered: for each table, in order: when a snapshot was found, and the last offset it covers by partition.
        polls: how often it looked.
    """

    rows: dict[Key, list[tuple[int, float]]]
    covered: dict[str, list[tuple[float, dict[int, int]]]]
    polls: int = 0


@dataclass(slots=True)
class LoadRun:
    """One run of the live load. Latencies in seconds by table, memory in bytes by process, micro-batches after the warm-up."""

    latencies: dict[str, list[float]]
    memory: dict[str, int]
    peak: int
    cores: float
    idle: float
    batches: list[Batch]

    @property
    def every_table(self) -> list[float]:
        """Seconds until the reading was in the last of the gold tables."""
        return [max(each) for each in zip(*self.latencies.values(), strict=True)]


def freshness(quick: bool, repeats: int | None = None) -> None:
    """Measure and print B3 and B7."""
    # 60 s + 240 s: memory is read after five minutes of load.
    warm_up, measured, defined = (15, 25, 1) if quick else (60, 240, 3)
    runs = []
    for _ in range(repeats or defined):
        with stage() as here:
            runs.append(run_load(here, warm_up, measured))
    print_freshness(runs, measured)
    print_memory(runs, warm_up + measured)
    if quick:
        print_endurance(runs[0].batches, measured)
    with stage() as here:
        print_freshness([run_load(here, warm_up, measured, per_second=HEAVY)], measured, HEAVY)


def endurance(quick: bool, _: int | None = None) -> None:
    """Measure and print B8: half an hour at 100 readings a second, with a commit each round."""
    warm_up, measured = (15, 60) if quick else (120, 1_800)
    with stage() as here:
        run = run_load(here, warm_up, measured, look=False)
    print_endurance(run.batches, measured)


def _alone(_: Home) -> AbstractContextManager[object]:
    """Run nothing beside the load."""
    return nullcontext()


def run_load(
    here: Stage,
    warm_up: float,
    measured: float,
    look: bool = True,
    beside: Callable[[Home], AbstractContextManager[object]] = _alone,
    per_second: float = LIGHT,
) -> LoadRun:
    """Run the load through a driver of its own.

    Args:
        here: where.
        warm_up: seconds of load that are not measured.
        measured: seconds that are.
        look: whether the independent reader looks on.
        beside: what runs beside it on its home, from the start of the warm-up to the end of what is measured.
        per_second: readings a second.
    """
    load = LiveLoad(here.bootstrap, per_second=per_second)
    home = here.home(load.places)
    driver = here.driver(home)
    wait_ready(home, driver)
    context = multiprocessing.get_context("spawn")
    done, queue = context.Event(), context.Queue()
    reader = context.Process(target=_look, args=(str(home.folder / "catalog.db"), done, queue), daemon=True)
    if look:
        reader.start()
    with beside(home):
        load.run(warm_up)
        first, batches = len(load.sent), len(logged_batches(driver.log))
        with Usage(driver.pid, here.broker_pid) as used:
            load.run(measured)
            memory = _memory(driver.pid) | {"broker": pss_bytes([here.broker_pid])}
    if not driver.running():
        raise RuntimeError("the driver ended under the load")
    # The micro-batches of the drain are smaller than those of the load.
    logged = logged_batches(driver.log)[batches:]
    latencies: dict[str, list[float]] = {}
    if look:
        counted = load.sent[first:]
        # The last micro-batch may hold a few readings of places without an episode: some more seconds bring one that has.
        load.run(TRAIL_SECONDS)
        ends = {p: 1 + max(one.offset for one in counted if one.partition == p) for p in {one.partition for one in counted}}
        seen = home.reader
        wait_until(lambda: driver.running() and all(seen.covers(name, ends) for name in TABLES), DRAIN_SECONDS, "the load in gold")
        time.sleep(1 + 10 * POLL_SECONDS)
        done.set()
        found: Found = queue.get(timeout=60)
        reader.join(60)
        latencies = _latencies(counted, found)
    time.sleep(SETTLE_SECONDS)
    with Usage(driver.pid, here.broker_pid) as idle:
        time.sleep(IDLE_SECONDS)
    driver.stop()
    return LoadRun(latencies, memory, used.peak_pss, used.cpu_seconds / measured, idle.cpu_seconds / IDLE_SECONDS, logged)


def _latencies(sent: list[Sent], found: Found) -> dict[str, list[float]]:
    by_row = [_row_at(one, found) for one in sent]
    by_offset = {table: [_covered_at(one, table, found) for one in sent] for table in TABLES}
    early = sum(claimed < read for claimed, read in zip(by_offset[HOURLY_TABLE], by_row, strict=True))
    if early:
        raise RuntimeError(f"{early} readings were claimed by a snapshot of {HOURLY_TABLE} before their rows were there")
    times = {HOURLY_TABLE: by_row} | {table: by_offset[table] for table in OTHERS}
    return {table: [at - one.retrieved / 1000 for at, one in zip(ats, sent, strict=True)] for table, ats in times.items()}


def _row_at(one: Sent, found: Found) -> float:
    for newest, at in found.rows.get((one.place, one.hour), []):
        if newest >= one.retrieved:
            return at
    raise RuntimeError(f"the reading of {one.place} at {one.hour} was not in {HOURLY_TABLE} when the last had been sent for long")


def _covered_at(one: Sent, table: str, found: Found) -> float:
    # Micro-batches come in the order of the offsets: the first to reach this one held it.
    for at, last in found.covered[table]:
        if last.get(one.partition, -1) >= one.offset:
            return at
    raise RuntimeError(f"no snapshot of {table} covers partition {one.partition}, offset {one.offset}")


def _look(catalog: str, done: Event, queue: Any) -> None:  # noqa: ANN401 - a multiprocessing queue has no public type
    """Poll the catalog until told that it is done, in a process of its own."""
    reader = CatalogReader(Path(catalog))
    found = Found({}, {table: [] for table in TABLES})
    newest = dict.fromkeys(TABLES, -1)
    while not done.is_set():
        began = time.time()
        for name in TABLES:
            newest[name] = _look_at(reader, name, newest[name], found)
        found.polls += 1
        time.sleep(max(0.0, POLL_SECONDS - (time.time() - began)))
    queue.put(found)


def _look_at(reader: CatalogReader, name: str, newest: int, found: Found) -> int:
    """Open the snapshots of a table that have come since; give the newest sequence number."""
    table = reader.table(name)
    if table is None:
        return newest
    fresh = [one for one in table.snapshots() if (one.sequence_number or 0) > newest]
    for snapshot in sorted(fresh, key=lambda one: one.sequence_number or 0):
        rows = []
        if name == HOURLY_TABLE:
            for file in added_files(table, snapshot):
                columns = pq.read_table(file, columns=["location_key", "ts_utc", "retrieved_ts"], partitioning=None)
                millis = [pc.divide(columns[c].cast("int64"), 1000).to_pylist() for c in ("ts_utc", "retrieved_ts")]
                rows += list(zip(columns["location_key"].to_pylist(), *millis, strict=True))
        at = time.time()
        for place, hour, retrieved in rows:
            times = found.rows.setdefault((place, hour), [])
            if not times or times[-1][0] < retrieved:
                times.append((retrieved, at))
        found.covered[name].append((at, {p: last for p, (_, last) in offset_ranges(snapshot).items()}))
        newest = snapshot.sequence_number or 0
    return newest


def _memory(driver: int) -> dict[str, int]:
    """Add up the memory of the driver's processes, bytes, by what they are."""
    found: Counter[str] = Counter()
    for process in tree([driver]):
        # A Python worker of Spark's may end meanwhile.
        with suppress(psutil.NoSuchProcess):
            is_jvm = process.name() == "java"
            found["driver" if process.pid == driver else "JVM" if is_jvm else "Spark's Python workers"] += pss_of(process.pid)
    return dict(found)


def print_freshness(runs: list[LoadRun], measured: float, per_second: float = LIGHT) -> None:
    """Print B3; goals are for the light load."""

    def cut(name: str | None, percent: float) -> list[float]:
        return [percentile(run.every_table if name is None else run.latencies[name], percent) for run in runs]

    rows = [
        [name or "every gold table", f"{len(runs[0].every_table):,}", *(spread(cut(name, p), 2) for p in (50, 90, 99, 100))]
        for name in (*TABLES, None)
    ]
    cores, idle = median(run.cores for run in runs), median(run.idle for run in runs)
    goals = [
        goal(f"{HOURLY_TABLE} p50 s", median(cut(HOURLY_TABLE, 50)), 1.2),
        goal(f"{HOURLY_TABLE} p99 s", median(cut(HOURLY_TABLE, 99)), 3),
        goal("every gold table p50 s", median(cut(None, 50)), 1.5),
        goal("every gold table p99 s", median(cut(None, 99)), 3.5),
        goal("cores of driver and broker", cores, 1.1),
        goal("cores of both without a load", idle, 0.02, digits=3),
    ]
    show(
        f"B3 produce -> visible, {per_second:g} readings/s for {measured:g} s, seconds, median of {len(runs)} (least-greatest)",
        ["", "readings", "p50", "p90", "p99", "max"],
        rows,
        goals if per_second == LIGHT else [f"  driver and broker used {cores:.2f} cores"],
    )


def print_memory(runs: list[LoadRun], seconds: float) -> None:
    """Print B7."""
    totals = [sum(run.memory.values()) / MIB for run in runs]
    names = runs[0].memory
    show(
        f"B7 memory after {seconds:g} s of the load, MiB of PSS, median of {len(runs)}",
        [*(["sum"]), *names, "peak of the sum"],
        [
            [
                spread(totals, 0),
                *(f"{median(run.memory.get(name, 0) for run in runs) / MIB:,.0f}" for name in names),
                f"{median(run.peak for run in runs) / MIB:,.0f}",
            ]
        ],
        [goal("sum of PSS, GB", median(totals) * MIB / 1e9, 3)],
    )
