"""What does the core need to know of a domain? Its sources, its derived tables, and how the one follows from the other.

A `Source` is one topic with its bronze and silver. A `Derived` table is recomputed from silver tables, or from derived tables before
it: it says what it reads, which of its rows a change of that reaches, and makes whole groups of rows anew. Each domain fills in one
`Domain` record in its `tables.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

from pyspark.sql import DataFrame

from lakehouse.changes import Changes
from lakehouse.contract import Contract
from lakehouse.days import Days
from lakehouse.parts import WHOLE, Keys, Part, is_whole
from lakehouse.rules import Rule
from lakehouse.spans import Spans, Times
from lakehouse.tables.schema import REJECTS, Table


@dataclass(frozen=True, slots=True)
class ByTime:
    """Rows are kept by entity and time: they are recomputed in spans of time.

    Attributes:
        entity: the column with the business entity.
        starts: the one with the row's (first) instant or date.
        ends: the one with its last; as `starts` where a row has only one.
        grows: where a row can be as long as its data (an episode): how far apart a row and the span may lie and still be one. The span
            grows by such rows of the table. The reach of what the table reads holds what is too short to be a row and may become part of
            one; a row that leaves the span all the same says that the table was behind its input, and the span grows by it too.
    """

    entity: str
    starts: str
    ends: str = ""
    grows: timedelta | None = None

    @property
    def times(self) -> Times:
        """The columns by which spans select the table's rows."""
        return Times(self.entity, self.starts, self.ends)


@dataclass(frozen=True, slots=True)
class ByKey:
    """Rows are kept by the values of key columns: they are recomputed for some of these values."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The table is recomputed whole whenever anything that it reads changes."""


Kind = ByTime | ByKey | Whole


@dataclass(frozen=True, slots=True)
class Matching:
    """Those rows of an input that have the same values as the rows read from an input before it: the right side of a join.

    Attributes:
        table: the input before it.
        names: this input's column by the other's.
    """

    table: str
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reads:
    """What a derived table reads, and how parts of the two belong together; made by `over_time`, `by_key`, `looked_up` or `all_of`.

    Attributes:
        table: what is read: silver, or a derived table that stands before this one in the domain.
        reach: the part of the derived table that changes of this input reach.
        needs: the rows of this input that a part of the derived table is made of.
        times: the columns by which spans select this input's rows; None where it is read by key.
        span_reach: `reach` for an input of which only the changed spans are known; None likewise.
    """

    table: Table
    reach: Callable[[Changes], Part]
    needs: Callable[[Part], Part | Matching]
    times: Times | None = None
    span_reach: Callable[[Spans], Spans] | None = None


def unchanged(span: Spans) -> Spans:
    """Give the same span."""
    return span


def over_time(
    table: Table,
    entity: str,
    starts: str,
    ends: str = "",
    *,
    reach: Callable[[Spans], Spans] = unchanged,
    needs: Callable[[Spans], Spans] = unchanged,
) -> Reads:
    """Read a table in spans of time.

    Args:
        table: what is read.
        entity: its column with the business entity, which is that of the derived table too.
        starts: its column with a row's (first) time.
        ends: the one with its last; as `starts` where there is only one.
        reach: the span of the derived table that a changed span of this one reaches.
        needs: the span of this table that a span of the derived one is made of; wider where it looks back.
    """
    times = Times(entity, starts, ends)

    def reached(changes: Changes) -> Part:
        found = changes.spans(times)
        return reach(found) if isinstance(found, Spans) else found

    return Reads(table, reached, lambda part: needs(part) if isinstance(part, Spans) else WHOLE, times, reach)


def by_key(table: Table, reach: Mapping[str, str], needs: Mapping[str, str] | None = None) -> Reads:
    """Read a table by the values of columns.

    Args:
        table: what is read.
        reach: this table's column by the derived table's: a changed row reaches the derived rows with the same values.
        needs: this table's column by the derived table's, for all columns that a part may be named by; as `reach` when left out.
    """
    both = reach if needs is None else needs
    return Reads(table, lambda changes: changes.keys(reach), lambda part: part.renamed(both) if isinstance(part, Keys) else WHOLE)


