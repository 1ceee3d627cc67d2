"""When does the breaker stop a domain, and what does an acceptance let through?"""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.counts import Applied
from lakehouse.storage.folders import LocalFolder
from lakehouse.write.fenced_append import Mark
from streaming.breaker import Breaker, Counted, Limit, over_window
from streaming.errors import RejectRateExceeded
from streaming.resume import Request, ask, asked, done, request_file


def met(rows: int, rejected: int, first: int = 0) -> Applied:
    return Applied(rows, {"no_key": rejected} if rejected else {}, {}, offsets={"t": {"0": (first, first + rows - 1)}})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "x.breaker.json"


def breaker(file: Path) -> Breaker:
    return Breaker(LocalFolder(file.parent), file.name, "air_quality", Limit())


def test_it_judges_from_100_rows_on_and_above_10_percent(file: Path) -> None:
    breaker(file).judge(0, met(99, 99))
    for rows, rejected, stops in ((100, 10, False), (100, 11, True), (5000, 500, False), (5000, 510, True)):
        one = breaker(file.with_name(f"{rows}-{rejected}"))
        if stops:
            with pytest.raises(RejectRateExceeded, match=rf"no_key {rejected}\)"):
                one.judge(0, met(rows, rejected))
        else:
            one.judge(0, met(rows, rejected))


def test_messages_without_a_value_have_no_place_in_the_window(file: Path) -> None:
    one = breaker(file)
    for batch in range(5):
        one.judge(batch, Applied(500, tombstones=500, offsets={"t": {"0": (500 * batch, 500 * batch + 499)}}))
    assert not file.exists()
    one.judge(5, Applied(1090, {"no_key": 9}, tombstones=1000))
    with pytest.raises(RejectRateExceeded, match="19 of the last 100 rows"):  # not of the last 1,000
        one.judge(6, Applied(1010, {"no_key": 10}, tombstones=1000))
    assert Applied(1010, {"no_key": 4}, tombstones=1000).accepted == 6


def test_small_micro_batches_add_up_over_restarts_and_old_rows_leave_the_window(file: Path) -> None:
    for batch in range(9):
        breaker(file).judge(batch, met(10, 2))
    with pytest.raises(RejectRateExceeded, match="20 of the last 100 rows"):
        breaker(file).judge(9, met(10, 2))
    good = breaker(file.with_name("other"))
    good.judge(0, met(90, 90))
    with pytest.raises(RejectRateExceeded):
        good.judge(1, met(700, 0))
    good.judge(1, met(1000, 0))
    good.judge(2, met(10, 10))


def test_a_repeated_micro_batch_counts_once_and_a_refused_one_not_at_all(file: Path) -> None:
    one = breaker(file)
    for _ in range(50):
        one.judge(0, met(90, 9))
    with pytest.raises(RejectRateExceeded, match="59 of the last 140"):
        one.judge(1, met(50, 50))
    one.judge(1, met(50, 0))  # judged anew after a rule was corrected


def test_accepted_rows_pass_until_the_mark_and_what_reaches_beyond_is_judged_whole(file: Path) -> None:
    breaker(file).accept(Mark({"t": "id"}, {("t", 0): 500}))
    one = breaker(file)
    one.judge(0, met(500, 500))
    one.judge(1, met(90, 0, first=500))
    with pytest.raises(RejectRateExceeded, match="200 of the last 290"):
        one.judge(2, met(200, 200, first=301))
    with pytest.raises(RejectRateExceeded):
        one.judge(2, Applied(200, {"no_key": 200}, {}, offsets={"t": {"0": (0, 10), "1": (0, 10)}}))


def test_a_broken_file_is_an_empty_window(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"batches": [[1')
    breaker(file).judge(0, met(50, 50))


@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 1)), min_size=1, max_size=20))
def test_window_is_at_most_its_size_and_a_share_of_the_rows(batches: list[tuple[int, float]]) -> None:
    counted = [Counted(n, rows, int(rows * share)) for n, (rows, share) in enumerate(batches)]
    rows, rejected = over_window(counted, 1000)
    assert rows == min(1000, sum(one.rows for one in counted))
    assert 0 <= rejected <= rows


def test_requests_add_up_until_they_are_done(tmp_path: Path) -> None:
    assert asked(LocalFolder(tmp_path / "state"), "x") is None
    ask(LocalFolder(tmp_path / "state"), "x", Request(accept=True))
    ask(LocalFolder(tmp_path / "state"), "x", Request(accept_loss=True))
    assert asked(LocalFolder(tmp_path / "state"), "x") == Request(True, True)
    (tmp_path / "state" / request_file("x")).write_text("{")
    assert asked(LocalFolder(tmp_path / "state"), "x") == Request()
    done(LocalFolder(tmp_path / "state"), "x")
    assert asked(LocalFolder(tmp_path / "state"), "x") is None


def test_rows_of_a_place_that_is_left_out_stop_no_other(file: Path) -> None:
    one = breaker(file)
    one.judge(0, Applied(300, {"place_left_out": 150}, unjudged=150))
    with pytest.raises(RejectRateExceeded, match="20 of the last 170 rows"):
        one.judge(1, Applied(120, {"place_left_out": 100, "no_key": 20}, unjudged=100))
    assert Applied(120, {"place_left_out": 100, "no_key": 5}, unjudged=100).accepted == 15
