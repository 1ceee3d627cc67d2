"""B6: how long does it take from the start of the driver's process to its first committed micro-batch?

With an empty home (tables are made first) and started again on it. Messages wait in the topic. Cold: nothing is kept between
two JVMs. And how long does a driver take from its start to its end that drains 20,000 waiting readings (`--available-now`)? Where the
settings know an archive of loaded classes (AppCDS), each is measured with and without it; the archive is the one
that `make cds` makes, and is made first if it is missing.
"""

import sys
import time

from bench.catalog_reader import CatalogReader
from bench.load import Backlog, publish
from bench.measure import median, spread, wait_until
from bench.report import goal, show
from bench.stage import START_SECONDS, Home, Stage, clean_environment, stage
from deploy.local.make_class_archive import make_archive
from lakehouse.settings import Settings

BRONZE, GOLD = "bronze.open_meteo_hourly", "gold.fact_city_daily"
PLACES, HOURS = 100, 10
COLD = "cold"
WAITING_HOURS = 200
GOLD_SECONDS, COLD_GOLD_SECONDS, DRAINED_SECONDS = 10, 15, 25


def first_batch(quick: bool, repeats: int | None = None) -> None:
    """Measure and print B6."""
    repeats = repeats or (1 if quick else 5)
    rows, goals = [], []
    for name, settings in variants().items():
        times: list[tuple[float, float, float, float, float]] = []
        if name != COLD:
            make_archive(Settings(jars_path=""), clean_environment(), say=lambda text: print(f"  {text}", file=sys.stderr))
        with stage() as here:
            for _ in range(repeats):
                times.append((*_twice(here, settings, len(times)), _drained(settings)))
        rows.append([name, *(spread([each[n] for each in times]) for n in range(5))])
        first, drained = (median(each[n] for each in times) for n in (1, 4))
        goals.append(goal(f"{name}: first commit of gold, s", first, COLD_GOLD_SECONDS if name == COLD else GOLD_SECONDS))
        goals.append(goal(f"{name}: {PLACES * WAITING_HOURS:,} waiting readings drained, s", drained, DRAINED_SECONDS))
    show(
        f"B6 from the start of the process, seconds, median of {repeats} (least-greatest)",
        ["", "empty home: bronze", "empty home: gold", "again: bronze", "again: gold", "20,000 drained"],
        rows,
        goals if len(rows) > 1 else [*goals, "  no setting for an archive of classes here: cold only"],
    )


def variants() -> dict[str, dict[str, str]]:
    """Name the ways to start, with their settings: cold, and with the archive where there is a setting whose name holds `cds`."""
    switches = {name: Settings.model_fields[name].annotation is bool for name in Settings.model_fields if "cds" in name}
    if not switches:
        return {COLD: {}}
    # A switch is turned; of any other setting, empty means without and the default means with.
    return {
        COLD: {name.upper(): "false" if is_flag else "" for name, is_flag in switches.items()},
        "with the archive": {name.upper(): "true" for name, is_flag in switches.items() if is_flag},
    }


def _twice(here: Stage, settings: dict[str, str], turn: int) -> tuple[float, float, float, float]:
    home = here.home(PLACES)
    publish(here.bootstrap, Backlog(PLACES, HOURS).messages(first_hour=2 * turn * HOURS))
    empty = _once(here, home, settings)
    publish(here.bootstrap, Backlog(PLACES, HOURS).messages(first_hour=(2 * turn + 1) * HOURS))
    return (*empty, *_once(here, home, settings))


def _drained(settings: dict[str, str]) -> float:
    """Start on an empty home with a waiting backlog, and wait until the driver has ended by itself; in seconds."""
    with stage() as here:
        home = here.home(PLACES)
        publish(here.bootstrap, Backlog(PLACES, WAITING_HOURS).messages())
        ends, began = here.ends(), time.time()
        here.driver(home, settings, available_now=True).wait(START_SECONDS)
        seconds = time.time() - began
        if not home.reader.covers(GOLD, ends):
            raise RuntimeError("the driver ended before everything was in gold")
        return seconds


def _once(here: Stage, home: Home, settings: dict[str, str]) -> tuple[float, float]:
    """Start, wait for the first new snapshot of bronze and of gold, stop; both in seconds from the start."""
    before = {name: _snapshot(home.reader, name) for name in (BRONZE, GOLD)}
    reader = home.reader
    began = time.time()
    driver = here.driver(home, settings)
    seconds = [
        wait_until(lambda name=name: driver.running() and _snapshot(reader, name) not in (before[name], 0), START_SECONDS, name) - began  # type: ignore[misc]
        for name in (BRONZE, GOLD)
    ]
    driver.stop()
    return seconds[0], seconds[1]


def _snapshot(reader: CatalogReader, name: str) -> int:
    found = reader.snapshot(name)
    return 0 if found is None else found.snapshot_id
