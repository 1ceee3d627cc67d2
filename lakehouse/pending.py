"""Which changes of its inputs has a derived table not been recomputed for? They are pending, and the next writer recomputes them.

Silver and its derived tables are committed one after the other. A process that is killed between two commits repeats a MERGE that changes
nothing, so the change is no longer visible, and a group that a row has left would stay wrong for ever. Therefore every commit of a domain
notes, for each derived table, the snapshot of each input from which it was computed (`weir.made-of`). All changes after that snapshot are
pending. A running driver knows them from memory; after a start, a conflict or another writer's commit they are read from the snapshots.
Where the snapshot has been expired, the table is recomputed whole.

Commits of a backfill are not pending. They carry `weir.deferred`, because a backfill recomputes derived tables itself, at its end.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from lakehouse.changes import ChangedFrame, ChangedSpans, Changes, NoChanges, WholeChanged
from lakehouse.domain import ByTime, Domain
from lakehouse.spans import Spans
from lakehouse.spark import java_list
from lakehouse.tables.properties import DEFERRED_PROPERTY, MADE_OF_PROPERTY
from lakehouse.tables.schema import Table

# Iceberg's name for a commit that changes no row, such as a compaction.
REPLACE = "replace"

# The snapshot of each input by its name, by derived table; 0 for an input without one.
ComputedFrom = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Commit:
    """One snapshot of a table: its id, its operation and its summary."""

    id: int
    operation: str
    summary: Any


def commits(handle: Any) -> Iterator[Commit]:  # noqa: ANN401 - the JVM's object
    """Yield the snapshots of a table from the current one back to the oldest that is kept."""
    snapshot = handle.currentSnapshot()
    while snapshot is not None:
        yield Commit(int(snapshot.snapshotId()), str(snapshot.operation()), snapshot.summary())
        parent = snapshot.parentId()
        snapshot = None if parent is None else handle.snapshot(parent)


def head_of(handle: Any) -> int:  # noqa: ANN401 - the JVM's object
    """Return the id of a table's current snapshot; 0 where it has none."""
    snapshot = handle.currentSnapshot()
    return 0 if snapshot is None else int(snapshot.snapshotId())


def read_computed_from(domain: Domain, handles: Mapping[str, Any]) -> ComputedFrom:
    """Read from which snapshots each derived table was computed.

    A table without a note is new, or was written by a version that made no notes. For a new one, everything in its inputs is pending. One
    of the older version is complete, since that version repeated a micro-batch until all its tables were written.

    Args:
        domain: whose tables.
        handles: Iceberg's own object of each of its merged tables, by name.
    """
    noted = [note for handle in handles.values() for note in _notes(handle)]
    made: ComputedFrom = {}
    for derived in domain.derived:
        name = derived.table.name
        is_new = head_of(handles[name]) == 0
        made[name] = {}
        for reads in derived.reads:
            source = reads.table.name
            snapshots = {note[name][source] for note in noted if source in note.get(name, {})}
            if snapshots:
                made[name][source] = snapshots.pop() if len(snapshots) == 1 else _newest_of(handles[source], snapshots)
            else:
                made[name][source] = 0 if is_new else head_of(handles[source])
    return made


def to_property(made: ComputedFrom) -> dict[str, str]:
    """Return the note as a snapshot property."""
    return {MADE_OF_PROPERTY: json.dumps(made)}


def pending_changes(spark: SparkSession, domain: Domain, table: Table, handle: Any, since: int) -> Changes:  # noqa: ANN401 - the JVM's object
    """Find the pending changes of a table since a snapshot; the whole table where the snapshot is unknown or has been expired.

    Args:
        spark: the session.
        domain: whose table.
        table: silver, or a derived table.
        handle: Iceberg's own object of it.
        since: the id of the snapshot; 0 for the time before the first.
    """
    if not since:
        return WholeChanged()
    found = changes_since(spark, domain, table, handle, since, lambda one: not one.summary.get(DEFERRED_PROPERTY))
    return WholeChanged() if found is None else found


def changes_since(
    spark: SparkSession,
    domain: Domain,
    table: Table,
    handle: Any,  # noqa: ANN401 - the JVM's object
    since: int,
    counts: Callable[[Commit], bool] = lambda _: True,
) -> Changes | None:
    """Find which rows of a table changed since a snapshot: as they were then, and as each later commit wrote them.

    Args:
        spark: the session.
        domain: whose table.
        table: silver, or a derived table.
        handle: Iceberg's own object of it.
        since: the id of the snapshot; 0 for the time before the first.
        counts: selects the commits that count; those that change no row never do.

    Returns:
        The changes; None where the snapshot is not an ancestor of the current one, such as after an expiry or a rollback.
    """
    later = []
    for one in commits(handle):
        if one.id == since:
            break
        later.append(one)
    else:
        if since:
            return None
    changed = [one for one in later if one.operation != REPLACE and counts(one)]
    if not changed:
        return NoChanges()
    names = list(table.names)
    is_silver = any(table.name == source.silver.name for source in domain.sources)
    before = spark.sql(f"SELECT * FROM {table.name} VERSION AS OF {since}").select(*names) if since else None
    if not is_silver and before is not None:
        # A row that was deleted from a derived table appears in none of the files that were added.
        now = spark.table(table.name).select(*names)
        return ChangedFrame(before.exceptAll(now).unionByName(now.exceptAll(before)))
    after = _added(spark, table, handle, changed)
    if after is None:
        return NoChanges()
    kind = domain.kinds[table.name]
    if isinstance(kind, ByTime):
        # Silver never deletes a row, and its key has the entity and the time: a row stays in its span.
        spans = ChangedFrame(after).spans(kind.times)
        if isinstance(spans, Spans):
            return ChangedSpans(spans, kind.times)
    if before is None:
        return ChangedFrame(after)
    keys = after.select(*table.key).distinct()
    return ChangedFrame(after.unionByName(before.join(keys, on=list(table.key), how="left_semi").select(*names)))


def _added(spark: SparkSession, table: Table, handle: Any, changed: Iterable[Commit]) -> DataFrame | None:  # noqa: ANN401 - the JVM's object
    """Read all rows that commits added, also those replaced since; None where they added none."""
    files = [str(one.location()) for commit in changed for one in java_list(handle.snapshot(commit.id).addedDataFiles(handle.io()))]
    if not files:
        return None
    # With the table's schema, since an older file lacks columns that were added later.
    schema = spark.table(table.name).select(*table.names).schema
    return spark.read.schema(schema).option("__globPaths__", "false").parquet(*files)


def _notes(handle: Any) -> Iterator[ComputedFrom]:  # noqa: ANN401 - the JVM's object
    """Yield the note of the newest commit that has one, and that of the table's property, where a rebuild writes it."""
    texts = [next((note for one in commits(handle) if (note := one.summary.get(MADE_OF_PROPERTY))), None)]
    for text in (*texts, handle.properties().get(MADE_OF_PROPERTY)):
        if text:
            yield json.loads(text)


def _newest_of(handle: Any, snapshots: set[int]) -> int:  # noqa: ANN401 - the JVM's object
    """Return the newest of some snapshots. Where all of them have been expired, return the oldest: then the whole table is pending."""
    return next((one.id for one in commits(handle) if one.id in snapshots), min(snapshots))
