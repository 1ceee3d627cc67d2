"""Is a checkpoint whole, and the query's own? Examined before a query starts, since Spark silently starts from scratch or skips data.

A checkpoint is a folder, local or on HDFS: `metadata`, `offsets/N` written before micro-batch N, `commits/N` after it. Beside them
weir keeps `weir-query.json`: the query's name, the ids of its topics, and the names of its inputs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse.storage.folders import Folder
from lakehouse.tables import stream_positions
from lakehouse.tables.stream_positions import NO_OFFSET
from lakehouse.write.fenced_append import TopicRecreated
from streaming.errors import BadCheckpoint

IDENTITY = "weir-query.json"
# Spark removes files older than the last hundred in no particular order. A kill while it does leaves gaps, but none among these.
RECENT = 50
# Where Iceberg's source keeps the offset that a query began with, and `StreamingOffset.START_OFFSET` as it writes it.
FIRST_SNAPSHOT = "sources/{number}/offsets/0"
OLDEST = '{"version":1,"snapshot_id":-1,"position":-1,"scan_all_files":false}'


@dataclass(frozen=True, slots=True)
class Position:
    """Where a checkpoint stands, as its source writes offsets: `start` of the next micro-batch, `planned` end of that micro-batch.

    Both are empty in a new checkpoint, and in one of a query that reads tables.
    """

    is_new: bool
    start: str = ""
    planned: str = ""
    topic_ids: Mapping[str, str] = field(default_factory=dict)


def kafka_offsets(text: str, topic: str) -> dict[int, int]:
    """Read the offsets of one topic of a Kafka source; empty for none."""
    return {partition: offset for (name, partition), offset in _by_topic(text).items() if name == topic}


def _by_topic(text: str) -> dict[tuple[str, int], int]:
    held: dict[str, dict[str, int]] = json.loads(text) if text else {}
    return {(topic, int(partition)): int(offset) for topic, partitions in held.items() for partition, offset in partitions.items()}


def other_inputs(folder: Folder, query: str, inputs: Sequence[str]) -> list[str]:
    """Return the inputs that a checkpoint's query had, if they differ from those it has now; empty if they are the same or unknown.

    Spark stores offsets by the position of an input, so a query with other inputs cannot use them. A checkpoint of another query is not
    handled here: `examine` refuses it.
    """
    identity = _identity(folder.text(IDENTITY))
    held = identity.get("inputs") if identity.get("query") == query else None
    return list(held) if isinstance(held, list) and held != list(inputs) else []


def examine(folder: Folder, query: str, domain: str, is_kafka: bool, inputs: int = 1) -> Position:
    """Check that a checkpoint is this query's own, and whole.

    Args:
        folder: the checkpoint.
        query: whose it should be.
        domain: for the error's text.
        is_kafka: whether its source is Kafka; else it reads Iceberg tables.
        inputs: how many tables; Kafka's source is one, whatever the number of topics.

    Raises:
        BadCheckpoint: it is not. Nothing was changed.
    """

    def refuse(found: str, expected: str) -> BadCheckpoint:
        return BadCheckpoint(query, folder.uri, found, expected, domain)

    identity = _identity(folder.text(IDENTITY))
    owner = identity.get("query", query)
    if owner != query:
        raise refuse(f"{IDENTITY} of query {owner}", f"one of {query}")
    top = set(folder.names())
    offsets, commits = _numbers(folder.names("offsets")), _numbers(folder.names("commits"))
    if "metadata" not in top:
        if offsets or commits:
            raise refuse(f"no file metadata beside {len(offsets)} offsets", "the file that names the query's id")
        return Position(True, topic_ids=identity.get("topic_ids", {}))
    if not _is_object(folder.text("metadata")):
        raise refuse("a file metadata that is empty or cut", "JSON with the query's id")
    for name, numbers in (("offsets", offsets), ("commits", commits)):
        recent = numbers[-RECENT:]
        missing = sorted(set(range(recent[0], recent[-1] + 1)) - set(recent)) if recent else []
        if missing:
            raise refuse(f"no {name}/{missing[0]} between {recent[0]} and {recent[-1]}", "one file for every micro-batch")
    if commits and (not offsets or commits[-1] > offsets[-1]):
        raise refuse(
            f"commits/{commits[-1]} but no later offsets than {offsets[-1] if offsets else 'none'}", "no commit without its offsets"
        )
    if offsets and offsets[-1] > (commits[-1] if commits else -1) + 1:
        raise refuse(
            f"offsets/{offsets[-1]} but no later commit than {commits[-1] if commits else 'none'}",
            "at most one micro-batch that is not committed",
        )
    read = {number: _source_offsets(folder.text(f"offsets/{number}"), inputs) for number in offsets[-2:]}
    for number, texts in read.items():
        if texts is None:
            raise refuse(f"offsets/{number} that is empty, cut or no JSON", "the offsets as Spark wrote them")
        if not all(_is_of(text, is_kafka) for text in texts):
            raise refuse(
                f"offsets/{number} of another kind of source", "offsets of Kafka" if is_kafka else "a snapshot of an Iceberg table"
            )
    ids = identity.get("topic_ids", {})
    if not offsets:
        return Position(True, topic_ids=ids)
    if not is_kafka:
        return Position(False, topic_ids=ids)
    planned = _one(read[offsets[-1]])
    if commits and commits[-1] == offsets[-1]:
        start = planned
    elif offsets[-1] - 1 in read:
        start = _one(read[offsets[-1] - 1])
    else:  # the very first micro-batch: its start is in the source's file
        start = _first_offset(folder.text("sources/0/0"))
    return Position(False, start, planned, ids)


def planned_ends(folder: Folder, batch_id: int) -> dict[tuple[str, int], int] | None:
    """Read the planned end offsets of a Kafka micro-batch, by topic and partition; None where the file cannot be read."""
    texts = _source_offsets(folder.text(f"offsets/{batch_id}"), 1)
    return _by_topic(texts[0]) if texts is not None and _is_of(texts[0], is_kafka=True) else None


def planned_positions(
    folder: Folder, batch_id: int, inputs: int
) -> list[tuple[stream_positions.Position, stream_positions.Position]] | None:
    """Read from which position to which a micro-batch reads each of its Iceberg tables; None where that is not known."""
    before: Sequence[str | None] | None
    if batch_id == 0:
        before = [folder.text(FIRST_SNAPSHOT.format(number=number)) for number in range(inputs)]
    else:
        before = _source_offsets(folder.text(f"offsets/{batch_id - 1}"), inputs)
    after = _source_offsets(folder.text(f"offsets/{batch_id}"), inputs)
    if before is None or after is None:
        return None
    found = []
    for texts in zip(before, after, strict=True):
        start, end = map(_place, texts)
        if start is None or end is None:
            return None
        found.append((start, end))
    return found


def _place(text: str | None) -> stream_positions.Position | None:
    """Read an offset of Iceberg's source."""
    held: dict[str, Any] = {} if text is None or text == NO_OFFSET else json.loads(text)
    if not {"snapshot_id", "position"} <= held.keys() or held.get("scan_all_files"):
        return None
    return stream_positions.Position(int(held["snapshot_id"]), int(held["position"]))


