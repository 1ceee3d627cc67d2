"""How do tables that were built on a branch take the place of those that everybody reads? One commit a table, and all of them or none.

Each table has one commit, which sets `main` to the branch's snapshot, the table's properties, and removes the branch: a reader sees the
rows from before or those from after. That all tables of a domain change together is seen to by a note, the property `weir.publishing` of
silver, that is written first and names every table's new snapshot: whoever writes a domain's tables looks for it, and ends what a crash
has cut off, before it writes.

Commits are conditional on the metadata that was looked at, which every kind of catalog checks; so nothing that another writer has
committed meanwhile is passed over, with turns (`lakehouse/locks/table_locks.py`) or without.
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

# Iceberg's name of the branch that everybody reads.
MAIN = "main"
# A rebuild's branches begin with it; the domain's name follows.
REBUILD_BRANCH = "weir_rebuild"


log = structlog.get_logger("weir.tables")


class HalfPublished(LakehouseError, Fatal):
    """A table was written by another machine while those before it were published already."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"{table} was written by another machine while a rebuild was published, after tables before it had been set. It was left as it "
            "is, and so are those after it. Stop the other machine's programs and rebuild again."
        )


@dataclass(frozen=True, slots=True)
class Note:
    """What is being published.

    Attributes:
        branch: its name, the same in every table.
        before: the snapshot of each silver table that all was built upon, by name.
        snapshots: each table's snapshot that becomes its main one, by name; in the order in which they are set, silver first.
        properties: what is set with it, by table and name.
    """

    branch: str
    before: Mapping[str, int | None]
    snapshots: Mapping[str, int]
    properties: Mapping[str, Mapping[str, str]]

    @classmethod
    def from_json(cls, text: str, anchor: str) -> "Note":
        """Read it; a version before several sources noted the one silver's snapshot alone."""
        held = json.loads(text)
        before = held.pop("before")
        return cls(before=before if isinstance(before, dict) else {anchor: before}, **held)


def note_table(domain: Domain) -> str:
    """Name the table that carries a domain's note: the silver of its first source."""
    return domain.sources[0].silver.name


def look_before_writing(spark: SparkSession, domain: Domain, properties_of: PropertiesOf | None = None) -> bool:
    """End a publishing that was cut off, and see that gold is of the domain's edition; belongs before every write, in its turn.

    Args:
        spark: the session.
        domain: whose tables will be written.
        properties_of: gives a table's properties as they are now; loads the table when left out.

    Returns:
        Whether tables were changed: what is known of them is old then.

    Raises:
        OtherEdition: gold was made by other rules; nothing was written.
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
    """Set every table of a note; in a turn.

    Args:
        spark: the session.
        anchor: the table that carries the note meanwhile, from `note_table`.
        note: what is to be set.

    Returns:
        Whether it was done; False when a silver table has another snapshot than all was built upon, and nothing was changed.
    """
    if any(branch_head(spark, name) != before for name, before in note.before.items()):
        return False
    noted = {PUBLISHING_PROPERTY: json.dumps(asdict(note))}
    if not until_accepted(lambda: _commit(spark, anchor, lambda new: new.setProperties(noted), note.before[anchor])):
        return False
    failpoints.reach("publishing.noted")
    return until_accepted(lambda: _carry_out(spark, anchor, note))


def branch_head(spark: SparkSession, name: str, branch: str = MAIN) -> int | None:
    """Give the snapshot that a branch of a table ends with; None for an empty one."""
    ref = iceberg_table(spark, name).refs().get(branch)
    return None if ref is None else int(ref.snapshotId())


def _carry_out(spark: SparkSession, anchor: str, note: Note) -> bool:
    """Do what a note says, or what of it is left; False, with nothing changed, where another machine wrote silver before it was set."""
    is_begun = False
    for name, snapshot in note.snapshots.items():
        if branch_head(spark, name, note.branch) != snapshot:
            is_begun = True  # set already; what was written to it since came after
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
    """Commit a change of a table's metadata, if its main snapshot is the one expected, where one is named.

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
