"""How far has a query got that reads a table as a stream? The snapshot that its last committed micro-batch ended with."""

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """A snapshot of the table that is read, and how many of the files that it added are committed."""

    snapshot_id: int
    files: int


def committed_position(commits: list[str], text: Callable[[str], str | None]) -> Position | None:
    """Read the position from a checkpoint; None before the first commit.

    Args:
        commits: the names in its folder `commits`.
        text: reads one of its files by name.

    Raises:
        ValueError: it holds an offset that this version cannot read.
    """
    committed = [int(name) for name in commits if name.isdigit()]
    if not committed:
        return None
    name = f"offsets/{max(committed)}"
    try:
        offset = json.loads((text(name) or "").splitlines()[-1])
        found = Position(int(offset["snapshot_id"]), int(offset["position"]))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{name} is no offset of an Iceberg table ({error})") from error
    return None if found.snapshot_id < 0 else found  # it began before the table's first snapshot, and found nothing
