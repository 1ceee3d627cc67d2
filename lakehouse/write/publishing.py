"""How do tables that were rebuilt on a branch replace those that everybody reads? With one commit per table, all tables or none.

One commit sets a table's `main` to the branch's snapshot, sets its properties and removes the branch, so a reader sees the rows from before
or those from after. A note, silver's property `weir.publishing`, makes all tables of a domain change together: it is written first and
names the new snapshot of every table. Every writer of the domain looks for it and completes an interrupted publishing before it writes.

Every commit is conditional on the metadata that was read, which every kind of catalog checks. So no commit of another writer is lost, with
or without the table lock (`lakehouse/locks/table_locks.py`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from pyspark.sql import SparkSession

from lakehouse import failpoints
from lakehouse.domain import Domain
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.locks.conflicts import until_accepted
from lakehouse.spark import iceberg_table
from lakehouse.tables.editions import PropertiesOf, check_edition
from lakehouse.tables.properties import PUBLISHING_PROPERTY

# Iceberg's name for the branch that everybody reads.
MAIN = "main"
# A rebuild's branches have this prefix and the domain's name.
REBUILD_BRANCH = "weir_rebuild"


log = structlog.get_logger("weir.tables")


class HalfPublished(LakehouseError, Fatal):
    """Another machine wrote a table after the tables before it had been published."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"Another machine wrote {table} while a rebuild was being published, after other tables had been published. {table} and the "
            "tables after it were left as they are. Stop the other machine's programs and rebuild again."
        )


@dataclass(frozen=True, slots=True)
class Note:
    """A publishing in progress.

    Attributes:
        branch: its name, the same in every table.
        before: {silver table: snapshot on which the rebuild is based}.
        snapshots: {table: snapshot that becomes main}, in the order in which they are set, silver first.
        properties: {table: {name: value}} to be set in the same commit.
    """

    branch: str
    before: Mapping[str, int | None]
    snapshots: Mapping[str, int]
    properties: Mapping[str, Mapping[str, str]]

    @classmethod
    def from_json(cls, text: str, anchor: str) -> "Note":
        """Read a note. The version that knew one source only noted silver's snapshot without its name."""
        held = json.loads(text)
        before = held.pop("before")
        return cls(before=before if isinstance(before, dict) else {anchor: before}, **held)


def note_table(domain: Domain) -> str:
    """Return the name of the table with a domain's note: silver of its first source."""
    return domain.sources[0].silver.name


def look_before_writing(spark: SparkSession, domain: Domain, properties_of: PropertiesOf | None = None) -> bool:
    """Complete an interrupted publishing and check gold's edition. Call it before every write, with the table lock held.

    Args:
        spark: the session.
        domain: whose tables will be written.
        properties_of: returns a table's current properties; by loading the table when left out.

    Returns:
        Whether tables were changed, so that what the caller knows of them is outdated.

    Raises:
        OtherEdition: gold was computed by other rules. Nothing was written.
    """
    look = properties_of or (lambda name: iceberg_table(spark, name).properties())
    anchor = note_table(domain)
    text = look(anchor).get(PUBLISHING_PROPERTY)
    if text is None:
        check_edition(domain, look)
        return False
    log.warning("publishing was cut off, and is ended now", domain=domain.name)
    until_accepted(lambda: _carry_out(spark, anchor, Note.from_json(text, anchor)))
    check_edition(domain, lambda name: iceberg_table(spark, name).properties())
    return True


def publish(spark: SparkSession, anchor: str, note: Note) -> bool:
    """Publish every table of a note. Call it with the table lock held.

    Args:
        spark: the session.
        anchor: the table that carries the note, from `note_table`.
        note: what to publish.

    Returns:
        Whether it was published; False when silver has changed since the rebuild was based on it. Then nothing was changed.
    """
    if any(branch_head(spark, name) != before for name, before in note.before.items()):
        return False
    noted = {PUBLISHING_PROPERTY: json.dumps(asdict(note))}
    if not until_accepted(lambda: _commit(spark, anchor, lambda new: new.setProperties(noted), note.before[anchor])):
        return False
    failpoints.reach("publishing.noted")
    return until_accepted(lambda: _carry_out(spark, anchor, note))


def branch_head(spark: SparkSession, name: str, branch: str = MAIN) -> int | None:
    """Return the newest snapshot of a table's branch; None for an empty one."""
    ref = iceberg_table(spark, name).refs().get(branch)
    return None if ref is None else int(ref.snapshotId())


def _carry_out(spark: SparkSession, anchor: str, note: Note) -> bool:
    """Publish what a note still lists; return False, with nothing changed, if another machine wrote silver before it was published."""
    is_begun = False
    for name, snapshot in note.snapshots.items():
        if branch_head(spark, name, note.branch) != snapshot:
            is_begun = True  # already published; later commits are based on it
            continue

        def change(new: Any, name: str = name, snapshot: int = snapshot) -> None:  # noqa: ANN401 - the JVM's builder
            new.setBranchSnapshot(snapshot, MAIN)
            new.setProperties(dict(note.properties.get(name, {})))
            new.removeRef(note.branch)

        if not _commit(spark, name, change, *([note.before[name]] if name in note.before else [])):
            if is_begun:
                raise HalfPublished(name)
            _commit(spark, anchor, _without_note(spark))
            log.warning("not published: another machine wrote meanwhile", table=name)
            return False
        is_begun = True
        failpoints.reach("publishing.table")
    _commit(spark, anchor, _without_note(spark))
    return True


def _without_note(spark: SparkSession) -> Callable[[Any], Any]:
    names = spark._jvm.java.util.HashSet()  # type: ignore[union-attr]  # a session that runs has one
    names.add(PUBLISHING_PROPERTY)
    return lambda new: new.removeProperties(names)


def _commit(spark: SparkSession, name: str, change: Callable[[Any], Any], *expected: int | None) -> bool:
    """Commit a change of a table's metadata, provided that its main snapshot is the expected one, if any.

    Raises:
        Py4JJavaError: Iceberg refused the commit, because another one came between.
    """
    operations = iceberg_table(spark, name).operations()
    base = operations.current()
    snapshot = base.currentSnapshot()
    if expected and (None if snapshot is None else int(snapshot.snapshotId())) != expected[0]:
        return False
    jvm: Any = spark._jvm
    new = jvm.org.apache.iceberg.TableMetadata.buildFrom(base)
    change(new)
    operations.commit(base, new.build())
    return True
