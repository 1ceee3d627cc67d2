"""How is a range of days cut into requests that Open-Meteo takes?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from lakehouse.domains.air_quality.contract import VARIABLES
from lakehouse.domains.air_quality.locations import Location
from producers.sources.open_meteo.limits import call_weight

FIRST_DAY = date(2013, 1, 1)
# The API takes days up to six times 24 hours from now; the sixth is a part of a day, so five are safe at any time of day.
LAST_DAY_AHEAD = 5
# How far ahead a poll asks: the forecast reaches five days, the last of them partly; these are whole at any time of day.
FORECAST_DAYS = 3
# A request may ask for 90 days; one at each edge is dropped, since the last two hours of an answer are interpolated without
# their neighbours and differ from the same hours inside a longer answer.
DAYS_OF_A_REQUEST = 90
LOCATIONS_OF_A_REQUEST = 50
# The API weighs a call by places and days, 600 a minute: a request of 50 places and 90 days alone would use that up.
PLACE_DAYS_OF_A_REQUEST = 1_500


@dataclass(frozen=True, slots=True)
class Days:
    """UTC days, both included: those to keep, and those to ask for so that the kept ones are right."""

    first: date
    last: date
    asked_first: date
    asked_last: date

    @property
    def asked(self) -> int:
        """How many days are asked for."""
        return (self.asked_last - self.asked_first).days + 1


def split_days(since: date, until: date, today: date) -> list[Days]:
    """Cut a range into requests, without gap or overlap, and clip it to what the API has.

    Returns:
        In order of time; empty when the API has nothing of the range.
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
    """Cut a list of places into requests over these days, in order, none heavier than the budget allows if that can be helped."""
    most = max(1, min(LOCATIONS_OF_A_REQUEST, PLACE_DAYS_OF_A_REQUEST // days.asked))
    if not math.isinf(most_weight):
        most = max(1, min(most, int(most_weight // call_weight(1, len(VARIABLES), days.asked))))
    return [list(places[i : i + most]) for i in range(0, len(places), most)]


def poll_weight(places: int, past_days: int) -> float:
    """Weigh a poll as the API does, when no place has to catch up."""
    asked = past_days + 1 + FORECAST_DAYS + 2  # one more day at each edge, see `split_days`
    return call_weight(places, len(VARIABLES), asked)
