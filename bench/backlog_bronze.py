"""B1: how fast does a backlog get from Kafka into bronze, against Iceberg's Kafka Connect sink, and against not writing at all?

Same topic, heap and catalog kind. The bronze query runs as it is, with a commit a second or so; beside it with as many messages in a
micro-batch as take about 5 s, the interval of the sink's commits. Each run is a new process and a new table. (a) counts from the
process's start until an independent reader finds all rows; (b) is the rate between the first and the last full commit.

The sink writes the contract's columns. Bronze writes them beside the untouched bytes, where they came from and the date.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.catalog_reader import data_bytes
from bench.load import Backlog, publish
from bench.measure import MIB, Usage, median, spread, wait_until
from bench.peer import connect
from bench.queries import told
from bench.report import goal, show
from bench.stage import Home, Program, Stage, stage

HEAP = "2g"
LIMIT_SECONDS = 1_200.0
BRONZE = "bronze.open_meteo_hourly"

Point = tuple[float, int]  # seconds since 1970, rows by then


@dataclass(frozen=True, slots=True)
class Run:
    """One run over the backlog. Seconds, bytes, and rows by commit."""

    rows: int
    wall: float
    cpu: float
    pss: int
    points: list[Point]
    data: int = 0
    columns: int = 0

    @property
    def rate(self) -> float:
        """Rows a second from the start of the process."""
        return self.rows / self.wall

    @property
    def steady(self) -> float | None:
        """Rows a second once running; None where there were too few commits to tell."""
        return steady_rate(self.points)

    @property
    def interval(self) -> float:
        """Median time between two commits, seconds."""
        gaps = [b[0] - a[0] for a, b in zip(self.points, self.points[1:], strict=False)]
        return median(gaps) if gaps else 0.0


def backlog_bronze(quick: bool, repeats: int | None = None) -> None:
    """Measure and print B1."""
    backlog, runs, batch = (Backlog(1_000, 60), 1, 15_000) if quick else (Backlog(), 5, 1_000_000)
    connect.fetch_jars()
    with stage() as here:
        publish(here.bootstrap, backlog.messages())
        programs: dict[str, Callable[[], Run]] = {
            "weir bronze": partial(_query, here, backlog, "bronze", batch if quick else None),
            "Iceberg sink": partial(_sink, here, backlog),
            "Spark to noop": partial(_query, here, backlog, "noop", batch),
        }
        if not quick:
            programs["weir, a commit every 5 s"] = partial(_query, here, backlog, "bronze", batch)
        # In turn, so that what the machine does meanwhile meets all alike.
        turns = [{name: run() for name, run in programs.items()} for _ in range(repeats or runs)]
    _print(backlog, turns)


def land(here: Stage, backlog: Backlog, batch: int | None) -> Run:
    """Run the production bronze query alone over the topic: what B2 is compared with."""
    return _query(here, backlog, "bronze", batch)


def steady_rate(points: list[Point]) -> float | None:
    """Return rows a second between the first commit and the last full one; None for fewer than two of them.

    The last commit of three or more does not count, since it may be smaller or late.
    """
    used = points[:-1] if len(points) > 2 else points
    if len(used) < 2 or used[-1][0] <= used[0][0]:
        return None
    return (used[-1][1] - used[0][1]) / (used[-1][0] - used[0][0])


def _query(here: Stage, backlog: Backlog, name: str, batch: int | None) -> Run:
    home = here.home(backlog.places)
    settings = {"SPARK_DRIVER_MEMORY": HEAP}
    if batch is not None:
        settings |= {"MAX_OFFSETS_PER_TRIGGER": str(batch)}
    began = time.time()
    program = here.python(home, "bench.queries", name, settings=settings)
    if name == "bronze":
        return _finished(home, program, BRONZE, backlog.readings, began)
    with Usage(program.pid) as used:
        program.wait(LIMIT_SECONDS)
    points = _cumulated(told(program.log))
    if points[-1][1] != backlog.readings:
        raise RuntimeError(f"read {points[-1][1]} of {backlog.readings}")
    return Run(backlog.readings, points[-1][0] - began, used.cpu_seconds, used.peak_pss, points)


def _sink(here: Stage, backlog: Backlog) -> Run:
    home = connect.prepare(here)
    began = time.time()
    program = connect.start(here, home, HEAP)
    return _finished(home, program, connect.TABLE, backlog.readings, began)


def _finished(home: Home, program: Program, table: str, rows: int, began: float) -> Run:
    """Wait until an independent reader counts all rows, and read what was written."""
    reader = home.reader
    with Usage(program.pid) as used:
        at = wait_until(lambda: reader.records(table) >= rows or not program.running(), LIMIT_SECONDS, table)
    found = reader.table(table)
    if reader.records(table) != rows or found is None:
        raise RuntimeError(f"{table} holds {reader.records(table)} of {rows} rows:\n{program.log.read_text()[-3000:]}")
    points = _cumulated(
        [(int(s.summary.additional_properties.get("added-records", 0)), s.timestamp_ms / 1000) for s in found.snapshots() if s.summary]
    )
    size, columns = data_bytes(reader, table)
    program.kill()
    return Run(rows, at - began, used.cpu_seconds, used.peak_pss, points, size, columns)


def _cumulated(batches: list[tuple[int, float]]) -> list[Point]:
    points, rows = [], 0
    for added, at in batches:
        rows += added
        points.append((at, rows))
    return points


def _print(backlog: Backlog, turns: list[dict[str, Run]]) -> None:
    rows = []
    for name in turns[0]:
        runs = [turn[name] for turn in turns]
        steady = [rate for rate in (run.steady for run in runs) if rate is not None]
        rows.append(
            [
                name,
                spread([run.wall for run in runs]),
                f"{median(run.rate for run in runs):,.0f}",
                f"{median(steady):,.0f}" if len(steady) == len(runs) else "-",
                f"{median(run.cpu for run in runs):,.1f}",
                f"{median(run.pss for run in runs) / MIB:,.0f}",
                f"{runs[0].data / MIB:,.1f}" if runs[0].data else "-",
                str(runs[0].columns or "-"),
                f"{len(runs[0].points)} / {median(run.interval for run in runs):.1f}",
            ]
        )

    def ratio(one: str, other: str, of: Callable[[Run], float | None]) -> float | None:
        pairs = [(of(turn[one]), of(turn[other])) for turn in turns]
        ratios = [mine / theirs for mine, theirs in pairs if mine is not None and theirs]
        return median(ratios) if len(ratios) == len(pairs) else None

    def against_sink(of: Callable[[Run], float | None]) -> float | None:
        return ratio("weir bronze", "Iceberg sink", of)

    show(
        f"B1 Kafka -> bronze, {backlog.readings:,} readings, median of {len(turns)} (least-greatest)",
        ["", "(a) s", "(a) rows/s", "(b) rows/s", "CPU s", "peak PSS MiB", "MiB written", "columns", "commits / every s"],
        rows,
        [
            goal("(a) x Iceberg's sink, from start to all counted", against_sink(lambda run: run.rate), 0.8, True),
            goal("(b) x Iceberg's sink, steady", against_sink(lambda run: run.steady), 0.8, True),
            goal("bytes/s written x Iceberg's sink, from start to all counted", against_sink(lambda run: run.data / run.wall), 0.8, True),
            # Weir's rows have more columns, the message itself among them.
            goal("values per processor second x Iceberg's sink", against_sink(lambda run: run.rows * run.columns / run.cpu), 1.0, True),
            goal("(a) x Spark to noop", ratio("weir bronze", "Spark to noop", lambda run: run.rate), 0.7, True),
            goal("(b) x Spark to noop", ratio("weir bronze", "Spark to noop", lambda run: run.steady), 0.7, True),
        ],
    )
