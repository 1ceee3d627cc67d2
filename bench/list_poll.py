"""K4: how old is a change of Kaggle's dataset list when somebody else can see it in gold, beside the live load of the air?

`weir produce kaggle` polls a local server that speaks Kaggle's API, with a list of the size of the recorded ones, all the time. At each
poll some titles have changed. A change is as old as the answer that had it first, and visible when its row was read from the files that a
snapshot of `dim_listed_dataset` added, by an independent process that looks every 100 ms. Beside it, 100 readings a second of the air go
through the same driver's other half.
"""

import multiprocessing
import threading
import time
from collections.abc import Mapping
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench.catalog_reader import CatalogReader, added_files
from bench.load import LiveLoad
from bench.measure import median, percentile, spread, wait_until
from bench.report import goal, show
from bench.stage import START_SECONDS, Batch, Program, Stage, logged_batches, stage, wait_ready
from deploy.local.services.kaggle_list_server import KaggleListServer, Row

TABLE = "gold.dim_listed_dataset"
LISTED = 1_170
PAGE_ROWS = 200
# As often as a change could be told at all: the poller is asked to begin anew at once.
POLL_SECONDS = 2.0
CHANGED_AT_ONCE = 5
LOOK_SECONDS = 0.1
DRAIN_SECONDS = 60.0
PER_SECOND = 100.0


class _Changing(KaggleListServer):
    """A list of which some titles change before each poll; it notes when it first answered with each."""

    def __init__(self) -> None:
        self.changed = 0
        self.answered: dict[str, float] = {}
        super().__init__([_row(n, "Title of the beginning") for n in range(LISTED)], page_rows=PAGE_ROWS)

    def answer(self, asked: Mapping[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Change some titles where a poll begins, and answer."""
        if not asked.get("pageToken"):
            for _ in range(CHANGED_AT_ONCE):
                place = self.changed * 37 % LISTED
                self.changed += 1
                self.rows[place] = _row(place, f"Title {self.changed}")
        found = super().answer(asked)
        now = time.time()
        for row in found[1].get("datasets", ()):
            self.answered.setdefault(row["title"], now)
        return found


def list_poll(quick: bool, repeats: int | None = None) -> None:
    """Measure and print K4."""
    # A poll every two seconds is few micro-batches for a cold JVM to warm up with.
    warm_up, measured, defined = (45, 40, 1) if quick else (120, 240, 3)
    runs, batches = [], []
    for _ in range(repeats or defined):
        with stage() as here:
            seconds, logged = _run(here, warm_up, measured)
            runs.append(seconds)
            batches += logged
    p50, p99 = ([percentile(run, percent) for run in runs] for percent in (50, 99))
    show(
        f"K4 a change of the dataset list -> visible in {TABLE}, beside {PER_SECOND:g} readings/s, seconds, median of {len(runs)}",
        ["", "changes", "p50", "p90", "p99", "max"],
        [[TABLE, f"{len(runs[0]):,}", *(spread([percentile(run, p) for run in runs], 2) for p in (50, 90, 99, 100))]],
        [goal("p50 s", median(p50), 2), f"  p99 {median(p99):.2f} s", *_took(batches)],
    )


def _took(batches: list[Batch]) -> list[str]:
    """Say how long a micro-batch of each query with rows took."""
    queries = sorted({one.query for one in batches})
    took = {query: [one.seconds for one in batches if one.query == query and one.rows] for query in queries}
    return [f"  a micro-batch of {query}: {median(seconds):.2f} s, {len(seconds)} of them" for query, seconds in took.items() if seconds]


def _run(here: Stage, warm_up: float, measured: float) -> tuple[list[float], list[Batch]]:
    """Run the load and the polls; give the seconds of each change that was answered after the warm-up, and the micro-batches after it."""
    load = LiveLoad(here.bootstrap, per_second=PER_SECOND)
    home = here.home(load.places)
    driver = here.python(home, "weir", "stream", "air_quality", "kaggle")
    wait_ready(home, driver, "air_quality", "kaggle")
    context = multiprocessing.get_context("spawn")
    done, queue = context.Event(), context.Queue()
    reader = context.Process(target=_look, args=(str(home.folder / "catalog.db"), done, queue), daemon=True)
    reader.start()
    with _Changing() as server:
        settings = {"KAGGLE_URL": server.url, "POLL_MINUTES": str(POLL_SECONDS / 60)}
        poller = here.python(home, "weir", "produce", "kaggle", settings=settings, log="poller.log")
        wait_until(lambda: poller.running() and home.reader.records(TABLE) >= LISTED, START_SECONDS, "the first list in gold", every=0.2)
        load.run(warm_up)
        before = len(logged_batches(driver.log))
        began = time.time()
        load.run(measured)
        ended = time.time()
        logged = logged_batches(driver.log)[before:]
        _still_run(driver, poller)
        poller.stop()
        wanted = {title: at for title, at in server.answered.items() if began <= at <= ended}
        threading.Event().wait(5)
    done.set()
    found: dict[str, float] = queue.get(timeout=DRAIN_SECONDS)
    reader.join(DRAIN_SECONDS)
    driver.stop()
    # The last poll may have been stopped before it sent what it was answered.
    seen = [found[title] - at for title, at in sorted(wanted.items(), key=lambda one: one[1]) if title in found]
    if len(wanted) - len(seen) > CHANGED_AT_ONCE:
        raise RuntimeError(f"{len(wanted) - len(seen)} of {len(wanted)} changes were never visible")
    return seen, logged


def _still_run(*programs: Program) -> None:
    for program in programs:
        if not program.running():
            raise RuntimeError(f"{program.log.name}: the program ended under the load")


def _look(catalog: str, done: Event, queue: Any) -> None:  # noqa: ANN401 - a multiprocessing queue has no public type
    """Note when each title was first read from the table's files, in a process of its own."""
    reader, newest = CatalogReader(Path(catalog)), -1
    found: dict[str, float] = {}
    while not done.is_set():
        began = time.time()
        table = reader.table(TABLE)
        fresh = [] if table is None else [one for one in table.snapshots() if (one.sequence_number or 0) > newest]
        for snapshot in sorted(fresh, key=lambda one: one.sequence_number or 0):
            assert table is not None
            titles = [
                title for file in added_files(table, snapshot) for title in pq.read_table(file, columns=["title"])["title"].to_pylist()
            ]
            at = time.time()
            for title in titles:
                found.setdefault(title, at)
            newest = snapshot.sequence_number or 0
        time.sleep(max(0.0, LOOK_SECONDS - (time.time() - began)))
    queue.put(found)


def _row(number: int, title: str) -> Row:
    ref = f"owner-{number % 400}/dataset-{number}"
    return {"ref": ref, "title": title, "url": f"https://www.kaggle.com/datasets/{ref}"}
