"""Where do the past hours of air quality come from? Open-Meteo's past, for backfills."""

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

# Seen at a source that is not pressed: what one call takes, beside what its limits allow.
SECONDS_OF_A_CALL = 0.7


class OpenMeteoHistory(History):
    """Hours of places from Open-Meteo, in the lane that leaves the live poll its calls.

    Args:
        settings: name the API, its limits and the places.
        stop: ends waiting for a limit.
        client: asks the API; one for the settings' address when left out.
    """

    def __init__(self, settings: Settings, stop: Stop, client: OpenMeteo | None = None) -> None:
        places = read_locations(locations_file(settings.locations_path, settings.home))
        self._places: dict[str, Location] = {place.location_key: place for place in places}
        self._budget = open_budget(settings, "range", f"{settings.home} backfill")
        self._clock = Clock(now=utc_now, sleep=stop.sleep)
        self._held = ExitStack()
        self._api = client or self._held.enter_context(open_client(settings, self._clock, stop.is_set, self._budget))

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
                yield Lacking(one.location.location_key, one.error) if isinstance(one, Failure) else to_records(one)
        except (LimitError, StoppedError, InterceptedError) as error:
            raise SourceSpent(str(error)) from error

    def _of(self, entities: Sequence[str]) -> list[Location]:
        return [self._places[key] for key in entities]
