"""What data do the benchmarks run on? Readings made of the recorded answers, always the same for a seed.

The **backlog**: places × hours, each hour a recorded hour of some city, shuffled within a day. The **live load**: an even number of
readings a second, each a new or a changed hour, sent now.
"""

import gzip
import json
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from lakehouse.contract import Value, to_millis
from lakehouse.domains.air_quality.contract import HOURLY, VARIABLES
from producers.kafka_writer import connect

SEED = 20240101
RECORDED = Path(__file__).parents[1] / "deploy/local/services/recorded" / "open_meteo.jsonl.gz"
FIRST_HOUR = datetime(2024, 1, 1, tzinfo=UTC)
# Later than every hour of the longest table, and before today: a measured hour, whose retrieval is not from the future.
RETRIEVED = datetime(2026, 1, 1, tzinfo=UTC)
HOUR_MS = 3_600_000
PLACES_A_ROW, DEGREES_APART = 40, 0.5
DAY_HOURS = 24

Message_ = tuple[bytes, bytes]  # key, value


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much: places × hours; 24 hours of all places are shuffled together."""

    places: int = 1_000
    hours: int = 5_000

    @property
    def readings(self) -> int:
        """How many readings that is."""
        return self.places * self.hours

    def messages(self, first_hour: int = 0, retrieved: datetime = RETRIEVED) -> Iterator[Message_]:
        """Give key and value of every reading, in the order of arrival.

        Args:
            first_hour: hours after FIRST_HOUR at which it begins.
            retrieved: when the source answered, the same for all.
        """
        endings = [_endings(hours, retrieved) for hours in recorded_hours()]
        keys = [place_key(n).encode() for n in range(self.places)]
        start = to_millis(FIRST_HOUR)
        chance = random.Random(SEED)
        for day in range(first_hour, first_hour + self.hours, DAY_HOURS):
            last = min(day + DAY_HOURS, first_hour + self.hours)
            readings = [(place, hour) for hour in range(day, last) for place in range(self.places)]
            chance.shuffle(readings)
            for place, hour in readings:
                ending = endings[place % len(endings)]
                key = keys[place]
                # Places of one city are an hour's odd multiple apart, so that no two have the same air at the same time.
                text = ending[(hour + 37 * place) % len(ending)]
                yield key, b'{"location_key":"%b","ts_utc":%d%b' % (key, start + hour * HOUR_MS, text)


def place_key(number: int) -> str:
    """Name a place of the benchmarks."""
    return f"p{number:04d}"


def coordinates(place: int) -> tuple[float, float]:
    """Say where a place lies: each in a cell of its own, which the API gives back unchanged."""
    return 1.5 + DEGREES_APART * (place // PLACES_A_ROW), 100.5 + DEGREES_APART * (place % PLACES_A_ROW)


def write_places(home: Path, places: int) -> None:
    """Write the list of places of a home."""
    home.mkdir(parents=True, exist_ok=True)
    lines = []
    for n in range(places):
        latitude, longitude = coordinates(n)
        one = {"location_key": place_key(n), "location_name": f"place {place_key(n)}", "latitude": latitude, "longitude": longitude}
        lines.append(json.dumps(one | {"timezone": "Asia/Ho_Chi_Minh"}))
    (home / "locations.jsonl").write_text("\n".join(lines))


def recorded_hours() -> list[list[dict[str, Value]]]:
    """Read the recorded answers: for each of three cities its 8,184 hours, in order, by the contract's fields."""
    cities: dict[str, list[dict[str, Value]]] = {}
    with gzip.open(RECORDED, "rt", encoding="utf-8") as lines:
        answers = [one for one in map(json.loads, lines) if one["set"] == "responses"]
    for one in sorted(answers, key=lambda one: str(one["start_date"])):
        answer = one["answer"]
        hourly = answer["hourly"]
        constants: dict[str, Value] = {
            "latitude": answer["latitude"],
            "longitude": answer["longitude"],
            "model_domain": "cams_global",
            "request_timezone": answer["timezone"],
        }
        columns = {ours: hourly[theirs] for theirs, ours in VARIABLES.items() if theirs in hourly}
        cities.setdefault(one["city"], []).extend(
            {**constants, **{name: column[n] for name, column in columns.items()}} for n in range(len(hourly["time"]))
        )
    return [cities[city] for city in sorted(cities)]


