"""Which fields do messages hold that the contract does not know? They stay in the message's bytes, are counted, and named.

An unknown field means a producer of a newer version, or one with a mistake; it stops nothing. The names are found where rows are judged
(`apply`), not where they are appended: bronze's pass over Kafka for the next offsets parses no message, and reading the keys there doubled
its cost. The counts are kept in a file of the state folder, so that `weir status` can show them when the stream is down.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from lakehouse.broker.offset_types import OffsetRanges
from lakehouse.contract import Contract
from lakehouse.storage.folders import Folder
from lakehouse.tables.schema import quote

UNKNOWN = "_unknown"
# Names come from messages and could be any number: this many are counted separately, the rest together.
MOST_NAMES, OTHER, LONGEST_NAME = 20, "other", 64

log = structlog.get_logger("weir.stream")


def unknown_names(contract: Contract) -> str:
    """Return the SQL of the names, over bronze's `value`: an array, empty mostly; null where the message is no JSON object.

    Always empty for Avro: a message has the fields of its version and no others, and an unknown version is rejected.
    """
    if contract.codec != "json":
        return "CAST(array() AS ARRAY<STRING>)"
    known = ", ".join(quote(name) for name in contract.names)
    found = f"slice(array_except(json_object_keys(CAST(value AS STRING)), array({known})), 1, {MOST_NAMES})"
    return f"transform({found}, name -> left(name, {LONGEST_NAME}))"


@dataclass(frozen=True, slots=True)
class Seen:
    """One unknown field: in how many messages, and when a message with it was first and last applied (ISO 8601, UTC)."""

    messages: int
    first_seen: str
    last_seen: str


@dataclass(slots=True)
class _Held:
    fields: dict[str, Seen] = field(default_factory=dict)
    # The last offset that was looked at, by topic and partition: a micro-batch that is repeated is not counted again.
    counted: dict[str, dict[str, int]] = field(default_factory=dict)


class UnknownFields:
    """What a domain's driver has counted, over its lives.

    Args:
        folder: the state folder.
        name: of the file there that keeps it.
        contract: the contract as it is now; what it has come to know is dropped.
        clock: the moment, UTC.
    """

    def __init__(self, folder: Folder, name: str, contract: Contract, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder, self._name, self._clock = folder, name, clock
        self._held = _read(folder, name)
        if known := self._held.fields.keys() & set(contract.names):
            for name in known:
                del self._held.fields[name]
            self._write()

    def note(self, counts: Mapping[str, int], offsets: OffsetRanges) -> dict[str, int]:
        """Add the unknown fields of a micro-batch; give what was counted, by at most twenty names and `other`.

        Args:
            counts: messages by name.
            offsets: first and last offset of the micro-batch, by topic and partition.
        """
        if not counts or not self._is_new(offsets):
            return {}
        now = self._clock().isoformat(timespec="seconds").replace("+00:00", "Z")
        counted: Counter[str] = Counter()
        for name, messages in counts.items():
            fields = self._held.fields
            one = name if name in fields or len(fields.keys() - {OTHER}) < MOST_NAMES else OTHER
            before = fields.get(one, Seen(0, now, now))
            fields[one] = Seen(before.messages + messages, before.first_seen, now)
            counted[one] += messages
            if not before.messages:
                log.warning("unknown field", named=repr(one))  # a message made it up
        for topic, partitions in offsets.items():
            of_topic = self._held.counted.setdefault(topic, {})
            for partition, (_, last) in partitions.items():
                of_topic[partition] = max(last, of_topic.get(partition, -1))
        self._write()
        return dict(counted)

    def _is_new(self, offsets: OffsetRanges) -> bool:
        counted = self._held.counted
        return not offsets or any(
            last > counted.get(topic, {}).get(partition, -1)
            for topic, partitions in offsets.items()
            for partition, (_, last) in partitions.items()
        )

    def _write(self) -> None:
        try:
            self._folder.write(self._name, json.dumps(asdict(self._held), ensure_ascii=False))
        except OSError as error:  # a full disk must not fail a micro-batch for a count
            log.warning("unknown fields not written", error=str(error))


def unknown_fields_file(domain: str, source: str = "") -> str:
    """Name the file of one domain, or of one of its sources where it has several."""
    return f"{domain}{f'.{source}' if source else ''}.unknown-fields.json"


def read_unknown_fields(folder: Folder, name: str) -> dict[str, Seen]:
    """Read what was counted, by name; empty where nothing was."""
    return _read(folder, name).fields


def _read(folder: Folder, name: str) -> _Held:
    try:
        held: dict[str, Any] = json.loads(folder.text(name) or "")
        return _Held({name: Seen(**one) for name, one in held["fields"].items()}, held["counted"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _Held()
