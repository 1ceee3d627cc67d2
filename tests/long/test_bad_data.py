"""Does the running stream take everything that a topic may hold? The good into gold, the bad into the rejects, each with its reason."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType  # type: ignore[attr-defined]

from lakehouse.contract import Value
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.storage.folders import LocalFolder
from streaming.resume import Request, ask
from tests.long.conftest import NewStand
from tests.support.faults import BRONZE, PLACES, SILVER, Stand
from tests.support.pipeline import RETRIEVED, START, reading

pytestmark = pytest.mark.timeout(1800)
Record = Callable[[str, object], None]
Reading = dict[str, Value]
LARGE_BYTES = 10_000_000
PREFIX = '{"location_key":"a","ts_utc":1709251200000,"retrieved_ts":1717200000000,'


@dataclass(frozen=True, slots=True)
class Sent:
    """One message: its bytes, key, and the rule it breaks; null for a good one, and for one without a value, which no rule judges."""

    value: bytes | None
    key: bytes | None = None
    rule: str | None = None


def good(records: Sequence[Reading]) -> list[Sent]:
    return [Sent(HOURLY.encode(record), HOURLY.encode_key(record)) for record in records]


BAD = [
    Sent(b"\xff\xfe\x00 no text", b"a", "unparsable"),
    Sent(b'{"location_key":"a","ts_utc":17092', b"a", "unparsable"),
    Sent(b"", b"a", "unparsable"),
    Sent((PREFIX + '"pm25":"high"}').encode(), b"a", "wrong_type"),
    Sent((PREFIX + '"pm25":[1,2]}').encode(), b"a", "wrong_type"),
    *[
        Sent(HOURLY.encode(record), b"a", rule)
        for record, rule in (
            (reading("a") | {"ts_utc": datetime(2099, 1, 1, tzinfo=UTC)}, "beyond_forecast"),
            (reading("a") | {"retrieved_ts": datetime(2099, 1, 1, tzinfo=UTC)}, "retrieved_in_future"),
            (reading("a", pm25=-1.0), "out_of_range"),
            (reading("nowhere"), "unknown_location"),
        )
    ],
]


# Without a value: as a producer deletes a key. Bronze keeps them, and no rule judges them.
TOMBSTONES = [Sent(None, b"a")] * 20


class Topic:
    """The topic of a stand, with what was expected of each message by its place in it."""

    def __init__(self, stand: Stand) -> None:
        self.expected: dict[tuple[int, int], str | None] = {}
        self._bootstrap = stand.broker.bootstrap

    def send(self, messages: Sequence[Sent], largest_bytes: int = 1_000_000) -> None:
        producer = Producer({"bootstrap.servers": self._bootstrap, "message.max.bytes": largest_bytes, "log_level": 0})

        def reported(rule: str | None, error: KafkaError | None, message: Message) -> None:
            if error is not None:
                raise KafkaException(error)
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            self.expected[partition, offset] = rule

        for one in messages:
            producer.produce(HOURLY.topic, one.value, key=one.key, on_delivery=partial(reported, one.rule))
            producer.poll(0)
        assert producer.flush(60) == 0

    def take_up_to(self, size: int) -> None:
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, HOURLY.topic, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(timeout=30)

    def bad(self) -> dict[tuple[int, int], str]:
        return {place: rule for place, rule in self.expected.items() if rule is not None}


def test_bad_data_of_every_kind_is_rejected_with_its_reason_and_the_good_is_in_gold(new_stand: NewStand, record_property: Record) -> None:
    stand, chance = new_stand(), random.Random(7)
    topic = Topic(stand)
    newer = [reading(place, hour, pm25=float(chance.randrange(5, 300))) for place in PLACES for hour in range(48, 144)]
    late = [reading(place, hour, pm25=float(chance.randrange(5, 300))) for place in PLACES for hour in range(48)]
    revised = [record | {"pm25": 77.0, "retrieved_ts": RETRIEVED + timedelta(hours=1)} for record in newer[::9]]
    unkeyed = reading("b", 150)
    driver = stand.start()

    def rejects() -> dict[tuple[int, int], str]:
        rows = stand.pipeline.table("ops.rejects").to_pylist()
        assert all(row["reason"] and row["topic"] == HOURLY.topic for row in rows)
        found = {(row["partition"], row["kafka_offset"]): row["rule"] for row in rows}
        assert len(found) == len(rows)
        return found

    # Revised before it was first told, twice, in any order, with bad ones between: 9 of about 650.
    messages = [*good(newer), *good(newer[::2]), *good(revised), *BAD, *TOMBSTONES, Sent(HOURLY.encode(unkeyed))]
    chance.shuffle(messages)
    topic.send(messages)
    delivered = [*newer, *revised, unkeyed]
    stand.until_all(driver, delivered)
    topic.send(good(late))  # 48 h behind what gold has: days, look-back and episodes are computed anew
    delivered += late
    stand.until_all(driver, delivered)

    # Ten megabytes: the embedded broker refuses them; where a broker takes them, the stream does.
    large = HOURLY.encode(reading("c", 151))
    large = large[:-1] + b',"note":"' + b"x" * LARGE_BYTES + b'"}'
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        topic.send([Sent(large, b"c")], 2 * LARGE_BYTES)
    topic.take_up_to(2 * LARGE_BYTES)
    topic.send([Sent(large, b"c"), Sent(b"y" * LARGE_BYTES, b"c", "unparsable"), *good([reading("c", 152)])], 2 * LARGE_BYTES)
    delivered += [reading("c", 151), reading("c", 152)]
    driver.until(lambda: stand.has_all(delivered) and rejects() == topic.bad(), every=1)
    assert max(len(row["value"] or b"") for row in stand.pipeline.table("ops.rejects").to_pylist()) == LARGE_BYTES

    # Three of ten are bad: silver stops before it writes, bronze goes on.
    more = [reading(place, hour) for place in PLACES for hour in range(200, 340)]
    poison = [BAD[n % len(BAD)] for n in range(180)]
    mixed = [*good(more), *poison, *TOMBSTONES]
    chance.shuffle(mixed)
    topic.send(mixed)
    driver.until(lambda: driver.queries()[SILVER].state == "stopped" and stand.rows(BRONZE) == len(topic.expected))
    status = driver.status()
    assert "of air_quality break its rules" in status[SILVER]["reason"]
    assert (status[BRONZE]["state"], status[SILVER]["state"]) == ("running", "stopped")
    assert not stand.has_all([*delivered, *more])
    ask(LocalFolder(stand.settings.home / "state"), "air_quality", Request(accept=True))
    delivered += more
    took = stand.until_all(driver, delivered)
    assert driver.stop() == 0
    assert rejects() == topic.bad()
    assert START + timedelta(hours=339) in stand.pipeline.table("gold.fact_air_quality_hourly")["ts_utc"].to_pylist()
    stand.assert_right(delivered)
    record_property("messages", len(topic.expected))
    record_property("rejected", len(topic.bad()))
    record_property("rules", len(set(topic.bad().values())))
    record_property("from the acceptance to all in silver, s", round(took, 1))
