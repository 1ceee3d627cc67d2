"""How do changes of silver become derived tables? Find the part that they affect, recompute it whole, replace it.

    changes of the inputs -> affected part -> rows of the inputs that it needs -> transform -> replace -> changes -> next table

Tables that are kept by time, and computed from such tables alone, are planned together before the first of them is computed. So the rows
computed for one table are enough for the next, and nothing is read twice. The other tables follow, each from the actual changes before it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import TypeVar

from pyspark.sql import DataFrame

from lakehouse import failpoints
from lakehouse.changes import Changes, NoChanges
from lakehouse.domain import ByTime, Derived, Domain, Matching, Reads, Source
from lakehouse.engine.newest import latest_per_key
from lakehouse.engine.on_spark import on_spark
from lakehouse.parts import WHOLE, Part, join_parts
from lakehouse.pending import pending_changes
from lakehouse.phases import Phases
from lakehouse.rules import RULE, with_verdict
from lakehouse.spans import Spans
from lakehouse.write.store import Store, Touching

Rows = TypeVar("Rows")
NOTHING = Spans(())


@dataclass(slots=True)
class Work:
    """What must be recomputed in a domain's derived tables.

    Attributes:
        changes: of silver, by table name.
        parts: of derived tables that are pending whatever changed, by table name.
    """

    changes: dict[str, Changes] = field(default_factory=dict)
    parts: dict[str, Part] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """The spans of all tables that are kept by time, planned before any of them is computed; by table name.

    Attributes:
        tables: which, in order.
        touched: the changed spans of silver.
        besides: pending spans, recomputed whatever changed.
        touching: rows of the table that touch the span and extend it.
        written: the span that is recomputed and written.
        computed: the span that is computed: `written`, and what later tables need from it.
        silver: the span of each silver table that is read.
    """

    tables: Sequence[Derived]
    touched: Mapping[str, Spans]
    besides: Mapping[str, Part]
    touching: Mapping[str, Touching]
    written: Mapping[str, Spans]
    computed: Mapping[str, Spans]
    silver: Mapping[str, Spans]


def plan_work(store: Store[Rows], work: Work) -> Plan | None:
    """Plan the tables that are kept by time, read only such tables over their own times, and are affected in spans.

    Args:
        store: reads tables whose rows extend over any time.
        work: what must be recomputed; its changes cover everything that may change.

    Returns:
        The plan; None where no table qualifies.
    """
    touched: dict[str, Spans] = {}
    in_time = {}
    for source in store.domain.sources:
        name = source.silver.name
        if not isinstance(source.kind, ByTime):
            continue
        changed = work.changes[name].spans(source.kind.times) if name in work.changes else NOTHING
        if isinstance(changed, Spans):
            in_time[name], touched[name] = source.kind.times, changed
    planned = []
    for derived in store.domain.derived:
        reads_in_time = all(reads.times is not None and in_time.get(reads.table.name) == reads.times for reads in derived.reads)
        if isinstance(derived.kind, ByTime) and reads_in_time and isinstance(work.parts.get(derived.table.name, NOTHING), Spans):
            in_time[derived.table.name] = derived.kind.times
            planned.append(derived)
    return _make_plan(store, planned, touched, work.parts) if planned else None


def is_asked(domain: Domain, table: str, plan: Plan | None) -> bool:
    """Return whether a table that is not planned reads this one, so that its changes must be known row by row."""
    planned = set() if plan is None else {one.table.name for one in plan.tables}
    return any(reads.table.name == table for one in domain.derived if one.table.name not in planned for reads in one.reads)


def _make_plan(store: Store[Rows], planned: Sequence[Derived], touched: Mapping[str, Spans], parts: Mapping[str, Part]) -> Plan:
    """Compute the spans of all planned tables from the changed spans of silver.

    Rows of silver outside a span did not change. So what extends into it from outside is a row of the derived table as it stands, or too
    short to be a row.
    """
    touching: dict[str, Touching] = {}
    bounds: dict[str, Spans] = dict(touched)
    for derived in planned:
        name, span = derived.table.name, NOTHING
        for reads in derived.reads:
            assert reads.span_reach is not None  # it is read over time
            # Joining closes small gaps, and so do the reach functions; so spans depend on the order of the tables.
            span = span.joined(reads.span_reach(bounds.get(reads.table.name, NOTHING)).rows)
        besides = parts.get(name, NOTHING)
        assert isinstance(besides, Spans)  # the others are not planned
        span = span.joined(besides.rows)
        is_growing = derived.grows is not None and bool(span)
        touching[name] = store.touching(derived, span.widened(before=derived.grows, after=derived.grows)) if is_growing else []  # type: ignore[arg-type]  # it grows
        bounds[name] = span.joined(touching[name])
    computed = {derived.table.name: bounds[derived.table.name] for derived in planned}
    written, silver = dict(computed), dict.fromkeys(touched, NOTHING)
    for derived in reversed(planned):
        for reads in derived.reads:
            need, name = reads.needs(computed[derived.table.name]), reads.table.name
            assert isinstance(need, Spans)  # as above
            if name in computed:
                computed[name] = computed[name].joined(need.rows)
            else:
                silver[name] = silver.get(name, NOTHING).joined(need.rows)
    return Plan(planned, touched, parts, touching, written, computed, silver)


def pending_parts(store: Store[Rows]) -> dict[str, Part]:
    """Find the part of each derived table that pending changes of earlier calls affect."""
    parts: dict[str, Part] = {}
    known: dict[tuple[str, int], Changes] = {}
    for derived in store.domain.derived:
        if derived.has_fixed_rows and not store.head(derived.table.name):
            parts[derived.table.name] = WHOLE
            continue
        noted = store.made.get(derived.table.name)
        if noted is None:
            continue
        for reads in derived.reads:
            name, since = reads.table.name, noted.get(reads.table.name, 0)
            if since == store.head(name):
                continue
            if (name, since) not in known:
                known[name, since] = pending_changes(store.spark, store.domain, reads.table, store.handle(name), since)
            part = reads.reach(known[name, since])
            parts[derived.table.name] = join_parts(parts.get(derived.table.name, NOTHING), part)
    return {name: part for name, part in parts.items() if part}


def refresh(store: Store[Rows], work: Work, plan: Plan | None, phases: Phases, note: bool = True) -> None:
    """Recompute the affected part of every derived table, and more where a recomputed row extends beyond it. Safe to repeat.

    Args:
        store: reads and writes.
        work: what must be recomputed.
        plan: of the tables that are kept by time; None where none of them is affected.
        phases: times each table by its name.
        note: whether the tables are complete afterwards, so that the snapshots of their inputs are noted.
    """
    try:
        done: dict[str, Changes] = {}
        if plan is not None:
            while leaving := _refresh_planned(store, plan, phases, done, note):
                with phases.timed("reach"):
                    touched = {name: span.joined(_wider(leaving)) for name, span in plan.touched.items()}
                    plan = _make_plan(store, plan.tables, touched, plan.besides)
        planned = set() if plan is None else {one.table.name for one in plan.tables}
        changes: dict[str, Changes] = {**work.changes, **done}
        for derived in store.domain.derived:
            name = derived.table.name
            if name in planned:
                continue
            with phases.timed(name.removeprefix("lh.")):
                reached = [reads.reach(changes[reads.table.name]) for reads in derived.reads if reads.table.name in changes]
                part: Part = reduce(join_parts, reached, work.parts.get(name, NOTHING))
                asked = is_asked(store.domain, name, plan)
                changes[name] = _remake(store, derived, part, asked, note) if part else NoChanges()
                if note:
                    store.note_computed(derived)
            if derived is store.domain.derived[0]:
                store.then(lambda: failpoints.reach("gold.first_table"))
        with phases.timed("commit"):
            store.settle()
    finally:
        store.close()
    failpoints.reach("gold.merged")


def _refresh_planned(store: Store[Rows], plan: Plan, phases: Phases, done: dict[str, Changes], note: bool) -> Touching:
    """Recompute planned tables. Return rows that extend beyond the planned span; their table and all later ones are not written then."""
    made: dict[str, Rows] = {}
    for derived in plan.tables:
        name = derived.table.name
        with phases.timed(name.removeprefix("lh.")):
            if plan.written[name] or plan.computed[name]:
                inputs = [
                    made[reads.table.name] if reads.table.name in made else store.rows(reads, reads.needs(plan.computed[name]))  # type: ignore[arg-type]  # in time
                    for reads in derived.reads
                ]
                # Rows outside the span are computed without their look-back, so they are dropped.
                made[name] = store.make(derived, inputs, plan.computed[name])
                extents = [] if derived.grows is None else store.extents(derived, made[name])
                if leaving := plan.written[name].crossed_by(extents):
                    return leaving
                asked = is_asked(store.domain, name, plan)
                # Most micro-batches touch no episode: with no row to write and none to delete, no commit is needed.
                store.check(derived, made[name])
                if plan.written[name] and (derived.grows is None or plan.touching[name] or extents):
                    done[name] = store.replace(derived, made[name], plan.written[name], asked, note)
            if note:
                store.note_computed(derived)
        if derived is store.domain.derived[0]:
            store.then(lambda: failpoints.reach("gold.first_table"))
    return []


def _wider(rows: Touching) -> Touching:
    """Widen times by twice their length on either side, so that a run of months is found in a few steps."""
    return [(entity, start - 2 * (end - start), end + 2 * (end - start)) for entity, start, end in rows]


def _remake(store: Store[Rows], derived: Derived, part: Part, asked: bool, note: bool) -> Changes:
    """Recompute a part of one table and replace it; a part in time is extended by rows that touch it."""
    while True:
        touching: Touching = []
        written = part
        if isinstance(part, Spans) and derived.grows is not None:
            touching = store.touching(derived, part.widened(before=derived.grows, after=derived.grows))
            written = part.joined(touching)
        inputs: dict[str, Rows] = {}
        for reads in derived.reads:
            needs = reads.needs(written)
            wanted = store.matching(needs, inputs[needs.table]) if isinstance(needs, Matching) else needs
            inputs[reads.table.name] = store.rows(reads, wanted)
        made = store.make(derived, list(inputs.values()), written)
        if isinstance(written, Spans) and derived.grows is not None and isinstance(part, Spans):
            extents = store.extents(derived, made)
            if leaving := written.crossed_by(extents):
                part = part.joined(_wider(leaving))
                continue
            if not touching and not extents:
                return NoChanges()
        store.check(derived, made)
        return store.replace(derived, made, written, asked, note)


def to_gold(
    domain: Domain, silver: Mapping[str, DataFrame], keep: Callable[[str, DataFrame], DataFrame] = lambda _, rows: rows
) -> dict[str, DataFrame]:
    """Compute every derived table from all of silver in one batch pass, without writing: the other side of stream = batch.

    Args:
        domain: whose.
        silver: all rows of each silver table, by its name.
        keep: called with each table's name and rows; returns the rows from which later tables are computed.
    """
    known: dict[str, DataFrame] = {one.silver.name: silver[one.silver.name] for one in domain.sources}
    marks = {one.silver.name: one.contract.deleted for one in domain.sources if one.contract.deleted}

    def read(reads: Reads) -> DataFrame:
        rows, mark = known[reads.table.name], marks.get(reads.table.name)
        return rows.where(f"{mark} IS NOT TRUE") if mark and not reads.with_deleted else rows

    made: dict[str, DataFrame] = {}
    for derived in domain.derived:
        name = derived.table.name
        known[name] = made[name] = keep(name, on_spark(derived.to_rows, *map(read, derived.reads)))
    return made


def to_silver(rows: DataFrame, source: Source) -> DataFrame:
    """Compute silver from all bronze rows of a source in one batch pass, without writing."""
    accepted = with_verdict(rows, source.rules).where(f"{RULE} IS NULL")
    return latest_per_key(on_spark(source.to_silver, accepted), source.silver, source.contract.version)
