"""Sends the messages of a small Kaggle to its topics, as the producer would."""

from collections.abc import Iterable

from confluent_kafka import Producer

from lakehouse.broker.topics import ensure_topic
from lakehouse.contract import WIRE_VERSION_HEADER
from lakehouse.domains.kaggle.domain import kaggle
from tests.kaggle.dumps import Record
from tests.kaggle.home import SOURCES
from tests.support.services import Kafka

KAGGLE = kaggle("names")


def publish(broker: Kafka, said: Iterable[tuple[str, Record]]) -> None:
    """Make the topics where they are missing, and send messages, each with the name of its source."""
    for source in KAGGLE.sources:
        ensure_topic(broker.bootstrap, source.contract, 2)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"})
    for name, record in said:
        contract = KAGGLE.sources[SOURCES.index(name)].contract
        headers: dict[str, str | bytes | None] = {WIRE_VERSION_HEADER: str(contract.wire_version)}
        producer.produce(contract.topic, contract.encode(record), key=contract.encode_key(record), headers=headers)
    assert producer.flush(30) == 0
