"""What does `weir replay` do?"""

from contextlib import closing
from datetime import UTC, datetime

from batch.consistent_snapshots import Heads
from batch.replay.replay import Messages, replay
from lakehouse.broker.topics import ensure_topic
from lakehouse.days import Days
from lakehouse.domain import Source
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.machine.logs import configure_logs
from lakehouse.machine.progress_bar import progress
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from producers.kafka_writer import KafkaWriter, connect
from producers.run_id import new_run_id
from producers.stopping import Stop


class NoEventTime(LakehouseError, Fatal):
    """Messages of the topic have no event time, so a range of days selects none."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"Messages of {topic} have no event time: replay all of them, without --since and --until.")


def run_replay(settings: Settings, name: str, days: Days, speed: float | None) -> None:
    """Run the command.

    Raises:
        NoTables, NoGold: there are no messages to replay.
        NoKafkaAddressError, NoKafkaError, DeliveryError: Kafka does not accept the messages.
    """
    configure_logs(settings.log_format, settings.log_level)
    domain = build_domain(name, settings)
    run_id = new_run_id(datetime.now(UTC))
    for source in domain.sources:
        if days is not None and not source.contract.event_time:
            raise NoEventTime(source.contract.topic)
    with Stop() as stop, Heads.look(settings, domain) as heads:
        for source in domain.sources:
            if not stop.is_set():
                _replay(settings, heads, source, days, speed, run_id, stop)


def _replay(settings: Settings, heads: Heads, source: Source, days: Days, speed: float | None, run_id: str, stop: Stop) -> None:
    contract = source.contract
    with closing(Messages(heads, source, days)) as messages:
        ensure_topic(settings.kafka_bootstrap, contract, settings.kafka_partitions)
        total = len(messages)
        writer = KafkaWriter(connect(settings.kafka_bootstrap, run_id), contract, "replay", run_id)
        with writer, progress("messages", total) as step:
            sent = replay(messages, writer, speed, stop.wait, stop.is_set, step)
    left = f"; stopped before {total - sent:,} more" if sent < total else ""
    print(f"{sent:,} messages of {source.bronze.name} published to {contract.topic} again{left}")
