"""Every error of the API, on a real socket: what class it is, how often it is asked, what it says, and that no cursor moves."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from deploy.local.services.open_meteo_server import Fault, OpenMeteoServer
from lakehouse.errors import Fatal, ProducerError, Retryable
from producers.budget import limit_boundary
from producers.call_errors import BrokenAnswerError, LimitError, RefusedError, UnavailableError
from producers.calls import ATTEMPTS, LIMIT_WAITS
from producers.clock import Clock
from producers.kafka_writer import InvalidRecordsError
from producers.publish import EntitiesFailedError, EntitiesRefusedError, NoData
from producers.sources.open_meteo.client import NoSuchPlaceError, OpenMeteo
from producers.sources.open_meteo.splitting import Days
from tests.support.producers import DANANG, GOLDEN, HANOI, HCMC, NOW, PLACES, FakeKafka, FakeTime, Outcome, Publisher, publisher_to

CASES = [json.loads(line) for line in (GOLDEN / "open_meteo_errors.jsonl").read_text().splitlines()]
DAY = date(2024, 1, 2)
DAYS = Days(DAY, DAY, DAY - timedelta(days=1), DAY + timedelta(days=1))


def fault_of(case: dict[str, object], turned: bool = False) -> Fault:
    body = case["body"]
    assert isinstance(body, dict)
    keys = reversed(list(body)) if turned else list(body)
    return Fault(int(str(case["status"])), json.dumps({key: body[key] for key in keys}, ensure_ascii=False).encode())


def reason_of(case: dict[str, object]) -> str:
    assert isinstance(case["body"], dict)
    return str(case["body"]["reason"])


def cases(*statuses: int) -> list[object]:
    return [pytest.param(case, id=str(case["case"])) for case in CASES if case["status"] in statuses]


def limit(span: str) -> dict[str, object]:
    return next(case for case in CASES if case["case"] == f"{span} limit")


@pytest.fixture
def publisher(source: OpenMeteo, tmp_path: Path, time: FakeTime) -> Publisher:
    return publisher_to(FakeKafka(), source, tmp_path, time)


def poll(publisher: Publisher, *places: object) -> Outcome:
    outcome = Outcome()
    publisher.publish_latest([HANOI] if not places else list(PLACES), outcome)
    return outcome


def test_all_known_cases_are_covered() -> None:
    assert len(CASES) == 21
    assert sorted({case["status"] for case in CASES}) == [400, 401, 429, 500, 503]


@pytest.mark.parametrize("case", cases(400, 401))
@pytest.mark.parametrize("turned", [False, True])
def test_refusal_is_final_at_once_with_the_reason(
    case: dict[str, object], turned: bool, api: OpenMeteoServer, source: OpenMeteo, publisher: Publisher, time: FakeTime
) -> None:
    api.always(fault_of(case, turned))
    with pytest.raises(RefusedError) as caught:
        source.fetch([HANOI], DAYS)
    assert isinstance(caught.value, Fatal)
    assert isinstance(caught.value, NoSuchPlaceError) == (case["case"] == "no data")
    assert reason_of(case) in str(caught.value)
    assert "hanoi from 2024-01-01 to 2024-01-03" in str(caught.value)
    assert str(case["status"]) in str(caught.value)
    assert len(api.requests) == 1
    assert time.sleeps == []

    with pytest.raises((RefusedError, EntitiesRefusedError)):
        poll(publisher).raise_failures()
    assert len(api.requests) == 2
    assert publisher.cursors.read() == {}


@pytest.mark.parametrize(
    "case", [*cases(500, 503), pytest.param(next(c for c in CASES if c["case"] == "parallel calls"), id="parallel calls")]
)
def test_outage_is_asked_again_a_few_times_and_then_fails(
    case: dict[str, object], api: OpenMeteoServer, source: OpenMeteo, publisher: Publisher, time: FakeTime
) -> None:
    api.always(fault_of(case))
    with pytest.raises(UnavailableError) as caught:
        source.fetch([HANOI], DAYS)
    assert isinstance(caught.value, Retryable)
    assert reason_of(case) in str(caught.value)
    assert len(api.requests) == ATTEMPTS
    assert time.sleeps == []

    with pytest.raises(EntitiesFailedError, match="hanoi"):
        poll(publisher).raise_failures()
    assert publisher.cursors.read() == {}

    api.queue(fault_of(case), fault_of(case))
    api.always(None)
    assert poll(publisher).failures == {}
    assert publisher.cursors.read() == {"hanoi": NOW.replace(minute=0, second=0, microsecond=0)}


@pytest.mark.parametrize(
    ("span", "boundary"),
    [("minute", datetime(2024, 1, 20, 10, 31, tzinfo=UTC)), ("hour", datetime(2024, 1, 20, 11, tzinfo=UTC))],
)
def test_minute_and_hour_limits_are_waited_for(
    span: str, boundary: datetime, api: OpenMeteoServer, source: OpenMeteo, publisher: Publisher, time: FakeTime
) -> None:
    api.queue(fault_of(limit(span)))
    (found,) = source.fetch([HANOI], DAYS)
    assert len(found.hours) == 24
    assert len(api.requests) == 2
    (slept,) = time.sleeps
    assert 0.5 <= slept - (boundary - NOW).total_seconds() <= 2
    assert found.retrieved_ts >= boundary

    api.always(fault_of(limit(span)))
    with pytest.raises(LimitError, match=f"limit of Open-Meteo for the {span} is used up .*Run it again after 2024-01-20T") as caught:
        poll(publisher)
    assert isinstance(caught.value, Retryable)
    assert len(time.sleeps) == 1 + LIMIT_WAITS
    assert len(api.requests) == 2 + 1 + LIMIT_WAITS
    assert publisher.cursors.read() == {}


def test_day_limit_fails_at_once_and_says_when_to_come_back(api: OpenMeteoServer, publisher: Publisher, time: FakeTime) -> None:
    api.always(fault_of(limit("day")))
    with pytest.raises(LimitError, match=r"Daily API request limit exceeded.*Run it again after 2024-01-21T00:00:00Z") as caught:
        poll(publisher, "all")
    assert isinstance(caught.value, Retryable)
    assert (len(api.requests), time.sleeps) == (1, [])
    assert publisher.cursors.read() == {}


def test_boundaries_are_the_next_ones_even_on_the_boundary() -> None:
    new_year = datetime(2024, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    for span in ("minute", "hour", "day"):
        assert limit_boundary(span, new_year) == datetime(2025, 1, 1, tzinfo=UTC)
    midnight = datetime(2025, 1, 1, tzinfo=UTC)
    assert limit_boundary("minute", midnight) == midnight + timedelta(minutes=1)
    assert limit_boundary("day", midnight) == midnight + timedelta(days=1)


def test_429_without_a_known_text_and_unknown_statuses_are_outages_or_refusals(api: OpenMeteoServer, source: OpenMeteo) -> None:
    kinds: list[tuple[int, bytes, type[ProducerError], str]] = [
        (429, b"slow down", UnavailableError, "slow down"),
        (408, b"", UnavailableError, "no reason given"),
        (502, b"<html>bad gateway</html>", UnavailableError, "<html>bad gateway"),
        (403, b'{"reason":"blocked"}', RefusedError, "blocked"),
        (404, b"", RefusedError, "no reason given"),
    ]
    for status, body, kind, text in kinds:
        api.always(Fault(status, body))
        with pytest.raises(kind, match=text):
            source.fetch([HANOI], DAYS)


def turned_around(answer: object) -> object:
    assert isinstance(answer, list)
    return list(reversed(answer))


def renumbered(answer: object) -> object:
    """Another order that the coordinates would tell as well."""
    assert isinstance(answer, list)
    return [{**element, "location_id": index} for index, element in enumerate(reversed(answer))]


def moved(answer: object) -> object:
    assert isinstance(answer, dict)
    return {**answer, "latitude": HANOI.latitude + 0.51}


def shorter(answer: object) -> object:
    assert isinstance(answer, dict)
    return {**answer, "hourly": {name: column[:-1] for name, column in answer["hourly"].items()}}


def with_a_gap(answer: object) -> object:
    assert isinstance(answer, dict)
    return {**answer, "hourly": {name: column[:5] + column[6:] for name, column in answer["hourly"].items()}}


def with_a_short_column(answer: object) -> object:
    assert isinstance(answer, dict)
    return {**answer, "hourly": answer["hourly"] | {"pm10": answer["hourly"]["pm10"][:-1]}}


def without_hours(answer: object) -> object:
    assert isinstance(answer, dict)
    return {name: value for name, value in answer.items() if name != "hourly"}


BROKEN = {
    "cut off": (Fault(keep_bytes=900), "the answer was cut off", 1),
    "nothing at all": (Fault(drop=True), "no connection", 1),
    "too slow": (Fault(delay_seconds=0.8), "no answer in time", 1),
    "half a JSON": (Fault(body=b'{"latitude":21.0,"hourly":{"ti'), "not JSON", 1),
    "empty": (Fault(body=b""), "0 bytes that are not JSON", 1),
    "not UTF-8": (Fault(body=b'{"reason":"\xff"}'), "not JSON", 1),
    "NaN": (Fault(body=b'{"latitude":NaN}'), "NaN is not JSON", 1),
    "error as 200": (Fault(body=b'{"error":true,"reason":"Something went wrong."}'), "an error instead of data: Something went wrong.", 1),
    "a number": (Fault(body=b"3"), "a JSON int where", 1),
    "no hourly": (Fault(change=without_hours), "no `hourly` in the answer", 1),
    "too far": (Fault(change=moved), "more than 0.5° from hanoi", 1),
    "fewer hours": (Fault(change=shorter), "1 of 72 requested hours are missing, the first is 2024-01-03T23:00Z", 1),
    "a gap": (Fault(change=with_a_gap), "1 of 72 requested hours are missing, the first is 2024-01-01T05:00Z", 1),
    "short column": (Fault(change=with_a_short_column), "`pm10` of hanoi has 71 values for 72 hours", 1),
    "short list": (Fault(change=lambda answer: answer[:2]), "2 place(s) in the answer, 3 were requested", 3),  # type: ignore[index]
    "long list": (Fault(change=lambda answer: [*answer, answer[0]]), "4 place(s) in the answer", 3),  # type: ignore[index,misc]
    "one for a list": (Fault(change=lambda answer: answer[0]), "1 place(s) in the answer", 3),  # type: ignore[index]
    "other order": (Fault(change=turned_around), "element 0 (hanoi) has location_id 2: not in the requested order", 3),
    "other order by place": (Fault(change=renumbered), "from hanoi at 21.0278", 3),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_answer_is_asked_again_a_few_times_and_then_fails(
    name: str, api: OpenMeteoServer, source: OpenMeteo, time: FakeTime
) -> None:
    fault, text, places = BROKEN[name]
    api.always(fault)
    with pytest.raises((BrokenAnswerError, UnavailableError)) as caught:
        source.fetch(PLACES[:places], DAYS)
    assert isinstance(caught.value, Retryable)
    assert text in str(caught.value)
    assert "hanoi" in str(caught.value)
    assert len(api.requests) == ATTEMPTS
    assert time.sleeps == []

    api.queue(fault)
    api.always(None)
    assert len(source.fetch(PLACES[:places], DAYS)) == places


def test_one_broken_place_does_not_cost_the_others_theirs(api: OpenMeteoServer, publisher: Publisher) -> None:
    def break_hcmc(answer: object) -> object:
        elements: list[dict[str, object]] = answer if isinstance(answer, list) else [answer]  # type: ignore[list-item]
        changed = [shorter(element) if element["latitude"] == 10.800003 else element for element in elements]
        return changed if isinstance(answer, list) else changed[0]

    api.always(Fault(change=break_hcmc))
    outcome = poll(publisher, "all")
    assert set(outcome.failures) == {"hcmc"}
    assert outcome.entities == {"hanoi", "danang"}
    assert set(publisher.cursors.read()) == {"hanoi", "danang"}
    assert len(api.requests) == ATTEMPTS + 3
    with pytest.raises(EntitiesFailedError, match=r"1 place.*\n  hcmc: .*requested hours are missing"):
        outcome.raise_failures()

    api.always(None)
    assert poll(publisher, "all").failures == {}
    assert set(publisher.cursors.read()) == {"hanoi", "danang", "hcmc"}


def test_place_without_data_does_not_cost_the_others_theirs(api: OpenMeteoServer, publisher: Publisher) -> None:
    no_data = fault_of(next(case for case in CASES if case["case"] == "no data"))
    api.queue(no_data, no_data)
    outcome = poll(publisher, "all")
    assert (set(outcome.failures), outcome.entities) == ({"hanoi"}, {"hcmc", "danang"})
    assert outcome.without_data == {}
    with pytest.raises(EntitiesRefusedError, match="No data is available for this location"):
        outcome.raise_failures()


def test_outage_ends_asking_one_by_one(api: OpenMeteoServer, publisher: Publisher) -> None:
    api.always(Fault(503, b"down"))
    outcome = poll(publisher, "all")
    assert set(outcome.failures) == {place.location_key for place in (HANOI, HCMC, DANANG)}
    assert len(api.requests) == ATTEMPTS + 2


def test_hours_without_data_are_no_failure(api: OpenMeteoServer, publisher: Publisher, tmp_path: Path) -> None:
    def emptied(answer: object) -> object:
        assert isinstance(answer, dict)
        hourly = answer["hourly"]
        cut = [i for i, ts in enumerate(hourly["time"]) if ts >= int(NOW.timestamp()) - 5 * 3600]
        for name, column in hourly.items():
            if name not in ("time", "us_aqi"):
                for i in cut:
                    column[i] = None
        hourly["us_aqi"] = [50] * len(hourly["time"])
        return answer

    api.always(Fault(change=emptied))
    outcome = poll(publisher)
    assert outcome.failures == {}
    # 06:00 to 10:00: what lies behind the present is no loss, the forecast does not reach that far.
    assert outcome.without_data == {"hanoi": NoData(5, datetime(2024, 1, 20, 6, tzinfo=UTC), datetime(2024, 1, 20, 10, tzinfo=UTC))}
    assert publisher.cursors.read() == {"hanoi": datetime(2024, 1, 20, 5, tzinfo=UTC)}


def test_place_with_records_that_are_none_is_not_advanced(api: OpenMeteoServer, publisher: Publisher) -> None:
    def garbled(answer: object) -> object:
        assert isinstance(answer, list)
        answer[1]["hourly"]["pm10"] = ["much"] * len(answer[1]["hourly"]["time"])
        return answer

    api.queue(Fault(change=garbled))
    poll(publisher, "all")
    assert set(publisher.cursors.read()) == {"hanoi", "danang"}
    with pytest.raises(InvalidRecordsError, match="pm10 is str 'much', expected double"):
        publisher.writer.raise_invalid()


def test_calls_and_retries_are_counted_by_how_they_ended(api: OpenMeteoServer, source: OpenMeteo) -> None:
    def counted() -> dict[str, float]:
        samples = {"retries": REGISTRY.get_sample_value("weir_producer_retries_total", {"source": "open-meteo"}) or 0.0}
        for outcome in ("ok", "refused", "limited", "unavailable", "broken"):
            labels = {"source": "open-meteo", "outcome": outcome}
            samples[outcome] = REGISTRY.get_sample_value("weir_producer_calls_total", labels) or 0.0
        return samples

    before = counted()
    api.queue(Fault(503, b"down"), Fault(body=b"{"), fault_of(limit("minute")), Fault(), Fault(400, b"no"))
    source.fetch([HANOI], DAYS)
    with pytest.raises(RefusedError):
        source.fetch([HANOI], DAYS)
    after = counted()
    assert {name: after[name] - before[name] for name in after} == {
        "retries": 2,
        "ok": 1,
        "refused": 1,
        "limited": 1,
        "unavailable": 1,
        "broken": 1,
    }


def test_key_is_sent(api: OpenMeteoServer, time: FakeTime) -> None:
    with OpenMeteo(api.url, time.clock, api_key="s3cret") as source:
        source.fetch([HANOI], DAYS)
    assert api.requests[0]["apikey"] == "s3cret"


def test_no_answer_ever_shows_the_key(time: FakeTime) -> None:
    with OpenMeteo("http://127.0.0.1:1", time.clock, api_key="s3cret") as source, pytest.raises(UnavailableError) as caught:
        source.fetch([HANOI], DAYS)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_told_to_stop_it_asks_no_more(api: OpenMeteoServer, time: FakeTime) -> None:
    api.always(Fault(503, b"down"))
    with OpenMeteo(api.url, Clock(lambda: time.now, time.sleep), is_stopping=lambda: True) as source, pytest.raises(UnavailableError):
        source.fetch([HANOI], DAYS)
    assert len(api.requests) == 1
