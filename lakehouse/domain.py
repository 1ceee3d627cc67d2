"""What does `apply` need to know of a domain? One record; each domain fills it in in its `tables.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from pyspark.sql import DataFrame

from lakehouse.contract import Contract
from lakehouse.days import Days
from lakehouse.rules import Rule
from lakehouse.schema import REJECTS, Table
from lakehouse.spans import Spans


def _unchanged(span: Spans) -> Spans:
    return span


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold table and how its rows follow from those of its source.

    Attributes:
        table: the table; its rows for a span are recomputed whole and merged.
        source: silver, or a gold table that stands before this one in the domain.
        starts: the column with the row's (first) instant or date.
        ends: the column with its last one; as `starts` where a row has only one.
        reach: which span of this table a changed span of silver reaches.
        reads: which span of the source the rows of a span are made of.
        to_rows: the transform; the batch pass calls it with all rows of the source.
        grows: where a row can be as long as its data (an episode): how far apart a row and the span may lie and still be one.
            The span grows by such rows of the table, and rows of the span that are not made again are deleted. `reach` holds what
            is too short to be a row and may become part of one; a row that leaves the span all the same says that the table was
            behind its source, and the span grows by it too. `reads` goes at least so far out of the span.
        vanishes: whether they are deleted though no row grows: after a change of what makes them, not of what they are made of.
    """

    table: Table
    source: Table
    starts: str
    reach: Callable[[Spans], Spans]
    to_rows: Callable[[DataFrame], DataFrame]
    reads: Callable[[Spans], Spans] = _unchanged
    ends: str = ""
    grows: timedelta | None = None
    vanishes: bool = False


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold in a table, whoever filled it.

    Attributes:
        name: what must hold, for people.
        table: the table's name, with `lh.`.
        bad: SQL of DuckDB that gives the rows, or the keys, for which it does not.
        share: which share of the rows may be bad.
        of: SQL of DuckDB that counts the rows it is of; those of the table when empty.
        groups: SQL of DuckDB that gives figures by group, such as a city and a month, to be shown with the check.
    """

    name: str
    table: str
    bad: str
    share: float = 0.0
    of: str = ""
    groups: str = ""


def _no_checks(_: Days) -> Sequence[Check]:
    return ()


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain: one topic, one bronze, one silver, its gold tables in the order they are made.

    Attributes:
        name: as it stands on the command line.
        entity: silver's column with the business entity; spans are kept by it.
        event_time: silver's column with the event time.
        rules: in the order they are tried.
        dimensions: static tables and their rows, written at start and when they change.
        edition: what gold was computed by; a table made by another edition is refused.
        exact: dimensions that hold the configured rows and no others; of the rest a row stays that the configuration has no more.
        references: releases of data that gold is computed by, such as the zone database; by name.
        outdated: SQL of DuckDB that gives the rows of gold computed by an older release: entity, since, until, rows; empty for none.
        by_edition: puts the same domain together by another edition; None where there are no others.
        edition_before: of these parts, what a table was made by that says other parts and not this one: it is from before there was one.
        watermark: how long before its arrival a row's event time may lie; what is behind it is late, which is counted and
            changes nothing else.
        checks: what must hold in its tables, beside what follows from their keys and the contract.
        rejects: where rows go that a rule rejects; the table of all domains.
    """

    name: str
    contract: Contract
    bronze: Table
    silver: Table
    entity: str
    event_time: str
    rules: Sequence[Rule]
    to_silver: Callable[[DataFrame], DataFrame]
    gold: Sequence[Gold]
    dimensions: Sequence[tuple[Table, Sequence[tuple[object, ...]]]] = ()
    edition: Mapping[str, str] = field(default_factory=dict)
    edition_before: Mapping[str, str] = field(default_factory=dict)
    exact: Sequence[str] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    outdated: str = ""
    by_edition: "Callable[[Mapping[str, str]], Domain] | None" = None
    watermark: timedelta = timedelta(hours=48)
    checks: Callable[[Days], Sequence[Check]] = _no_checks
    rejects: Table = REJECTS
