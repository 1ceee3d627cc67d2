"""Does a broker drop what it is told to, and nothing else?"""

from datetime import UTC, datetime, timedelta

from confluent_kafka import Producer

from lakehouse.broker.topics import delete_before, offsets_at
from tests.support.services import Kafka


def test_messages_before_an_offset_go_and_old_ones_are_found_by_their_time(kafka: Kafka) -> None:
    kafka.create_topic("retention", partitions=2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    now = datetime.now(UTC)
    for n in range(10):
        at = now - timedelta(days=10 - n)
        producer.produce("retention", b"x", partition=0, timestamp=int(at.timestamp() * 1000))
    assert producer.flush(30) == 0
    bounds, young = offsets_at(kafka.bootstrap, "retention", now - timedelta(days=6, hours=12))
    assert bounds == {0: (0, 10), 1: (0, 0)} and young == {0: 4, 1: 0}
    assert offsets_at(kafka.bootstrap, "retention", now + timedelta(days=1))[1] == {0: 10, 1: 0}, "none is young enough"
    delete_before(kafka.bootstrap, "retention", {0: 4})
    assert offsets_at(kafka.bootstrap, "retention", now)[0] == {0: (4, 10), 1: (0, 0)}
