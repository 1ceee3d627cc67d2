"""B5: one hour's new data, streamed, against the hourly job that this replaces.

Both begin with the same ten days of 1,000 places in all tables; then each place's next hour is published. The stream's driver
runs already. The job is started when the hour's data is there: a fresh JVM each for bronze, silver and gold, one after the other,
with our transforms, jars and session, on the same two cores; it reads only what is new, and recomputes only what that reaches.
The up to 60 minutes for which data waits for the job are not counted.

CPU over the whole hour: what the driver used from produce to gold, and its idle use, measured over some minutes and scaled to the
hour; the job has no idle. The broker is in neither: both need it.
"""

import time
from dataclasses import dataclass

from bench.load import Backlog, publish
from bench.measure import Usage, median, spread, wait_until
from bench.queries import told
from bench.report import goal, show
from bench.stage import START_SECONDS, Home, Program, Stage, stage, wait_ready

GOLD = ("gold.fact_air_quality_hourly", "gold.fact_city_daily")
STEPS = ("land", "refine", "gold")
HOUR_SECONDS = 3_600


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour's data: seconds from its first message to gold, and CPU seconds."""

    wall: float
    cpu: float


def hourly_job(quick: bool, repeats: int | None = None) -> None:
    """Measure and print B5."""
    places, history, hours, idle_seconds = (200, 48, 2, 10) if quick else (1_000, 240, repeats or 5, 300)
    with stage() as here:
        home = here.home(places)
        publish(here.bootstrap, Backlog(places, history).messages())
        driver = here.driver(home)
        wait_ready(home, driver)
        _wait_gold(here, home, driver)
        # The first hour warms the JVM up; a driver that runs for months has met many.
        streamed = [_stream(here, home, driver, places, history + n) for n in range(hours + 1)][1:]
        with Usage(driver.pid) as idle:
            time.sleep(idle_seconds)
        driver.stop()
        batch = [_job(here, home, places, history + hours + 1 + n) for n in range(1 if quick else hours)]
    _print(streamed, batch, idle.cpu_seconds / idle_seconds, idle_seconds, places)


def _stream(here: Stage, home: Home, driver: Program, places: int, hour: int) -> Hour:
    with Usage(driver.pid) as used:
        began = time.time()
        publish(here.bootstrap, Backlog(places, 1).messages(first_hour=hour))
        wall = _wait_gold(here, home, driver) - began
        time.sleep(1)  # what a micro-batch does after its last commit is its cost too
    return Hour(wall, used.cpu_seconds)


def _job(here: Stage, home: Home, places: int, hour: int) -> Hour:
    began = time.time()
    publish(here.bootstrap, Backlog(places, 1).messages(first_hour=hour))
    cpu = 0.0
    for step in STEPS:
        program = here.python(home, "bench.queries", step)
        with Usage(program.pid) as used:
            program.wait(START_SECONDS)
        cpu += used.cpu_seconds
    # The last step says when its last commit was done; then its JVM ends.
    wall = told(home.folder / "program.log")[-1][1] - began
    rows = home.reader.records("bronze.open_meteo_hourly")
    if rows != sum(here.ends().values()):
        raise RuntimeError(f"the job left bronze with {rows} of {sum(here.ends().values())} rows")
    return Hour(wall, cpu)


def _wait_gold(here: Stage, home: Home, driver: Program) -> float:
    ends, reader = here.ends(), home.reader
    return wait_until(lambda: driver.running() and all(reader.covers(name, ends) for name in GOLD), 600, "the hour in gold")


def _print(streamed: list[Hour], batch: list[Hour], idle: float, idle_seconds: float, places: int) -> None:
    stream_cpu, job_cpu = median(hour.cpu for hour in streamed), median(hour.cpu for hour in batch)
    stream_wall, job_wall = median(hour.wall for hour in streamed), median(hour.wall for hour in batch)
    whole = stream_cpu + idle * (HOUR_SECONDS - stream_wall)
    show(
        f"B5 one hour of {places:,} places, produce -> gold, median of {len(streamed)} hours and {len(batch)} jobs (least-greatest)",
        ["", "wall s", "CPU s of the data", "CPU s of the hour, idle included"],
        [
            ["stream", spread([hour.wall for hour in streamed], 2), spread([hour.cpu for hour in streamed]), f"{whole:,.1f}"],
            ["hourly job", spread([hour.wall for hour in batch], 2), spread([hour.cpu for hour in batch]), f"{job_cpu:,.1f}"],
        ],
        [
            goal("wall time, stream / job", stream_wall / job_wall, 0.08),
            f"  idle: {idle:.4f} cores over {idle_seconds:g} s, scaled to the rest of the hour",
        ],
    )
