"""Is the benchmarks' data what the contract says, and always the same?"""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from bench import load
from bench.load import FIRST_HOUR, RETRIEVED, Backlog, LiveLoad, place_key, recorded_hours
from lakehouse.contract import to_millis
from lakehouse.domains.air_quality.contract import HOURLY


def test_recorded_hours_are_those_of_three_cities() -> None:
    assert [len(hours) for hours in recorded_hours()] == [8_184, 8_184, 8_184]


def test_each_message_is_written_as_the_contract_writes_it() -> None:
    for key, value in islice(Backlog(places=40, hours=30).messages(), 200):
        record: dict[str, Any] = json.loads(value)
        for name in ("ts_utc", "retrieved_ts"):
            record[name] = datetime.fromtimestamp(record[name] / 1000, UTC)
        assert HOURLY.violations(record) == []
        assert HOURLY.encode(record) == value
        assert HOURLY.encode_key(record) == key


def test_backlog_holds_each_place_and_hour_once_shuffled_within_a_day() -> None:
    backlog = Backlog(places=3, hours=50)
    found = [json.loads(value) for _, value in backlog.messages(first_hour=5)]
    assert len(found) == backlog.readings == 150
    hours = [(one["ts_utc"] - to_millis(FIRST_HOUR)) // load.HOUR_MS for one in found]
    keys = list(zip((one["location_key"] for one in found), hours, strict=True))
    assert sorted(keys) == [(place_key(place), hour) for place in range(3) for hour in range(5, 55)]
    assert hours != sorted(hours)
    assert [(hour - 5) // 24 for hour in hours] == sorted((hour - 5) // 24 for hour in hours)
    assert {one["retrieved_ts"] for one in found} == {to_millis(RETRIEVED)}


def test_backlog_is_the_same_each_time() -> None:
    assert list(Backlog(4, 30).messages()) == list(Backlog(4, 30).messages())


class Client:
    """Takes messages as a producer does, and reports each as delivered."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def poll(self, _: float) -> int:
        return 0

    def flush(self, _: float) -> int:
        return 0

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return len(self.records)

    def produce(self, _: str, value: bytes, __: bytes, on_delivery: Any) -> None:  # noqa: ANN401 - confluent-kafka's callback
        on_delivery(None, self)
        self.records.append(json.loads(value))


def test_live_load_sends_new_and_changed_hours_of_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    monkeypatch.setattr(load, "connect", lambda *_: client)
    live = LiveLoad("", places=10, per_second=2_000)
    live.run(0.1)
    live.run(0.1)
    assert [one.offset for one in live.sent] == list(range(400))
    assert {one.place for one in live.sent} == {place_key(n) for n in range(10)}
    times = Counter((one.place, one.hour) for one in live.sent)
    assert 0.3 < sum(count - 1 for count in times.values()) / 400 < 0.7, "about half are changed hours"
    for place in range(10):
        mine = {hour for key, hour in times if key == place_key(place)}
        first = to_millis(FIRST_HOUR)
        assert mine == {first + n * load.HOUR_MS for n in range(len(mine))}, "no hour is left out"
    polluted = [r for r in client.records if r["no2"] > 500]
    assert polluted and all(r["location_key"] == "p0000" for r in polluted)
    assert all(abs(one.retrieved / 1000 - datetime.now(UTC).timestamp()) < timedelta(minutes=1).total_seconds() for one in live.sent)
