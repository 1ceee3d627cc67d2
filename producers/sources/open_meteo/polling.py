"""What does a poll of Open-Meteo request? The API's client in the form that the poller uses."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial

from lakehouse.domains.air_quality.locations import Location
from lakehouse.settings import Settings
from producers.budget import Budget
from producers.clock import Clock, midnight
from producers.cursor import by_first_day
from producers.history import Lacking, Records
from producers.source import Request
from producers.sources.open_meteo.answers import PlaceHours, to_records
from producers.sources.open_meteo.client import Failure, OpenMeteo, open_client
from producers.sources.open_meteo.splitting import FORECAST_DAYS

_HOUR = timedelta(hours=1)


class OpenMeteoPolls:
    """Polls the API for the hours of places.

    Args:
        api: the client; the caller closes it.
        clock: returns the current time.
        past_days: the days before today, or before a place's cursor, that a poll requests again, since the source revises them.
    """

    def __init__(self, api: OpenMeteo, clock: Clock, past_days: int) -> None:
        self._api, self._clock, self._past_days = api, clock, past_days

    def poll(self, entities: Sequence[Location], cursors: Mapping[str, datetime]) -> Iterator[Request]:
        """Request each place from its cursor, less the days that are revised, to the last forecast day."""
        today = self._clock.now().astimezone(UTC).date()
        for since, group in by_first_day(entities, lambda place: place.location_key, cursors, today, self._past_days):
            yield from self.range(group, since, today + timedelta(days=FORECAST_DAYS))

    def range(self, entities: Sequence[Location], since: date, until: date) -> Iterator[Request]:
        """Request UTC days, both included, clipped to the days that the API has."""
        for days, fetch in self._api.requests(entities, since, until):
            yield Request(partial(_fetch, fetch), (midnight(days.first), midnight(days.last) + 23 * _HOUR), step=_HOUR)


def _fetch(fetch: Callable[[], Iterable[PlaceHours | Failure]]) -> Iterator[Records | Lacking]:
    for one in fetch():
        yield Lacking(one.location.location_key, one.error) if isinstance(one, Failure) else to_records(one)


@contextmanager
def open_polls(settings: Settings, clock: Clock, is_stopping: Callable[[], bool], budget: Budget | None) -> Iterator[OpenMeteoPolls]:
    """Open a client for the API that the settings name; see `producers.source.OpenClient`."""
    with open_client(settings, clock, is_stopping, budget) as api:
        yield OpenMeteoPolls(api, clock, settings.poll_past_days)
