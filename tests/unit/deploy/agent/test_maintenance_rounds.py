"""When does the agent start a round of maintenance?"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.local.agent import maintenance_rounds as rounds
from deploy.local.agent.maintenance_rounds import Rounds
from deploy.local.agent.run_files import read_state, run_folder
from lakehouse.settings import Settings

HOUR = 3600.0


class Clock:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """The environments of the rounds that were started, each a process that ends at once with exit code 1."""
    seen: list[Mapping[str, str]] = []

    def launch(arguments: tuple[str, ...], _: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        assert arguments == ("-m", "weir", "maintain")
        seen.append(environment)
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"], start_new_session=True)

    monkeypatch.setattr(rounds, "launch", launch)
    return seen


def home(tmp_path: Path, hours: float = 1) -> Settings:
    (tmp_path / "run").mkdir(exist_ok=True)
    return Settings(home=tmp_path, maintain_hours=hours)


def until_ended(one: Rounds) -> None:
    assert one.process is not None
    one.process.wait(30)
    one.tend(True)


def test_the_first_round_waits_for_its_hour_and_the_next_one_for_another(
    tmp_path: Path, clock: Clock, started: list[Mapping[str, str]]
) -> None:
    settings = home(tmp_path)
    one = Rounds(settings, {"A": "1", "WEIR_SPARK_DRIVER_MEMORY": "3g"}, clock)
    for _ in range(2):
        one.tend(True)
        clock.at += HOUR - 1
        one.tend(True)
    assert len(started) == 1, "after the first hour, and not twice within it"
    state = read_state(run_folder(settings), "maintain")
    assert state is not None and state.pid is not None
    assert started[0]["A"] == "1" and started[0]["WEIR_SPARK_DRIVER_MEMORY"] == "3g" and "WEIR_SPARK_JAVA_OPTIONS" in started[0]
    until_ended(one)
    assert read_state(run_folder(settings), "maintain") is None
    clock.at += HOUR - 1
    one.tend(True)
    assert len(started) == 1, "an hour after the last one has ended, also when it failed"
    clock.at += 2
    one.tend(True)
    assert len(started) == 2
    until_ended(one)


def test_without_a_stream_nothing_is_maintained(tmp_path: Path, clock: Clock, started: list[Mapping[str, str]]) -> None:
    one = Rounds(home(tmp_path), {}, clock)
    clock.at += 10 * HOUR
    one.tend(False)
    assert started == []
    one.tend(True)
    assert len(started) == 1
    until_ended(one)


def test_a_stack_that_starts_often_is_maintained_all_the_same(tmp_path: Path, clock: Clock, started: list[Mapping[str, str]]) -> None:
    for _ in range(2):
        assert started == []
        one = Rounds(home(tmp_path), {}, clock)
        clock.at += HOUR / 2
        one.tend(True)
    assert len(started) == 1
    until_ended(one)


def test_a_long_stop_does_not_make_a_round_the_first_thing(tmp_path: Path, clock: Clock, started: list[Mapping[str, str]]) -> None:
    Rounds(home(tmp_path), {}, clock)
    clock.at += 100 * HOUR
    one = Rounds(home(tmp_path), {}, clock)
    one.tend(True)
    assert started == []
    clock.at += 301
    one.tend(True)
    assert len(started) == 1
    until_ended(one)


def test_zero_hours_is_never(tmp_path: Path, clock: Clock, started: list[Mapping[str, str]]) -> None:
    one = Rounds(home(tmp_path, 0), {}, clock)
    clock.at += 1000 * HOUR
    one.tend(True)
    assert started == [] and not (tmp_path / "state" / "maintain.json").exists()
