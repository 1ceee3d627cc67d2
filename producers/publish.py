"""How do hours get from a source into the topic so that none is lost and every loss is told?

Three ways, one path: a range of days, a poll that repeats, and recorded answers. The first two send a place's hours, wait for their
delivery reports, and only then remember the hours as published and move the place's cursor. A poll leaves out what is remembered
with the same values; a range publishes all that was asked for, and is remembered too; recorded answers are not.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import structlog

from lakehouse import failpoints
from lakehouse.contract import Value
from lakehouse.domains.air_quality.contract import VARIABLES
from lakehouse.errors import Fatal, ProducerError, Retryable
from lakehouse.locations import Location
from monitoring import metrics
from producers.budget import call_weight
from producers.cursor import Cursors, first_day_to_ask
from producers.kafka_writer import KafkaWriter
from producers.published import Kind, Published
from producers.sources.open_meteo.answers import PlaceHours, Reading, midnight
from producers.sources.open_meteo.client import SOURCE, Clock, Failure, OpenMeteo, split_days
from producers.sources.open_meteo.recorded import RecordedAnswer

# The source's forecast reaches five days, the last of them partly; these are whole at any time of day.
FORECAST_DAYS = 3

log = structlog.get_logger()


class PlacesFailedError(ProducerError, Retryable):
    """Some places' hours could not be fetched; their cursors stand, and the next run fetches them."""


class PlacesRefusedError(ProducerError, Fatal):
    """The source refuses some places; the next run will fare no better until somebody acts."""


class NothingRecordedError(ProducerError, Fatal):
    """A replay found answers, but none of the places and days that were asked for."""


@dataclass(frozen=True, slots=True)
class NoData:
    """Hours of one place for which the source has none of the ten measures: how many, the first, the last."""

    hours: int
    first: datetime
    last: datetime


