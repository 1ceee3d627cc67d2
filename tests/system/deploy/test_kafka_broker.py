"""Does the embedded broker start, keep what it was given, and stop?"""

import os
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from deploy.local.services.kafka_broker import EmbeddedKafka
from tests.support.services import Kafka


def test_messages_survive_a_restart_on_other_ports(tmp_path: Path) -> None:
    broker = EmbeddedKafka(tmp_path / "kafka", tmp_path / "kafka.log", environment=dict(os.environ))
    try:
        broker.start()
        Kafka(broker.bootstrap).create_topic("air-quality.hourly.v1", 2)
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        producer.produce("air-quality.hourly.v1", b"one", key=b"hanoi", partition=0)
        assert producer.flush(30) == 0
        del producer
        first = broker.port
        broker.stop()
        broker.start()
        consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "test"})
        low_high = consumer.get_watermark_offsets(TopicPartition("air-quality.hourly.v1", 0), timeout=30)
        consumer.close()
        assert (low_high, broker.port != first) == ((0, 1), True)
    finally:
        broker.stop()


def test_fixture_gives_a_broker_that_takes_topics(kafka: Kafka) -> None:
    kafka.create_topic("market.trades.v1", partitions=3)
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "test"})
    topic = consumer.list_topics("market.trades.v1", timeout=30).topics["market.trades.v1"]
    consumer.close()
    assert len(topic.partitions) == 3
