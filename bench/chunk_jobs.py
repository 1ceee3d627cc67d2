"""R1: how long does a backfill by month take, against the seed's way, and against one pass over the whole range?

Three cities, 731 days, from the local API: the recorded days as they were, the others made up of them. `weir backfill` is the command
itself. The seed's way is three jobs a month, one after the other, each a process with a JVM of its own: fetch and append, silver, gold,
by the same functions, jars and session (`chunk_steps.py`). The single pass takes the range as one chunk, by the code of the command.
All three must leave the same gold.
"""

import time
from datetime import date

from batch.backfill.periods import cut
from bench.backfills import RECORDED_API, Run, api_settings, backfill, check_same, finished, start_api
from bench.measure import MIB, median, spread
from bench.report import goal, show
from bench.stage import Home, Stage, stage

SINCE, UNTIL, QUICK_UNTIL = date(2024, 1, 1), date(2025, 12, 31), date(2024, 2, 29)
STEPS = ("bronze", "silver", "gold")
CITIES = 3


def chunk_jobs(quick: bool, repeats: int | None = None) -> None:
    """Measure and print R1."""
    until, turns = (QUICK_UNTIL, 1) if quick else (UNTIL, repeats or 3)
    with stage(with_broker=False) as here:
        _, url = start_api(here, RECORDED_API)
        homes = [here.home(None) for _ in range(2 * turns)]
        # In turn, so that what the machine does meanwhile meets both alike; the seed's way takes long enough to meet all of it.
        pairs = [
            (backfill(here, mine, url, str(SINCE), str(until)), _whole(here, other, url, until))
            for mine, other in zip(homes[::2], homes[1::2], strict=True)
        ]
        seed_home = here.home(None)
        seeds, jobs = _seed(here, seed_home, url, until)
        for home in homes:
            counts = check_same(seed_home.reader, home.reader)
    _print([one for one, _ in pairs], [one for _, one in pairs], seeds, jobs, counts)


def months(until: date) -> list[tuple[date, date]]:
    """Cut the range as `weir backfill --chunk month` does."""
    return [(part.since, part.until) for part in cut(SINCE, until, "month", ("",), 24, 10_000)]


def _whole(here: Stage, home: Home, url: str, until: date) -> Run:
    began = time.monotonic()
    program = here.python(home, "bench.chunk_steps", "whole", "", str(SINCE), str(until), settings=api_settings(home, url))
    return finished(program, began)


def _seed(here: Stage, home: Home, url: str, until: date) -> tuple[Run, dict[str, list[float]]]:
    """Run the jobs one after the other; give them as one run, and the seconds of each by step."""
    seconds: dict[str, list[float]] = {step: [] for step in STEPS}
    runs = []
    for number, (first, last) in enumerate(months(until), 1):
        for step in STEPS:
            began = time.monotonic()
            program = here.python(
                home, "bench.chunk_steps", step, f"seed/{number}", str(first), str(last), settings=api_settings(home, url)
            )
            runs.append(finished(program, began))
            seconds[step].append(runs[-1].wall)
    return Run(sum(run.wall for run in runs), sum(run.cpu for run in runs), max(run.pss for run in runs)), seconds


def _print(mine: list[Run], wholes: list[Run], seed: Run, jobs: dict[str, list[float]], counts: dict[str, int]) -> None:
    rows = [
        [
            name,
            spread([run.wall for run in runs]),
            f"{median(run.cpu for run in runs):,.1f}",
            f"{median(run.pss for run in runs) / MIB:,.0f}",
            str(processes),
        ]
        for name, runs, processes in (
            ("weir backfill, by month", mine, 1),
            ("one pass, one chunk", wholes, 1),
            ("the seed's way", [seed], sum(map(len, jobs.values()))),
        )
    ]
    hours = counts["bronze.open_meteo_hourly"]
    wall = median(run.wall for run in mine)
    show(
        f"R1 {CITIES} cities x {hours // 24 // CITIES} days to gold, {hours:,} hours, median of {len(mine)}, the seed's way once",
        ["", "wall s", "CPU s", "peak PSS MiB", "processes"],
        rows,
        [
            goal("wall time, weir backfill / the seed's way", wall / seed.wall, 0.05, digits=3),
            goal("wall time, weir backfill / one pass", wall / median(run.wall for run in wholes), 1.5),
            f"  a job of the seed's way, median s: {', '.join(f'{step} {median(each):.1f}' for step, each in jobs.items())}",
            f"  the same gold in all: {', '.join(f'{name} {count:,}' for name, count in counts.items())}",
        ],
    )
