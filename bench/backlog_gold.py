"""B2: how fast does the same backlog get into silver and gold, as a share of bronze alone?

The production driver runs both queries from an empty home, with the product's default settings, until independent readers find
the last offset of every partition in the hourly and the daily table; bronze alone runs with the same settings in the same turn.
"""

import time

from bench.backlog_bronze import LIMIT_SECONDS, Run, land
from bench.catalog_reader import data_bytes
from bench.load import Backlog, publish
from bench.measure import MIB, Usage, median, spread, wait_until
from bench.report import goal, show
from bench.stage import Stage, logged_batches, stage

GOLD = ("gold.fact_air_quality_hourly", "gold.fact_city_daily")
LAYERS = ("bronze.open_meteo_hourly", "silver.air_quality_hourly_clean", *GOLD, "gold.fact_episode")


def backlog_gold(quick: bool, repeats: int | None = None) -> None:
    """Measure and print B2."""
    backlog, runs = (Backlog(1_000, 60), 1) if quick else (Backlog(), 3)
    with stage() as here:
        publish(here.bootstrap, backlog.messages())
        turns = [(land(here, backlog, None), _refine(here, backlog)) for _ in range(repeats or runs)]
    names = ("bronze alone", "bronze, silver, gold")
    rows = []
    for n, name in enumerate(names):
        mine = [turn[n] for turn in turns]
        rows.append(
            [
                name,
                spread([run.wall for run in mine]),
                f"{median(run.rate for run in mine):,.0f}",
                f"{median(run.cpu for run in mine):,.1f}",
                f"{median(run.pss for run in mine) / MIB:,.0f}",
                f"{mine[0].data / MIB:,.1f}",
                str(len(mine[0].points)),
            ]
        )
    show(
        f"B2 the same backlog to gold, {backlog.readings:,} readings, default settings, median of {len(turns)} (least-greatest)",
        ["", "s", "rows/s", "CPU s", "peak PSS MiB", "MiB written", "micro-batches"],
        rows,
        [goal("rows/s as a share of bronze alone", median(all_.rate / bronze.rate for bronze, all_ in turns), 0.4, True)],
    )


def _refine(here: Stage, backlog: Backlog) -> Run:
    home, ends = here.home(backlog.places), here.ends()
    began = time.time()
    driver = here.driver(home)
    reader = home.reader
    with Usage(driver.pid) as used:
        at = wait_until(
            lambda: driver.running() and all(reader.covers(name, ends) for name in GOLD), 3 * LIMIT_SECONDS, "all of the backlog in gold"
        )
    written = sum(data_bytes(reader, name)[0] for name in LAYERS)
    batches = [(at, batch.rows) for batch in logged_batches(driver.log) if batch.query.startswith("silver")]
    driver.stop()
    return Run(backlog.readings, at - began, used.cpu_seconds, used.peak_pss, batches, written)
