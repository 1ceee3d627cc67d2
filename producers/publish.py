"""How do records get from a source into the topic so that none is lost without an error?

There are three ways: a range of days, a repeated poll, and recorded answers. The first two send an entity's records, wait for the delivery
reports, and only then remember the records as published and advance the entity's cursor. A poll skips records that are remembered with the
same values. A range publishes all requested records and remembers them too. Recorded answers are not remembered.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any, Generic, TypeVar

import structlog

from lakehouse import failpoints
from lakehouse.contract import Value
from lakehouse.errors import Fatal, ProducerError, Retryable
from monitoring import metrics
from producers.clock import Clock, midnight
from producers.cursor import Cursors
from producers.history import Lacking, Records
from producers.kafka_writer import KafkaWriter
from producers.published import Kind, Published
from producers.source import Client, RangeClient, RecordedAnswer, Request, Source

Record = Mapping[str, Value]
Entity = TypeVar("Entity")

log = structlog.get_logger()


class EntitiesFailedError(ProducerError, Retryable):
    """Some entities' records could not be fetched. Their cursors stay, and the next run fetches them."""


class EntitiesRefusedError(ProducerError, Fatal):
    """The source refuses some entities; the next run fails too until an operator acts."""


class NothingRecordedError(ProducerError, Fatal):
    """A replay found answers, but none for the requested entities and days."""


class NotReadyError(ProducerError, Fatal):
    """The source cannot be polled with these settings, as for a lack of credentials."""


class NoRangeError(ProducerError, Fatal):
    """The source provides current records only."""


@dataclass(frozen=True, slots=True)
class NoData:
    """Event times of one entity for which the source answered without data: how many, the first, the last."""

    count: int
    first: datetime
    last: datetime


@dataclass(slots=True)
class Outcome:
    """The result of one command, or of one of its polls.

    Attributes:
        source: the source of the records.
        records: the number of records passed to the writer.
        entities: key of every entity with at least one record with data, whether it was sent or known before.
        first, last: the earliest and the latest event time published; None where records have none.
        kinds: the number of records that were new, changed, and so on; see `Published.judge`.
        without_data: by entity, the event times that the source answered without data.
        failures: by entity, why its records could not be fetched.
        unknown: by name, the number of a replay's answers that were skipped because their entity is not known.
    """

    source: Source[Any]
    records: int = 0
    entities: set[str] = field(default_factory=set)
    first: datetime | None = None
    last: datetime | None = None
    kinds: Counter[Kind] = field(default_factory=Counter)
    without_data: dict[str, NoData] = field(default_factory=dict)
    failures: dict[str, ProducerError] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)

    def next_poll(self) -> "Outcome":
        """Begin the next poll of the same command: it keeps the totals of published records and starts without failures."""
        return Outcome(self.source, records=self.records, entities=self.entities, first=self.first, last=self.last)

    def note(self, records: Iterable[Record]) -> Iterator[Record]:
        """Count records while they pass through."""
        for record in records:
            self.records += 1
            self.entities.add(self.source.entity_of(record))
            if ts := self.source.event_time_of(record):
                self.first = min(self.first or ts, ts)
                self.last = max(self.last or ts, ts)
            yield record

    def note_without_data(self, answered: Records) -> None:
        """Count and log event times without data, which are neither records nor a failure."""
        times, words = answered.without_data, self.source.words
        if not times:
            return
        before = self.without_data.get(answered.entity, NoData(0, times[0], times[-1]))
        self.without_data[answered.entity] = NoData(before.count + len(times), min(before.first, times[0]), max(before.last, times[-1]))
        log.info(
            "no data",
            source=self.source.name,
            **{words.log_field: answered.entity, words.records: len(times)},
            first=times[0].isoformat(),
            last=times[-1].isoformat(),
        )

    def note_failure(self, lacking: Lacking) -> None:
        """Store and log why an entity's records could not be fetched."""
        self.failures[lacking.entity] = lacking.error
        words = self.source.words
        log.error(f"{words.entity} failed", source=self.source.name, **{words.log_field: lacking.entity}, reason=str(lacking.error))

    def raise_failures(self) -> None:
        """Raise an error if an entity failed.

        Raises:
            EntitiesRefusedError, EntitiesFailedError: with every entity and its reason; the former if one of the reasons is final.
        """
        if not self.failures:
            return
        reasons = "".join(f"\n  {key}: {error}" for key, error in sorted(self.failures.items()))
        kind = EntitiesRefusedError if any(isinstance(error, Fatal) for error in self.failures.values()) else EntitiesFailedError
        failed = f"{len(self.failures)} {self.source.words.entity}(s) of {self.source.name}"
        raise kind(f"{failed} failed, their cursors were not advanced:{reasons}")


