"""What does the core need to know about a domain? Its sources, its derived tables, and how one follows from the other.

A `Source` is one topic with its bronze and silver tables. A `Derived` table is computed from silver tables, or from derived tables listed
before it. It declares its inputs, which of its rows a change of an input affects, and a transform that recomputes whole groups of rows.
Each domain fills in one `Domain` record in its `tables.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

from lakehouse.alerts import Runs
from lakehouse.changes import Changes
from lakehouse.contract import Contract
from lakehouse.days import Days
from lakehouse.engine.relation import Relation, Transform
from lakehouse.parts import WHOLE, Keys, Part, is_whole
from lakehouse.rules import Rule
from lakehouse.spans import Spans, Times
from lakehouse.tables.schema import REJECTS, Table


@dataclass(frozen=True, slots=True)
class ByTime:
    """Rows are kept by entity and time, and recomputed in spans of time.

    Attributes:
        entity: the column with the business entity.
        starts: the column with the row's (first) instant or date.
        ends: the column with its last; `starts` where a row has only one.
        grows: for rows of any length, such as episodes: the greatest gap between a row and a span at which the row still belongs to the
            span. Before recomputing, the span grows by such rows of the table. If a recomputed row extends beyond the span all the
            same, the table was behind its input, and the span grows by that row too.
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
    """Rows are kept by the values of key columns, and recomputed for some of these values."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The table is recomputed whole whenever anything that it reads changes."""


Kind = ByTime | ByKey | Whole


@dataclass(frozen=True, slots=True)
class Matching:
    """The rows of an input that match the rows read from an input before it: the right side of a join.

    Attributes:
        table: the input before it.
        names: {column of the input before it: column of this input}.
    """

    table: str
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reads:
    """One input of a derived table, and how parts of both correspond; built by `over_time`, `by_key`, `looked_up` or `all_of`.

    Attributes:
        table: the input: silver, or a derived table listed before this one.
        reach: the part of the derived table that changes of this input affect.
        needs: the part of this input from which a part of the derived table is computed.
        times: the columns by which spans select this input's rows; None where it is read by key.
        span_reach: `reach` where only the changed spans of this input are known; None where it is read by key.
        with_deleted: whether silver's rows that are marked as deleted are read too, as a history needs them; see `Contract.deleted`.
    """

    table: Table
    reach: Callable[[Changes], Part]
    needs: Callable[[Part], Part | Matching]
    times: Times | None = None
    span_reach: Callable[[Spans], Spans] | None = None
    with_deleted: bool = False


