"""What does a test see of a service? Its address, and the few calls that prepare a case."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kafka:
    """A running broker. `bootstrap` is host:port."""

    bootstrap: str

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic, and return when it is there."""
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.cimpl import NewTopic

        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1)])[name].result(timeout=30)
