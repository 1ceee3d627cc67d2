"""Is a checkpoint the one its query wrote, and whole? Read before a query starts: Spark itself begins anew, or skips, in silence.

A checkpoint is a folder, local or on HDFS: `metadata`, `offsets/N` written before micro-batch N, `commits/N` after it. Beside them
weir keeps `weir-query.json`: the query's name and the ids of the topics it reads.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lakehouse.folders import Folder
from lakehouse.sinks.fenced_append import TopicRecreated
from streaming.errors import BadCheckpoint

IDENTITY = "weir-query.json"
# Spark removes files older than the last hundred, in no order: a kill within that leaves gaps, but none among these.
RECENT = 50
Offsets = Mapping[str, Mapping[int, int]]
# Where Iceberg's source keeps the offset that a query began with, and `StreamingOffset.START_OFFSET` as it writes it.
FIRST_SNAPSHOT = "sources/0/offsets/0"
OLDEST = '{"version":1,"snapshot_id":-1,"position":-1,"scan_all_files":false}'


@dataclass(frozen=True, slots=True)
class Position:
    """Where a checkpoint stands, as texts of its source: `start` of the next micro-batch to run, `planned` where that one is to end.

    Both are empty in a new checkpoint.
    """

    is_new: bool
    start: str = ""
    planned: str = ""
    topic_ids: Mapping[str, str] = field(default_factory=dict)


def kafka_offsets(text: str) -> dict[int, int]:
    """Read the offsets of the one topic of a Kafka source; empty for none."""
    return {partition: offset for (_, partition), offset in _by_topic(text).items()}


def _by_topic(text: str) -> dict[tuple[str, int], int]:
    held: dict[str, dict[str, int]] = json.loads(text) if text else {}
    return {(topic, int(partition)): int(offset) for topic, partitions in held.items() for partition, offset in partitions.items()}


def examine(folder: Folder, query: str, domain: str, is_kafka: bool) -> Position:
    """See that a checkpoint is this query's and whole.

    Args:
        folder: the checkpoint.
        query: whose it should be.
        domain: named in the way out.
        is_kafka: whether its source is Kafka; else it is an Iceberg table.

    Raises:
        BadCheckpoint: it is not; nothing was changed.
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
    read = {number: _source_offset(folder.text(f"offsets/{number}")) for number in offsets[-2:]}
    for number, text in read.items():
        if text is None:
            raise refuse(f"offsets/{number} that is empty, cut or no JSON", "the offsets as Spark wrote them")
        if not _is_of(text, is_kafka):
            raise refuse(
                f"offsets/{number} of another kind of source", "offsets of Kafka" if is_kafka else "a snapshot of an Iceberg table"
            )
    if not offsets:
        return Position(True, topic_ids=identity.get("topic_ids", {}))
    planned = read[offsets[-1]] or ""
    if commits and commits[-1] == offsets[-1]:
        start = planned
    elif offsets[-1] - 1 in read:
        start = read[offsets[-1] - 1] or ""
    else:  # the first micro-batch of all: its beginning stands with the source
        start = _first_offset(folder.text("sources/0/0"))
    return Position(False, start, planned, identity.get("topic_ids", {}))


def planned_ends(folder: Folder, batch_id: int) -> dict[tuple[str, int], int] | None:
    """Read where a micro-batch of a Kafka source is to end, by topic and partition; None where its file cannot be read."""
    text = _source_offset(folder.text(f"offsets/{batch_id}"))
    return _by_topic(text) if text is not None and _is_of(text, is_kafka=True) else None


def tidy(folder: Folder) -> list[str]:
    """Remove the checksum of the next file to be written where one was left behind, and name it.

    Whoever takes away `commits/7` alone leaves `commits/.7.crc`. Spark repeats the micro-batch, as it should, finds that it
    cannot write its commit, and reports a second query on this checkpoint, at every start.
    """
    following = {sub: (_numbers(folder.names(sub)) or [-1])[-1] + 1 for sub in ("offsets", "commits")}
    return [name for sub, number in following.items() if folder.remove(name := f"{sub}/.{number}.crc")]


def forget_start(folder: Folder) -> None:
    """Let a query that reads a table begin where the table begins, not at a snapshot that was the first when it first started.

    Iceberg's source asks for that snapshot at every start with `availableNow`, wherever the query has got to, and fails once
    maintenance has expired it. Its own word for "the oldest there is" is the offset written here.
    """
    if folder.text(FIRST_SNAPSHOT) not in (None, OLDEST):
        folder.write(FIRST_SNAPSHOT, OLDEST)


def claim(folder: Folder, query: str, topic_ids: Mapping[str, str]) -> None:
    """Note in a checkpoint whose it is and which topics it reads; written once, or when it lacks what is known now."""
    held = _identity(folder.text(IDENTITY))
    wanted = {"query": query, "topic_ids": {**held.get("topic_ids", {}), **topic_ids}}
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


def _source_offset(text: str | None) -> str | None:
    """The offset of the one source: the last line after version and metadata; null when any of the three is not whole."""
    lines = (text or "").strip().splitlines()
    if len(lines) != 3 or not lines[0].startswith("v") or not _is_object(lines[1]) or not _is_object(lines[2]):
        return None
    return lines[2]


def _is_of(text: str, is_kafka: bool) -> bool:
    return ("snapshot_id" in json.loads(text)) != is_kafka


def _first_offset(text: str | None) -> str:
    last = (text or "").strip().splitlines()[-1:]
    # Kafka's source writes "v1" and JSON, the first with a leading zero byte.
    found = last[0].lstrip("\0") if last else ""
    return found if _is_object(found) else ""
