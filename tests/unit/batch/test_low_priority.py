"""A batch program leaves a stream the processors, and the tables: its turns are short, and it stays away between them."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batch import low_priority
from lakehouse.locks.table_locks import is_wanted, table_lock
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
    """Time that passes only by what is slept, by locks that are waited for, and by what is done in them: a second each."""

    def __init__(self, waits: list[float], wanted: set[int]) -> None:
        self.now, self.slept, self._waits, self._wanted, self._taken = 0.0, list[float](), waits, wanted, 0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @contextmanager
    def lock(self, _: Settings, __: str) -> Iterator[float]:
        waited = self._waits.pop(0)
        self.now += waited
        self._taken += 1
        yield waited

    def is_wanted(self, _: Settings, __: str) -> bool:
        return self._taken in self._wanted


@pytest.mark.parametrize(
    ("waits", "wanted", "rows", "slept"),
    [
        # Alone: never away, and twice the rows each time.
        ([0.0] * 8, set(), [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000], []),
        # A stream comes, is between two micro-batches twice, and goes.
        ([0.0, 3.0, 2.0, 0.0, 0.0], set(), [1_000, 1_000, 1_000, 1_000, 1_000], [3.0, 2.0, 1.0]),
        # A fast stream is never met when the lock is asked for, but comes to wait behind it.
        ([0.0] * 8, {2, 3}, [1_000, 2_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000], [1.0, 1.0, 0.5, 0.25, 0.125, 0.0625]),
        # A proof held the lock for a minute.
        ([60.0, 0.0], set(), [1_000, 1_000], [10.0]),
    ],
    ids=["alone", "a slow stream", "a fast stream", "a proof"],
)
def test_locks_beside_others_are_short_and_rare(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waits: list[float], wanted: set[int], rows: list[int], slept: list[float]
) -> None:
    clock = Clock(list(waits), wanted)
    monkeypatch.setattr(low_priority, "time", clock)
    monkeypatch.setattr(low_priority, "table_lock", clock.lock)
    monkeypatch.setattr(low_priority, "is_wanted", clock.is_wanted)
    locks = low_priority.ShortLocks(Settings(home=tmp_path), "air_quality")
    found = []
    for _ in waits:
        with locks.next() as most:
            found.append(most)
            clock.now += 1.0
    assert found == rows
    assert clock.slept == pytest.approx(slept)


def test_who_holds_the_lock_sees_that_another_waits_for_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert not is_wanted(settings, "air_quality")
    with table_lock(settings, "air_quality"):
        assert not is_wanted(settings, "air_quality")
        waiting = threading.Thread(target=_take, args=(settings,))
        waiting.start()
        deadline = time.monotonic() + 30
        while not is_wanted(settings, "air_quality"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    waiting.join(30)
    assert not is_wanted(settings, "air_quality")


def _take(settings: Settings) -> None:
    with table_lock(settings, "air_quality"):
        pass
