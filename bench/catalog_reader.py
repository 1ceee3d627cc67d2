"""What does somebody else see? The tables as a program beside the pipeline finds them, by PyIceberg, from SQLite's catalog."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from pyiceberg.manifest import ManifestEntryStatus
from pyiceberg.table import StaticTable, Table
from pyiceberg.table.snapshots import Snapshot

OFFSETS = "weir.offset-range"


@dataclass(frozen=True, slots=True)
class Seen:
    """One snapshot as it was found. `at` is seconds since 1970; `records` is what the snapshot says the table holds."""

    at: float
    snapshot_id: int
    records: int


class CatalogReader:
    """Looks tables up in a catalog's file. Asking for the newest metadata costs a query of SQLite; only a new one is opened."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._opened: dict[str, tuple[str, Table]] = {}

    def table(self, name: str) -> Table | None:
        """Open the table `namespace.name` as it stands; null where there is none yet."""
        location = self._location(name)
        if location is None:
            return None
        held = self._opened.get(name)
        if held is None or held[0] != location:
            held = self._opened[name] = (location, StaticTable.from_metadata(location))
        return held[1]

    def snapshot(self, name: str) -> Snapshot | None:
        """Give a table's current snapshot; null where nothing was committed."""
        table = self.table(name)
        return None if table is None else table.current_snapshot()

    def records(self, name: str) -> int:
        """Count a table's rows, as its snapshot says."""
        return total(self.snapshot(name), "total-records")

    def covers(self, name: str, ends: dict[int, int]) -> bool:
        """Say whether micro-batches up to the end of every partition have been committed to a table."""
        table = self.table(name)
        if table is None:
            return False
        reached: dict[int, int] = {}
        for snapshot in table.snapshots():
            for partition, (_, last) in offset_ranges(snapshot).items():
                reached[partition] = max(last, reached.get(partition, -1))
        return all(reached.get(partition, -1) >= end - 1 for partition, end in ends.items() if end)

    def _location(self, name: str) -> str | None:
        namespace, _, noun = name.partition(".")
        if not self._file.exists():
            return None
        query = "SELECT metadata_location FROM iceberg_tables WHERE table_namespace = ? AND table_name = ?"
        connection = sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=30)
        try:
            row = connection.execute(query, (namespace, noun)).fetchone()
        except sqlite3.OperationalError:  # the file is there, its tables not yet
            return None
        finally:
            connection.close()
        return None if row is None else str(row[0])


def total(snapshot: Snapshot | None, what: str) -> int:
    """Read a number of a snapshot's summary, such as total-records; 0 where there is none."""
    if snapshot is None or snapshot.summary is None:
        return 0
    return int(snapshot.summary.additional_properties.get(what, 0))


def offset_ranges(snapshot: Snapshot) -> dict[int, tuple[int, int]]:
    """Read which offsets the micro-batch of a snapshot held: first and last by partition. Only one topic is expected."""
    held = "{}" if snapshot.summary is None else snapshot.summary.additional_properties.get(OFFSETS, "{}")
    return {int(p): (first, last) for partitions in json.loads(held).values() for p, (first, last) in partitions.items()}


def added_files(table: Table, snapshot: Snapshot) -> list[str]:
    """Name the data files that a snapshot added: what a MERGE inserted or wrote anew stands in them."""
    return [
        entry.data_file.file_path.removeprefix("file://").removeprefix("file:")
        for manifest in snapshot.manifests(table.io)
        if manifest.added_snapshot_id == snapshot.snapshot_id and int(manifest.content) == 0
        for entry in manifest.fetch_manifest_entry(table.io)
        if entry.status == ManifestEntryStatus.ADDED
    ]


def data_bytes(reader: CatalogReader, name: str) -> tuple[int, int]:
    """Give the size of a table's data files in bytes, and the number of its columns."""
    table = reader.table(name)
    if table is None:
        return 0, 0
    return total(table.current_snapshot(), "total-files-size"), len(table.schema().columns)
