"""How is the AQI computed? The US EPA's index: breakpoints and averaging times as data, stamped with their edition.

An hour's index is the largest of six sub-indices, rounded half up once, after the maximum. A sub-index interpolates linearly
between breakpoints; above the last one the last segment goes on. A mean is taken over the hours **before** the hour, the
hour itself not included, and needs 75 % of them, else it is null.

Sources: US EPA, Technical Assistance Document for the Reporting of Daily Air Quality (EPA-454/B-18-007, 2018, tables 5-6, and
its May 2024 edition after the PM NAAQS final rule, 89 FR 16202); the breakpoints are joined without gaps and concentrations
are not truncated, as the Open-Meteo API does (open-meteo.com, air quality API, "US AQI").
"""

from dataclasses import dataclass
from functools import reduce
from typing import Literal

from pyspark.sql import Column, Window
from pyspark.sql import functions as F

from lakehouse.domains.air_quality.contract import AqiRuleName


HOUR = 3600
# Ties go to the first: the order in which the dominant pollutant is decided.
POLLUTANTS = ("pm25", "pm10", "o3", "no2", "so2", "co")
# A mean needs this share of its hours.
COMPLETENESS = 0.75
# Two engines that add the same doubles in another order differ in the last bits; a value that is a half in exact arithmetic
# must round up in both. The guard is a thousand times that noise and far below the resolution of the measurements.
ROUNDING_GUARD = 1e-9

# Conversion at 25 °C and 1013 hPa, as the API does: µg/m³ per ppb.
UG_PER_PPB = {"o3": 1.96, "no2": 1.88, "so2": 2.62, "co": 1.15}


@dataclass(frozen=True, slots=True)
class Scale:
    """One piece of a sub-index.

    Attributes:
        hours: length of the mean over the hours before; 0 takes the hour's own value.
        divisor: the concentration in µg/m³ is divided by it before it is looked up.
        concentrations: breakpoints, in the unit after the division, ascending.
        indices: the index at each breakpoint.
        first: below this concentration the scale says nothing (null).
        last: above this concentration the scale says nothing; None goes on along the last segment.
    """

    hours: int
    divisor: float
    concentrations: tuple[float, ...]
    indices: tuple[int, ...]
    first: float | None = None
    last: Literal["extrapolate", "hold"] = "extrapolate"


@dataclass(frozen=True, slots=True)
class AqiRule:
    """An edition of the index: for each pollutant the scales whose greatest is its sub-index."""

    name: AqiRuleName
    scales: dict[str, tuple[Scale, ...]]


_TO_500 = (0, 50, 100, 150, 200, 300, 400, 500)
_PM25_2012 = Scale(24, 1, (0, 12, 35.5, 55.5, 150.5, 250.5, 350.5, 500.5), _TO_500)
_PM25_2024 = Scale(24, 1, (0, 9, 35.5, 55.5, 125.5, 225.5, 325.5), (0, 50, 100, 150, 200, 300, 500))
_OTHERS = {
    "pm10": (Scale(24, 1, (0, 55, 155, 255, 355, 425, 505, 605), _TO_500),),
    "o3": (
        Scale(8, UG_PER_PPB["o3"], (0, 55, 70, 85, 105, 200), (0, 50, 100, 150, 200, 300)),
        # EPA defines the 1-hour index from 125 ppb on only.
        Scale(0, UG_PER_PPB["o3"], (125, 165, 205, 405, 505, 605), (100, 150, 200, 300, 400, 500), first=125),
    ),
    "no2": (Scale(0, UG_PER_PPB["no2"], (0, 54, 100, 360, 650, 1250, 1650, 2050), _TO_500),),
    "so2": (
        # EPA: an hour of 305 ppb or more counts as 200, and the day's mean decides from there.
        Scale(0, UG_PER_PPB["so2"], (0, 35, 75, 185, 305), (0, 50, 100, 150, 200), last="hold"),
        Scale(24, UG_PER_PPB["so2"], (304, 604, 804, 1004), (200, 300, 400, 500), first=304),
    ),
    "co": (Scale(8, UG_PER_PPB["co"] * 1000, (0, 4.5, 9.5, 12.5, 15.5, 30.5, 40.5, 50.5), _TO_500),),
}
RULES: dict[AqiRuleName, AqiRule] = {
    "us-epa-2012": AqiRule("us-epa-2012", {"pm25": (_PM25_2012,), **_OTHERS}),
    "us-epa-2024": AqiRule("us-epa-2024", {"pm25": (_PM25_2024,), **_OTHERS}),
}
# How far back an hour looks: a changed hour changes this many hours after it.
LOOK_BACK_HOURS = 24

# Upper bounds of the categories, by AQI; above the last one an hour is hazardous.
CATEGORIES = {"good": 50, "moderate": 100, "usg": 150, "unhealthy": 200, "very_unhealthy": 300}


def sub_index(pollutant: str, rule: AqiRule) -> Column:
    """Give the sub-index of one pollutant for the hour, unrounded; null where its concentrations do not suffice.

    Bounded input only: ranks rows by `ts_utc` within `location_key` and needs the 24 hours before each.
    """
    return _greatest([_interpolate(_concentration(pollutant, scale), scale) for scale in rule.scales[pollutant]])


def overall(sub_indices: list[Column]) -> Column:
    """Give the AQI: the largest sub-index, rounded half up; null when all are null."""
    return F.floor(_greatest(sub_indices) + F.lit(0.5 + ROUNDING_GUARD)).cast("int")


def dominant(sub_indices: dict[str, Column]) -> Column:
    """Name the pollutant with the largest sub-index; of equal ones the first in POLLUTANTS; null when all are null."""
    largest = _greatest(list(sub_indices.values()))
    return F.coalesce(*[F.when(sub_indices[p] == largest, F.lit(p)) for p in POLLUTANTS])


def _greatest(columns: list[Column]) -> Column:
    return columns[0] if len(columns) == 1 else F.greatest(*columns)  # greatest skips nulls


def _concentration(pollutant: str, scale: Scale) -> Column:
    if scale.hours == 0:
        return F.col(pollutant) / F.lit(scale.divisor)
    before = Window.partitionBy("location_key").orderBy(F.unix_timestamp("ts_utc")).rangeBetween(-scale.hours * HOUR, -HOUR)
    enough = F.count(pollutant).over(before) >= F.lit(scale.hours * COMPLETENESS)
    return F.when(enough, F.avg(pollutant).over(before) / F.lit(scale.divisor))


def _interpolate(concentration: Column, scale: Scale) -> Column:
    points = list(zip(scale.concentrations, scale.indices, strict=True))
    segments = [
        # from the segment's lower point; the last segment has no upper end
        (upper_c, F.lit(float(lower_i)) + (concentration - F.lit(lower_c)) * F.lit((upper_i - lower_i) / (upper_c - lower_c)))
        for (lower_c, lower_i), (upper_c, upper_i) in zip(points[:-1], points[1:], strict=True)
    ]
    *inner, (_, beyond) = segments
    index = reduce(lambda rest, segment: F.when(concentration < F.lit(segment[0]), segment[1]).otherwise(rest), reversed(inner), beyond)
    if scale.last == "hold":
        index = F.least(index, F.lit(float(scale.indices[-1])))
    if scale.first is not None:
        index = F.when(concentration >= F.lit(scale.first), index)
    return F.when(concentration.isNotNull(), index)
