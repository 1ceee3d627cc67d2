"""Tables and snapshots for the tests of maintenance, without Spark."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from batch.table_state import Snapshot, TableState

NOW = datetime(2026, 3, 2, 5, 30, tzinfo=UTC)


def table(*snapshots: Snapshot, refs: Mapping[str, int] | None = None, name: str = "lh.bronze.x") -> TableState:
    """A table whose head is the last of these."""
    held = {one.id: one for one in snapshots}
    return TableState(name, "file:/x", snapshots[-1].id, held, refs or {}, frozenset(), {}, (), 1000 * len(held))


def chain(*hours_ago: float, operation: str = "append", **said: str) -> list[Snapshot]:
    """Snapshots one after the other, numbered from 1, committed so many hours ago."""
    return [
        Snapshot(n, n - 1 or None, round((NOW - timedelta(hours=ago)).timestamp() * 1000), operation, {"added-data-files": "2", **said})
        for n, ago in enumerate(hours_ago, 1)
    ]
