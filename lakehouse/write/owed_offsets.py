"""Which offsets has a query passed that its table does not tell yet? A note beside the checkpoint, for offsets without a message.

Micro-batches of control records alone bring no row, and a commit for each would be one a second. So the table's mark follows a
minute later at the most, and what it lacks meanwhile stands here, with the snapshot whose mark it goes on from: in a table that
was set back since, the note means nothing.
"""

import json

from lakehouse.broker.offset_types import PartitionOffsets
from lakehouse.storage.folders import Folder

FILE = "weir-owed.json"


def read_owed(folder: Folder, snapshot_id: int, file: str = FILE) -> dict[tuple[str, int], int]:
    """Read what goes on from a snapshot's mark; empty where nothing does.

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
    except (ValueError, KeyError, TypeError, AttributeError):  # cut while it was written: the mark stays behind, as before
        return {}


def write_owed(folder: Folder, snapshot_id: int, owed: PartitionOffsets, file: str = FILE) -> None:
    """Note it."""
    following: dict[str, dict[str, int]] = {}
    for (topic, partition), end in sorted(owed.items()):
        following.setdefault(topic, {})[str(partition)] = end
    folder.write(file, json.dumps({"after": snapshot_id, "next": following}))
