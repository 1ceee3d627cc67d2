"""Are phases timed that fail, repeat, or run beside each other?"""

import threading

import pytest

from lakehouse.phases import Phases


def test_phases_add_up_and_one_that_fails_counts() -> None:
    phases = Phases()
    with pytest.raises(ValueError, match="x"), phases.timed("silver"):
        raise ValueError("x")
    once = phases.seconds["silver"]
    with phases.timed("silver"):
        pass
    assert phases.seconds["silver"] > once > 0


def test_phases_of_two_threads_are_both_told() -> None:
    phases, both = Phases(), threading.Barrier(2)

    def work(name: str) -> None:
        with phases.timed(name):
            both.wait(10)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("days", "episodes")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert phases.seconds.keys() == {"days", "episodes"}