def unchanged(span: Spans) -> Spans:
    """Return the same span."""
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
        table: the input.
        entity: its column with the business entity; the derived table has the same entities.
        starts: its column with a row's (first) time.
        ends: its column with the last time; `starts` where there is only one.
        reach: returns the span of the derived table that a changed span of the input affects.
        needs: returns the span of the input from which a span of the derived table is computed; wider where the transform looks back.
    """
    times = Times(entity, starts, ends)

    def reached(changes: Changes) -> Part:
        found = changes.spans(times)
        return reach(found) if isinstance(found, Spans) else found

    return Reads(table, reached, lambda part: needs(part) if isinstance(part, Spans) else WHOLE, times, reach)


def by_key(table: Table, reach: Mapping[str, str], needs: Mapping[str, str] | None = None, *, with_deleted: bool = False) -> Reads:
    """Read a table by the values of columns.

    Args:
        table: the input.
        reach: {column of the derived table: column of the input}: a changed row affects the derived rows with the same values.
        needs: the same for all columns by which a part of the derived table may be described; `reach` when left out.
        with_deleted: whether rows that are marked as deleted are read too.
    """
    both = reach if needs is None else needs
    return Reads(
        table,
        lambda changes: changes.keys(reach),
        lambda part: part.renamed(both) if isinstance(part, Keys) else WHOLE,
        with_deleted=with_deleted,
    )


def looked_up(table: Table, reach: Mapping[str, str], of: Table, names: Mapping[str, str]) -> Reads:
    """Read the rows of a table that rows of an input before it refer to, such as the parents of children.

    Args:
        table: the input.
        reach: {column of the derived table: column of the input}.
        of: the input before it.
        names: {column of `of`: column of the input}.
    """
    return Reads(table, lambda changes: changes.keys(reach), lambda part: WHOLE if is_whole(part) else Matching(of.name, names))


def all_of(table: Table) -> Reads:
    """Read a whole table; any change of it affects the whole derived table."""

    def reached(changes: Changes) -> Part:
        return WHOLE if changes.keys({name: name for name in table.key}) else Keys()

    return Reads(table, reached, lambda _: WHOLE)


@dataclass(frozen=True, slots=True)
class Source:
    """One source of a domain: its topic, everything that arrived (bronze), and the newest version of each record (silver).

    Attributes:
        contract: of its messages.
        bronze: the table of all messages.
        silver: one row per key of the contract, with the source's own columns; what needs another table is derived.
        rules: in the order in which they are tried.
        to_silver: row-wise transform from accepted bronze rows to silver rows.
        kind: `ByTime` where silver's key has the entity and the event time, else `ByKey`.
        watermark: how long before its arrival a row's event time may lie. Rows behind it are counted as late; nothing else changes.
        may_be_empty: whether nothing of it need have arrived, though other sources of the domain have rows.
    """

    contract: Contract
    bronze: Table
    silver: Table
    rules: Sequence[Rule]
    to_silver: Callable[[Relation], Relation]
    kind: ByTime | ByKey = ByKey()
    watermark: timedelta = timedelta(hours=48)
    may_be_empty: bool = False

    @property
    def name(self) -> str:
        """Short name: that of the bronze table without its layer."""
        return self.bronze.name.rpartition(".")[2]

    def __post_init__(self) -> None:
        if set(self.silver.key) != set(self.contract.key):
            raise ValueError(f"{self.silver.name} has the key {self.silver.key}, but {self.contract.topic} has {self.contract.key}")
        if isinstance(self.kind, ByTime) and not {self.kind.entity, self.kind.starts} <= set(self.silver.key):
            # A row would leave its span when its event time changes, and a MERGE bounded by the span would insert a second one.
            raise ValueError(f"{self.silver.name} is kept by time, so {self.kind.entity} and {self.kind.starts} must be in its key")


@dataclass(frozen=True, slots=True)
class Derived:
    """A table computed from others: a gold table, or one in the silver layer that needs more than its source.

    Attributes:
        table: its rows of a part are recomputed together and replaced. No column of its key may be null.
        kind: how its parts are described.
        reads: its inputs.
        to_rows: the transform from rows of each input, in the order of `reads`, to rows of the table. The batch pass gives all rows.
        vanishes: whether a row is deleted when the recomputed part no longer has it. False only where that cannot happen.
        has_fixed_rows: whether it has rows whatever its inputs hold, such as that of an unknown parent. No change reaches those, so the
            table is computed whole while it is empty.
        must_hold: {statement: SQL condition, for both engines, that is true for a row that breaks it}. Rows of which one does are not
            written: the commit is left out and the query ends with `RowsBreakCheck`.
    """

    table: Table
    kind: Kind
    reads: Sequence[Reads]
    to_rows: Transform
    vanishes: bool = True
    has_fixed_rows: bool = False
    must_hold: Mapping[str, str] = field(default_factory=dict)

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
        """Whether rows that the recomputed part no longer has are deleted."""
        return self.vanishes or self.grows is not None


@dataclass(frozen=True, slots=True)
class Check:
    """A statement that must hold for a table, whoever filled it.

    Attributes:
        name: the statement, for people.
        table: the table's name, with `lh.`.
        bad: DuckDB SQL that selects the rows, or the keys, that violate it.
        share: the share of rows that may violate it.
        of: DuckDB SQL that counts the rows of which it is a share; those of the table when empty.
        groups: DuckDB SQL with figures by group, such as city and month, to be shown with the check.
    """

    name: str
    table: str
    bad: str
    share: float = 0.0
    of: str = ""
    groups: str = ""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A table whose newest time per entity measures freshness.

    Attributes:
        table: silver or a derived table.
        entity: its column with the entity.
        time: its column with the time, an instant or a date.
        but: a boolean column that excludes rows where it is true, such as forecasts; empty for none.
        asked: its column with the time of retrieval; empty where it has none.
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
    """A domain: its sources, and the tables derived from them in the order in which they are computed.

    Attributes:
        name: as on the command line.
        sources: each with its own topic.
        derived: each table after its inputs.
        dimensions: static tables and their rows, written at start and when they change.
        edition: {name: value} of the rules by which derived tables are computed; a table of another edition is refused.
        edition_before: values of those parts of the edition that older tables do not have in their properties.
        exact: dimensions that lose rows which the configuration no longer has; other dimensions keep them.
        references: {name: release} of data by which derived tables are computed, such as the zone database.
        outdated: DuckDB SQL that selects rows computed by an older release: entity, since, until, rows; empty for none.
        by_edition: builds the same domain with another edition; None where there are no others.
        checks: returns what must hold in its tables, beyond what follows from keys and contracts.
        oracle: DuckDB SQL that computes the derived tables from the bytes that arrived and shares nothing with the transforms; see
            `batch/prove/oracle/recompute.py`. Empty where there is none.
        fresh: the tables that measure freshness; `weir status` shows the last of them.
        entities: those that are expected in them.
        rejects: the table of rejected rows, common to all domains.
        configuration: checks the files that the domain is configured by and describes them for `weir doctor`; raises a LakehouseError
            that says what to correct. Empty where there are no such files.
        runs: in which its records come, such as dumps: alerts compare the newest of each with those before.
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
    runs: Sequence[Runs] = ()

    def __post_init__(self) -> None:
        known = {source.silver.name for source in self.sources}
        for one in self.derived:
            if missing := [reads.table.name for reads in one.reads if reads.table.name not in known]:
                raise ValueError(
                    f"{one.table.name} reads {', '.join(missing)}, which is neither silver of {self.name} nor derived before it"
                )
            known.add(one.table.name)

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each silver and derived table, by its name."""
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
        """The name of the query that fills bronze: after its table, or after the domain where there are several."""
        return self.sources[0].bronze.name.removeprefix("lh.") if len(self.sources) == 1 else f"bronze.{self.name}"

    @property
    def refine_query(self) -> str:
        """The name of the query that fills silver and the derived tables."""
        return self.sources[0].silver.name.removeprefix("lh.") if len(self.sources) == 1 else f"silver.{self.name}"

    def source_of(self, topic: str) -> Source:
        """Return the source of a topic; StopIteration where there is none."""
        return next(source for source in self.sources if source.contract.topic == topic)
