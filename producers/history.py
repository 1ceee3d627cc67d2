"""Where does a domain's past come from? What a backfill needs of a source, and the source of each domain.

A new domain's source is a class like `OpenMeteoHistory` and a line in `HISTORIES`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from types import TracebackType
from typing import Protocol

from lakehouse.contract import Value
from lakehouse.domains.air_quality.contract import VARIABLES
from lakehouse.errors import ProducerError, Retryable
from lakehouse.locations import Location, locations_file, read_locations
from lakehouse.settings import Settings
from producers.budget import call_weight, open_budget
from producers.intercepted import InterceptedError
from producers.sources.open_meteo.client import Clock, Failure, LimitError, OpenMeteo, StoppedError, split_days, utc_now
from producers.stopping import Stop

# Seen at a source that is not pressed: what one call takes, beside what its limits allow.
SECONDS_OF_A_CALL = 0.7


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
    """Records of one entity, as the domain's contract has them; an entity may come in several parts."""

    entity: str
    records: Sequence[Mapping[str, Value]]


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


class OpenMeteoHistory(History):
    """Hours of places from Open-Meteo, in the lane that leaves the live poll its calls.

    Args:
        settings: name the API, its limits and the places.
        stop: ends waiting for a limit.
    """

    def __init__(self, settings: Settings, stop: Stop) -> None:
        places = read_locations(locations_file(settings.locations_path, settings.home))
        self._places: dict[str, Location] = {place.location_key: place for place in places}
        self._budget = open_budget(settings, "range", f"{settings.home} backfill")
        key = settings.open_meteo_api_key.get_secret_value() if settings.open_meteo_api_key else None
        self._clock = Clock(now=utc_now, sleep=stop.sleep)
        self._held = ExitStack()
        self._api = self._held.enter_context(OpenMeteo(settings.open_meteo_url, self._clock, key, stop.is_set, budget=self._budget))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held.close()

    @property
    def entities(self) -> Sequence[str]:
        """The places of the list."""
        return tuple(self._places)

    @property
    def rows_of_a_day(self) -> int:
        """An hour each."""
        return 24

    def asks(self, entities: Sequence[str], since: date, until: date) -> Asked:
        """Cut it as `fetch` will."""
        asked = Asked()
        for days in split_days(since, until, self._clock.now().date()):
            for group in self._api.split(self._of(entities), days):
                asked += Asked(1, call_weight(len(group), len(VARIABLES), days.asked))
        return asked

    def least_time(self, asked: Asked) -> timedelta:
        """Whichever is longer: the limits or the calls."""
        return max(self._budget.least_time(asked.weight), timedelta(seconds=SECONDS_OF_A_CALL * asked.calls))

    def fetch(self, entities: Sequence[str], since: date, until: date) -> Iterator[Records | Lacking]:
        """Fetch them request by request in order of time."""
        try:
            for one in self._api.poll(self._of(entities), since, until):
                key = one.location.location_key
                yield Lacking(key, one.error) if isinstance(one, Failure) else Records(key, list(one.readings()))
        except (LimitError, StoppedError, InterceptedError) as error:
            raise SourceSpent(str(error)) from error

    def _of(self, entities: Sequence[str]) -> list[Location]:
        return [self._places[key] for key in entities]


HISTORIES: dict[str, Callable[[Settings, Stop], History]] = {"air_quality": OpenMeteoHistory}
