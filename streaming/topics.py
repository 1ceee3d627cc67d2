"""Is the topic there, and is it the one that the table knows? Asked of the broker before a query starts."""

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.error import KafkaError

from lakehouse.contract import Contract
from lakehouse.settings import Settings
from streaming.errors import NoKafka

TIMEOUT_SECONDS = 15


def topic_id(contract: Contract, settings: Settings) -> str:
    """Ask for the id of the contract's topic, making the topic where it is missing: a stream may start before its producer.

    Raises:
        NoKafka: no broker answers within 15 s.
    """
    if not settings.kafka_bootstrap:
        raise NoKafka("")
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap, "log_level": 0}, logger=None)
    try:
        _make(admin, contract.topic, settings.kafka_partitions)
        described = admin.describe_topics(TopicCollection([contract.topic]), request_timeout=TIMEOUT_SECONDS)[contract.topic].result(TIMEOUT_SECONDS)
    except (KafkaException, TimeoutError) as error:
        raise NoKafka(settings.kafka_bootstrap, str(error)) from error
    return str(described.topic_id)


def _make(admin: AdminClient, topic: str, partitions: int) -> None:
    try:
        made = admin.create_topics([NewTopic(topic, partitions)], operation_timeout=TIMEOUT_SECONDS, request_timeout=TIMEOUT_SECONDS)
        made[topic].result(TIMEOUT_SECONDS)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
