"""Do the measures count right?"""

import subprocess
import sys
import time

import pytest

from bench.backlog_bronze import steady_rate
from bench.endurance import QUERIES, print_endurance, tenths
from bench.measure import MIB, Usage, percentile, pss_bytes, spread, wait_until
from bench.report import goal
from bench.stage import Batch

BURN = "import time; block = bytearray(64 << 20); end = time.process_time() + 0.6\nwhile time.process_time() < end: pass\ntime.sleep(1.5)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}], check=True)"


def test_usage_counts_a_child_of_the_process_too() -> None:
    process = subprocess.Popen([sys.executable, "-c", PARENT])
    with Usage(process.pid) as used:
        process.wait(30)
    assert 0.5 < used.cpu_seconds < 1.5
    assert used.peak_pss > 60 * MIB
    assert pss_bytes([process.pid]) == 0


def test_usage_does_not_count_what_ran_before() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass\ntime.sleep(30)"]
    )
    try:
        time.sleep(1.5)
        with Usage(process.pid) as used:
            time.sleep(0.5)
        assert used.cpu_seconds < 0.2
    finally:
        process.kill()
        process.wait()


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 50) == 7


def test_steady_rate_leaves_the_start_and_the_last_commit_out() -> None:
    assert steady_rate([(100, 1_000), (105, 6_000), (110, 11_000), (119, 11_500)]) == 1_000
    assert steady_rate([(100, 1_000), (105, 6_000)]) == 1_000
    assert steady_rate([(100, 1_000)]) is None


def test_what_a_short_run_cannot_measure_reaches_no_goal() -> None:
    assert "not measured" in goal("steady", None, 1.0, True)
    assert goal("steady", 0.5, 1.0, True).startswith("  MISS")
    assert goal("steady", 1.5, 1.0, True).startswith("  ok")


def test_tenths_are_cut_from_both_ends() -> None:
    batches = [Batch("q", n, 0.1) for n in range(40)]
    first, last = tenths(batches)
    assert [batch.rows for batch in first] == [0, 1, 2, 3]
    assert [batch.rows for batch in last] == [36, 37, 38, 39]


def test_a_query_with_too_few_micro_batches_is_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    print_endurance([Batch(QUERIES[0], 10, 1.0), Batch(QUERIES[0], 10, 1.1), Batch(QUERIES[1], 10, 1.0)], 30)
    said = capsys.readouterr().out
    assert f"ok    {QUERIES[0]}: last tenth / first tenth: 1.10" in said
    assert f"{QUERIES[1]}: 1 micro-batches in 30 s, too few to compare" in said


def test_a_goal_says_whether_it_is_reached() -> None:
    assert goal("x", 1.2, 1.0, at_least=True) == "  ok    x: 1.20, goal ≥ 1"
    assert goal("x", 1.2, 1.0).startswith("  MISS")


def test_spread_shows_least_and_greatest() -> None:
    assert spread([1.0, 3.0, 2.0]) == "2.0 (1.0-3.0)"
    assert spread([1234.5]) == "1,234.5"


def test_waiting_ends_with_a_word() -> None:
    with pytest.raises(TimeoutError, match="it: not within 0"):
        wait_until(lambda: False, 0.1, "it")
