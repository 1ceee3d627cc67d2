"""Which offsets has a query passed that its table does not have in its mark yet? A note in the checkpoint, for offsets without a message.

Micro-batches of control records alone bring no rows, and committing each of them would mean a commit a second. So the table's mark follows
within a minute. Until then the pending offsets stand in this note, with the snapshot whose mark they follow: if the table was rolled back
since, the note is ignored.
"""

import json

from lakehouse.broker.offset_types import PartitionOffsets
from lakehouse.storage.folders import Folder

FILE = "weir-owed.json"


def read_pending(folder: Folder, snapshot_id: int, file: str = FILE) -> dict[tuple[str, int], int]:
    """Read the offsets that are pending after a snapshot's mark; empty where there are none.

    Args:
        folder: the checkpoint.
        snapshot_id: of the newest snapshot with a mark; 0 where there is none.
        file: the note's name; tables that share a checkpoint have one each.
    """
    try:
        held = json.loads(folder.text(file) or "{}")
        if held.get("after") != snapshot_id:
            return {}
        return {(topic, int(p)): int(end) for topic, partitions in held["next"].items() for p, end in partitions.items()}
    except (ValueError, KeyError, TypeError, AttributeError):  # cut off while it was written: the mark stays where it is
        return {}


def write_pending(folder: Folder, snapshot_id: int, pending: PartitionOffsets, file: str = FILE) -> None:
    """Write the note."""
    following: dict[str, dict[str, int]] = {}
    for (topic, partition), end in sorted(pending.items()):
        following.setdefault(topic, {})[str(partition)] = end
    folder.write(file, json.dumps({"after": snapshot_id, "next": following}))
