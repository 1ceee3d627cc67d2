"""Is "nothing new upstream" told from "upstream is late", and both from "we are late"?"""

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from deploy.local.status import collect, show
from lakehouse.settings import Settings
from producers import upstream
from producers.polls import Failing, PollFacts, Polls
from producers.sources.open_meteo.source import CAMS
from producers.upstream import lateness, span

RUN_EVERY, newest_due = CAMS.every, CAMS.newest_due
judge_upstream, changed_at = partial(upstream.judge_upstream, timetable=CAMS), partial(upstream.changed_at, timetable=CAMS)
HOUR = timedelta(hours=1)
QUARTER = timedelta(minutes=15)


def at(hour: float, day: int = 20) -> datetime:
    return datetime(2024, 1, day, tzinfo=UTC) + hour * HOUR


def test_runs_are_due_at_8_and_20_utc() -> None:
    assert [newest_due(at(hour)) for hour in (7.99, 8, 19.99, 20)] == [at(20, 19), at(8), at(8), at(20)]


@settings(deadline=None)
@given(st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)))
def test_due_run_is_the_newest_one(now: datetime) -> None:
    assert timedelta(0) <= now - newest_due(now) < RUN_EVERY
    assert newest_due(now).hour in (8, 20)


@pytest.mark.parametrize(
    ("changed", "now", "state", "says"),
    [
        (None, at(9), "unknown", "upstream's age is not known yet: no published value has changed since the first poll"),
        (at(8.1), at(13.1), "nothing new", "nothing new upstream: last change 5 h ago, the next run is due in 7 h"),
        (at(6.5), at(13.5), "nothing new", "nothing new upstream: last change 7 h ago, the next run is due in 6 h"),
        (at(20, 19), at(7), "nothing new", "nothing new upstream: last change 11 h ago, the next run is due in 60 min"),
        (at(20, 19), at(8.5), "nothing new", "nothing new upstream: last change 12 h ago, a run is due about now"),
        (at(20, 19), at(11), "late", "upstream is late: last change 15 h ago, a run was due 3 h ago"),
        (at(20, 16), at(11), "late", "upstream is late: last change 3.6 d ago, a run was due 3 h ago"),
    ],
)
def test_what_upstream_is_at(changed: datetime | None, now: datetime, state: str, says: str) -> None:
    found = judge_upstream(changed, now)
    assert (found.state, found.says) == (state, says)
    assert found.age == (now - changed if changed else None)


def test_change_is_dated_by_the_arrival_that_was_due_between_two_polls_else_by_the_earlier_poll() -> None:
    assert changed_at(at(7.9), at(8.15)) == at(8)
    assert changed_at(at(8.75), at(9)) == at(8.75)
    assert changed_at(at(1, 17), at(7)) == at(20, 19)
    assert changed_at(None, at(7)) == at(7)


def test_we_are_late_after_two_intervals() -> None:
    assert lateness(at(9), QUARTER, at(9.5)) == ""
    assert lateness(at(9), QUARTER, at(9) + timedelta(minutes=40)) == "we are late: last successful poll 40 min ago, expected every 15 min"
    assert lateness(None, QUARTER, at(9)) == lateness(at(9), None, at(19)) == ""


def test_spans_are_written_for_people() -> None:
    assert [span(timedelta(seconds=s)) for s in (0, 89, 90, 5_000, 6_000, 200_000)] == ["0 s", "89 s", "2 min", "83 min", "2 h", "2.3 d"]


def test_place_that_fails_is_kept_with_its_first_time_until_it_succeeds(tmp_path: Path) -> None:
    polls = Polls(tmp_path, "open-meteo")
    assert polls.read() == PollFacts()
    polls.note(at(9), QUARTER, ["hanoi", "hcmc"], {"hcmc": ValueError("cut off")}, has_changed=False)
    facts = polls.note(at(9.25), QUARTER, ["hanoi", "hcmc"], {"hcmc": ValueError("no answer")}, has_changed=True)
    assert facts == Polls(tmp_path, "open-meteo").read()
    assert facts == PollFacts(QUARTER, at(9.25), at(9.25), at(9), "", {"hcmc": Failing(at(9), "no answer")})
    assert REGISTRY.get_sample_value("weir_producer_failing_places", {"source": "open-meteo"}) == 1

    # A poll of one place alone says nothing of another.
    assert set(polls.note(at(9.5), None, ["hanoi"], {}, has_changed=False).failing) == {"hcmc"}
    facts = polls.note(at(9.75), None, ["hanoi", "hcmc"], {}, has_changed=False)
    assert (facts.failing, facts.every, facts.upstream_changed) == ({}, QUARTER, at(9))


def test_poll_that_got_nothing_is_no_success(tmp_path: Path) -> None:
    polls = Polls(tmp_path, "open-meteo")
    polls.note(at(9), QUARTER, ["hanoi"], {}, has_changed=False)
    assert polls.note(at(10), QUARTER, ["hanoi"], {"hanoi": ValueError("down")}, has_changed=False).last_success == at(9)
    facts = polls.note_failed(at(11), QUARTER, "no Kafka")
    assert (facts.last_success, facts.last_poll, facts.problem) == (at(9), at(11), "no Kafka")
    assert polls.note(at(12), QUARTER, ["hanoi"], {}, has_changed=False).problem == ""


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"every_minutes": null, "failing": 3}', "\udcff"])
def test_unreadable_facts_are_told_and_begun_anew(tmp_path: Path, text: str) -> None:
    polls = Polls(tmp_path, "open-meteo")
    polls.path.write_text(text, errors="surrogateescape")
    with capture_logs() as logs:
        assert polls.read() == PollFacts()
    assert [line["log_level"] for line in logs] == ["warning"]
    assert polls.note(at(9), QUARTER, ["hanoi"], {}, has_changed=False) == polls.read()


def test_status_shows_failing_places_and_who_is_late(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    polls = Polls(tmp_path / "state", "open-meteo")
    polls.note(at(9), QUARTER, ["hanoi"], {}, has_changed=False)
    failures = {"hcmc": ValueError("[429] no room"), "removed": ValueError("gone")}
    polls.note(at(9.25), QUARTER, ["hanoi", "hcmc", "removed"], failures, has_changed=True)
    on_time, late = (collect(Settings(home=tmp_path), now) for now in (at(9.5), at(11)))
    (source,) = json.loads(json.dumps(on_time))["sources"]
    assert source == {
        "source": "open-meteo",
        "last_success": "2024-01-20T09:15:00.000Z",
        "every_minutes": 15,
        "is_late": False,
        "upstream": "nothing new",
        "upstream_changed": "2024-01-20T09:00:00.000Z",
        "says": "nothing new upstream: last change 30 min ago, the next run is due in 10 h",
        "problem": None,
        "failing": [{"location": "hcmc", "since": "2024-01-20T09:15:00.000Z", "reason": "[429] no room"}],
    }
    assert late["sources"][0]["is_late"]
    show(late)
    out = capsys.readouterr().out
    assert "open-meteo last polled 2024-01-20 09:15:00: we are late: last successful poll 2 h ago, expected every 15 min" in out
    assert "failing hcmc since 2024-01-20 09:15:00: [429] no room" in out
