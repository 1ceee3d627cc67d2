"""What does `weir replay` say and do?"""

from contextlib import closing
from datetime import UTC, datetime

from batch.heads import Heads
from batch.replay import Messages, replay
from lakehouse.days import Days
from lakehouse.logs import configure_logs
from lakehouse.progress import progress
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.topics import ensure_topic
from producers.kafka_writer import KafkaWriter, connect
from producers.run_id import new_run_id
from producers.stopping import Stop


def run_replay(settings: Settings, name: str, days: Days, speed: float | None) -> None:
    """Run the command.

    Raises:
        NoTables, NoGold: there is nothing to replay.
        NoKafkaAddressError, NoKafkaError, DeliveryError: Kafka does not take it.
    """
    configure_logs(settings.log_format, settings.log_level)
    domain = build_domain(name, settings)
    run_id = new_run_id(datetime.now(UTC))
    with Stop() as stop, Heads.look(settings, domain) as heads, closing(Messages(heads, days)) as messages:
        ensure_topic(settings.kafka_bootstrap, domain.contract, settings.kafka_partitions)
        total = len(messages)
        writer = KafkaWriter(connect(settings.kafka_bootstrap, run_id), domain.contract, "replay", run_id)
        with writer, progress("messages", total) as step:
            sent = replay(messages, writer, speed, stop.wait, stop.is_set, step)
    left = f"; stopped before {total - sent:,} more" if sent < total else ""
    print(f"{sent:,} messages of {domain.bronze.name} published to {domain.contract.topic} again{left}")
