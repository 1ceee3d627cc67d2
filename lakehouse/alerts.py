"""What of a domain is unusual rather than wrong? The judgement, as pure functions of figures; `monitoring/alerts.py` reads the figures.

A domain names its runs (a dump, a poll) as SQL. The newest run is compared with the seven before it, and the newest commit of each layer
with an objective. An alert is a warning: no row breaks a rule, and nothing stops.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

# The seed's figures. Source: its alerts on record counts, duplicates and freshness.
RUNS_BEFORE = 7
LEAST_BEFORE = 3
MOST_DEVIATIONS = 3.0
MOST_TIMES_THE_MEAN = 1.5
# Runs of exactly one size deviate by nothing: then, a difference of three times this share of their mean is unusual.
LEAST_DEVIATION = 0.01

Kind = Literal["records", "duplicates", "freshness"]


@dataclass(frozen=True, slots=True)
class Runs:
    """How the records of a table come in runs.

    Attributes:
        name: for people and as label of a metric; one of few.
        table: that the figures are of, with `lh.`.
        sql: DuckDB SQL of one row per run, in any order: run_ts, records, duplicates (the rows that came more than once, at most records).
    """

    name: str
    table: str
    sql: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run: how many records it has, and how many rows came more than once."""

    records: int
    duplicates: int

    @property
    def duplicate_rate(self) -> float:
        """The share of rows that came more than once."""
        return self.duplicates / (self.records + self.duplicates) if self.duplicates else 0.0


@dataclass(frozen=True, slots=True)
class Alert:
    """The state of one alert.

    Attributes:
        kind: what is judged.
        name: of the runs, or the layer.
        table: that it is about; the layer's for freshness.
        value: found: a z-score, a rate, seconds; None where it cannot be judged.
        bound: above which the alert is raised; None where it cannot be judged.
        says: a sentence with both, or why it cannot be judged.
    """

    kind: Kind
    name: str
    table: str
    value: float | None
    bound: float | None
    says: str

    @property
    def is_raised(self) -> bool:
        """Whether the value is above its bound."""
        return self.value is not None and self.bound is not None and self.value > self.bound


def judge_records(runs: Runs, in_order: Sequence[Run]) -> Alert:
    """Judge the newest run's count of records: how many standard deviations is it from the mean of the runs before?

    The deviation is that of the population, and at least one percent of the mean. Fewer than three runs before are not judged.

    Args:
        runs: what they are.
        in_order: the newest last.
    """
    counts = [run.records for run in in_order[-1 - RUNS_BEFORE :]]
    if (why := _too_few(len(counts))) is not None:
        return Alert("records", runs.name, runs.table, None, None, why)
    *before, newest = counts
    mean = sum(before) / len(before)
    deviation = math.sqrt(sum((count - mean) ** 2 for count in before) / len(before))
    z = abs(newest - mean) / max(deviation, LEAST_DEVIATION * mean, 1e-9)
    says = f"{newest:,} records in the newest run, {mean:,.1f} on average in the {len(before)} before: z = {z:,.2f}, expected at most 3"
    return Alert("records", runs.name, runs.table, z, MOST_DEVIATIONS, says)


def judge_duplicates(runs: Runs, in_order: Sequence[Run]) -> Alert:
    """Judge the newest run's share of duplicates against 1.5 times its mean over the runs before; where that is 0, any is too many.

    Args:
        runs: what they are.
        in_order: the newest last.
    """
    rates = [run.duplicate_rate for run in in_order[-1 - RUNS_BEFORE :]]
    if (why := _too_few(len(rates))) is not None:
        return Alert("duplicates", runs.name, runs.table, None, None, why)
    *before, newest = rates
    bound = MOST_TIMES_THE_MEAN * sum(before) / len(before)
    says = f"{newest:.2%} of the newest run's rows came more than once, expected at most {bound:.2%} (1.5 times the mean of {len(before)})"
    return Alert("duplicates", runs.name, runs.table, newest, bound, says)


def judge_freshness(layer: str, age: timedelta | None, objective: timedelta) -> Alert:
    """Judge the age of the newest commit that changed rows of a layer.

    Args:
        layer: bronze, silver or gold.
        age: of the newest commit; None where the layer has none.
        objective: the greatest age that is fine.
    """
    table = f"lh.{layer}"
    if age is None:
        return Alert("freshness", layer, table, None, None, "not judged: nothing was written yet")
    hours, most = age.total_seconds() / 3600, objective.total_seconds() / 3600
    says = f"rows last changed {hours:,.1f} h ago, expected at most {most:g} h"
    return Alert("freshness", layer, table, age.total_seconds(), objective.total_seconds(), says)


def _too_few(runs: int) -> str | None:
    before = max(runs - 1, 0)
    return None if before >= LEAST_BEFORE else f"not judged: {before} runs before the newest, {LEAST_BEFORE} are needed"
