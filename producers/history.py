"""What does a backfill need from a source? Past records, in ranges of UTC days.

A source's record (`source.py`) states whether it has past records, and of which domain; `sources/registry.py` finds it by the domain.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from lakehouse.contract import Value
from lakehouse.errors import ProducerError, Retryable


class SourceSpent(ProducerError, Retryable):
    """The source accepts no more calls for now, or the program was stopped; the request itself was right."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The cost of a request to a source: the number of calls, and their weight as the source's limits count them."""

    calls: int = 0
    weight: float = 0.0

    def __add__(self, other: "Asked") -> "Asked":
        return Asked(self.calls + other.calls, self.weight + other.weight)


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one entity, as the source's contract has them; an entity may come in several parts.

    Attributes:
        entity: the entity's key, as in the contract's Kafka key.
        records: those that have data.
        cursor: the instant, UTC, to which the entity's cursor advances once these are delivered; None leaves the cursor as it is.
        without_data: event times for which the source answered without data, ascending, UTC.
    """

    entity: str
    records: Sequence[Mapping[str, Value]]
    cursor: datetime | None = None
    without_data: Sequence[datetime] = ()


@dataclass(frozen=True, slots=True)
class Lacking:
    """An entity whose records could not be fetched, and why; the same call does not request it again."""

    entity: str
    error: ProducerError


class History(AbstractContextManager["History"], Protocol):
    """An open connection to a source's past records."""

    @property
    def entities(self) -> Sequence[str]:
        """The watched entities of the domain."""

    @property
    def rows_of_a_day(self) -> int:
        """The approximate number of records of an entity per day."""

    def asks(self, entities: Sequence[str], since: date, until: date) -> Asked:
        """Return what fetching UTC days, both included, would cost."""

    def least_time(self, asked: Asked) -> timedelta:
        """Return the least time that such a request takes."""

    def fetch(self, entities: Sequence[str], since: date, until: date) -> Iterator[Records | Lacking]:
        """Fetch UTC days, both included.

        Raises:
            SourceSpent: nothing more can be fetched for now.
            ProducerError: another error that concerns all entities, such as a refusal.
        """
