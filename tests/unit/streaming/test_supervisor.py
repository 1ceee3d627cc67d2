"""Does a query live on after a failure, and end when it should? With queries and a clock of the test's own."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import DataFrame

from lakehouse.locks.lease import LeaseLost
from lakehouse.storage.folders import LocalFolder
from lakehouse.write.fenced_append import TopicRecreated
from streaming.errors import DataLoss, LostRange, QueryFailed, RejectRateExceeded
from streaming.query_states import read_states, states_file, write_states
from streaming.supervisor import (
    GOOD_AFTER_SECONDS,
    LONGEST_WAIT_SECONDS,
    MOST_RETRIES_WHEN_DRAINING,
    MOST_UNKNOWN,
    StopRequested,
    Supervised,
    Supervisor,
    wait_seconds,
)

NO_ROWS = cast(DataFrame, None)
FATAL = TopicRecreated("lh.bronze.x", "x", "new", "old")
REFUSED = RejectRateExceeded("kaggle", "users", 20, 100, 10, {"no_name": 20})


class FakeQuery:
    """A query that runs until the test ends it."""

    def __init__(self) -> None:
        self.isActive = True
        self.status: dict[str, Any] = {"isTriggerActive": False}
        self.error: Exception | None = None

    def exception(self) -> Exception | None:
        return self.error

    def stop(self) -> None:
        self.isActive = False

    def fail(self, error: Exception) -> None:
        self.error, self.isActive = error, False


class Case:
    """A supervised query whose starts the test counts."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - those of Supervised
        self.now = 1000.0
        self.stopping = threading.Event()
        self.started: list[FakeQuery] = []
        self.restarts: list[str] = []
        self.refuse: BaseException | None = None
        self.query = Supervised("q", self._start, self.stopping, restarted=self.restarts.append, clock=lambda: self.now, **options)

    def _start(self, _: Supervised) -> FakeQuery:
        if self.refuse is not None:
            raise self.refuse
        self.started.append(FakeQuery())
        return self.started[-1]

    def fail(self, error: Exception) -> None:
        self.started[-1].fail(error)
        self.query.tick()

    def wait(self) -> None:
        self.now += LONGEST_WAIT_SECONDS
        self.query.tick()


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_waits_grow_are_bounded_and_spread(failures: int, chance: float) -> None:
    wait = wait_seconds(failures, chance)
    assert 0.5 <= wait <= LONGEST_WAIT_SECONDS
    assert wait_seconds(failures + 1, chance) >= wait
    assert wait_seconds(failures, 1) == 2 * wait_seconds(failures, 0)


def test_a_failed_query_waits_and_starts_again() -> None:
    case = Case()
    case.query.begin()
    case.fail(RuntimeError("x"))
    assert case.query.state.state == "restarting"
    assert case.query.state.reason == "RuntimeError: x"
    case.query.tick()
    assert len(case.started) == 1
    case.wait()
    assert (len(case.started), case.query.state.state, case.query.state.restarts, case.restarts) == (2, "running", 1, ["q"])


def test_what_does_not_pass_stops_it_at_once_and_what_is_unknown_after_some_tries() -> None:
    case = Case()
    case.query.begin()
    case.fail(FATAL)
    assert (case.query.state.state, case.query.state.reason) == ("stopped", str(FATAL))
    case.wait()
    assert len(case.started) == 1
    case.query.resume()
    for _ in range(MOST_UNKNOWN):
        case.fail(RuntimeError("x"))
        assert case.query.state.state == "restarting"
        case.wait()
    case.fail(RuntimeError("x"))
    assert case.query.state.state == "stopped"


def test_an_outage_is_waited_for_without_end_unless_it_drains() -> None:
    case = Case()
    case.refuse = QueryFailed("q", "no broker")
    case.query.begin()
    for _ in range(50):
        assert case.query.state.state == "restarting"
        case.wait()
    draining = Case(draining=True)
    draining.refuse = QueryFailed("q", "no broker")
    draining.query.begin()
    for _ in range(MOST_RETRIES_WHEN_DRAINING):
        draining.wait()
    assert draining.query.state.state == "stopped"


def test_after_a_while_of_success_a_failure_is_the_first() -> None:
    case = Case()
    case.query.begin()
    for _ in range(3 * MOST_UNKNOWN):
        case.query.guard(lambda *_: None)(NO_ROWS, 0)
        case.now += GOOD_AFTER_SECONDS
        case.fail(RuntimeError("x"))
        assert case.query.state.state == "restarting"
        case.wait()


def test_what_the_body_raised_is_judged_and_not_sparks_text_of_it() -> None:
    def body(*_: object) -> None:
        raise FATAL

    case = Case()
    case.query.begin()
    with pytest.raises(TopicRecreated):
        case.query.guard(body)(NO_ROWS, 0)
    case.fail(RuntimeError("a text of it"))
    assert case.query.error is FATAL


