"""What is a dashboard made of? Plain declarations, which `build.py` turns into Grafana's JSON and `draw.py` into pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

GREEN, YELLOW, RED = "green", "yellow", "red"
Kind = Literal["line", "number", "table"]
# When a query must have an answer in a loaded stack on one machine: always, or only where something has happened (a reject, a backfill,
# an application on YARN).
Needs = Literal["always", "event"]


@dataclass(frozen=True, slots=True)
class Query:
    """A query of Prometheus and the legend of its series, with labels in double braces."""

    expr: str
    legend: str = ""
    needs: Needs = "always"


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel.

    Attributes:
        title: short.
        about: what it shows, and what is normal.
        unit: Grafana's id of it: s, short, percentunit, bytes, reqps, none.
        queries: at least one.
        kind: how it is drawn.
        steps: thresholds: from which value on which colour; the first without a value.
        alert: whose runbook is linked; empty for none.
        width, height: in Grafana's grid of 24 columns.
    """

    title: str
    about: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = "line"
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),)
    alert: str = ""
    width: int = 12
    height: int = 8


@dataclass(frozen=True, slots=True)
class Row:
    """A row of panels under a title."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a dashboard: the values of a label."""

    name: str
    query: str
    label: str


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard. Its uid never changes, since links and bookmarks hold it."""

    uid: str
    title: str
    about: str
    rows: Sequence[Row]
    variables: Sequence[Variable] = field(default_factory=tuple)
