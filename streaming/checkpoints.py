"""Is a checkpoint the one its query wrote, and whole? Read before a query starts: Spark itself begins anew, or skips, in silence.

A checkpoint is a folder, local or on HDFS: `metadata`, `offsets/N` written before micro-batch N, `commits/N` after it. Beside them
weir keeps `weir-query.json`: the query's name, the ids of the topics it reads, and the names of all that it reads.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse.storage.folders import Folder
from lakehouse.tables.stream_positions import NO_OFFSET
from lakehouse.write.fenced_append import TopicRecreated
from streaming.errors import BadCheckpoint

IDENTITY = "weir-query.json"
# Spark removes files older than the last hundred, in no order: a kill within that leaves gaps, but none among these.
RECENT = 50
# Where Iceberg's source keeps the offset that a query began with, and `StreamingOffset.START_OFFSET` as it writes it.
FIRST_SNAPSHOT = "sources/{number}/offsets/0"
OLDEST = '{"version":1,"snapshot_id":-1,"position":-1,"scan_all_files":false}'


@dataclass(frozen=True, slots=True)
class Position:
    """Where a checkpoint stands, as texts of its source: `start` of the next micro-batch to run, `planned` where that one is to end.

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
    """Give what a checkpoint's query read, where that is something else than it reads now; empty where it is the same, or not known.

    Spark keeps offsets by the number of an input, so a query that reads one more cannot go on with them. A checkpoint of another query is
    no matter of its inputs: `examine` refuses it.
    """
    identity = _identity(folder.text(IDENTITY))
    held = identity.get("inputs") if identity.get("query") == query else None
    return list(held) if isinstance(held, list) and held != list(inputs) else []


def examine(folder: Folder, query: str, domain: str, is_kafka: bool, inputs: int = 1) -> Position:
    """See that a checkpoint is this query's and whole.

    Args:
        folder: the checkpoint.
        query: whose it should be.
        domain: named in the way out.
        is_kafka: whether its source is Kafka; else it reads Iceberg tables.
        inputs: how many tables; Kafka's source is one, whatever the number of topics.

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
    else:  # the first micro-batch of all: its beginning stands with the source
        start = _first_offset(folder.text("sources/0/0"))
    return Position(False, start, planned, ids)


def planned_ends(folder: Folder, batch_id: int) -> dict[tuple[str, int], int] | None:
    """Read where a micro-batch of a Kafka source is to end, by topic and partition; None where its file cannot be read."""
    texts = _source_offsets(folder.text(f"offsets/{batch_id}"), 1)
    return _by_topic(texts[0]) if texts is not None and _is_of(texts[0], is_kafka=True) else None


def tidy(folder: Folder) -> list[str]:
    """Remove the checksum of the next file to be written where one was left behind, and name it.

    Whoever takes away `commits/7` alone leaves `commits/.7.crc`. Spark repeats the micro-batch, as it should, finds that it
    cannot write its commit, and reports a second query on this checkpoint, at every start.
    """
    following = {sub: (_numbers(folder.names(sub)) or [-1])[-1] + 1 for sub in ("offsets", "commits")}
    return [name for sub, number in following.items() if folder.remove(name := f"{sub}/.{number}.crc")]


def forget_start(folder: Folder, inputs: int = 1) -> None:
    """Let a query that reads tables begin where each table begins, not at a snapshot that was the first when it first started.

    Iceberg's source asks for that snapshot at every start with `availableNow`, wherever the query has got to, and fails once
    maintenance has expired it. Its own word for "the oldest there is" is the offset written here.
    """
    for number in range(inputs):
        name = FIRST_SNAPSHOT.format(number=number)
        if folder.text(name) not in (None, OLDEST):
            folder.write(name, OLDEST)


def claim(folder: Folder, query: str, topic_ids: Mapping[str, str], inputs: Sequence[str] = ()) -> None:
    """Note in a checkpoint whose it is and what it reads; written once, or when it lacks what is known now.

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
    """The offset of each input: the lines after version and metadata; null when one of them is not whole, or there are more or fewer."""
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