@dataclass(frozen=True, slots=True)
class _Sent:
    """The records of one entity that were passed to Kafka.

    Attributes:
        entity: its key.
        records: those that were sent.
        cursor: the instant to which they advance the entity's cursor; None where it stays.
        is_whole: whether all its records were sent, none being invalid.
    """

    entity: str
    records: list[Record]
    cursor: datetime | None
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Publisher(Generic[Entity]):
    """Fetch, send, wait for delivery, remember, move the cursor.

    Attributes:
        source: the source whose records are published.
        client: the open source.
        writer: of the topic.
        cursors: of this source.
        memory: the records of this source that were published.
        clock: returns the current time and sleeps.
        past_days: the number of days before today, or before the cursor, that a poll requests again.
        on_step: called after each entity's part of a request, for a progress bar.
        is_stopping: checked between two requests.
        notices: of the topic of the source's notices, see `Request.notice`; None where it has none.
    """

    source: Source[Entity]
    client: Client[Entity]
    writer: KafkaWriter
    cursors: Cursors
    memory: Published
    clock: Clock
    past_days: int
    on_step: Callable[[], None] = lambda: None
    is_stopping: Callable[[], bool] = lambda: False
    notices: KafkaWriter | None = None

    def publish_latest(self, entities: Sequence[Entity], outcome: Outcome) -> bool:
        """Publish the new and changed records of every entity since its cursor.

        Returns:
            As `publish_days`.

        Raises:
            ProducerError: an error that concerns all entities: a refusal, a limit, DeliveryError, StateFileError.
        """
        if not self._publish(self.client.poll(entities, self.cursors.read()), outcome, only_news=True):
            return False
        if self.source.contract.event_time:
            self.memory.forget(self._first_remembered())
        return True

    def publish_days(self, entities: Sequence[Entity], since: date, until: date, outcome: Outcome) -> bool:
        """Publish all records of UTC days, both included, whatever was published before.

        Args:
            entities: the entities to request.
            since: first day.
            until: last day.
            outcome: the result, to which this adds.

        Returns:
            Whether all requests were made; False when it was stopped between two requests.

        Raises:
            NoRangeError: the source has no past records.
            ProducerError: an error that concerns all entities: a refusal, a limit, DeliveryError, StateFileError.
        """
        if not isinstance(self.client, RangeClient):
            raise NoRangeError(f"{self.source.name} provides current records only, not those of {since} to {until}")
        return self._publish(self.client.range(entities, since, until), outcome, only_news=False)

    def _publish(self, requests: Iterable[Request], outcome: Outcome, only_news: bool) -> bool:
        # A cursor must not skip event times that were never requested: only a request that continues at the cursor, or at the first day of
        # a first poll, advances it.
        asked_until = self.cursors.read()
        first_poll = self._first_remembered()
        for request in requests:
            if self.is_stopping():
                return False
            sent = list(self._send(request.fetch(), outcome, only_news))
            failpoints.reach("producer.sent")
            self.writer.flush()
            failpoints.reach("producer.reported")
            self.memory.remember(record for one in sent for record in self._remembered(one.records))
            if request.notice is not None and self.notices is not None:
                self.notices.send(request.notice())
                self.notices.flush()
                failpoints.reach("producer.noticed")
            if request.done is not None:
                request.done()
            for one in sent:
                if not one.is_whole:
                    continue
                if request.covers is not None:
                    first, last = request.covers
                    if not first - request.step <= asked_until.get(one.entity, first_poll) <= last:
                        continue
                    asked_until[one.entity] = last
                if one.cursor:
                    self.cursors.advance(one.entity, one.cursor)
        return True

    def _first_remembered(self) -> datetime:
        """Return the instant from which every poll requests records again; earlier ones are requested only after an outage."""
        today = self.clock.now().astimezone(UTC).date()
        return midnight(today - timedelta(days=self.past_days))

    def _remembered(self, records: Iterable[Record]) -> Iterator[Record]:
        first = self._first_remembered()
        return (record for record in records if (ts := self.source.event_time_of(record)) is None or ts >= first)

    def _send(self, answered: Iterable[Records | Lacking], outcome: Outcome, only_news: bool) -> Iterator[_Sent]:
        """Pass each entity's records to Kafka."""
        for one in answered:
            if isinstance(one, Lacking):
                outcome.note_failure(one)
            else:
                chosen = self._choose(one, outcome, only_news)
                # If it is unknown whether Kafka has a record, it must not count as published, see `published`.
                self.memory.doubt(self._remembered(chosen))
                sent = [record for record in outcome.note(chosen) if self.writer.send(record)]
                outcome.note_without_data(one)
                yield _Sent(one.entity, sent, one.cursor, is_whole=len(sent) == len(chosen))
            self.on_step()

    def _choose(self, answered: Records, outcome: Outcome, only_news: bool) -> list[Record]:
        kinds = self.memory.judge(answered.records)
        if answered.records:
            outcome.entities.add(answered.entity)
        outcome.kinds.update(kinds)
        for kind, count in Counter(kinds).items():
            metrics.PRODUCER_READINGS.labels(source=self.source.name, kind=kind).inc(count)
        return [record for record, kind in zip(answered.records, kinds, strict=True) if not only_news or kind != "unchanged"]