def looked_up(table: Table, reach: Mapping[str, str], of: Table, names: Mapping[str, str]) -> Reads:
    """Read those rows of a table that the rows of an input before it refer to, such as the parents of children.

    Args:
        table: what is read.
        reach: this table's column by the derived table's.
        of: the input before it.
        names: this table's column by the other input's.
    """
    return Reads(table, lambda changes: changes.keys(reach), lambda part: WHOLE if is_whole(part) else Matching(of.name, names))


def all_of(table: Table) -> Reads:
    """Read a table whole; any change of it reaches the whole derived table."""

    def reached(changes: Changes) -> Part:
        return WHOLE if changes.keys({name: name for name in table.key}) else Keys()

    return Reads(table, reached, lambda _: WHOLE)


@dataclass(frozen=True, slots=True)
class Source:
    """One source of a domain: its topic, what arrived from it (bronze), and the newest version of each of its records (silver).

    Attributes:
        contract: of its messages.
        bronze: all that arrived.
        silver: one row per key of the contract, of the source's own columns: what needs another table is derived.
        rules: in the order they are tried.
        to_silver: shapes accepted rows of bronze into rows of silver.
        kind: `ByTime` where silver's key has the entity and the event time, else `ByKey`.
        watermark: how long before its arrival a row's event time may lie; what is behind it is late, which is counted and changes
            nothing else.
    """

    contract: Contract
    bronze: Table
    silver: Table
    rules: Sequence[Rule]
    to_silver: Callable[[DataFrame], DataFrame]
    kind: ByTime | ByKey = ByKey()
    watermark: timedelta = timedelta(hours=48)

    @property
    def name(self) -> str:
        """Its short name: that of its bronze table without the layer."""
        return self.bronze.name.rpartition(".")[2]

    def __post_init__(self) -> None:
        if set(self.silver.key) != set(self.contract.key):
            raise ValueError(f"{self.silver.name} has the key {self.silver.key}, but {self.contract.topic} has {self.contract.key}")
        if isinstance(self.kind, ByTime) and not {self.kind.entity, self.kind.starts} <= set(self.silver.key):
            # A row would leave its span when its event time changes, and a MERGE bounded by the span would insert a second one.
            raise ValueError(f"{self.silver.name} is kept by time, so {self.kind.entity} and {self.kind.starts} must be in its key")


@dataclass(frozen=True, slots=True)
class Derived:
    """A table that follows from others: a gold table, or one in the silver layer that needs more than its source.

    Attributes:
        table: its rows for a part are recomputed whole and replaced. No column of its key is ever null.
        kind: by what its parts are named.
        reads: its inputs.
        to_rows: the transform: rows of each input, in the order of `reads`, to rows of the table. The batch pass calls it with all rows.
        vanishes: whether a row of a part that is not made again is deleted. False only where a row that was made once is made for ever.
    """

    table: Table
    kind: Kind
    reads: Sequence[Reads]
    to_rows: Callable[..., DataFrame]
    vanishes: bool = True

    @property
    def times(self) -> Times | None:
        """The columns by which spans select its rows; None where it is not kept by time."""
        return self.kind.times if isinstance(self.kind, ByTime) else None

    @property
    def grows(self) -> timedelta | None:
        """See `ByTime`."""
        return self.kind.grows if isinstance(self.kind, ByTime) else None

    @property
    def is_replaced(self) -> bool:
        """Whether rows of a part that are not made again are deleted."""
        return self.vanishes or self.grows is not None


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


