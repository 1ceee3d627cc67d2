"""B9, the metrics: what do they cost beside the micro-batches that they tell of?

The live load runs through the production driver in a process whose two ways to tell are timed: the report at the end of a micro-batch
(the log line and the metrics; the micro-batch waits for it), and Spark's listener (on a thread of its own). Beside it the page is served
by a process of its own, as `weir up` does, and asked as often as Prometheus does. The JVM's part of the listener is not seen.
"""

import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.load import LiveLoad
from bench.measure import MIB, median, percentile
from bench.report import goal, show
from bench.stage import Home, Program, Stage, clean_environment, logged_batches, stage, wait_ready
from deploy.local.agent.processes import free_ports

SCRAPE_SECONDS = 15.0
GOAL_PERCENT = 2.0


@dataclass(slots=True)
class Costs:
    """Seconds of each call, by the clock and by the processor."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def timing(self, call: Callable[..., None]) -> Callable[..., None]:
        """Time each call of a function."""

        def timed(*values: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                call(*values, **named)
            finally:
                self.wall.append(time.perf_counter() - wall)
                self.cpu.append(time.thread_time() - cpu)

        return timed


def listener(quick: bool, _: int | None = None) -> None:
    """Measure and print B9."""
    warm_up, measured = (20, 45) if quick else (60, 240)
    with stage() as here:
        home = here.home(100)
        numbers, port = home.folder / "metrics", free_ports(1)[0]
        numbers.mkdir()
        driver = _start(here, home, numbers, "driver")
        page = _start(here, home, numbers, "page", str(port))
        wait_ready(home, driver)
        load = LiveLoad(here.bootstrap)
        load.run(warm_up)
        before = len(logged_batches(driver.log))
        process = psutil.Process(page.pid)
        used, began = sum(process.cpu_times()[:2]), time.monotonic()
        answers: list[float] = []
        for _ in range(max(1, int(measured / SCRAPE_SECONDS))):
            load.run(SCRAPE_SECONDS)
            asked = time.perf_counter()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
                size = len(answer.read())
            answers.append(time.perf_counter() - asked)
        memory = psutil.Process(page.pid).memory_full_info().pss
        share = (sum(process.cpu_times()[:2]) - used) / (time.monotonic() - began)
        batches = [batch for batch in logged_batches(driver.log)[before:] if batch.rows]
        driver.stop()
        costs = json.loads((home.folder / "costs.json").read_text())
    _print(costs, [batch.seconds for batch in batches], answers, share, [size, memory])


def _print(costs: dict[str, dict[str, list[float]]], batches: list[float], answers: list[float], share: float, sizes: list[int]) -> None:
    whole = sum(batches) / len(batches)
    rows = [["micro-batch", f"{len(batches)}", f"{1000 * whole:.0f}", f"{1000 * percentile(batches, 99):.0f}", "", ""]]
    mean: dict[str, float] = {}
    for name, found in costs.items():
        wall, cpu = found["wall"], found["cpu"]
        mean[name] = sum(wall) / len(wall)
        rows.append(
            [
                name,
                f"{len(wall)}",
                f"{1000 * mean[name]:.2f}",
                f"{1000 * percentile(wall, 99):.2f}",
                f"{1000 * sum(cpu) / len(cpu):.2f}",
                f"{100 * mean[name] / whole:.2f} %",
            ]
        )
    show(
        "B9 metrics beside micro-batches of the live load, all figures in ms",
        ("", "times", "mean", "p99", "processor, mean", "of a micro-batch"),
        rows,
        [
            f"page: {sizes[0]:,} bytes, answered in {1000 * median(answers):.0f} ms (most {1000 * max(answers):.0f}); its process has "
            f"{sizes[1] / MIB:.0f} MiB and, asked every {SCRAPE_SECONDS:g} s, uses {100 * share:.2f} % of a core",
            goal("report and listener, % of a micro-batch", 100 * sum(mean.values()) / whole, GOAL_PERCENT),
            goal("page, % of a core", 100 * share, GOAL_PERCENT),
        ],
    )


def _start(here: Stage, home: Home, numbers: Path, *arguments: str) -> Program:
    own = {"PROMETHEUS_MULTIPROC_DIR": str(numbers), "WEIR_HOME": str(home.folder), "WEIR_KAFKA_BOOTSTRAP": here.bootstrap}
    environment = clean_environment() | own | {"WEIR_LOG_FORMAT": "json"}
    return here.start([sys.executable, "-m", "bench.listener", *arguments], home.folder / f"{arguments[0]}.log", environment)


def _drive() -> None:
    """Run the driver with timed ways to tell, until SIGTERM."""
    from lakehouse.machine.logs import configure_logs
    from lakehouse.settings import load_settings
    from streaming.batch_report import ProgressListener
    from streaming.cli import ready_file
    from streaming.driver import Driver
    from streaming.metrics_report import report_batch

    settings = load_settings(dict(os.environ))
    configure_logs(settings.log_format, settings.log_level)
    report, told = Costs(), Costs()
    ProgressListener.onQueryProgress = told.timing(ProgressListener.onQueryProgress)  # type: ignore[method-assign]
    driver = Driver("air_quality", settings, report.timing(report_batch))
    signal.signal(signal.SIGTERM, lambda *_: driver.request_stop())

    def ready() -> None:
        file = ready_file(settings.home / "run", "air_quality")
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")

    try:
        driver.run(available_now=False, ready=ready)
    finally:
        held = {name: {"wall": one.wall, "cpu": one.cpu} for name, one in (("report", report), ("listener", told))}
        (settings.home / "costs.json").write_text(json.dumps(held))
        driver.close()


def _serve(port: int) -> None:
    """Serve the page until SIGTERM."""
    from lakehouse.settings import load_settings
    from monitoring.metrics import serve
    from monitoring.watch import Watch

    settings = load_settings(dict(os.environ))
    serve(port, Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]), Watch(settings, lambda: settings.kafka_bootstrap))
    signal.pause()


if __name__ == "__main__":
    if sys.argv[1] == "driver":
        _drive()
    else:
        _serve(int(sys.argv[2]))
