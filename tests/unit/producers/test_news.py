"""Does a poll publish what is new or changed and nothing else, and is every hour with its newest value in Kafka whatever happens?"""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from deploy.local.services.open_meteo_server import Fault, OpenMeteoServer
from producers.kafka_writer import DeliveryError
from producers.sources.open_meteo.client import OpenMeteo
from tests.support.producers import HANOI, NOW, PLACES, FakeKafka, FakeTime, Outcome, Publisher, publisher_to

POLLED_HOURS = 7 * 24
MEASURED_HOURS = 3 * 24 + 11  # up to 10:00, the hour of NOW


def changed_by(amount: float, *hours: datetime) -> Fault:
    """Let the source answer other PM2.5 for these hours of its first place."""
    seconds = {int(hour.timestamp()) for hour in hours}

    def change(answer: object) -> object:
        first = answer[0] if isinstance(answer, list) else answer
        assert isinstance(first, dict)
        hourly = first["hourly"]
        hourly["pm2_5"] = [value + amount if ts in seconds else value for ts, value in zip(hourly["time"], hourly["pm2_5"], strict=True)]
        return answer

    return Fault(change=change)


def values(client: FakeKafka) -> Iterator[tuple[str, datetime, float | None, datetime]]:
    for _, value in client.sent:
        record = json.loads(value or b"")
        at, retrieved = (datetime.fromtimestamp(record[name] / 1000, UTC) for name in ("ts_utc", "retrieved_ts"))
        yield record["location_key"], at, record.get("pm25"), retrieved


def poll(publisher: Publisher, only_hanoi: bool = True) -> Outcome:
    outcome = Outcome()
    assert publisher.publish_latest([HANOI] if only_hanoi else PLACES, outcome)
    return outcome


def poll_anew(client: FakeKafka, source: OpenMeteo, folder: Path, time: FakeTime, only_hanoi: bool = True) -> Outcome:
    """Poll as a program that was just started."""
    client.sent.clear()
    return poll(publisher_to(client, source, folder, time), only_hanoi)


def test_second_poll_sends_nothing_and_a_revision_alone_when_there_is_one(
    api: OpenMeteoServer, source: OpenMeteo, tmp_path: Path, time: FakeTime
) -> None:
    client = FakeKafka()
    first = poll_anew(client, source, tmp_path, time, only_hanoi=False)
    assert (len(client.sent), first.kinds) == (3 * POLLED_HOURS, {"new": 3 * POLLED_HOURS})
    time.now += timedelta(minutes=15)
    second = poll_anew(client, source, tmp_path, time, only_hanoi=False)
    assert (client.sent, second.records, second.kinds) == ([], 0, {"unchanged": 3 * POLLED_HOURS})
    assert second.entities == {"hanoi", "hcmc", "danang"}

    revised = NOW.replace(hour=3, minute=0, second=0, microsecond=0)
    api.always(changed_by(5, revised, revised - timedelta(days=2)))
    time.now += timedelta(minutes=10)
    third = poll_anew(client, source, tmp_path, time, only_hanoi=False)
    assert third.kinds == {"changed": 2, "unchanged": 3 * POLLED_HOURS - 2}
    assert [(key, at) for key, at, _, _ in values(client)] == [("hanoi", revised - timedelta(days=2)), ("hanoi", revised)]
    assert {retrieved for *_, retrieved in values(client)} == {time.now.replace(microsecond=123_000)}
    api.always(None)
    assert poll_anew(client, source, tmp_path, time, only_hanoi=False).kinds["changed"] == 2  # and back


