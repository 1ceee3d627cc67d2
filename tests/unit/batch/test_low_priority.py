"""A batch program leaves a stream the processors, and the tables: its turns are short, and it stays away between them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batch import low_priority
from lakehouse.settings import Settings

PROGRAM = """
import os, subprocess, sys
from batch.low_priority import lower_priority
lower_priority()
lower_priority()
print(os.nice(0))
subprocess.run([sys.executable, "-c", "import os; print(os.nice(0))"], check=True)
"""


def test_a_batch_program_and_its_children_have_a_low_priority() -> None:
    said = subprocess.run([sys.executable, "-u", "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["10", "10"]


class Clock:
    """Time that passes only by what is slept, and by turns that are waited for."""

    def __init__(self, waits: list[float]) -> None:
        self.now, self.slept, self._waits = 0.0, list[float](), waits

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @contextmanager
    def lock(self, _: Settings, __: str) -> Iterator[float]:
        waited = self._waits.pop(0)
        self.now += waited
        yield waited


@pytest.mark.parametrize(
    ("waits", "rows", "slept"),
    [
        # Alone: never away, and twice the rows each time.
        ([0.0] * 8, [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 200_000, 200_000], []),
        # A stream comes, is between two micro-batches once, and goes.
        ([0.0, 3.0, 2.0, 0.0, 0.0, 0.0], [5_000, 5_000, 5_000, 10_000, 20_000, 40_000], [3.0, 2.0, 1.0, 0.5]),
        # A proof held the turn for a minute.
        ([60.0, 0.0], [5_000, 10_000], [10.0]),
    ],
)
def test_turns_beside_others_are_short_and_rare(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waits: list[float], rows: list[int], slept: list[float]
) -> None:
    clock = Clock(list(waits))
    monkeypatch.setattr(low_priority, "time", clock)
    monkeypatch.setattr(low_priority, "table_lock", clock.lock)
    turns = low_priority.ShortLocks(Settings(home=tmp_path), "air_quality")
    found = []
    for _ in waits:
        with turns.next() as most:
            found.append(most)
    assert found == rows
    assert clock.slept == slept
