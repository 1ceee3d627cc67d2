"""How many calls does Open-Meteo allow, and how much does a request weigh?

A place counts as one call, and as more with over ten variables or two weeks. The limits are those of the settings, else those of the free
plan; an API on the loopback has no limits unless they are set.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from lakehouse.machine.proxies import is_loopback
from lakehouse.settings import Settings
from producers.budget import SPANS, Budget, Lane, LimitSpan

# The API's free plan, in weighted calls.
FREE: dict[LimitSpan, int] = {"minute": 600, "hour": 5_000, "day": 10_000}
VARIABLES_OF_A_CALL, DAYS_OF_A_CALL = 10, 14


def call_weight(places: int, variables: int, days: int) -> float:
    """Return the weight that the API gives a request.

    Source: open-meteo.com/en/pricing: a call with more than ten variables, or more than two weeks, for one place counts as several.
    """
    return places * max(1.0, variables / VARIABLES_OF_A_CALL * max(1.0, days / DAYS_OF_A_CALL))


def limits_of(url: str, given: Mapping[LimitSpan, int | None]) -> dict[LimitSpan, float]:
    """Return the limits of an API; infinite where there is none.

    Args:
        url: of the API; one on the loopback has only the limits that are set.
        given: by setting; 0 for no limit, None for the default.
    """
    default: Mapping[LimitSpan, float] = dict.fromkeys(SPANS, math.inf) if is_loopback(url) else FREE
    return {span: float(default[span] if (limit := given[span]) is None else limit or math.inf) for span in SPANS}


def open_budget(settings: Settings, lane: Lane, program: str) -> Budget:
    """Open the budget of the API that the settings name.

    Raises:
        StateFileError: the file can be neither read nor replaced by a new one.
    """
    given: dict[LimitSpan, int | None] = {
        "minute": settings.budget_per_minute,
        "hour": settings.budget_per_hour,
        "day": settings.budget_per_day,
    }
    return Budget(Path(settings.budget_path), settings.open_meteo_url, limits_of(settings.open_meteo_url, given), lane, program)
