"""Which facts must survive the expiry of the snapshots that hold them? They are kept as notes in the properties of the table.

Maintenance writes the notes before it expires snapshots. Code that searches a table's snapshots for one of these facts reads the note too.
"""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime

from lakehouse.broker.offset_types import PartitionOffsets
from lakehouse.tables.properties import APPLIED_PROPERTY, CHANGED_PROPERTY, SINCE_PROPERTY


def applied_of(properties: Mapping[str, str]) -> dict[tuple[str, int], int]:
    """Read silver's note of what was applied; empty without one."""
    held: Mapping[str, Mapping[str, int]] = json.loads(properties.get(APPLIED_PROPERTY, "{}"))
    return {(topic, int(partition)): int(last) for topic, partitions in held.items() for partition, last in partitions.items()}


def applied_note(applied: PartitionOffsets) -> str:
    """Write offsets as silver's note, and a proof, have them."""
    topics = sorted({topic for topic, _ in applied})
    return json.dumps({t: {str(p): last for (of, p), last in sorted(applied.items()) if of == t} for t in topics})


def add_applied(known: dict[tuple[str, int], int], said: str | None, topic: str) -> None:
    """Add what one snapshot says (`weir.offset-range`) of a topic to what is known; the greater offset counts."""
    for partition, (_, last) in json.loads(said or "{}").get(topic, {}).items():
        place = (topic, int(partition))
        known[place] = max(known.get(place, -1), last)


def changed_of(properties: Mapping[str, str]) -> datetime | None:
    """Read when a table's rows were last changed by a snapshot that is gone; None without a note."""
    millis = properties.get(CHANGED_PROPERTY)
    return None if millis is None else datetime.fromtimestamp(int(millis) / 1000, UTC)


def whole_since(properties: Mapping[str, str]) -> date | None:
    """Read from which UTC day of arrival on bronze is whole; None where nothing was dropped."""
    day = properties.get(SINCE_PROPERTY)
    return None if day is None else date.fromisoformat(day)
