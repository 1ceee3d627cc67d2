import os
import signal
import threading
import time as wall
from datetime import UTC, datetime

import pytest

from producers.run_id import new_run_id
from producers.stopping import Stop, StoppedError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_wait_at_once_and_is_remembered(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Stop() as stop:
        assert not stop.wait(0)
        timer = threading.Timer(0.1, os.kill, (os.getpid(), number))
        timer.start()
        began = wall.monotonic()
        assert stop.wait(30)
        assert wall.monotonic() - began < 10
        timer.join()
        assert stop.is_set()
        with pytest.raises(StoppedError):
            stop.sleep(30)
    assert signal.getsignal(number) == before


def test_second_interrupt_interrupts() -> None:
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_run_ids_sort_by_time_and_differ() -> None:
    now = datetime(2026, 1, 10, 7, 30, tzinfo=UTC)
    ids = {new_run_id(now) for _ in range(5)}
    assert len(ids) > 1
    assert all(one.startswith("20260110T073000Z-") for one in ids)
