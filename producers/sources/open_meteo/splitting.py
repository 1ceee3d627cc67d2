"""How is a range of days split into requests that Open-Meteo accepts?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from lakehouse.domains.air_quality.contract import VARIABLES
from lakehouse.domains.air_quality.locations import Location
from producers.sources.open_meteo.limits import call_weight

FIRST_DAY = date(2013, 1, 1)
# The API accepts days up to 6 × 24 hours from now. The sixth day is partial, so five are safe at any time of day.
LAST_DAY_AHEAD = 5
# The days ahead that a poll requests. The forecast has five days, the last of them partial; these are complete at any time of day.
FORECAST_DAYS = 3
# A request has at most 90 days, and the first and last are dropped: the last two hours of an answer are interpolated without their
# neighbours and differ from the same hours within a longer answer.
DAYS_OF_A_REQUEST = 90
LOCATIONS_OF_A_REQUEST = 50
# The API weighs a call by places and days and allows 600 per minute: one request for 50 places and 90 days would use that up.
PLACE_DAYS_OF_A_REQUEST = 1_500


@dataclass(frozen=True, slots=True)
class Days:
    """UTC days, both included: those to keep, and those to request so that the kept ones are correct."""

    first: date
    last: date
    asked_first: date
    asked_last: date

    @property
    def asked(self) -> int:
        """The number of requested days."""
        return (self.asked_last - self.asked_first).days + 1


def split_days(since: date, until: date, today: date) -> list[Days]:
    """Split a range into requests without gap or overlap, clipped to the days that the API has.

    Returns:
        In order of time; empty when the API has no day of the range.
    """
    end_of_api = today + timedelta(days=LAST_DAY_AHEAD)
    first, until = max(since, FIRST_DAY), min(until, end_of_api)
    kept_days = DAYS_OF_A_REQUEST - 2
    spans = []
    while first <= until:
        last = min(first + timedelta(days=kept_days - 1), until)
        asked_first = max(first - timedelta(days=1), FIRST_DAY)
        asked_last = min(last + timedelta(days=1), end_of_api)
        spans.append(Days(first, last, asked_first, asked_last))
        first = last + timedelta(days=1)
    return spans


def split_places(places: Sequence[Location], days: Days, most_weight: float = math.inf) -> list[list[Location]]:
    """Split a list of places into requests over these days, in order, each within `most_weight` unless one place exceeds it."""
    most = max(1, min(LOCATIONS_OF_A_REQUEST, PLACE_DAYS_OF_A_REQUEST // days.asked))
    if not math.isinf(most_weight):
        most = max(1, min(most, int(most_weight // call_weight(1, len(VARIABLES), days.asked))))
    return [list(places[i : i + most]) for i in range(0, len(places), most)]


def poll_weight(places: int, past_days: int) -> float:
    """Return the weight that the API gives a poll in which no place has to catch up."""
    asked = past_days + 1 + FORECAST_DAYS + 2  # one more day at each edge, see `split_days`
    return call_weight(places, len(VARIABLES), asked)