def _endings(hours: list[dict[str, Value]], retrieved: datetime) -> list[bytes]:
    """Encode what follows the place and the time of a message, once for each recorded hour: 5 M encodings would take minutes."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    beginning = len(b'{"location_key":"@","ts_utc":0')
    return [HOURLY.encode({"location_key": "@", "ts_utc": epoch, "retrieved_ts": retrieved, **hour})[beginning:] for hour in hours]


def publish(bootstrap: str, messages: Iterator[Message_]) -> int:
    """Send messages as the producer's client does, as fast as it goes; return how many, once all were delivered.

    Raises:
        RuntimeError: some were not.
    """
    client = connect(bootstrap, "bench")
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    sent = 0
    for key, value in messages:
        while True:
            with suppress(BufferError):
                client.produce(HOURLY.topic, value, key, on_delivery=delivered)
                break
            client.poll(0.1)
        sent += 1
        if sent % 10_000 == 0:
            client.poll(0)
    left = client.flush(60)
    if left or failed:
        raise RuntimeError(f"{left + len(failed)} of {sent} messages were not delivered: {failed[:1]}")
    return sent


@dataclass(slots=True)
class Sent:
    """One reading of the live load. Instants in ms since 1970; partition and offset are known once it was delivered."""

    place: str
    hour: int
    retrieved: int
    partition: int = -1
    offset: int = -1


@dataclass(slots=True)
class LiveLoad:
    """Readings at an even pace: each the next hour of its place, or one of its last 48 hours changed, half and half.

    Every tenth place has six hours of very high NO2 each day, whose index looks back no further than the hour itself: so each
    second's readings reach an episode, and each micro-batch has something to write into every gold table.
    """

    bootstrap: str
    places: int = 100
    per_second: float = 100
    next_hour: list[int] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))

    def run(self, seconds: float) -> None:
        """Send for so long, then wait until all was delivered; called again, it goes on.

        Raises:
            RuntimeError: something was not, or the pace could not be held.
        """
        client = connect(self.bootstrap, "bench")
        self.next_hour = self.next_hour or [0] * self.places
        start = time.time()
        for n in range(int(seconds * self.per_second)):
            ahead = start + n / self.per_second - time.time()
            client.poll(max(0.0, ahead))
            if (ahead := start + n / self.per_second - time.time()) > 0:
                time.sleep(ahead)
            self._send(client, n % self.places)
        late = time.time() - start - seconds
        if client.flush(30) or any(one.offset < 0 for one in self.sent):
            raise RuntimeError("not all readings of the load were delivered")
        if late > 1:
            raise RuntimeError(f"the load came {late:.1f} s behind its pace: this machine is too busy to measure on")

    def _send(self, client: Producer, place: int) -> None:
        chance = self.chance
        upcoming = self.next_hour[place]
        changed = upcoming > 0 and chance.random() < 0.5
        hour = upcoming - chance.randint(1, min(48, upcoming)) if changed else upcoming
        self.next_hour[place] += not changed
        now = to_millis(datetime.now(UTC))
        one = Sent(place_key(place), to_millis(FIRST_HOUR) + hour * HOUR_MS, now)
        record: dict[str, Value] = {
            "location_key": one.place,
            "ts_utc": FIRST_HOUR + timedelta(hours=hour),
            **{name: round(chance.uniform(5, 90), 1) for name in ("pm25", "pm10", "o3", "no2", "so2", "co")},
            "retrieved_ts": datetime.fromtimestamp(now / 1000, UTC),
        }
        if place % 10 == 0 and hour % DAY_HOURS < 6:
            record["no2"] = round(chance.uniform(900, 1_000), 1)

        def delivered(error: KafkaError | None, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            if error is None and partition is not None and offset is not None:
                one.partition, one.offset = partition, offset

        client.produce(HOURLY.topic, HOURLY.encode(record), HOURLY.encode_key(record), on_delivery=delivered)
        self.sent.append(one)
