"""How far has a query got that reads tables as streams? The snapshot of each that its last committed micro-batch ended with."""

import json
from collections.abc import Callable
from dataclasses import dataclass

# Spark's sign for a source that had nothing yet.
NO_OFFSET = "-"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stream over a table stands: behind so many of the files that a snapshot added. A negative id is the table's beginning."""

    snapshot_id: int
    files: int


def committed_positions(commits: list[str], text: Callable[[str], str | None], tables: int = 1) -> list[Position | None]:
    """Read the position in each table from a checkpoint; None before the first commit, and where nothing of a table was read.

    Args:
        commits: the names in its folder `commits`.
        text: reads one of its files by name.
        tables: how many tables the query reads.

    Raises:
        ValueError: it holds an offset that this version cannot read, or those of another number of tables.
    """
    committed = [int(name) for name in commits if name.isdigit()]
    if not committed:
        return [None] * tables
    name = f"offsets/{max(committed)}"
    # A version, metadata, and a line for each table.
    lines = (text(name) or "").splitlines()[2:]
    if len(lines) != tables:
        raise ValueError(f"{name} has offsets of {len(lines)} tables, expected {tables}")
    return [None if line == NO_OFFSET else _position(name, line) for line in lines]


def _position(name: str, line: str) -> Position | None:
    try:
        offset = json.loads(line)
        found = Position(int(offset["snapshot_id"]), int(offset["position"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{name} holds no offset of an Iceberg table ({error})") from error
    return None if found.snapshot_id < 0 else found  # it began before the table's first snapshot, and found nothing
