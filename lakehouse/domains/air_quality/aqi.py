"""How is the AQI computed? The US EPA's index: breakpoints and averaging times as data, stamped with their edition.

An hour's index is the largest of six sub-indices, rounded half up once, after the maximum. A sub-index interpolates linearly within
the step of its scale that holds the concentration; above the last step that step goes on ("beyond the AQI"). A mean is taken over the
hours **before** the hour, the hour itself not included, and needs 75 % of them, else it is null.

`us-epa-2024` follows the document to the letter: a concentration is truncated to the digits that the EPA names, and steps have gaps
(9.0 is 50, 9.1 is 51). `us-epa-2012` is the index before the change of 2024 as the Open-Meteo API computed it until July 2026: steps are
joined without gaps, and nothing is truncated.

Sources: US EPA, Technical Assistance Document for the Reporting of Daily Air Quality, EPA-454/B-24-002 (May 2024), section IV: digits,
breakpoints (table 6), ozone of 8 hours and of one, sulphur dioxide; the same, EPA-454/B-18-007 (2018), table 5, for the edition before;
open-meteo.com, air quality API, "US AQI".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from lakehouse.domains.air_quality.contract import AqiRuleName
from lakehouse.engine.functions import double, in_units, mean_of_units
from lakehouse.engine.relation import Relation

HOUR = 3600
# Ties go to the first: the order in which the dominant pollutant is decided.
POLLUTANTS = ("pm25", "pm10", "o3", "no2", "so2", "co")
# A mean needs this share of its hours.
COMPLETENESS = 0.75
# What is a half in exact arithmetic may be a last bit less as a double, and must round up all the same. The guard is a thousand times that
# noise and far below the resolution of the measurements.
ROUNDING_GUARD = 1e-9

# Conversion at 25 °C and 1013 hPa, as the API does: µg/m³ per ppb.
UG_PER_PPB = {"o3": 1.96, "no2": 1.88, "so2": 2.62, "co": 1.15}


@dataclass(frozen=True, slots=True)
class Step:
    """One row of a scale: between two concentrations the index goes from one value to another."""

    low: float
    high: float
    index_low: int
    index_high: int


@dataclass(frozen=True, slots=True)
class Scale:
    """One piece of a sub-index. Below its first step it says nothing, unless that begins at 0.

    Attributes:
        hours: length of the mean over the hours before; 0 takes the hour's own value.
        divisor: the concentration in µg/m³ is divided by it before it is looked up.
        steps: ascending, concentrations in the unit after the division.
        digits: decimals that the concentration is truncated to; None takes it as it is.
        beyond: above the last step the scale goes on along it, holds its last index, or says nothing.
    """

    hours: int
    divisor: float
    steps: tuple[Step, ...]
    digits: int | None = None
    beyond: Literal["goes on", "holds", "says nothing"] = "goes on"


@dataclass(frozen=True, slots=True)
class AqiRule:
    """An edition of the index: for each pollutant the scales whose greatest is its sub-index."""

    name: AqiRuleName
    scales: dict[str, tuple[Scale, ...]]


def _joined(concentrations: Sequence[float], indices: Sequence[int]) -> tuple[Step, ...]:
    """Return steps without gaps between breakpoints."""
    points = pairwise(zip(concentrations, indices, strict=True))
    return tuple(Step(low, high, index_low, index_high) for (low, index_low), (high, index_high) in points)


def _printed(*concentrations: tuple[float, float], first: int = 0) -> tuple[Step, ...]:
    """Return steps as the EPA prints them: 0-50, 51-100 …; `first` is how many of its rows are blank."""
    return tuple(Step(low, high, *_PRINTED[first + n]) for n, (low, high) in enumerate(concentrations))


_PRINTED = ((0, 50), (51, 100), (101, 150), (151, 200), (201, 300), (301, 500))
_TO_500 = (0, 50, 100, 150, 200, 300, 400, 500)
_PPB = UG_PER_PPB
_EPA_2012: dict[str, tuple[Scale, ...]] = {
    "pm25": (Scale(24, 1, _joined((0, 12, 35.5, 55.5, 150.5, 250.5, 350.5, 500.5), _TO_500)),),
    "pm10": (Scale(24, 1, _joined((0, 55, 155, 255, 355, 425, 505, 605), _TO_500)),),
    "o3": (
        # The mean of 8 hours defines no index above 300, the hour none below 100 (EPA-454/B-18-007, notes to table 5).
        Scale(8, _PPB["o3"], _joined((0, 55, 70, 85, 105, 200), (0, 50, 100, 150, 200, 300)), beyond="says nothing"),
        Scale(0, _PPB["o3"], _joined((125, 165, 205, 405, 505, 605), (100, 150, 200, 300, 400, 500))),
    ),
    "no2": (Scale(0, _PPB["no2"], _joined((0, 54, 100, 360, 650, 1250, 1650, 2050), _TO_500)),),
    "so2": (
        # An hour of 305 ppb or more counts as 200, and the day's mean decides from there.
        Scale(0, _PPB["so2"], _joined((0, 35, 75, 185, 305), (0, 50, 100, 150, 200)), beyond="holds"),
        Scale(24, _PPB["so2"], _joined((304, 604, 804, 1004), (200, 300, 400, 500))),
    ),
    "co": (Scale(8, _PPB["co"] * 1000, _joined((0, 4.5, 9.5, 12.5, 15.5, 30.5, 40.5, 50.5), _TO_500)),),
}
_EPA_2024: dict[str, tuple[Scale, ...]] = {
    "pm25": (Scale(24, 1, _printed((0, 9.0), (9.1, 35.4), (35.5, 55.4), (55.5, 125.4), (125.5, 225.4), (225.5, 325.4)), digits=1),),
    "pm10": (Scale(24, 1, _printed((0, 54), (55, 154), (155, 254), (255, 354), (355, 424), (425, 604)), digits=0),),
    "o3": (  # in ppb; the document's three decimals are of ppm
        Scale(8, _PPB["o3"], _printed((0, 54), (55, 70), (71, 85), (86, 105), (106, 200)), digits=0, beyond="says nothing"),
        Scale(0, _PPB["o3"], _printed((125, 164), (165, 204), (205, 404), (405, 604), first=2), digits=0),
    ),
    "no2": (Scale(0, _PPB["no2"], _printed((0, 53), (54, 100), (101, 360), (361, 649), (650, 1249), (1250, 2049)), digits=0),),
    "so2": (
        Scale(0, _PPB["so2"], _printed((0, 35), (36, 75), (76, 185), (186, 304)), digits=0, beyond="holds"),
        Scale(24, _PPB["so2"], _printed((305, 604), (605, 1004), first=4), digits=0),
    ),
    "co": (Scale(8, _PPB["co"] * 1000, _printed((0, 4.4), (4.5, 9.4), (9.5, 12.4), (12.5, 15.4), (15.5, 30.4), (30.5, 50.4)), digits=1),),
}
RULES: dict[AqiRuleName, AqiRule] = {
    "us-epa-2012": AqiRule("us-epa-2012", _EPA_2012),
    "us-epa-2024": AqiRule("us-epa-2024", _EPA_2024),
}
# Which computation of the editions this is: 1 until 2026-11 went on along ozone's 8-hour scale above 200 ppb, and truncated nothing. Gold
# of another one is refused until it is rebuilt. Means are of whole numbers since 3, so that every engine and every order of the rows gives
# the same bits; the last bits of `aqi_*` differ from 2, the rounded `aqi` does not.
FORMULA = "3"
# How far back an hour looks: a changed hour changes this many hours after it.
LOOK_BACK_HOURS = 24

# Upper bounds of the categories, by AQI; above the last one an hour is hazardous.
CATEGORIES = {"good": 50, "moderate": 100, "usg": 150, "unhealthy": 200, "very_unhealthy": 300}


def with_sub_indices(hours: Relation, rule: AqiRule) -> Relation:
    """Add the sub-index of each pollutant for the hour, `aqi_<pollutant>`, unrounded; null where its concentrations do not suffice.

    Their concentrations come along, as columns that begin with `_`.

    Bounded input only: ranks rows by `ts_utc` within `location_key` and needs the 24 hours before each.
    """
    # Each concentration becomes a column once; an expression repeated in every segment would make a plan of thousands of nodes.
    named = {(p, n): f"_{p}_{n}" for p, scales in rule.scales.items() for n, _ in enumerate(scales)}
    concentrations = [f"{_concentration(p, scale)} AS {named[p, n]}" for p, scales in rule.scales.items() for n, scale in enumerate(scales)]
    indices = [
        f"{_greatest([interpolate(named[p, n], scale) for n, scale in enumerate(scales)])} AS aqi_{p}" for p, scales in rule.scales.items()
    ]
    averaged = [p for p, scales in rule.scales.items() if any(scale.hours for scale in scales)]
    units = [f"{in_units(p)} AS _{p}_units" for p in averaged]
    return hours.select("*", *units).select("*", *concentrations).select("*", *indices)


def overall(sub_indices: Sequence[str]) -> str:
    """Return the SQL of the AQI: the largest sub-index, rounded half up; null when all are null."""
    return f"CAST(floor({_greatest(sub_indices)} + {double(0.5 + ROUNDING_GUARD)}) AS INT)"


def dominant(sub_indices: Mapping[str, str]) -> str:
    """Return the SQL of the pollutant with the largest sub-index; of equal ones the first in POLLUTANTS; null when all are null.

    Args:
        sub_indices: column by pollutant.
    """
    largest = _greatest(list(sub_indices.values()))
    cases = " ".join(f"WHEN {sub_indices[p]} = {largest} THEN '{p}'" for p in POLLUTANTS)
    return f"CASE {cases} END"


def interpolate(concentration: str, scale: Scale) -> str:
    """Return the SQL of a scale's index for a concentration, a column in the scale's unit, or in that of its last digit."""
    # Whole numbers, where it is truncated: 9.1 is no double, 91 is.
    unit = 10.0**scale.digits if scale.digits is not None else 1.0
    lines = [
        f"{double(step.index_low)} + ({concentration} - {double(_in(unit, step.low))})"
        f" * {double((step.index_high - step.index_low) / (_in(unit, step.high) - _in(unit, step.low)))}"
        for step in scale.steps
    ]
    begins = [double(_in(unit, step.low)) for step in scale.steps]
    cases = [f"WHEN {concentration} < {upper} THEN {line}" for upper, line in zip(begins[1:], lines, strict=False)]
    last = scale.steps[-1]
    if scale.beyond == "says nothing":
        cases.append(f"WHEN {concentration} > {double(_in(unit, last.high))} THEN NULL")
    beyond = f"least({lines[-1]}, {double(last.index_high)})" if scale.beyond == "holds" else lines[-1]
    unknown = f"{concentration} IS NULL" + (f" OR {concentration} < {begins[0]}" if scale.steps[0].low else "")
    return f"CASE WHEN {unknown} THEN NULL {' '.join(cases)} ELSE {beyond} END"


def _in(unit: float, concentration: float) -> float:
    return round(concentration * unit, 3)


def _greatest(columns: Sequence[str]) -> str:
    return columns[0] if len(columns) == 1 else f"greatest({', '.join(columns)})"  # greatest skips nulls


def _concentration(pollutant: str, scale: Scale) -> str:
    if scale.hours == 0:
        return _truncated(f"{pollutant} / {double(scale.divisor)}", scale)
    before = (
        f"OVER (PARTITION BY location_key ORDER BY unix_seconds(ts_utc) RANGE BETWEEN {scale.hours * HOUR} PRECEDING AND {HOUR} PRECEDING)"
    )
    units = f"_{pollutant}_units"
    enough = f"count({units}) {before} >= {double(scale.hours * COMPLETENESS)}"
    concentration = _truncated(f"{mean_of_units(units, before)} / {double(scale.divisor)}", scale)
    return f"CASE WHEN {enough} THEN {concentration} END"


def _truncated(concentration: str, scale: Scale) -> str:
    """Return the SQL of a concentration as the scale looks it up: truncated, in units of its last digit, or as it is."""
    if scale.digits is None:
        return concentration
    # What is 9.1 in exact arithmetic may be a last bit less as a sum of doubles.
    return f"CAST(floor(({concentration}) * {double(10.0**scale.digits)} + {double(ROUNDING_GUARD)}) AS DOUBLE)"
