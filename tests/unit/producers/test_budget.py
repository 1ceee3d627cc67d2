"""Are the API's limits kept by all programs together, and does the live poll get its calls before a backfill?"""

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from deploy.local.services.open_meteo_server import Fault, OpenMeteoServer
from lakehouse.errors import Fatal, Retryable
from lakehouse.settings import Settings
from producers.budget import SPANS, Budget, Lane, LimitSpan, TooHeavyError, limit_boundary
from producers.call_errors import LimitError
from producers.sources.open_meteo.client import OpenMeteo
from producers.sources.open_meteo.limits import FREE, call_weight, limits_of
from producers.sources.open_meteo.splitting import split_days
from tests.support.producers import NOW, PLACES, FakeTime

API = "https://air-quality-api.example"
QUARTER = timedelta(minutes=15)


def limits(minute: float = math.inf, hour: float = math.inf, day: float = math.inf) -> dict[LimitSpan, float]:
    return {"minute": minute, "hour": hour, "day": day}


def budget(folder: Path, lane: Lane = "poll", given: dict[LimitSpan, float] | None = None, program: str = "", url: str = API) -> Budget:
    return Budget(folder / "state" / "budget.db", url, given or limits(100, 500, 1_000), lane, program or lane)


@pytest.mark.parametrize(
    ("places", "variables", "days", "weight"),
    [(1, 1, 1, 1), (1, 10, 14, 1), (3, 17, 9, 5.1), (1, 15, 28, 3), (1, 5, 28, 1), (1, 17, 90, 1.7 * 90 / 14), (50, 10, 30, 50 * 30 / 14)],
)
def test_call_is_weighed_by_places_variables_and_days(places: int, variables: int, days: int, weight: float) -> None:
    assert call_weight(places, variables, days) == pytest.approx(weight)


def test_limits_are_those_of_the_free_plan_none_on_the_loopback_and_what_is_set_goes_before() -> None:
    unset: dict[LimitSpan, int | None] = {"minute": None, "hour": None, "day": None}
    assert limits_of("https://air-quality-api.open-meteo.com", unset) == FREE == limits(600, 5_000, 10_000)
    for url in ("http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"):
        assert limits_of(url, unset) == limits()
    assert limits_of("http://127.0.0.1:8080", {**unset, "minute": 7}) == limits(minute=7)
    assert limits_of(API, {"minute": 0, "hour": 60_000, "day": None}) == limits(math.inf, 60_000, 10_000)


def test_count_is_the_users_and_no_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert {Settings(home=tmp_path / home).budget_path for home in ("one", "other")} == {str(tmp_path / "weir" / "budget.db")}
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(home=tmp_path / "one").budget_path == str(tmp_path / ".local/state/weir/budget.db")
    assert Settings(home=tmp_path / "one", budget_path="here.db").budget_path == "here.db"


def test_without_limits_no_file_is_touched(tmp_path: Path) -> None:
    free = budget(tmp_path, given=limits())
    free.announce(5, QUARTER, NOW)
    free.fill("day", NOW)
    assert free.take(1e9, NOW) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "span"), [(limits(minute=10), "minute"), (limits(hour=10), "hour"), (limits(day=10), "day"), (limits(10, 10, 10), "day")]
)
def test_used_up_limit_says_until_when_and_begins_anew_then(tmp_path: Path, given: dict[LimitSpan, float], span: LimitSpan) -> None:
    mine, other = budget(tmp_path, given=given), budget(tmp_path, given=given, program="another home")
    assert mine.take(6, NOW) is None
    wait = other.take(6, NOW)
    assert wait is not None
    assert (wait.span, wait.until) == (span, limit_boundary(span, NOW))
    assert wait.reason == "weir's own count: 6.0 of 10 used, 6.0 requested"
    assert other.take(4, NOW) is None
    assert other.take(6, wait.until) is None
    assert budget(tmp_path, given=given, url="https://another.example").take(10, NOW) is None


def test_request_that_never_fits_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(
        TooHeavyError, match=r"weighs 101.0 calls, but a poll may take at most 100.0 at once: raise WEIR_BUDGET_PER_MINUTE"
    ) as caught:
        budget(tmp_path).take(101, NOW)
    assert isinstance(caught.value, Fatal)
    with pytest.raises(TooHeavyError):
        budget(tmp_path, "range").take(51, NOW)


