"""How many files, snapshots and bytes of metadata do the tables have? Read from the current snapshot's summary and the metadata file.

Facts that only manifests contain are taken from the last maintenance.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table

from lakehouse.settings import Settings
from lakehouse.tables.catalog import NoTables, ancestors, open_catalog
from lakehouse.tables.properties import MAINTAINED_PROPERTY

TABLE = "ops.maintenance"


@dataclass(frozen=True, slots=True)
class Maintained:
    """The known facts about a table from its last maintenance.

    Attributes:
        small_files: the number of small files that remained.
        rewritten_ms: when no file was left to rewrite, in milliseconds since 1970; 0 for never.
        orphans_ms: when orphan files were last searched for, likewise.
    """

    small_files: int = 0
    rewritten_ms: int = 0
    orphans_ms: int = 0


@dataclass(frozen=True, slots=True)
class TableHealth:
    """The files, snapshots and metadata of a table; its name is without the catalog's. The last two are None if it was never maintained."""

    name: str
    files: int
    delete_files: int
    snapshots: int
    metadata_bytes: int
    small_files: int | None
    rewritten_ts: datetime | None


def maintained_json(known: Mapping[str, Maintained]) -> str:
    """Return the value of the snapshot property."""
    return json.dumps({table: asdict(one) for table, one in known.items()})


def maintained_of(text: str | None) -> dict[str, Maintained]:
    """Parse the snapshot property; empty without one."""
    return {table: Maintained(**one) for table, one in json.loads(text or "{}").items()}


def read_health(settings: Settings) -> list[TableHealth]:
    """Read the health of every table.

    Raises:
        UnsupportedCatalog, UnreadableCatalog: the catalog cannot be read without Spark, or not now.
    """
    try:
        with closing(open_catalog(settings)) as catalog:
            names = sorted(".".join(name) for space in catalog.list_namespaces() for name in catalog.list_tables(space))
            return list(_health(catalog, names))
    except NoTables:
        return []


def _health(catalog: Catalog, names: Iterable[str]) -> Iterable[TableHealth]:
    known = _maintained(catalog)
    for name in names:
        try:
            table = catalog.load_table(name)
        except NoSuchTableError:  # dropped meanwhile
            continue
        head = table.current_snapshot()
        summary = head.summary.additional_properties if head is not None and head.summary is not None else {}
        last = known.get(f"lh.{name}")
        yield TableHealth(
            name,
            int(summary.get("total-data-files", 0)),
            int(summary.get("total-delete-files", 0)),
            len(table.metadata.snapshots),
            len(table.io.new_input(table.metadata_location)),
            None if last is None else last.small_files,
            None if last is None or not last.rewritten_ms else datetime.fromtimestamp(last.rewritten_ms / 1000, UTC),
        )


def _maintained(catalog: Catalog) -> dict[str, Maintained]:
    try:
        table: Table = catalog.load_table(TABLE)
    except NoSuchTableError:
        return {}
    for snapshot in ancestors(table):
        text = snapshot.summary.additional_properties.get(MAINTAINED_PROPERTY) if snapshot.summary else None
        if text is not None:
            return maintained_of(text)
    return {}
