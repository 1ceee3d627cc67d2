"""What does the poller need of a source? A `Source` record, which says what the source is and can do, and the client that it opens.

A source is a folder in `producers/sources/` with such a record in its `source.py`, and one line in `sources/registry.py`. From it follow
`weir produce NAME`, its loop, cursors, the memory of what was published, `--since`, `--replay`, metrics, and `weir backfill DOMAIN`. What
the record leaves out, the source cannot do, and the command says so.
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

# What a source polls: a place, an account, a market. The poller never looks into one; it knows its key.
Entity = TypeVar("Entity")
_Entity = TypeVar("_Entity", contravariant=True)


@dataclass(frozen=True, slots=True)
class Words:
    """What a source's records and entities are called, on stdout, in --json, in the log and in errors.

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
    """Whom a source polls: by key, in their order; and where that stands, for messages."""

    where: str
    entities: Mapping[str, Entity]


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a source, not made yet.

    Attributes:
        fetch: makes it, and gives for each of its entities the records or why they cannot be had. Raises a ProducerError for what
            concerns all entities: a refusal, a limit, nobody there.
        covers: the first and the last event time that it asks for, UTC; None where its records have none.
        step: how far apart two event times of an entity are; a request that begins so far after the one before follows on it.
    """

    fetch: Callable[[], Iterable[Records | Lacking]]
    covers: tuple[datetime, datetime] | None = None
    step: timedelta = timedelta(0)


class Client(Protocol[_Entity]):
    """A source, open for asking. It repeats and waits within bounds, best by `producers.calls`; what is still wrong then is an error."""

    def poll(self, entities: Sequence[_Entity], cursors: Mapping[str, datetime]) -> Iterator[Request]:
        """Ask for what may be new or revised.

        Args:
            entities: whom to ask for; one that failed is left out of later requests.
            cursors: by key, up to which instant, UTC, an entity has been published; one that was not yet is absent.
        """


@runtime_checkable
class RangeClient(Client[_Entity], Protocol[_Entity]):
    """A source that can also be asked for its past."""

    def range(self, entities: Sequence[_Entity], since: date, until: date) -> Iterator[Request]:
        """Ask for UTC days, both included, in order of time; an entity that failed is left out of later requests."""


class OpenClient(Protocol[_Entity]):
    """Opens a source; leaving the `with` closes its connections."""

    def __call__(
        self, settings: "Settings", clock: Clock, is_stopping: Callable[[], bool], budget: "Budget | None"
    ) -> AbstractContextManager[Client[_Entity]]:
        """Open it.

        Args:
            settings: name its address and what it needs.
            clock: the present; its sleep ends when the program is told to stop.
            is_stopping: asked before a request is repeated.
            budget: take each request's weight from it; None where the source has none.
        """


class RecordedAnswer(Protocol[_Entity]):
    """An answer of a source that was recorded."""

    @property
    def name(self) -> str:
        """Where it was read, for messages."""

    def records(self, known: Sequence[_Entity], days: tuple[date, date] | None) -> Iterator[tuple[str, Records | None]]:
        """Read it as if the source had just given it.

        Args:
            known: the entities that are watched.
            days: only these UTC days of event time, both included.

        Yields:
            Per entity a name for messages, and its records; None in their stead where the entity is none of the known ones.
        """


@dataclass(frozen=True, slots=True)
class Ranges(Generic[Entity]):
    """Which past a source has; its client is a `RangeClient`.

    Attributes:
        has: which days there are, for people, such as "the API has days from 2013-01-01 to 5 days ahead".
        steps: how many steps the UTC days `since` to `until`, asked on the day `today`, are; none when the source has nothing of them.
    """

    has: str
    steps: Callable[[Sequence[Entity], date, date, date], int]


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """How a source's calls are counted.

    Attributes:
        open: opens the budget for a lane; the text tells this program from others.
        poll_weight: weighs a poll of so many entities that goes so many days back.
    """

    open: "Callable[[Settings, Lane, str], Budget]"
    poll_weight: Callable[[int, int], float]


@dataclass(frozen=True, slots=True)
class Source(Generic[Entity]):
    """What a source is and what it can do. What is optional and left out, it cannot.

    Attributes:
        name: as typed; also in the names of state files, in the header `source`, and the label of metrics.
        domain: whose tables the records go to.
        contract: what each record is.
        watched: reads whom to poll, anew before each poll. Raises a WeirError where that cannot be read.
        open: opens a client.
        words: what records and entities are called.
        ranges: `--since`.
        recorded: `--replay`: reads recorded answers in the order served, all or those of one set.
        history: `weir backfill`: opens the domain's past. Of the sources of a domain at most one has it.
        budget: the limits on its calls.
        timetable: when it should have something new.
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

    def entity_of(self, record: Mapping[str, Value]) -> str:
        """Give the key of a record's entity."""
        return ":".join(str(record[name]) for name in self.contract.entity)

    def event_time_of(self, record: Mapping[str, Value]) -> datetime | None:
        """Give a record's event time, UTC; None where records have none."""
        if not self.contract.event_time:
            return None
        instant = record[self.contract.event_time]
        assert isinstance(instant, datetime)
        return instant
