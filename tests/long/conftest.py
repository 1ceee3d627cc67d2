"""What every long test has: a stand of its own, and its figures printed at the end for docs/reliability.md."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.faults import Stand

NewStand = Callable[..., Stand]


@pytest.fixture
def new_stand(spark: SparkSession, tmp_path: Path) -> Iterator[NewStand]:
    """Give a maker of stands; what they run is ended whatever happens."""
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
