"""Are runs of an unusual size, unusually many duplicates and stale layers found, and nothing else? Figures worked out by hand."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from lakehouse.alerts import Run, Runs, judge_duplicates, judge_freshness, judge_records

RUNS = Runs("dumps", "lh.bronze.toys", "")


def runs(*counts: int) -> list[Run]:
    return [Run(count, 0) for count in counts]


@pytest.mark.parametrize(
    ("counts", "z", "is_raised"),
    [
        # mean 100, deviation 10: three deviations are still fine, a little more are not, whichever way.
        ((90, 110, 90, 110, 130), 3.0, False),
        ((90, 110, 90, 110, 131), 3.1, True),
        ((90, 110, 90, 110, 69), 3.1, True),
        # Of ten before the newest only seven count.
        ((9, 9, 9, 100, 100, 100, 100, 100, 100, 100, 103), 3.0, False),
        # Without a deviation, one percent of the mean is taken for one.
        ((100, 100, 100, 104), 4.0, True),
        ((100, 100, 100, 100), 0.0, False),
        ((0, 0, 0, 0), 0.0, False),
    ],
)
def test_newest_run_is_compared_with_the_seven_before(counts: Sequence[int], z: float, is_raised: bool) -> None:
    alert = judge_records(RUNS, runs(*counts))
    assert alert.value == pytest.approx(z)
    assert (alert.bound, alert.is_raised) == (3.0, is_raised)
    assert f"{counts[-1]:,} records" in alert.says


def test_first_records_after_nothing_but_empty_runs_raise_it() -> None:
    assert judge_records(RUNS, runs(0, 0, 0, 5)).is_raised


@pytest.mark.parametrize("counts", [(), (1,), (1, 1), (1, 1, 1_000)])
def test_fewer_than_three_runs_before_are_not_judged(counts: Sequence[int]) -> None:
    for alert in (judge_records(RUNS, runs(*counts)), judge_duplicates(RUNS, runs(*counts))):
        assert (alert.value, alert.bound, alert.is_raised) == (None, None, False)
        assert "not judged" in alert.says


@pytest.mark.parametrize(
    ("duplicates", "is_raised"),
    [
        ((10, 10, 10, 15), False),
        ((10, 10, 10, 17), True),
        ((0, 0, 0, 1), True),
        ((0, 0, 0, 0), False),
        ((50, 0, 10, 20), False),
    ],
)
def test_share_of_duplicates_is_compared_with_its_mean(duplicates: Sequence[int], is_raised: bool) -> None:
    # Of 1,000 rows each, so that shares are as easily added as counts.
    alert = judge_duplicates(RUNS, [Run(1_000 - n, n) for n in duplicates])
    assert alert.value == pytest.approx(duplicates[-1] / 1_000)
    assert alert.bound == pytest.approx(1.5 * sum(duplicates[:-1]) / 3_000)
    assert alert.is_raised is is_raised


def test_layer_is_stale_after_its_objective_and_unknown_while_it_is_empty() -> None:
    day = timedelta(days=1)
    assert not judge_freshness("gold", day, day).is_raised
    stale = judge_freshness("gold", 2 * day, day)
    assert stale.is_raised
    assert (stale.value, stale.bound) == (172_800.0, 86_400.0)
    assert stale.says == "rows last changed 48.0 h ago, expected at most 24 h"
    empty = judge_freshness("gold", None, day)
    assert (empty.value, empty.is_raised) == (None, False)
