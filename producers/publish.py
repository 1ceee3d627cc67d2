"""How do hours get from a source into the topic so that none is lost and every loss is told?

Three ways, one path: a range of days, a poll that repeats, and recorded answers. Each sends a place's hours, waits for their
delivery reports, and only then moves the place's cursor.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import structlog

from lakehouse.contract import Value
from lakehouse.errors import Fatal, ProducerError, Retryable
from lakehouse.locations import Location
from producers.cursor import Cursors, first_day_to_ask
from producers.kafka_writer import KafkaWriter
from producers.recorded import RecordedAnswer
from producers.sources.open_meteo import SOURCE, Clock, Failure, OpenMeteo, split_days, split_places
from producers.sources.open_meteo_answers import PlaceHours, Reading, midnight

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
    """What one command published.

    Attributes:
        hours: records handed over to be sent.
        places: `location_key` of every place with at least one such record.
        first, last: the least and the greatest event time published.
        without_data: by `location_key`, hours that the source answered without data.
        failures: by `location_key`, why a place's hours could not be had.
        unknown: answers skipped in a replay because no known place lies there.
    """

    hours: int = 0
    places: set[str] = field(default_factory=set)
    first: datetime | None = None
    last: datetime | None = None
    without_data: dict[str, NoData] = field(default_factory=dict)
    failures: dict[str, ProducerError] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)

    def note(self, readings: Iterable[Reading]) -> Iterator[Reading]:
        """Count records on their way."""
        for reading in readings:
            ts = reading["ts_utc"]
            assert isinstance(ts, datetime)
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
class Publisher:
    """Fetch, send, wait for delivery, move the cursor.

    Attributes:
        source: the API.
        writer: of the topic.
        cursors: of this source.
        clock: the present.
        past_days: days before today, or before the cursor, that a poll asks for again.
        on_step: called after each place's part of a request, for a progress bar.
        is_stopping: asked between two requests.
    """

    source: OpenMeteo
    writer: KafkaWriter
    cursors: Cursors
    clock: Clock
    past_days: int
    on_step: Callable[[], None] = lambda: None
    is_stopping: Callable[[], bool] = lambda: False

    def publish_latest(self, places: Sequence[Location], outcome: Outcome) -> bool:
        """Publish every place from where its cursor stands, less the days that are revised, to the end of the forecast.

        Returns:
            As `publish_days`.

        Raises:
            RefusedError, LimitError, DeliveryError: as they concern all places.
        """
        today = self.clock.now().astimezone(UTC).date()
        cursors = self.cursors.read()

        def first_day(place: Location) -> date:
            return first_day_to_ask(cursors.get(place.location_key), today, self.past_days)

        for since, group in groupby(sorted(places, key=first_day), key=first_day):
            if not self.publish_days(list(group), since, today + timedelta(days=FORECAST_DAYS), outcome):
                return False
        return True

    def publish_days(self, places: Sequence[Location], since: date, until: date, outcome: Outcome) -> bool:
        """Publish UTC days, both included, request by request.

        Returns:
            Whether it came to the end; False when it was asked to stop between two requests.

        Raises:
            RefusedError, LimitError, DeliveryError: as they concern all places.
        """
        today = self.clock.now().astimezone(UTC).date()
        cursors = self.cursors.read()
        # A cursor must not jump over days that nobody asked for: only what follows on it, or on the first poll's days, moves it.
        asked_until = {
            place.location_key: cursors.get(place.location_key, midnight(today - timedelta(days=self.past_days))) for place in places
        }
        for days in split_days(since, until, today):
            for group in split_places([place for place in places if place.location_key not in outcome.failures], days):
                if self.is_stopping():
                    return False
                delivered = list(self._send(self.source.fetch_each(group, days), outcome))
                self.writer.flush()
                for key, last_hour in delivered:
                    last_asked = midnight(days.last) + timedelta(hours=23)
                    if midnight(days.first) - timedelta(hours=1) <= asked_until[key] <= last_asked:
                        asked_until[key] = last_asked
                        if last_hour:
                            self.cursors.advance(key, last_hour)
        return True

    def _send(self, fetched: Iterable[PlaceHours | Failure], outcome: Outcome) -> Iterator[tuple[str, datetime | None]]:
        """Hand each place's hours to Kafka; for each that could be sent whole, give its key and the newest hour that had passed."""
        for one in fetched:
            if isinstance(one, Failure):
                outcome.failures[one.location.location_key] = one.error
                log.error("place failed", source=SOURCE, location=one.location.location_key, reason=str(one.error))
            else:
                invalid_before = self.writer.counts.invalid
                send_all(outcome.note(one.readings()), self.writer)
                outcome.note_without_data(one)
                if self.writer.counts.invalid == invalid_before:
                    yield one.location.location_key, one.last_measured_hour()
            self.on_step()


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

        def at(reading: Reading) -> datetime:
            assert isinstance(reading["ts_utc"], datetime)
            return reading["ts_utc"]

        before: datetime | None = None
        for ts, hour in groupby(sorted(readings, key=at), key=at):
            if before:
                clock.sleep((ts - before).total_seconds() / speed)
            send_all(outcome.note(hour), writer)
            before = ts
    writer.flush()


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
