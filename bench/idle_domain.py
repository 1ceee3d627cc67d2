"""K3: what does Kaggle cost while nothing of it arrives? The processor time of an idle driver, with both domains and with the air alone.

Two drivers on the same broker, each with a home of its own, are measured at the same time: what else the machine does, it does to both.
"""

import time

from bench.measure import Usage, median, spread
from bench.report import goal, show
from bench.stage import Program, Stage, stage, wait_ready

PLACES = 100


def idle_domain(quick: bool, repeats: int | None = None) -> None:
    """Measure and print K3."""
    settle, measured, rounds = (20, 20, 1) if quick else (120, 90, repeats or 3)
    with stage() as here:
        air, both = _start(here, "air_quality"), _start(here, "air_quality", "kaggle")
        # The JVM compiles what the start has used for a minute or two more.
        time.sleep(settle)
        cores = []
        for _ in range(rounds):
            with Usage(air.pid) as one, Usage(both.pid) as two:
                time.sleep(measured)
            cores.append((one.cpu_seconds / measured, two.cpu_seconds / measured))
        air.stop()
        both.stop()
    show(
        f"K3 an idle driver, its broker not counted, cores over {measured:g} s, median of {rounds} (least-greatest)",
        ["", "cores"],
        [["air quality", spread([a for a, _ in cores], 3)], ["air quality and Kaggle", spread([b for _, b in cores], 3)]],
        [goal("K3 cores of the second domain", median(b - a for a, b in cores), 0.05, digits=3)],
    )


def _start(here: Stage, *domains: str) -> Program:
    home = here.home(PLACES)
    driver = here.python(home, "weir", "stream", *domains)
    wait_ready(home, driver, *domains)
    return driver