def test_lost_offsets_are_explained_by_their_range_or_tried_again_where_bronze_lacks_nothing() -> None:
    found = DataLoss("q", [LostRange("t", 0, 3, 9)], "air_quality")

    def explain() -> None:
        raise found

    for options, expected in (
        ({"explain": explain}, ("stopped", str(found))),
        ({}, ("restarting", "RuntimeError: [KAFKA_DATA_LOSS] gone")),
    ):
        case = Case(**options)
        case.query.begin()
        case.fail(RuntimeError("[KAFKA_DATA_LOSS] gone"))
        assert (case.query.state.state, case.query.state.reason) == expected


def test_halt_ends_an_idle_query_and_the_next_micro_batch_of_a_busy_one() -> None:
    applied: list[int] = []
    idle, busy = Case(), Case()
    for case in (idle, busy):
        case.query.begin()
        case.query.halt(FATAL)
    busy.started[-1].status = {"isTriggerActive": True}
    for case in (idle, busy):
        case.query.tick()
    assert not idle.started[-1].isActive
    assert busy.started[-1].isActive
    with pytest.raises(TopicRecreated):
        busy.query.guard(lambda _, batch_id: applied.append(batch_id))(NO_ROWS, 7)
    assert applied == []
    idle.query.tick()
    assert (idle.query.state.state, idle.query.error) == ("stopped", FATAL)


def test_stop_keeps_the_next_micro_batch_from_beginning_and_ends_one_that_waits_for_its_restart() -> None:
    case = Case()
    case.refuse = QueryFailed("q", "no broker")
    stop: Callable[[], None] = case.stopping.set
    Supervisor([case.query], case.stopping, poll=stop).run()
    assert case.query.state.state == "restarting"
    with pytest.raises(StopRequested):
        case.query.guard(lambda *_: None)(NO_ROWS, 0)


def test_the_others_go_on_and_the_driver_ends_with_the_first_error_when_all_have_stopped() -> None:
    first, second = Case(), Case()
    second.stopping = first.stopping
    looks: list[tuple[str, str]] = []

    def poll() -> None:
        looks.append((first.query.state.state, second.query.state.state))
        if len(looks) == 1:
            first.started[-1].fail(FATAL)
        elif len(looks) == 3:
            second.started[-1].fail(DataLoss("q", [LostRange("t", 0, 3, 9)], "air_quality"))

    with pytest.raises(TopicRecreated):
        Supervisor([first.query, second.query], first.stopping, poll=poll).run()
    assert looks == [("running", "running"), ("stopped", "running"), ("stopped", "running"), ("stopped", "stopped")]


def test_a_query_that_holds_a_source_back_runs_and_is_started_again_by_resume_alone() -> None:
    case = Case()
    case.query.begin()
    case.query.resume()
    case.query.tick()
    assert len(case.started) == 1, "nothing is held: nothing to resume"
    case.query.refused = {"users": REFUSED}
    assert (case.query.state.state, case.query.state.held) == ("running", {"users": str(REFUSED)})
    case.started[0].status["isTriggerActive"] = True
    case.query.resume()
    case.query.tick()
    assert case.started[0].isActive, "the running micro-batch is waited for"
    case.started[0].status["isTriggerActive"] = False
    case.query.tick()
    case.query.tick()
    assert (len(case.started), case.query.state.state, case.query.state.held, case.query.state.restarts) == (2, "running", {}, 1)


def test_a_drained_query_that_holds_a_source_back_ends_with_its_error() -> None:
    case = Case(draining=True)
    case.query.begin()
    case.query.refused = {"users": REFUSED}
    case.started[-1].stop()
    case.query.tick()
    assert (case.query.state.state, case.query.error) == ("stopped", REFUSED)


def test_a_lost_lease_ends_the_driver_whatever_the_others_do() -> None:
    case, other = Case(), Case()
    case.refuse = LeaseLost("stream x", "another")
    with pytest.raises(LeaseLost):
        Supervisor([other.query, case.query], case.stopping).run()
    assert not other.started[-1].isActive


def test_states_are_read_back_while_their_writer_lives(tmp_path: Path) -> None:
    case = Case()
    case.query.begin()
    write_states(LocalFolder(tmp_path), "air_quality", [case.query.state])
    assert read_states(LocalFolder(tmp_path), "air_quality") == [case.query.state]
    file = tmp_path / states_file("air_quality")
    held = json.loads(file.read_text())
    file.write_text(json.dumps({**held, "created": held["created"] - 60}))
    assert read_states(LocalFolder(tmp_path), "air_quality") == []
    assert read_states(LocalFolder(tmp_path), "other") == []
