"""What does a backfill need of a source? Its past, asked for in ranges of UTC days.

Whether a source has a past, and for which domain, stands in its record (`source.py`); `sources/registry.py` finds it by the domain.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from lakehouse.contract import Value
from lakehouse.errors import ProducerError, Retryable


class SourceSpent(ProducerError, Retryable):
    """The source takes no more calls for now, or the program was told to stop: nothing is wrong with what was asked."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a source would be asked: how many calls, and their weight as its limits count them."""

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
        cursor: the instant, UTC, up to which a poll has the entity once these are delivered; None moves no cursor.
        without_data: event times for which the source answered and has no data, ascending, UTC.
    """

    entity: str
    records: Sequence[Mapping[str, Value]]
    cursor: datetime | None = None
    without_data: Sequence[datetime] = ()


@dataclass(frozen=True, slots=True)
class Lacking:
    """An entity whose records could not be had, and why; it is not asked for again in the same call."""

    entity: str
    error: ProducerError


class History(AbstractContextManager["History"], Protocol):
    """A source's past, open for asking."""

    @property
    def entities(self) -> Sequence[str]:
        """Whom it is asked about: the domain's entities that are watched."""

    @property
    def rows_of_a_day(self) -> int:
        """How many records an entity has on a day, about."""

    def asks(self, entities: Sequence[str], since: date, until: date) -> Asked:
        """Say what UTC days, both included, would cost."""

    def least_time(self, asked: Asked) -> timedelta:
        """Say how long that takes at least."""

    def fetch(self, entities: Sequence[str], since: date, until: date) -> Iterator[Records | Lacking]:
        """Fetch UTC days, both included.

        Raises:
            SourceSpent: nothing more can be had for now.
            ProducerError: what else concerns all entities, such as a refusal.
        """
