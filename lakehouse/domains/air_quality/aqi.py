"""How is the AQI computed? The US EPA's index: breakpoints and averaging times as data, stamped with their edition.

An hour's index is the largest of six sub-indices, rounded half up once, after the maximum. A sub-index interpolates linearly
between breakpoints; above the last one the last segment goes on. A mean is taken over the hours **before** the hour, the
hour itself not included, and needs 75 % of them, else it is null.

Sources: US EPA, Technical Assistance Document for the Reporting of Daily Air Quality (EPA-454/B-18-007, 2018, tables 5-6, and
its May 2024 edition after the PM NAAQS final rule, 89 FR 16202); the breakpoints are joined without gaps and concentrations
are not truncated, as the Open-Meteo API does (open-meteo.com, air quality API, "US AQI").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pyspark.sql import DataFrame

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


def with_sub_indices(hours: DataFrame, rule: AqiRule) -> DataFrame:
    """Add the sub-index of each pollutant for the hour, `aqi_<pollutant>`, unrounded; null where its concentrations do not suffice.

    Bounded input only: ranks rows by `ts_utc` within `location_key` and needs the 24 hours before each.
    """
    # Each concentration becomes a column once; an expression repeated in every segment would make a plan of thousands of nodes.
    named = {(p, n): f"_{p}_{n}" for p, scales in rule.scales.items() for n, _ in enumerate(scales)}
    concentrations = [f"{_concentration(p, scale)} AS {named[p, n]}" for p, scales in rule.scales.items() for n, scale in enumerate(scales)]
    indices = [
        f"{_greatest([interpolate(named[p, n], scale) for n, scale in enumerate(scales)])} AS aqi_{p}" for p, scales in rule.scales.items()
    ]
    return hours.selectExpr("*", *concentrations).selectExpr("*", *indices).drop(*named.values())


def overall(sub_indices: Sequence[str]) -> str:
    """Give the SQL of the AQI: the largest sub-index, rounded half up; null when all are null."""
    return f"CAST(floor({_greatest(sub_indices)} + {_double(0.5 + ROUNDING_GUARD)}) AS INT)"


def dominant(sub_indices: Mapping[str, str]) -> str:
    """Give the SQL of the pollutant with the largest sub-index; of equal ones the first in POLLUTANTS; null when all are null.

    Args:
        sub_indices: column by pollutant.
    """
    largest = _greatest(list(sub_indices.values()))
    cases = " ".join(f"WHEN {sub_indices[p]} = {largest} THEN '{p}'" for p in POLLUTANTS)
    return f"CASE {cases} END"


def interpolate(concentration: str, scale: Scale) -> str:
    """Give the SQL of a scale's index for a concentration, a column in the scale's unit."""
    points = list(zip(scale.concentrations, scale.indices, strict=True))
    segments = [
        (upper_c, f"{_double(lower_i)} + ({concentration} - {_double(lower_c)}) * {_double((upper_i - lower_i) / (upper_c - lower_c))}")
        for (lower_c, lower_i), (upper_c, upper_i) in pairwise(points)
    ]
    *inner, (_, beyond) = segments  # the last segment has no upper end
    if scale.last == "hold":
        beyond = f"least({beyond}, {_double(scale.indices[-1])})"
    unknown = f"{concentration} IS NULL" + (f" OR {concentration} < {_double(scale.first)}" if scale.first is not None else "")
    cases = " ".join(f"WHEN {concentration} < {_double(upper)} THEN {index}" for upper, index in inner)
    return f"CASE WHEN {unknown} THEN NULL {cases} ELSE {beyond} END"


def _greatest(columns: Sequence[str]) -> str:
    return columns[0] if len(columns) == 1 else f"greatest({', '.join(columns)})"  # greatest skips nulls


def _concentration(pollutant: str, scale: Scale) -> str:
    if scale.hours == 0:
        return f"{pollutant} / {_double(scale.divisor)}"
    before = (
        f"(PARTITION BY location_key ORDER BY unix_timestamp(ts_utc) RANGE BETWEEN {scale.hours * HOUR} PRECEDING AND {HOUR} PRECEDING)"
    )
    enough = f"count({pollutant}) OVER {before} >= {_double(scale.hours * COMPLETENESS)}"
    return f"CASE WHEN {enough} THEN avg({pollutant}) OVER {before} / {_double(scale.divisor)} END"


def _double(number: float) -> str:
    return f"{float(number)!r}D"  # without the D Spark reads a DECIMAL
