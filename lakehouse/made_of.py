"""Which snapshot of its inputs was each derived table made of, and which changes of them does it lack, so that they are owed?

Silver and the tables derived from it are commits after each other. A process that is killed between two of them repeats a MERGE that
changes nothing, so what changed is no longer to be seen, and a group that a row has left would stay wrong for ever. So every commit of a
domain notes, for each derived table, the snapshot of each input that it was made of (`weir.made-of`). What lies between that one and the
current one is owed: from memory while a driver lives, from the snapshots after a start, a conflict or another writer's commit. Where the
snapshot is gone, the table is recomputed whole.

Not owed is what a backfill has written, which says so in its commits (`weir.deferred`): it makes derived tables itself, at its end.
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

# Iceberg's word for a commit that changes no row, such as joining small files.
REPLACE = "replace"

# The snapshot of each input by its name, by derived table; 0 for an input without one.
MadeOf = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Commit:
    """One snapshot of a table: its id, what it did, and its properties."""

    id: int
    operation: str
    summary: Any


def commits(handle: Any) -> Iterator[Commit]:  # noqa: ANN401 - the JVM's object
    """Walk from a table's current snapshot back to the oldest that is kept."""
    snapshot = handle.currentSnapshot()
    while snapshot is not None:
        yield Commit(int(snapshot.snapshotId()), str(snapshot.operation()), snapshot.summary())
        parent = snapshot.parentId()
        snapshot = None if parent is None else handle.snapshot(parent)


def head_of(handle: Any) -> int:  # noqa: ANN401 - the JVM's object
    """Give the id of a table's current snapshot; 0 where it has none."""
    snapshot = handle.currentSnapshot()
    return 0 if snapshot is None else int(snapshot.snapshotId())


def read_made_of(domain: Domain, handles: Mapping[str, Any]) -> MadeOf:
    """Read the newest note about each derived table.

    A table without a note is new, or from before there were notes. A new one holds nothing and lacks all that its inputs hold; one from
    before was left complete, since a micro-batch was repeated until all its tables were written.

    Args:
        domain: whose tables.
        handles: Iceberg's own object of each of its merged tables, by name.
    """
    noted = [note for handle in handles.values() for note in _notes(handle)]
    made: MadeOf = {}
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


def to_property(made: MadeOf) -> dict[str, str]:
    """Write the note."""
    return {MADE_OF_PROPERTY: json.dumps(made)}


def owed_changes(spark: SparkSession, domain: Domain, table: Table, handle: Any, since: int) -> Changes:  # noqa: ANN401 - the JVM's object
    """Find what has changed in a table since a snapshot, but for what a backfill makes itself; all of it where that cannot be told.

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
    """Find what has changed in a table since a snapshot: rows as they were then, and as they were after each later commit.

    Args:
        spark: the session.
        domain: whose table.
        table: silver, or a derived table.
        handle: Iceberg's own object of it.
        since: the id of the snapshot; 0 for the time before the first.
        counts: says which commits are looked at; those that change no row are not.

    Returns:
        The changes; None where the snapshot is none of those that the table's rows come from any more.
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
        # Rows of derived tables vanish without a trace in any file that was added.
        now = spark.table(table.name).select(*names)
        return ChangedFrame(before.exceptAll(now).unionByName(now.exceptAll(before)))
    after = _added(spark, table, handle, changed)
    if after is None:
        return NoChanges()
    kind = domain.kinds[table.name]
    if isinstance(kind, ByTime):
        # A row of silver never goes, and its key has the entity and the time: it stays in its span.
        spans = ChangedFrame(after).spans(kind.times)
        if isinstance(spans, Spans):
            return ChangedSpans(spans, kind.times)
    if before is None:
        return ChangedFrame(after)
    keys = after.select(*table.key).distinct()
    return ChangedFrame(after.unionByName(before.join(keys, on=list(table.key), how="left_semi").select(*names)))


def _added(spark: SparkSession, table: Table, handle: Any, changed: Iterable[Commit]) -> DataFrame | None:  # noqa: ANN401 - the JVM's object
    """Read the rows of the files that commits added, replaced since or not; None where they added none."""
    files = [str(one.location()) for commit in changed for one in java_list(handle.snapshot(commit.id).addedDataFiles(handle.io()))]
    if not files:
        return None
    # By the table's own schema: an older file lacks a column that was added since.
    schema = spark.table(table.name).select(*table.names).schema
    return spark.read.schema(schema).option("__globPaths__", "false").parquet(*files)


def _notes(handle: Any) -> Iterator[MadeOf]:  # noqa: ANN401 - the JVM's object
    """Give what the newest commit with a note says, and the table's property: a rebuild notes there what it publishes."""
    texts = [next((note for one in commits(handle) if (note := one.summary.get(MADE_OF_PROPERTY))), None)]
    for text in (*texts, handle.properties().get(MADE_OF_PROPERTY)):
        if text:
            yield json.loads(text)


def _newest_of(handle: Any, snapshots: set[int]) -> int:  # noqa: ANN401 - the JVM's object
    """Give the newest of some snapshots; of those that are gone, the oldest counts: all is owed then."""
    return next((one.id for one in commits(handle) if one.id in snapshots), min(snapshots))