@dataclass(slots=True)
class Outcome:
    """What one command, or one of its polls, published.

    Attributes:
        hours: records handed over to be sent.
        places: `location_key` of every place that has at least one hour with data, be it sent or known.
        first, last: the least and the greatest event time published.
        kinds: how many hours were new, changed, and so on; see `Published.judge`.
        without_data: by `location_key`, hours that the source answered without data.
        failures: by `location_key`, why a place's hours could not be had.
        unknown: answers skipped in a replay because no known place lies there.
    """

    hours: int = 0
    places: set[str] = field(default_factory=set)
    first: datetime | None = None
    last: datetime | None = None
    kinds: Counter[Kind] = field(default_factory=Counter)
    without_data: dict[str, NoData] = field(default_factory=dict)
    failures: dict[str, ProducerError] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)

    def next_poll(self) -> "Outcome":
        """Begin the next poll of the same command: what was published adds up, what failed was the last poll's."""
        return Outcome(hours=self.hours, places=self.places, first=self.first, last=self.last)

    def note(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        """Count records on their way."""
        for reading in readings:
            ts = _ts(reading)
            self.hours += 1
            self.places.add(str(reading["location_key"]))
            self.first = min(self.first or ts, ts)
            self.last = max(self.last or ts, ts)
            yield reading

    def note_without_data(self, found: PlaceHours) -> None:
        """Count and tell the hours that have no data: they are no failure, and no record."""
        hours, key = found.hours_without_data(), found.location.location_key
        if hours:
            before = self.without_data.get(key, NoData(0, hours[0], hours[-1]))
            self.without_data[key] = NoData(before.hours + len(hours), min(before.first, hours[0]), max(before.last, hours[-1]))
            log.info(
                "no data",
                source=SOURCE,
                location=found.location.location_key,
                hours=len(hours),
                first=hours[0].isoformat(),
                last=hours[-1].isoformat(),
            )

    def raise_failures(self) -> None:
        """Fail when a place did.

        Raises:
            PlacesRefusedError, PlacesFailedError: with every place and its reason; the former when one of the reasons is final.
        """
        if not self.failures:
            return
        reasons = "".join(f"\n  {key}: {error}" for key, error in sorted(self.failures.items()))
        kind = PlacesRefusedError if any(isinstance(error, Fatal) for error in self.failures.values()) else PlacesFailedError
        raise kind(f"{len(self.failures)} place(s) of {SOURCE} failed and were not advanced:{reasons}")


@dataclass(frozen=True, slots=True)
class _Sent:
    """What was handed to Kafka of one place.

    Attributes:
        readings: the records.
        last_hour: the newest hour that had passed; None where there is none.
        is_whole: whether no record was refused on the way.
    """

    location_key: str
    readings: list[Reading]
    last_hour: datetime | None
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Publisher:
    """Fetch, send, wait for delivery, remember, move the cursor.

    Attributes:
        source: the API.
        writer: of the topic.
        cursors: of this source.
        memory: of what was published of this source.
        clock: the present.
        past_days: days before today, or before the cursor, that a poll asks for again.
        on_step: called after each place's part of a request, for a progress bar.
        is_stopping: asked between two requests.
    """

    source: OpenMeteo
    writer: KafkaWriter
    cursors: Cursors
    memory: Published
    clock: Clock
    past_days: int
    on_step: Callable[[], None] = lambda: None
    is_stopping: Callable[[], bool] = lambda: False

    def publish_latest(self, places: Sequence[Location], outcome: Outcome) -> bool:
        """Publish what is new or changed of every place, from its cursor, less the days that are revised, to the end of the forecast.

        Returns:
            As `publish_days`.

        Raises:
            RefusedError, LimitError, DeliveryError, StateFileError: as they concern all places.
        """
        today = self._today()
        cursors = self.cursors.read()

        def first_day(place: Location) -> date:
            return first_day_to_ask(cursors.get(place.location_key), today, self.past_days)

        for since, group in groupby(sorted(places, key=first_day), key=first_day):
            if not self.publish_days(list(group), since, today + timedelta(days=FORECAST_DAYS), outcome, only_news=True):
                return False
        self.memory.forget(self._first_remembered())
        return True

    def publish_days(self, places: Sequence[Location], since: date, until: date, outcome: Outcome, only_news: bool = False) -> bool:
        """Publish UTC days, both included, request by request.

        Args:
            places: to ask for.
            since: first day.
            until: last day.
            outcome: is added to.
            only_news: leave out what is remembered as published with the same values.

        Returns:
            Whether it came to the end; False when it was asked to stop between two requests.

        Raises:
            RefusedError, LimitError, DeliveryError, StateFileError: as they concern all places.
        """
        today = self._today()
        cursors = self.cursors.read()
        # A cursor must not jump over days that nobody asked for: only what follows on it, or on the first poll's days, moves it.
        asked_until = {
            place.location_key: cursors.get(place.location_key, midnight(today - timedelta(days=self.past_days))) for place in places
        }
        for days in split_days(since, until, today):
            for group in self.source.split([place for place in places if place.location_key not in outcome.failures], days):
                if self.is_stopping():
                    return False
                sent = list(self._send(self.source.fetch_each(group, days), outcome, only_news))
                failpoints.reach("producer.sent")
                self.writer.flush()
                failpoints.reach("producer.reported")
                self.memory.remember(reading for one in sent for reading in self._remembered(one.readings))
                for one in sent:
                    key, last_asked = one.location_key, midnight(days.last) + timedelta(hours=23)
                    if one.is_whole and midnight(days.first) - timedelta(hours=1) <= asked_until[key] <= last_asked:
                        asked_until[key] = last_asked
                        if one.last_hour:
                            self.cursors.advance(key, one.last_hour)
        return True

    def _today(self) -> date:
        return self.clock.now().astimezone(UTC).date()

    def _first_remembered(self) -> datetime:
        """Say from which hour on a poll asks again; what lies before is asked for after an outage only."""
        return midnight(self._today() - timedelta(days=self.past_days))

    def _remembered(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        first = self._first_remembered()
        return (reading for reading in readings if _ts(reading) >= first)

    def _send(self, fetched: Iterable[PlaceHours | Failure], outcome: Outcome, only_news: bool) -> Iterator[_Sent]:
        """Hand each place's hours to Kafka."""
        for one in fetched:
            if isinstance(one, Failure):
                outcome.failures[one.location.location_key] = one.error
                log.error("place failed", source=SOURCE, location=one.location.location_key, reason=str(one.error))
            else:
                chosen = self._choose(list(one.readings()), outcome, only_news)
                # An hour of which nobody will know whether Kafka has it must not be taken for published, see `published`.
                self.memory.doubt(self._remembered(chosen))
                sent = [reading for reading in outcome.note(chosen) if self.writer.send(reading)]
                outcome.note_without_data(one)
                yield _Sent(one.location.location_key, sent, one.last_measured_hour(), is_whole=len(sent) == len(chosen))
            self.on_step()

    def _choose(self, readings: list[Reading], outcome: Outcome, only_news: bool) -> list[Reading]:
        kinds = self.memory.judge(readings)
        outcome.places.update(str(reading["location_key"]) for reading in readings[:1])
        outcome.kinds.update(kinds)
        for kind, count in Counter(kinds).items():
            metrics.PRODUCER_READINGS.labels(source=SOURCE, kind=kind).inc(count)
        return [reading for reading, kind in zip(readings, kinds, strict=True) if not only_news or kind != "unchanged"]


def poll_weight(places: int, past_days: int) -> float:
    """Weigh a poll as the API does, when no place has to catch up."""
    asked = past_days + 1 + FORECAST_DAYS + 2  # one more day at each edge, see `split_days`
    return call_weight(places, len(VARIABLES), asked)


def api_requests(places: Sequence[Location], since: date, until: date, today: date) -> int:
    """Count the steps of a range, one per place and request; none when the API has nothing of the range."""
    return len(places) * len(split_days(since, until, today))


def send_all(records: Iterable[dict[str, Value]], writer: KafkaWriter) -> None:
    """Send each record."""
    for record in records:
        writer.send(record)


def publish_recorded(
    answers: Sequence[RecordedAnswer],
    places: Sequence[Location],
    writer: KafkaWriter,
    outcome: Outcome,
    *,
    days: tuple[date, date] | None = None,
    speed: float | None = None,
    clock: Clock | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Publish recorded answers as if the API had just given them; no cursor moves.

    Args:
        answers: in the order in which they were served.
        places: those that are published; answers of others are counted as unknown.
        writer: of the topic.
        outcome: is added to.
        days: keep these UTC days only, both included.
        speed: None publishes answer by answer, at once. Else hour by hour, in the order of event time, a recorded hour in 1/speed hours.
        clock: sleeps between the hours; needed with `speed`.
        on_step: called after each answer.
    """
    readings = _recorded_readings(answers, places, outcome, days, on_step)
    if speed is None or clock is None:
        send_all(outcome.note(readings), writer)
    else:
        before: datetime | None = None
        for ts, hour in groupby(sorted(readings, key=_ts), key=_ts):
            if before:
                clock.sleep((ts - before).total_seconds() / speed)
            send_all(outcome.note(hour), writer)
            before = ts
    writer.flush()


def _ts(reading: Reading) -> datetime:
    ts = reading["ts_utc"]
    assert isinstance(ts, datetime)
    return ts


def _recorded_readings(
    answers: Sequence[RecordedAnswer],
    places: Sequence[Location],
    outcome: Outcome,
    days: tuple[date, date] | None,
    on_step: Callable[[], None],
) -> Iterator[Reading]:
    for answer in answers:
        for name, hours in answer.places(places):
            if hours is None:
                outcome.unknown[name] = outcome.unknown.get(name, 0) + 1
                log.warning("no known place there: skipped", answer=answer.name, place=name)
                continue
            kept = hours.kept(*days) if days else hours
            yield from kept.readings()
            outcome.note_without_data(kept)
        on_step()
