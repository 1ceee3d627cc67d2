"""What does the poller need from a source? A `Source` record, which describes the source and its features, and the client that it opens.

A source is a folder in `producers/sources/` with such a record in its `source.py`, and one line in `sources/registry.py`. The record drives
`weir produce NAME`, its loop, cursors, the memory of published records, `--since`, `--replay`, metrics, and `weir backfill DOMAIN`. If a
field is left out, the source lacks that feature, and the command reports it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, runtime_checkable

from lakehouse.contract import Contract, Value
from producers.clock import Clock
from producers.history import History, Lacking, Records
from producers.upstream import Timetable

if TYPE_CHECKING:
    from lakehouse.settings import Settings
    from producers.budget import Budget, Lane
    from producers.stopping import Stop

# What a source polls: a place, an account, a market. The poller only uses its key.
Entity = TypeVar("Entity")
_Entity = TypeVar("_Entity", contravariant=True)


@dataclass(frozen=True, slots=True)
class Words:
    """The names of a source's records and entities, on stdout, in --json, in the log and in errors.

    Attributes:
        records: several records; a key of --json.
        entity: one entity.
        entities: several; a key of --json.
        log_field: the field of a log line with an entity's key.
        add_entity: the command that adds an entity to those polled; empty where there is none.
    """

    records: str = "records"
    entity: str = "entity"
    entities: str = "entities"
    log_field: str = "entity"
    add_entity: str = ""


@dataclass(frozen=True, slots=True)
class Watched(Generic[Entity]):
    """The entities that a source polls, by key and in order, and the place where they are configured, for messages."""

    where: str
    entities: Mapping[str, Entity]


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a source, not sent yet.

    Attributes:
        fetch: sends it, and returns for each of its entities the records, or why they cannot be fetched. Raises a ProducerError for an
            error that concerns all entities: a refusal, a limit, an outage.
        covers: the first and the last event time that it requests, UTC; None where its records have none.
        step: the distance of two event times of an entity; a request that begins one step after the previous one's end continues it.
        notice: makes a message of the source's `notice` contract; it is sent when Kafka has reported all of the request's records.
        done: called when Kafka has reported everything of the request, so that the client notes how far it has come.
    """

    fetch: Callable[[], Iterable[Records | Lacking]]
    covers: tuple[datetime, datetime] | None = None
    step: timedelta = timedelta(0)
    notice: Callable[[], Mapping[str, Value]] | None = None
    done: Callable[[], None] | None = None


class Client(Protocol[_Entity]):
    """An open source. It retries and waits within bounds, preferably with `producers.calls`, and raises an error after that."""

    def poll(self, entities: Sequence[_Entity], cursors: Mapping[str, datetime]) -> Iterator[Request]:
        """Request records that may be new or revised.

        Args:
            entities: the entities to request; one that failed is left out of later requests.
            cursors: {key: the instant, UTC, up to which the entity has been published}, without entities that were never published.
        """


@runtime_checkable
class RangeClient(Client[_Entity], Protocol[_Entity]):
    """An open source that also provides past records."""

    def range(self, entities: Sequence[_Entity], since: date, until: date) -> Iterator[Request]:
        """Request UTC days, both included, in order of time; an entity that failed is left out of later requests."""


class OpenClient(Protocol[_Entity]):
    """Opens a source; leaving the `with` block closes its connections."""

    def __call__(
        self, settings: "Settings", clock: Clock, is_stopping: Callable[[], bool], budget: "Budget | None"
    ) -> AbstractContextManager[Client[_Entity]]:
        """Open the source.

        Args:
            settings: with its address, and whatever else it needs.
            clock: returns the current time; its sleep ends when the program is stopped.
            is_stopping: checked before a request is retried.
            budget: the budget from which each request takes its weight; None where the source has none.
        """


class RecordedAnswer(Protocol[_Entity]):
    """A recorded answer of a source."""

    @property
    def name(self) -> str:
        """Where it was read from, for messages."""

    def records(self, known: Sequence[_Entity], days: tuple[date, date] | None) -> Iterator[tuple[str, Records | None]]:
        """Read it as if the source had just returned it.

        Args:
            known: the watched entities.
            days: only these UTC days of event time, both included.

        Yields:
            Per entity a name for messages, and its records; None instead of records where the entity is not a known one.
        """


@dataclass(frozen=True, slots=True)
class Ranges(Generic[Entity]):
    """The past records that a source has; its client is a `RangeClient`.

    Attributes:
        has: the available days, for people, such as "the API has days from 2013-01-01 to 5 days ahead".
        steps: returns the number of steps for the UTC days `since` to `until`, requested on the day `today`; 0 when the source has none of
            these days.
    """

    has: str
    steps: Callable[[Sequence[Entity], date, date, date], int]


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """How a source's calls are counted.

    Attributes:
        open: opens the budget for a lane; the text identifies this program among others.
        poll_weight: returns the weight of a poll of a number of entities that goes back a number of days.
    """

    open: "Callable[[Settings, Lane, str], Budget]"
    poll_weight: Callable[[int, int], float]


@dataclass(frozen=True, slots=True)
class Source(Generic[Entity]):
    """The description of a source and its features. An optional field that is left out is a feature that it lacks.

    Attributes:
        name: as typed; also used in the names of state files, in the header `source`, and as label of metrics.
        domain: the domain whose tables the records are written to.
        contract: of its records.
        watched: reads the entities to poll, again before each poll. Raises a WeirError where they cannot be read.
        open: opens a client.
        words: what records and entities are called.
        ranges: for `--since`.
        recorded: for `--replay`: reads recorded answers in the order served, all of them or those of one set.
        history: for `weir backfill`: opens the domain's past records. At most one source of a domain has it.
        budget: the limits on its calls.
        timetable: when it should have new data.
        identity: the fields by which a record is found again in the next poll; those of the contract's key when left out. A contract whose
            key has the time of the poll keeps every version, but the same values of another poll are nothing new.
        listed_as: where a source polls one list as a whole, the key of that list, its only entity; empty where records name their entity.
        notice: the contract of the messages that follow requests, see `Request.notice`.
        not_ready: returns why it cannot be polled with these settings, such as a lack of credentials, and what to do; empty when it can.
            `weir up` then says so once instead of starting a process.
    """

    name: str
    domain: str
    contract: Contract
    watched: "Callable[[Settings], Watched[Entity]]"
    open: OpenClient[Entity]
    words: Words = Words()
    ranges: Ranges[Entity] | None = None
    recorded: Callable[[Path, str | None], Sequence[RecordedAnswer[Entity]]] | None = None
    history: "Callable[[Settings, Stop], History] | None" = None
    budget: BudgetUse | None = None
    timetable: Timetable | None = None
    identity: tuple[str, ...] = ()
    listed_as: str = ""
    notice: Contract | None = None
    not_ready: "Callable[[Settings], str]" = lambda _: ""

    def entity_of(self, record: Mapping[str, Value]) -> str:
        """Return the key of a record's entity."""
        return self.listed_as or ":".join(str(record[name]) for name in self.contract.entity)

    def event_time_of(self, record: Mapping[str, Value]) -> datetime | None:
        """Return a record's event time, UTC; None where records have none."""
        if not self.contract.event_time:
            return None
        instant = record[self.contract.event_time]
        assert isinstance(instant, datetime)
        return instant
