"""A second source, as small as one can be: what toys are owned by whom, from answers in memory. Its key has no time."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

from lakehouse.contract import Contract, Field, Value
from lakehouse.errors import Fatal, LakehouseError, ProducerError, Retryable
from lakehouse.settings import Settings
from producers.budget import Budget
from producers.call_errors import UnavailableError
from producers.calls import Calls
from producers.clock import Clock
from producers.history import Lacking, Records
from producers.source import Request, Source, Watched, Words

OWNED = Contract(
    topic="toys.owned.v1",
    entity=("owner",),
    key=("owner", "toy"),
    version="answered_ts",
    fields=(
        Field("owner", "string", required=True),
        Field("toy", "string", required=True),
        Field("price", "double", low=0),
        Field("answered_ts", "timestamp", required=True),
    ),
)
MORNING = datetime(2024, 1, 20, 8, tzinfo=UTC)


class ClosedError(ProducerError, Retryable):
    """The shop is closed."""


class UnreadableListError(LakehouseError, Fatal):
    """The list of owners cannot be read."""


@dataclass(slots=True)
class Shop:
    """Who owns what, and what was asked.

    Attributes:
        prices: by owner and toy.
        stumbles: so many of the next calls get no answer.
        closed_for: owners whose toys cannot be had.
        is_closed: whether nobody's can.
        list_breaks_after: the list of owners can be read so often.
        stop_at: the poll during which the program is told to stop.
        asked: the cursors that each poll was given.
    """

    prices: dict[str, dict[str, float]] = field(default_factory=lambda: {"ann": {"ball": 3.0, "kite": 7.5}, "bob": {"ball": 4.0}})
    stumbles: int = 0
    closed_for: set[str] = field(default_factory=set)
    is_closed: bool = False
    list_breaks_after: int = 1_000
    stop_at: int = 0
    now: datetime = MORNING
    asked: list[dict[str, datetime]] = field(default_factory=list)


SHOP = Shop()


class Toys:
    """The client: one request for each owner."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def poll(self, entities: Sequence[str], cursors: Mapping[str, datetime]) -> Iterator[Request]:
        SHOP.asked.append(dict(cursors))
        SHOP.now += timedelta(minutes=1)
        if SHOP.is_closed:
            raise ClosedError("the shop is closed")
        for owner in entities:
            yield Request(partial(self._fetch, owner))
        if len(SHOP.asked) == SHOP.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    def _fetch(self, owner: str) -> Iterator[Records | Lacking]:
        if owner in SHOP.closed_for:
            yield Lacking(owner, ClosedError(f"closed for {owner}"))
        else:
            yield Records(owner, self._calls.make(partial(ask, owner), owner), cursor=SHOP.now)


def ask(owner: str) -> list[dict[str, Value]]:
    if SHOP.stumbles:
        SHOP.stumbles -= 1
        raise UnavailableError("nobody at the till")
    return list(records_of(owner))


def records_of(owner: str) -> Iterator[dict[str, Value]]:
    for toy, price in SHOP.prices.get(owner, {}).items():
        yield {"owner": owner, "toy": toy, "price": price, "answered_ts": SHOP.now}


def watched(settings: Settings) -> Watched[str]:
    SHOP.list_breaks_after -= 1
    if SHOP.list_breaks_after < 0:
        raise UnreadableListError("the list is torn")
    return Watched("the shop's book", {owner: owner for owner in SHOP.prices})


@contextmanager
def open_toys(settings: Settings, clock: Clock, is_stopping: Callable[[], bool], budget: Budget | None) -> Iterator[Toys]:
    assert budget is None
    yield Toys(Calls("toys", "The shop", clock, is_stopping, budget))


TOYS = Source(
    name="toys",
    domain="toys",
    contract=OWNED,
    watched=watched,
    open=open_toys,
    words=Words(records="toys", entity="owner", entities="owners", log_field="owner"),
)


@dataclass(frozen=True, slots=True)
class Letter:
    """A recorded answer: who wrote it. It lists what that owner has."""

    name: str

    def records(self, known: Sequence[str], days: tuple[date, date] | None) -> Iterator[tuple[str, Records | None]]:
        yield self.name, Records(self.name, list(records_of(self.name))) if self.name in known else None


def read_letters(path: Path, set_name: str | None) -> Sequence[Letter]:
    return [Letter(line) for line in path.read_text().splitlines()]


# The same source with recorded answers: these have no event time either.
WRITTEN_TOYS = replace(TOYS, name="written-toys", recorded=read_letters)
