"""Where do backfills get past hours of air quality from? From Open-Meteo."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import date, timedelta
from types import TracebackType

from lakehouse.domains.air_quality.contract import VARIABLES
from lakehouse.domains.air_quality.locations import Location, locations_file, read_locations
from lakehouse.settings import Settings
from producers.call_errors import LimitError
from producers.clock import Clock, utc_now
from producers.history import Asked, History, Lacking, Records, SourceSpent
from producers.intercepted import InterceptedError
from producers.sources.open_meteo.answers import to_records
from producers.sources.open_meteo.client import Failure, OpenMeteo, open_client
from producers.sources.open_meteo.limits import call_weight, open_budget
from producers.sources.open_meteo.splitting import split_days
from producers.stopping import Stop, StoppedError

# The duration of one call, measured while the API was not under load; the limits may make it longer.
SECONDS_OF_A_CALL = 0.7


class OpenMeteoHistory(History):
    """Hours of places from Open-Meteo, fetched in the lane that leaves the live poll its calls.

    Args:
        settings: with the API's URL, its limits and the list of places.
        stop: ends waiting for a limit.
        client: of the API; a new one from the settings when left out.
    """

    def __init__(self, settings: Settings, stop: Stop, client: OpenMeteo | None = None) -> None:
        places = read_locations(locations_file(settings.locations_path, settings.home))
        self._places: dict[str, Location] = {place.location_key: place for place in places}
        self._budget = open_budget(settings, "range", f"{settings.home} backfill")
        self._clock = Clock(now=utc_now, sleep=stop.sleep)
        self._opened = ExitStack()
        self._api = client or self._opened.enter_context(open_client(settings, self._clock, stop.is_set, self._budget))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.close()

    @property
    def entities(self) -> Sequence[str]:
        """The places on the list."""
        return tuple(self._places)

    @property
    def rows_of_a_day(self) -> int:
        """One per hour."""
        return 24

    def asks(self, entities: Sequence[str], since: date, until: date) -> Asked:
        """Count the requests that `fetch` would make."""
        asked = Asked()
        for days in split_days(since, until, self._clock.now().date()):
            for group in self._api.split(self._of(entities), days):
                asked += Asked(1, call_weight(len(group), len(VARIABLES), days.asked))
        return asked

    def least_time(self, asked: Asked) -> timedelta:
        """Return the longer of the time that the limits require and the time that the calls take."""
        return max(self._budget.least_time(asked.weight), timedelta(seconds=SECONDS_OF_A_CALL * asked.calls))

    def fetch(self, entities: Sequence[str], since: date, until: date) -> Iterator[Records | Lacking]:
        """Fetch the days request by request in order of time."""
        try:
            for one in self._api.poll(self._of(entities), since, until):
                yield Lacking(one.location.location_key, one.error) if isinstance(one, Failure) else to_records(one)
        except (LimitError, StoppedError, InterceptedError) as error:
            raise SourceSpent(str(error)) from error

    def _of(self, entities: Sequence[str]) -> list[Location]:
        return [self._places[key] for key in entities]