def test_hour_that_was_a_forecast_is_sent_once_more_when_it_has_passed(source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    client = FakeKafka()
    poll_anew(client, source, tmp_path, time)
    time.now = NOW + timedelta(hours=2)
    outcome = poll_anew(client, source, tmp_path, time)
    assert outcome.kinds == {"measured": 2, "unchanged": POLLED_HOURS - 2}
    assert [(at.hour, at <= retrieved) for _, at, _, retrieved in values(client)] == [(11, True), (12, True)]
    assert poll_anew(client, source, tmp_path, time).kinds == {"unchanged": POLLED_HOURS}


def test_outage_of_days_is_closed_with_every_hour_measured(source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    client = FakeKafka()
    poll_anew(client, source, tmp_path, time)
    seen = {at: at <= retrieved for _, at, _, retrieved in values(client)}
    time.now = NOW + timedelta(days=9)
    outcome = poll_anew(client, source, tmp_path, time)
    seen |= {at: at <= retrieved for _, at, _, retrieved in values(client)}
    first = datetime(2024, 1, 17, tzinfo=UTC)
    assert seen == {first + timedelta(hours=i): first + timedelta(hours=i) <= time.now for i in range((3 + 9 + 1 + 3) * 24)}
    assert outcome.kinds["unchanged"] == MEASURED_HOURS
    # What no poll asks for any more is forgotten, and asked for no more.
    assert poll_anew(client, source, tmp_path, time).kinds == {"unchanged": POLLED_HOURS}


def test_range_sends_all_it_was_asked_for_and_the_next_poll_knows_it(source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    client = FakeKafka()
    poll_anew(client, source, tmp_path, time)
    client.sent.clear()
    publisher = publisher_to(client, source, tmp_path, time)
    outcome = Outcome()
    time.now += timedelta(minutes=1)
    publisher.publish_days([HANOI], date(2024, 1, 10), date(2024, 1, 18), outcome)
    assert (len(client.sent), outcome.records) == (9 * 24, 9 * 24)
    assert poll_anew(client, source, tmp_path, time).kinds == {"unchanged": POLLED_HOURS}


def test_range_with_a_revision_is_not_published_again_by_the_poll(
    api: OpenMeteoServer, source: OpenMeteo, tmp_path: Path, time: FakeTime
) -> None:
    client = FakeKafka()
    poll_anew(client, source, tmp_path, time)
    api.always(changed_by(5, datetime(2024, 1, 18, 5, tzinfo=UTC)))
    time.now += timedelta(minutes=1)
    publisher_to(client, source, tmp_path, time).publish_days([HANOI], date(2024, 1, 18), date(2024, 1, 18), Outcome())
    assert poll_anew(client, source, tmp_path, time).kinds == {"unchanged": POLLED_HOURS}


@pytest.mark.parametrize("fail_from", [0, 100])
def test_what_was_not_reported_is_sent_again(fail_from: int, source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    with pytest.raises(DeliveryError):
        poll(publisher_to(FakeKafka(fail_from=fail_from), source, tmp_path, time))
    client = FakeKafka()
    assert poll_anew(client, source, tmp_path, time).kinds == {"repeated": POLLED_HOURS}
    assert poll_anew(client, source, tmp_path, time).kinds == {"unchanged": POLLED_HOURS}


def test_value_that_came_and_went_over_a_kill_is_put_right(api: OpenMeteoServer, source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    """Kafka has the value in between, unreported: the memory must not take the value before for what Kafka has."""

    def kill() -> None:
        raise SystemExit(9)

    client = FakeKafka()
    poll_anew(client, source, tmp_path, time)
    api.always(changed_by(5, datetime(2024, 1, 18, 5, tzinfo=UTC)))
    time.now += timedelta(minutes=1)
    killed = FakeKafka(on_flush=kill)
    with pytest.raises(SystemExit):
        poll(publisher_to(killed, source, tmp_path, time))
    assert len(killed.sent) == 1
    api.always(None)
    time.now += timedelta(minutes=1)
    assert poll_anew(client, source, tmp_path, time).kinds == {"repeated": 1, "unchanged": POLLED_HOURS - 1}
    assert [at for _, at, _, _ in values(client)] == [at for _, at, _, _ in values(killed)]


def test_lost_memory_sends_everything_once_more(source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    client = FakeKafka()
    publisher = publisher_to(client, source, tmp_path, time)
    poll(publisher)
    publisher.memory.path.unlink()
    assert poll_anew(client, source, tmp_path, time).kinds == {"new": POLLED_HOURS}


def test_place_that_fails_keeps_none_of_the_others_back_and_is_caught_up(
    api: OpenMeteoServer, source: OpenMeteo, tmp_path: Path, time: FakeTime
) -> None:
    def without_hcmc(answer: object) -> object:
        elements: list[dict[str, object]] = answer if isinstance(answer, list) else [answer]  # type: ignore[list-item]
        changed = [element | {"hourly": {"time": []}} if element["latitude"] == 10.800003 else element for element in elements]
        return changed if isinstance(answer, list) else changed[0]

    client = FakeKafka()
    poll_anew(client, source, tmp_path, time, only_hanoi=False)
    api.always(Fault(change=without_hcmc))
    time.now += timedelta(days=5)
    outcome = poll_anew(client, source, tmp_path, time, only_hanoi=False)
    assert (set(outcome.failures), outcome.entities) == ({"hcmc"}, {"hanoi", "danang"})
    assert outcome.kinds["measured"] == 2 * (POLLED_HOURS - MEASURED_HOURS)
    api.always(None)
    outcome = poll_anew(client, source, tmp_path, time, only_hanoi=False)
    hours = {at for key, at, _, _ in values(client) if key == "hcmc"}
    assert {key for key, *_ in values(client)} == {"hcmc"}
    assert hours >= {datetime(2024, 1, 20, 11, tzinfo=UTC) + timedelta(hours=i) for i in range(5 * 24)}


def test_record_that_is_none_is_reported_with_every_poll(api: OpenMeteoServer, source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    def garbled(answer: object) -> object:
        assert isinstance(answer, dict)
        answer["hourly"]["pm10"][30] = "much"  # the first 24 are of the day at the edge
        return answer

    api.always(Fault(change=garbled))
    for sent in (POLLED_HOURS - 1, 0):
        client = FakeKafka()
        publisher = publisher_to(client, source, tmp_path, time)
        poll(publisher)
        assert (len(client.sent), publisher.writer.counts.invalid, publisher.cursors.read()) == (sent, 1, {})