def test_backfill_stands_aside_while_a_poll_waits_and_goes_on_after_it(tmp_path: Path) -> None:
    live, backfill = budget(tmp_path), budget(tmp_path, "range")
    assert live.take(80, NOW) is None
    wait = live.take(30, NOW)
    assert wait is not None and wait.span == "minute"
    held = backfill.take(1, NOW)
    assert held is not None
    assert (held.until, held.reason) == (wait.until, "a live poll is waiting and goes first")
    a_moment_later = wait.until + timedelta(milliseconds=10)
    held = backfill.take(1, a_moment_later)
    assert held is not None and held.until > a_moment_later
    assert live.take(30, a_moment_later + timedelta(seconds=1)) is None
    assert backfill.take(1, a_moment_later + timedelta(seconds=2)) is None


def test_poll_that_died_waiting_does_not_hold_a_backfill_up_for_ever(tmp_path: Path) -> None:
    live, backfill = budget(tmp_path), budget(tmp_path, "range")
    assert live.take(100, NOW) is None
    assert live.take(30, NOW) is not None
    assert backfill.take(1, NOW + timedelta(seconds=90)) is None


def test_backfill_leaves_the_polls_what_they_need_until_midnight(tmp_path: Path) -> None:
    live, backfill = budget(tmp_path, given=limits(day=100)), budget(tmp_path, "range", given=limits(day=100))
    evening = datetime(2024, 1, 20, 22, 50, tzinfo=UTC)
    assert backfill.take(60, evening) is None
    live.announce(5, QUARTER, evening)  # five more polls today: 25 of the 40 that are left
    assert backfill.take(15, evening) is None
    wait = backfill.take(1, evening)
    assert wait is not None
    assert (wait.span, wait.until, "25.0 reserved for the live poll" in wait.reason) == ("day", datetime(2024, 1, 21, tzinfo=UTC), True)
    # An announcement holds for two polls.
    assert backfill.take(1, evening + timedelta(minutes=31)) is None


def test_polling_beyond_the_limit_is_told_once_with_the_interval_that_would_do(tmp_path: Path) -> None:
    live = budget(tmp_path, given=limits(600, 5_000, 10_000))
    with capture_logs() as logs:
        live.announce(51, QUARTER, NOW)
        assert logs == []
        live.announce(170, QUARTER, NOW)
        live.announce(170, QUARTER, NOW)
    (line,) = logs
    assert (line["log_level"], line["span"], line["needed"], line["minutes_that_would_do"]) == ("warning", "day", 16_320, 25)


def test_limit_that_the_api_declares_used_up_holds_for_all(tmp_path: Path) -> None:
    budget(tmp_path).fill("hour", NOW)
    wait = budget(tmp_path, program="another").take(1, NOW)
    assert wait is not None and wait.span == "hour"
    assert REGISTRY.get_sample_value("weir_producer_budget_used", {"api": urlsplit(API).netloc, "window": "hour"}) == 500
    assert REGISTRY.get_sample_value("weir_producer_budget_limit", {"api": urlsplit(API).netloc, "window": "hour"}) == 500


def test_lost_count_is_told_and_begins_at_nothing(tmp_path: Path) -> None:
    assert budget(tmp_path).take(100, NOW) is None
    (tmp_path / "state" / "budget.db").write_bytes(b"no database" * 1_000)
    with capture_logs() as logs:
        assert budget(tmp_path).take(100, NOW) is None
    assert [line["event"] for line in logs] == [
        "the count of used calls was lost and restarts at zero; the API may refuse calls that weir's own count allows"
    ]


def spend(folder: str, granted: "Queue[int]") -> None:
    mine = budget(Path(folder))
    granted.put(sum(mine.take(3, NOW) is None for _ in range(20)))


def test_two_processes_together_stay_within_the_limit(tmp_path: Path) -> None:
    context = get_context("spawn")
    granted: Queue[int] = context.Queue()
    spenders = [context.Process(target=spend, args=(str(tmp_path), granted)) for _ in range(2)]
    for spender in spenders:
        spender.start()
    assert sum(granted.get(timeout=60) for _ in spenders) == 33
    for spender in spenders:
        spender.join()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0.5, 20)), max_size=20), st.floats(1, 12), st.integers(0, 1_380))
