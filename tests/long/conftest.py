"""What every long test has: a stand of its own, and its figures printed at the end for docs/reliability.md."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.support.faults import SmallDisk, Stand, small_disk

NewStand = Callable[..., Stand]
NewDisk = Callable[[int], SmallDisk]


@pytest.fixture
def new_disk(tmp_path: Path) -> Iterator[NewDisk]:
    """Give a maker of a small disk, of so many megabytes."""
    with ExitStack() as mounted:
        yield lambda megabytes: mounted.enter_context(small_disk(tmp_path / "small", megabytes))


@pytest.fixture
def new_stand(spark: SparkSession, tmp_path: Path, new_disk: NewDisk) -> Iterator[NewStand]:
    """Give a maker of stands; what they run is ended whatever happens, before a disk that they are on goes."""
    made: list[Stand] = []

    def make(**settings: str) -> Stand:
        made.append(Stand(spark, tmp_path / f"stand{len(made)}", **settings))
        return made[-1]

    try:
        yield make
    finally:
        for stand in made:
            stand.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each test measured (`record_property`)."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, []) if report.when == "call"]
    if any(report.user_properties for report in reports):
        terminalreporter.section("figures")
    for report in reports:
        told = ", ".join(f"{name} {value}" for name, value in report.user_properties)
        terminalreporter.write_line(f"{report.nodeid.rpartition('/')[2]} ({report.duration:.0f} s, {report.outcome}): {told}")
