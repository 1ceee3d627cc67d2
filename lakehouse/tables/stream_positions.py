"""How far has a query got that reads tables as streams? The snapshot of each that its last committed micro-batch ended with.

Where the breaker holds a source back (`streaming/held_back.py`), its table's position is where the first of the held rows begins.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# Spark's sign for a source that had nothing yet.
NO_OFFSET = "-"
# A checkpoint's file that says which inputs of its query are held back: {input's number: {"start": offset as Spark wrote it, ...}}.
HELD_BACK = "weir-held-back.json"


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
    # Read before the offsets: when it is removed, offsets from its positions on are committed.
    held = read_held_back(text(HELD_BACK))
    committed = [int(name) for name in commits if name.isdigit()]
    if not committed:
        return [None] * tables
    name = f"offsets/{max(committed)}"
    # A version, metadata, and a line for each table.
    lines = (text(name) or "").splitlines()[2:]
    if len(lines) != tables:
        raise ValueError(f"{name} has offsets of {len(lines)} tables, expected {tables}")
    lines = [held[number]["start"] if number in held else line for number, line in enumerate(lines)]
    return [None if line == NO_OFFSET else _position(name, line) for line in lines]


def read_held_back(text: str | None) -> dict[int, Mapping[str, Any]]:
    """Read the file `HELD_BACK`: by the number of an input, what is noted of it; empty where there is no file.

    Raises:
        ValueError: it is not as weir wrote it.
    """
    try:
        held: dict[int, Mapping[str, Any]] = {int(number): dict(noted) for number, noted in json.loads(text or "{}").items()}
        if not all(isinstance(noted["start"], str) for noted in held.values()):
            raise TypeError("a start that is no text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{HELD_BACK} is not as weir writes it ({error})") from error
    return held


def _position(name: str, line: str) -> Position | None:
    try:
        offset = json.loads(line)
        found = Position(int(offset["snapshot_id"]), int(offset["position"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{name} holds no offset of an Iceberg table ({error})") from error
    return None if found.snapshot_id < 0 else found  # it began before the table's first snapshot, and found nothing