def send_all(records: Iterable[Record], writer: KafkaWriter) -> None:
    """Send each record."""
    for record in records:
        writer.send(record)


def publish_recorded(
    source: Source[Entity],
    answers: Sequence[RecordedAnswer[Entity]],
    entities: Sequence[Entity],
    writer: KafkaWriter,
    outcome: Outcome,
    *,
    days: tuple[date, date] | None = None,
    speed: float | None = None,
    clock: Clock | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Publish recorded answers as if the source had just returned them; no cursor advances.

    Args:
        source: the source of the answers.
        answers: in the order in which they were served.
        entities: the entities to publish; answers about others are counted as unknown.
        writer: of the topic.
        outcome: the result, to which this adds.
        days: publish only these UTC days of event time, both included.
        speed: None publishes answer by answer, without pauses. Otherwise records are published in the order of event time, a recorded hour
            in 1/speed hours; only for records with an event time.
        clock: sleeps between event times; needed with `speed`.
        on_step: called after each answer.
    """
    records = _recorded(answers, entities, outcome, days, on_step)
    if speed is None or clock is None:
        send_all(outcome.note(records), writer)
    else:
        before: datetime | None = None

        def event_time(record: Record) -> datetime:
            ts = source.event_time_of(record)
            assert ts is not None, f"records of {source.name} have no event time to order them by"
            return ts

        for ts, at_once in groupby(sorted(records, key=event_time), key=event_time):
            if before:
                clock.sleep((ts - before).total_seconds() / speed)
            send_all(outcome.note(at_once), writer)
            before = ts
    writer.flush()


def _recorded(
    answers: Sequence[RecordedAnswer[Entity]],
    entities: Sequence[Entity],
    outcome: Outcome,
    days: tuple[date, date] | None,
    on_step: Callable[[], None],
) -> Iterator[Record]:
    words = outcome.source.words
    for answer in answers:
        for name, answered in answer.records(entities, days):
            if answered is None:
                outcome.unknown[name] = outcome.unknown.get(name, 0) + 1
                log.warning(f"skipped an answer about an unknown {words.entity}", answer=answer.name, **{words.entity: name})
                continue
            yield from answered.records
            outcome.note_without_data(answered)
        on_step()
