"""What has the bronze query just appended? Its rows, for the refine query of the same driver, which need not read them from the files.

The refine query asks by Iceberg's positions of its micro-batch. It gets rows only where every commit between them is known here, whole and
in a chain of parents; in any other case it reads the table, as after a start, after another writer's commit, or when there were too many.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from lakehouse.tables.stream_positions import Position

# A backlog is read from the files of its commits: its rows would take much memory until they are asked for.
MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Appended:
    """One commit to a bronze table.

    Attributes:
        table: its name.
        snapshot: the id of its snapshot.
        parent: that of the snapshot before it; None for the table's first.
        files: how many data files it added.
        rows: all rows of these files, with the table's columns.
    """

    table: str
    snapshot: int
    parent: int | None
    files: int
    rows: pa.Table


class HandOver:
    """Rows of the last commits, until they are taken. Thread-safe.

    Attributes:
        after_put: called after each commit.

    Args:
        most_bytes: beyond this the oldest commits are forgotten.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.after_put: Callable[[], None] = lambda: None
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, int], Appended] = OrderedDict()

    def put(self, one: Appended) -> None:
        """Keep a commit."""
        with self._lock:
            self._known[one.table, one.snapshot] = one
            held = sum(each.rows.nbytes for each in self._known.values())
            while held > self._most_bytes:
                held -= self._known.popitem(last=False)[1].rows.nbytes
        self.after_put()

    def take(self, table: str, start: Position, end: Position) -> pa.Table | None:
        """Return the rows between two positions, and forget them; None where the table must be read."""
        with self._lock:
            first, last = self._known.get((table, start.snapshot_id)), self._known.get((table, end.snapshot_id))
            if first is None or last is None or first.files != start.files or last.files != end.files:
                return None
            between = []
            while last.snapshot != first.snapshot:
                between.append(last)
                before = None if last.parent is None else self._known.get((table, last.parent))
                if before is None:
                    return None
                last = before
            for one in [first, *between]:
                del self._known[table, one.snapshot]
            # The next micro-batch begins here.
            end_of_this = between[0] if between else first
            self._known[table, end.snapshot_id] = replace(end_of_this, rows=end_of_this.rows.slice(0, 0))
            return pa.concat_tables([one.rows for one in reversed(between)]) if between else first.rows.slice(0, 0)
