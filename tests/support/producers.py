"""Builders for the tests of the producers: places, a clock, a Kafka client without Kafka."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from confluent_kafka import KafkaError, Message

from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.domains.air_quality.locations import SHIPPED, Location, read_locations
from producers import publish
from producers.clock import Clock
from producers.cursor import Cursors
from producers.kafka_writer import KafkaWriter
from producers.published import Published
from producers.sources.open_meteo.client import SOURCE, OpenMeteo
from producers.sources.open_meteo.polling import OpenMeteoPolls
from producers.sources.open_meteo.source import OPEN_METEO

GOLDEN = Path(__file__).parents[1] / "golden"
PACKED = Path(__file__).parents[2] / "deploy/local/services/recorded" / "open_meteo.jsonl.gz"
HANOI, HCMC, DANANG = PLACES = read_locations(SHIPPED / "locations.jsonl")
NOW = datetime(2024, 1, 20, 10, 30, 15, 123_456, tzinfo=UTC)


Publisher = publish.Publisher[Location]


class Outcome(publish.Outcome):
    """That of Open-Meteo."""

    def __init__(self) -> None:
        super().__init__(OPEN_METEO)


publish_recorded = partial(publish.publish_recorded, OPEN_METEO)


@dataclass(slots=True)
class FakeTime:
    """A clock that only sleeping moves on; it notes every sleep."""

    now: datetime = NOW
    sleeps: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += timedelta(seconds=seconds)

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, sleep=self.sleep)


Report = Callable[[KafkaError | None, Message], None]


@dataclass(slots=True)
class FakeKafka:
    """What the writer needs of a Kafka client. Reports are given when polled or flushed, as the real one does."""

    topic: str = HOURLY.topic
    full_times: int = 0
    fail_from: int | None = None
    is_silent: bool = False
    on_flush: Callable[[], None] = lambda: None
    sent: list[tuple[bytes | None, bytes | None]] = field(default_factory=list)
    headers: list[tuple[str, str | bytes | None]] = field(default_factory=list)
    purged: int = 0
    _waiting: list[Report] = field(default_factory=list)
    _reported: int = 0

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        *,
        on_delivery: Report | None = None,
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None:
        if self.full_times:
            self.full_times -= 1
            raise BufferError("Local: Queue full")
        assert topic == self.topic
        assert on_delivery is not None
        self.sent.append((key, value))
        self.headers = headers or []
        self._waiting.append(on_delivery)

    def poll(self, timeout: float) -> int:
        if self.is_silent:
            return 0
        given, self._waiting = self._waiting, []
        for report in given:
            failed = self.fail_from is not None and self._reported >= self.fail_from
            report(KafkaError(KafkaError._MSG_TIMED_OUT) if failed else None, None)  # type: ignore[arg-type]  # nothing reads it
            self._reported += 1
        return len(given)

    def flush(self, timeout: float) -> int:
        self.on_flush()
        self.poll(0)
        return len(self._waiting)

    def purge(self) -> None:
        self.purged += 1
        self._waiting = []


def writer_to(client: FakeKafka, delivery_seconds: float = 5) -> KafkaWriter:
    return KafkaWriter(client, HOURLY, SOURCE, "20240120T103015Z-test", delivery_seconds)


def publisher_to(client: FakeKafka, source: OpenMeteo, folder: Path, time: FakeTime) -> Publisher:
    memory = Published(folder, SOURCE, HOURLY, "topic")
    polls = OpenMeteoPolls(source, time.clock, past_days=3)
    return publish.Publisher(OPEN_METEO, polls, writer_to(client), Cursors(folder, SOURCE), memory, time.clock, past_days=3)


def place(key: str, latitude: float, longitude: float) -> Location:
    return Location(key, key.title(), latitude, longitude, "UTC")