def tidy(folder: Folder) -> list[str]:
    """Remove a leftover checksum of the next file to be written, and return its name.

    Deleting `commits/7` alone leaves `commits/.7.crc`. Spark then repeats the micro-batch, as it should, but cannot write the commit, and
    at every start reports that a second query uses this checkpoint.
    """
    following = {sub: (_numbers(folder.names(sub)) or [-1])[-1] + 1 for sub in ("offsets", "commits")}
    return [name for sub, number in following.items() if folder.remove(name := f"{sub}/.{number}.crc")]


def forget_start(folder: Folder, inputs: int = 1) -> None:
    """Make a query that reads tables start at each table's oldest snapshot, not at the one that was oldest when it first started.

    With `availableNow`, Iceberg's source loads that first snapshot at every start, however far the query has come, and fails once
    maintenance has expired it. The offset written here is Iceberg's own value for "the oldest there is".
    """
    for number in range(inputs):
        name = FIRST_SNAPSHOT.format(number=number)
        if folder.text(name) not in (None, OLDEST):
            folder.write(name, OLDEST)


def claim(folder: Folder, query: str, topic_ids: Mapping[str, str], inputs: Sequence[str] = ()) -> None:
    """Write into a checkpoint which query it belongs to and what it reads, unless it says so already.

    Args:
        folder: the checkpoint.
        query: the query's name.
        topic_ids: of the topics it reads, by name.
        inputs: the names of the tables or topics that it reads, in order.
    """
    held = _identity(folder.text(IDENTITY))
    wanted = {"query": query, "topic_ids": {**held.get("topic_ids", {}), **topic_ids}, "inputs": list(inputs)}
    if held != wanted:
        folder.write(IDENTITY, json.dumps(wanted))


def check_topics(position: Position, topic_ids: Mapping[str, str], uri: str) -> None:
    """Raise TopicRecreated when the checkpoint's offsets are those of another topic of the same name."""
    for topic, expected in position.topic_ids.items():
        if topic in topic_ids and topic_ids[topic] != expected:
            raise TopicRecreated(f"the checkpoint {uri}", topic, topic_ids[topic], expected)


def _identity(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:  # cut while it was first written, before the query began
        return {}
    return found if isinstance(found, dict) else {}


def _is_object(text: str | None) -> bool:
    try:
        return isinstance(json.loads(text or ""), dict)
    except ValueError:
        return False


def _numbers(names: list[str]) -> list[int]:
    return sorted(int(name) for name in names if name.isdigit())


def _source_offsets(text: str | None, inputs: int) -> list[str] | None:
    """Return the offset of each input: the lines after version and metadata. None when one is not whole, or their number differs."""
    lines = (text or "").strip().splitlines()
    if len(lines) != 2 + inputs or not lines[0].startswith("v") or not _is_object(lines[1]):
        return None
    return lines[2:] if all(line == NO_OFFSET or _is_object(line) for line in lines[2:]) else None


def _one(texts: list[str] | None) -> str:
    return texts[0] if texts and texts[0] != NO_OFFSET else ""


def _is_of(text: str, is_kafka: bool) -> bool:
    return text == NO_OFFSET or ("snapshot_id" in json.loads(text)) != is_kafka


def _first_offset(text: str | None) -> str:
    last = (text or "").strip().splitlines()[-1:]
    # Kafka's source writes "v1" and JSON, the first with a leading zero byte.
    found = last[0].lstrip("\0") if last else ""
    return found if _is_object(found) else ""