@dataclass(frozen=True, slots=True)
class Fresh:
    """A table whose newest time of each entity says how fresh it is.

    Attributes:
        table: silver or a derived table.
        entity: its column with the entity.
        time: its column with the time, an instant or a date.
        but: a boolean column; rows in which it is true do not count, such as forecasts. Empty where all do.
        asked: its column with the moment when the source was asked; empty where it has none.
    """

    table: Table
    entity: str
    time: str
    but: str = ""
    asked: str = ""


def _no_checks(_: Days) -> Sequence[Check]:
    return ()


def _no_files() -> str:
    return ""


@dataclass(frozen=True)
class Domain:
    """A domain: its sources, and the tables derived from them in the order they are made.

    Attributes:
        name: as it stands on the command line.
        sources: each with its own topic.
        derived: a table stands after all that it reads.
        dimensions: static tables and their rows, written at start and when they change.
        edition: what derived tables were computed by; a table made by another edition is refused.
        edition_before: of these parts, what a table was made by that says other parts and not this one: it is from before there was one.
        exact: dimensions that hold the configured rows and no others; of the rest a row stays that the configuration has no more.
        references: releases of data that derived tables are computed by, such as the zone database; by name.
        outdated: SQL of DuckDB that gives the rows computed by an older release: entity, since, until, rows; empty for none.
        by_edition: puts the same domain together by another edition; None where there are no others.
        checks: what must hold in its tables, beside what follows from their keys and the contract.
        oracle: SQL of DuckDB that computes the derived tables from the bytes that arrived, sharing nothing with the transforms; see
            `batch/prove/oracle/recompute.py`. Empty where there is none.
        fresh: the tables that tell how fresh the domain is; `weir status` shows the last of them.
        entities: those that are expected in them.
        rejects: where rows go that a rule rejects; the table of all domains.
        configuration: checks the files that the domain is configured by and describes them for `weir doctor`; raises a LakehouseError
            that says what to correct. Empty where there are no such files.
    """

    name: str
    sources: Sequence[Source]
    derived: Sequence[Derived]
    dimensions: Sequence[tuple[Table, Sequence[tuple[object, ...]]]] = ()
    edition: Mapping[str, str] = field(default_factory=dict)
    edition_before: Mapping[str, str] = field(default_factory=dict)
    exact: Sequence[str] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    outdated: str = ""
    by_edition: "Callable[[Mapping[str, str]], Domain] | None" = None
    checks: Callable[[Days], Sequence[Check]] = _no_checks
    oracle: str = ""
    fresh: Sequence[Fresh] = ()
    entities: Sequence[str] = ()
    rejects: Table = REJECTS
    configuration: Callable[[], str] = _no_files

    def __post_init__(self) -> None:
        known = {source.silver.name for source in self.sources}
        for one in self.derived:
            if missing := [reads.table.name for reads in one.reads if reads.table.name not in known]:
                raise ValueError(f"{one.table.name} reads {', '.join(missing)}: no silver of {self.name}, and not derived before it")
            known.add(one.table.name)

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """How each table's rows are kept, by its name: silver's and the derived tables'."""
        return {**{one.silver.name: one.kind for one in self.sources}, **{one.table.name: one.kind for one in self.derived}}

    @property
    def merged(self) -> Iterator[Table]:
        """The tables that rows are merged into: every silver, then the derived ones."""
        yield from (source.silver for source in self.sources)
        yield from (one.table for one in self.derived)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of its sources."""
        return tuple(source.contract.topic for source in self.sources)

    @property
    def bronze_query(self) -> str:
        """The name of the query that fills bronze: that of the table, or of the domain where there are several."""
        return self.sources[0].bronze.name.removeprefix("lh.") if len(self.sources) == 1 else f"bronze.{self.name}"

    @property
    def refine_query(self) -> str:
        """The name of the query that fills silver and the derived tables."""
        return self.sources[0].silver.name.removeprefix("lh.") if len(self.sources) == 1 else f"silver.{self.name}"

    def source_of(self, topic: str) -> Source:
        """Give the source of a topic; KeyError where there is none."""
        return next(source for source in self.sources if source.contract.topic == topic)
