"""What does the source open-meteo provide? Hourly air quality of the places on the list: past, current and forecast.

The HTTP client is imported when it is needed, so that commands that make no request start faster.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import date, timedelta

from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.domains.air_quality.locations import Location, locations_file, read_locations
from lakehouse.settings import Settings
from producers.budget import Budget
from producers.clock import Clock
from producers.history import History
from producers.source import BudgetUse, Client, Ranges, Source, Watched, Words
from producers.sources.open_meteo.limits import open_budget
from producers.sources.open_meteo.recorded import read_recorded
from producers.sources.open_meteo.splitting import FIRST_DAY, LAST_DAY_AHEAD, poll_weight, split_days
from producers.stopping import Stop
from producers.upstream import Timetable

# Source: the API's documentation. The model (CAMS global) starts at 00 and 12 UTC, and the API has a run about 8 h after its start.
CAMS = Timetable(every=timedelta(hours=12), arrives_after=timedelta(hours=8), tolerance=timedelta(hours=2))


def _watched(settings: Settings) -> Watched[Location]:
    path = locations_file(settings.locations_path, settings.home)
    return Watched(str(path), {place.location_key: place for place in read_locations(path)})


def _open(
    settings: Settings, clock: Clock, is_stopping: Callable[[], bool], budget: Budget | None
) -> AbstractContextManager[Client[Location]]:
    from producers.sources.open_meteo.polling import open_polls

    return open_polls(settings, clock, is_stopping, budget)


def _steps(places: Sequence[Location], since: date, until: date, today: date) -> int:
    """Count one step per place and request."""
    return len(places) * len(split_days(since, until, today))


def _history(settings: Settings, stop: Stop) -> History:
    from producers.sources.open_meteo.history import OpenMeteoHistory

    return OpenMeteoHistory(settings, stop)


OPEN_METEO = Source(
    name="open-meteo",
    domain="air_quality",
    contract=HOURLY,
    watched=_watched,
    open=_open,
    words=Words(records="hours", entity="place", entities="places", log_field="location", add_entity="weir add-city"),
    ranges=Ranges(f"the API has days from {FIRST_DAY} to {LAST_DAY_AHEAD} days ahead", _steps),
    recorded=read_recorded,
    history=_history,
    budget=BudgetUse(open_budget, poll_weight),
    timetable=CAMS,
)
