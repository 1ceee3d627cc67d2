"""R3: how much older is a reading in gold while a backfill runs?

B3's load, its driver and its independent reader (`freshness.py`), once alone and once with `weir backfill` processes beside it on the
same home, machine and two cores: 100 places, by month, three months a backfill, one backfill after the other from the start of the
warm-up to the end of what is measured. So the measured time has chunks in it, the gold at the end of a backfill, and the start of the
next one.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta

from bench.backfills import BRONZE, MADE_API, SILVER, start_api, start_backfill
from bench.catalog_reader import CatalogReader
from bench.freshness import HOURLY_TABLE, LoadRun, run_load
from bench.measure import median, percentile, spread
from bench.report import goal, show
from bench.stage import Home, Stage, stage

MONTHS = 3
# Before the hours of the load.
LAST_DAY = date(2023, 12, 31)
QUERY, BACKFILL = "weir.query", "backfill air_quality"


@dataclass(slots=True)
class Beside:
    """Backfills one after the other, further into the past each, while it is open.

    Attributes:
        chunks: appended to bronze in what was measured.
        silvers, golds: commits of silver and of hourly facts by a backfill in it.
        begun: backfills, warm-up and all.
    """

    here: Stage
    url: str
    measured: float
    chunks: int = 0
    silvers: int = 0
    golds: int = 0
    begun: int = 0
    failed: list[BaseException] = field(default_factory=list)

    @contextmanager
    def on(self, home: Home) -> Iterator[None]:
        """Run them on a home.

        Raises:
            RuntimeError: a backfill failed, or no backfill committed anything during the measured time.
        """
        done = threading.Event()
        thread = threading.Thread(target=self._run, args=(home, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended = time.time()
            done.set()
            thread.join()
        if self.failed:
            raise RuntimeError("a backfill beside the load failed") from self.failed[0]
        between = ended - self.measured, ended
        self.chunks = commits(home.reader, BRONZE, between)
        self.silvers = commits(home.reader, SILVER, between)
        self.golds = commits(home.reader, HOURLY_TABLE, between)
        # A chunk is appended to bronze ahead of its turn, so the measured time may have commits to silver and gold alone.
        if not self.chunks + self.silvers + self.golds:
            raise RuntimeError(f"no commit of a backfill in {self.measured:g} s: this machine is too busy to measure on")

    def _run(self, home: Home, done: threading.Event) -> None:
        try:
            until = LAST_DAY
            while not done.is_set():
                since = months_before(until, MONTHS)
                program = start_backfill(self.here, home, self.url, str(since), str(until))
                self.begun += 1
                while program.running():
                    if done.wait(0.1):
                        program.kill()
                        return
                until = since - timedelta(days=1)
        except BaseException as error:  # the load's thread tells of it
            self.failed.append(error)


def beside_stream(quick: bool, repeats: int | None = None) -> None:
    """Measure and print R3."""
    warm_up, measured, defined = (45, 60, 1) if quick else (60, 240, 3)
    alone: list[LoadRun] = []
    with_backfill: list[LoadRun] = []
    notes = []
    for _ in range(repeats or defined):
        with stage() as here:
            alone.append(run_load(here, warm_up, measured))
        with stage() as here:
            beside = Beside(here, start_api(here, MADE_API)[1], measured)
            with_backfill.append(run_load(here, warm_up, measured, beside=beside.on))
        parts = f"{beside.chunks} chunks, {beside.silvers} parts of silver, {beside.golds} of gold"
        notes.append(f"in the measured time: {parts}; backfills begun: {beside.begun}")
    _print(alone, with_backfill, measured, notes)


def commits(reader: CatalogReader, name: str, between: tuple[float, float]) -> int:
    """Count the commits of backfills to a table between two instants, seconds since 1970."""
    table = reader.table(name)
    first, last = between
    return sum(
        first <= one.timestamp_ms / 1000 <= last and one.summary is not None and one.summary.additional_properties.get(QUERY) == BACKFILL
        for one in (table.snapshots() if table else ())
    )


def months_before(until: date, months: int) -> date:
    """Give the first day of so many months, of which the last ends with a day."""
    number = until.year * 12 + until.month - months
    return date(number // 12, number % 12 + 1, 1)


def _print(alone: list[LoadRun], with_backfill: list[LoadRun], measured: float, notes: list[str]) -> None:
    def cut(runs: list[LoadRun], every: bool, percent: float) -> list[float]:
        return [percentile(run.every_table if every else run.latencies[HOURLY_TABLE], percent) for run in runs]

    rows = [
        [f"{name}, {'every gold table' if every else 'hourly facts'}", *(spread(cut(runs, every, p), 2) for p in (50, 90, 99, 100))]
        for every in (False, True)
        for name, runs in (("alone", alone), ("beside a backfill", with_backfill))
    ]

    def ratio(every: bool) -> float:
        return median(a / b for a, b in zip(cut(with_backfill, every, 99), cut(alone, every, 99), strict=True))

    show(
        f"R3 produce -> visible, 100 readings/s for {measured:g} s, seconds, median of {len(alone)} (least-greatest)",
        ["", "p50", "p90", "p99", "max"],
        rows,
        [
            goal("hourly facts, p99 beside a backfill / alone", ratio(False), 2),
            goal("every gold table, p99 beside a backfill / alone", ratio(True), 2),
            *(f"  {note}" for note in notes),
        ],
    )
