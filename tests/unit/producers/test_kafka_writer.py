import json
from datetime import UTC, datetime

import pytest

from lakehouse.broker.topics import NoKafkaAddressError, NoKafkaError, ensure_topic
from lakehouse.contract import Value
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.errors import Fatal, Retryable
from producers.kafka_writer import DeliveryError, InvalidRecordsError, connect
from tests.support.producers import FakeKafka, writer_to

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
OWN_HEADERS = [("source", b"open-meteo"), ("contract_version", b"v1"), ("run_id", b"20240120T103015Z-test")]


def reading(**changes: Value) -> dict[str, Value]:
    base: dict[str, Value] = {"location_key": "hanoi", "ts_utc": NOON, "pm25": 12.5, "retrieved_ts": NOON}
    return base | changes


def test_record_goes_out_keyed_with_headers_and_is_counted_when_delivered() -> None:
    client = FakeKafka()
    with writer_to(client) as writer:
        writer.send(reading())
        writer.send(reading(location_key="hcmc", o3=None))
    assert [key for key, _ in client.sent] == [b"hanoi", b"hcmc"]
    assert json.loads(client.sent[1][1] or b"") == {
        "location_key": "hcmc",
        "ts_utc": 1_704_110_400_000,
        "pm25": 12.5,
        "retrieved_ts": 1_704_110_400_000,
    }
    assert client.headers == [*OWN_HEADERS, ("weir-wire-version", b"1")]
    assert (writer.counts.sent, writer.counts.delivered, writer.counts.failed) == (2, 2, 0)


@pytest.mark.parametrize(("version", "said"), [(7, [("weir-wire-version", b"7")]), (None, [])])
def test_message_that_is_sent_again_keeps_the_version_it_was_written_by(version: int | None, said: list[tuple[str, bytes]]) -> None:
    client = FakeKafka()
    with writer_to(client) as writer:
        writer.send_bytes(b"hanoi", b"\x00", version)
    assert (client.sent, client.headers) == ([(b"hanoi", b"\x00")], [*OWN_HEADERS, *said])


def test_full_queue_is_waited_for() -> None:
    client = FakeKafka(full_times=3)
    with writer_to(client) as writer:
        writer.send(reading())
    assert (writer.counts.sent, writer.counts.delivered, len(client.sent)) == (1, 1, 1)


def test_queue_that_stays_full_is_a_loud_error() -> None:
    with (
        pytest.raises(DeliveryError, match="the queue stayed full"),
        writer_to(FakeKafka(full_times=1_000), 0.0) as writer,
    ):
        writer.send(reading())


def test_failed_delivery_is_a_loud_error() -> None:
    client = FakeKafka(fail_from=1)
    writer = writer_to(client)
    for hour in range(3):
        writer.send(reading(ts_utc=NOON.replace(hour=hour)))
    with pytest.raises(DeliveryError, match=r"2 of 3 message\(s\) to air-quality.hourly.v1 were not delivered") as caught:
        writer.flush()
    assert isinstance(caught.value, Retryable)
    assert (writer.counts.delivered, writer.counts.failed) == (1, 2)
    assert client.purged == 1


def test_missing_delivery_report_is_a_loud_error() -> None:
    writer = writer_to(FakeKafka(is_silent=True))
    writer.send(reading())
    with pytest.raises(DeliveryError, match=r"1 of 1 .*no report within 5 s"):
        writer.flush()


def test_error_on_the_way_flushes_and_stays_the_one_raised() -> None:
    client = FakeKafka()
    writer = writer_to(client)
    with pytest.raises(KeyError), writer:
        writer.send(reading())
        raise KeyError
    assert writer.counts.delivered == 1


def test_value_out_of_range_is_published_for_the_rejects() -> None:
    client = FakeKafka()
    with writer_to(client) as writer:
        writer.send(reading(pm25=-5.0))
        writer.send(reading(pm25=9_999, o3=1e20))
    writer.raise_invalid()
    assert (writer.counts.sent, writer.counts.out_of_range, writer.counts.invalid) == (2, 2, 0)
    assert json.loads(client.sent[0][1] or b"")["pm25"] == -5.0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"location_key": None}, "location_key is required"),
        ({"pm25": "12"}, "pm25 is str '12', expected double"),
        ({"pm25": float("nan")}, "pm25 is nan"),
        ({"pm25": float("inf")}, "pm25 is inf"),
        ({"ts_utc": datetime(2024, 1, 1)}, "ts_utc is datetime"),
        ({"smell": 3.0}, "unknown field 'smell'"),
    ],
)
def test_what_is_no_record_fails_after_everything_else_was_sent(changes: dict[str, Value], text: str) -> None:
    client = FakeKafka()
    with writer_to(client) as writer:
        writer.send(reading(**changes))
        writer.send(reading())
    assert (writer.counts.sent, writer.counts.invalid) == (1, 1)
    with pytest.raises(InvalidRecordsError) as caught:
        writer.raise_invalid()
    assert isinstance(caught.value, Fatal)
    assert text in str(caught.value)
    assert "1 record(s) of open-meteo do not match the contract of air-quality.hourly.v1" in str(caught.value)


def test_no_address_and_no_broker_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for ask in (lambda: ensure_topic("", HOURLY, 2), lambda: connect("", "run")):
        with pytest.raises(NoKafkaAddressError, match="no Kafka: run `weir up --services-only` or set WEIR_KAFKA_BOOTSTRAP"):
            ask()
    monkeypatch.setattr("lakehouse.broker.topics.BROKER_SECONDS", 0.3)
    with pytest.raises(NoKafkaError, match=r"no Kafka broker answers at 127.0.0.1:1 within 0.3 s") as caught:
        ensure_topic("127.0.0.1:1", HOURLY, 2)
    assert isinstance(caught.value, Retryable)