def test_limits_hold_and_every_announced_poll_is_granted_however_much_is_backfilled(
    asked: list[tuple[float, float]], poll: float, minutes: int
) -> None:
    """Polls of up to 12 a quarter of an hour need at most 1,152 a day; the backfill takes what it can get between them."""
    given_limits = limits(60, 200, 1_300)
    began = datetime(2024, 1, 20, tzinfo=UTC) + timedelta(minutes=minutes)
    with TemporaryDirectory() as folder:
        live, backfill = budget(Path(folder), given=given_limits), budget(Path(folder), "range", given_limits)
        events = [(began + timedelta(seconds=60 * offset), weight, backfill) for offset, weight in asked]
        events += [(began + i * QUARTER, poll, live) for i in range(12)]
        used: defaultdict[tuple[LimitSpan, datetime], float] = defaultdict(float)
        for now, weight, who in sorted(events, key=lambda event: (event[0], event[2] is backfill)):
            if who is live:
                live.announce(poll, QUARTER, now)
            wait = who.take(weight, now)
            if who is live and wait:
                # The minute's or the hour's limit may be waited for; then the poll goes first.
                assert wait.span != "day"
                assert live.take(weight, wait.until) is None
                now = wait.until
                wait = None
            if wait is None:
                for span in SPANS:
                    used[span, limit_boundary(span, now)] += weight
        assert all(weight <= given_limits[span] + 1e-6 for (span, _), weight in used.items())


# --- the client that takes from it


def test_client_waits_for_the_minute_and_says_until_when(api: OpenMeteoServer, tmp_path: Path, time: FakeTime) -> None:
    mine = budget(tmp_path, given=limits(minute=6), url=api.url)
    (days,) = split_days(NOW.date(), NOW.date(), NOW.date())
    with OpenMeteo(api.url, time.clock, budget=mine) as source, capture_logs() as logs:
        source.fetch(PLACES, days)
        assert (len(api.requests), time.sleeps) == (1, [])
        source.fetch(PLACES, days)
    (slept,) = time.sleeps
    assert 0.5 <= slept - (limit_boundary("minute", NOW) - NOW).total_seconds() <= 2
    (line,) = logs
    assert (line["event"], line["span"], line["until"]) == ("waiting for the budget", "minute", "2024-01-20T10:31:00+00:00")
    assert len(api.requests) == 2


def test_used_up_day_is_the_error_of_the_apis_own_limit_without_asking_it(api: OpenMeteoServer, tmp_path: Path, time: FakeTime) -> None:
    mine = budget(tmp_path, given=limits(day=6), url=api.url)
    (days,) = split_days(NOW.date(), NOW.date(), NOW.date())
    with OpenMeteo(api.url, time.clock, budget=mine) as source:
        source.fetch(PLACES, days)
        with pytest.raises(
            LimitError,
            match=r"limit of Open-Meteo for the day is used up \(weir's own count: 5.1 of 6 used.*Run it again after 2024-01-21T",
        ) as caught:
            source.fetch(PLACES, days)
    assert isinstance(caught.value, Retryable)
    assert (len(api.requests), time.sleeps) == (1, [])


def test_every_attempt_counts_and_a_429_fills_the_limit_for_the_others(api: OpenMeteoServer, tmp_path: Path, time: FakeTime) -> None:
    mine = budget(tmp_path, given=limits(100, 100, 100), url=api.url)
    api.queue(Fault(503, b"down"), Fault(429, b'{"reason":"Daily API request limit exceeded. Please try again tomorrow.","error":true}'))
    (days,) = split_days(NOW.date(), NOW.date(), NOW.date())
    with OpenMeteo(api.url, time.clock, budget=mine) as source, pytest.raises(LimitError, match="Daily API request limit exceeded"):
        source.fetch(PLACES[:1], days)
    assert len(api.requests) == 2
    wait = budget(tmp_path, given=limits(100, 100, 100), url=api.url, program="another").take(1, NOW)
    assert wait is not None
    assert (wait.span, wait.reason) == ("day", "weir's own count: 100.0 of 100 used, 1.0 requested")


def test_requests_are_cut_to_what_the_budget_can_give(tmp_path: Path, time: FakeTime) -> None:
    (days,) = split_days(NOW.date() - timedelta(days=80), NOW.date() - timedelta(days=10), NOW.date())
    weight = call_weight(1, 17, days.asked)
    places = [PLACES[0]] * 10
    lanes: list[tuple[Lane, set[int]]] = [("poll", {3, 1}), ("range", {1})]
    for lane, sizes in lanes:
        tight = budget(tmp_path, lane, limits(minute=weight * 3.5), url="http://127.0.0.1:1")
        with OpenMeteo("http://127.0.0.1:1", time.clock, budget=tight) as source:
            assert {len(group) for group in source.split(places, days)} == sizes
