import json
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest

from deploy.local.services.open_meteo_server import OpenMeteoServer
from lakehouse.errors import Fatal
from producers.cursor import BadCursorError, Cursors, first_day_to_ask
from producers.kafka_writer import DeliveryError
from producers.sources.open_meteo.client import OpenMeteo
from tests.support.producers import HANOI, NOW, PLACES, FakeKafka, FakeTime, Outcome, publisher_to

LAST_HOUR = NOW.replace(minute=0, second=0, microsecond=0)


def test_cursor_moves_forward_only_and_is_kept(tmp_path: Path) -> None:
    cursors = Cursors(tmp_path / "state", "open-meteo")
    assert cursors.read() == {}
    cursors.advance("hanoi", NOW)
    cursors.advance("hanoi", NOW - timedelta(days=1))
    cursors.advance("hcmc", LAST_HOUR)
    assert Cursors(tmp_path / "state", "open-meteo").read() == {"hanoi": NOW.replace(microsecond=0), "hcmc": LAST_HOUR}
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["open-meteo.cursor.json", "open-meteo.cursor.lock"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"hanoi": 3}', '{"hanoi": "2024-01-01T00:00:00"}', '{"hanoi": "soon"}', "\udcff"])
def test_unreadable_cursor_is_refused_not_guessed(tmp_path: Path, text: str) -> None:
    cursors = Cursors(tmp_path, "open-meteo")
    cursors.path.write_text(text, errors="surrogateescape")
    with pytest.raises(BadCursorError, match="Repair or remove it") as caught:
        cursors.read()
    assert isinstance(caught.value, Fatal)
    assert str(cursors.path) in str(caught.value)
    with pytest.raises(BadCursorError):
        cursors.advance("hanoi", NOW)


def move(folder: str, key: str) -> None:
    for hour in range(20):
        Cursors(Path(folder), "open-meteo").advance(key, LAST_HOUR + timedelta(hours=hour))


def test_two_processes_do_not_undo_each_other(tmp_path: Path) -> None:
    context = get_context("spawn")
    movers = [context.Process(target=move, args=(str(tmp_path), key)) for key in ("hanoi", "hcmc")]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join()
    assert Cursors(tmp_path, "open-meteo").read() == {key: LAST_HOUR + timedelta(hours=19) for key in ("hanoi", "hcmc")}


def test_next_poll_begins_before_the_cursor_and_never_after_the_first_polls_days() -> None:
    today = date(2024, 1, 20)
    assert first_day_to_ask(None, today, 3) == date(2024, 1, 17)
    assert first_day_to_ask(NOW, today, 3) == date(2024, 1, 17)
    assert first_day_to_ask(NOW - timedelta(days=30), today, 3) == date(2023, 12, 18)
    assert first_day_to_ask(NOW + timedelta(days=30), today, 3) == date(2024, 1, 17)


def test_cursor_stands_until_delivery_is_reported(source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    seen: list[dict[str, datetime]] = []
    client = FakeKafka()
    publisher = publisher_to(client, source, tmp_path, time)
    client.on_flush = lambda: seen.append(publisher.cursors.read())
    publisher.publish_latest(PLACES, Outcome())
    assert seen == [{}]
    assert publisher.cursors.read() == {place.location_key: LAST_HOUR for place in PLACES}
    # Three days before, today, and three days of forecast, of which the cursor takes no notice.
    assert len(client.sent) == 3 * 7 * 24


def test_failed_delivery_leaves_the_cursor_and_the_next_run_sends_again(source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    publisher = publisher_to(FakeKafka(fail_from=100), source, tmp_path, time)
    with pytest.raises(DeliveryError):
        publisher.publish_latest(PLACES, Outcome())
    assert publisher.cursors.read() == {}
    client = FakeKafka()
    publisher_to(client, source, tmp_path, time).publish_latest(PLACES, Outcome())
    assert len(client.sent) == 3 * 7 * 24


def test_crash_between_delivery_and_cursor_repeats_and_loses_nothing(source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    def crash() -> None:
        raise SystemExit(9)

    publisher = publisher_to(FakeKafka(on_flush=crash), source, tmp_path, time)
    with pytest.raises(SystemExit):
        publisher.publish_latest([HANOI], Outcome())
    assert publisher.cursors.read() == {}


def test_outage_of_months_is_closed_by_the_next_poll(api: OpenMeteoServer, source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    client = FakeKafka()
    publisher = publisher_to(client, source, tmp_path, time)
    publisher.publish_latest([HANOI], Outcome())
    time.now += timedelta(days=200)
    client.sent.clear()
    publisher.publish_latest(PLACES, Outcome())
    hours = {(key, json.loads(value or b"")["ts_utc"]) for key, value in client.sent}
    # All from three days before the cursor, but for the hours that were measured and published then: 3 days and 00:00 to 10:00.
    assert len([1 for key, _ in hours if key == b"hanoi"]) == (3 + 200 + 1 + 3) * 24 - (3 * 24 + 11)
    assert len([1 for key, _ in hours if key == b"hcmc"]) == (3 + 1 + 3) * 24
    assert set(publisher.cursors.read().values()) == {LAST_HOUR + timedelta(days=200)}
    assert [query["start_date"] for query in api.requests[1:]] == ["2024-01-16", "2024-04-13", "2024-07-10", "2024-08-03"]


def test_range_in_the_past_is_no_reason_to_fetch_all_since(source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    publisher = publisher_to(FakeKafka(), source, tmp_path, time)
    outcome = Outcome()
    assert publisher.publish_days([HANOI], date(2024, 1, 1), date(2024, 1, 3), outcome)
    assert outcome.records == 72
    assert publisher.cursors.read() == {}
    publisher.publish_days([HANOI], date(2024, 1, 1), date(2024, 1, 19), outcome)
    assert publisher.cursors.read() == {"hanoi": datetime(2024, 1, 19, 23, tzinfo=UTC)}


def test_range_behind_a_hole_does_not_move_the_cursor_over_it(source: OpenMeteo, tmp_path: Path, time: FakeTime) -> None:
    publisher = publisher_to(FakeKafka(), source, tmp_path, time)
    publisher.cursors.advance("hanoi", datetime(2024, 1, 10, 12, tzinfo=UTC))
    publisher.publish_days([HANOI], date(2024, 1, 12), date(2024, 1, 13), Outcome())
    assert publisher.cursors.read()["hanoi"] == datetime(2024, 1, 10, 12, tzinfo=UTC)
    publisher.publish_days([HANOI], date(2024, 1, 10), date(2024, 1, 13), Outcome())
    assert publisher.cursors.read()["hanoi"] == datetime(2024, 1, 13, 23, tzinfo=UTC)
