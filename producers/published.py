"""Which records does Kafka have already, and with which values?

A poll requests records that were published before, because the source revises them. The memory, HOME/state/<source>.published.db, holds
for each topic and key a digest of the values and the version of the newest message that Kafka reported as delivered, so that records that
are neither new nor changed are not sent again.

Losing all or part of it causes repeated messages but never loses a record:

- It is written after the delivery reports. A process that is killed before leaves the memory as it was.
- Records are marked as in doubt before they are sent: after a kill or a missing report it is unknown whether Kafka has the message. A
  record in doubt is sent again whatever its values. Otherwise, if a value changed and changed back, the correction would never be sent.
- Of two producers' messages the later version is remembered, in whatever order they write, as the later version wins in silver.
- It is kept by the topic's id: another topic, or another broker, has none of it.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import structlog

from lakehouse.contract import Contract, Value, to_millis
from producers.state_file import StateFile

Record = Mapping[str, Value]
# measured: published as a forecast, and its event time has passed since; silver distinguishes the two by the version, the time at which
# the source answered, and gold excludes forecasts.
# repeated: in doubt, see above.
Kind = Literal["new", "changed", "measured", "repeated", "unchanged"]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The memory's table. A file with other names or types is moved aside as lost, so a source's layout must never change.

    Attributes:
        table: its name.
        entity: the column with the entity.
        rest: the column with the other fields of the key.
        rest_type: INTEGER for the event time in milliseconds, TEXT for a JSON list of the fields.
        version: the column with the version; an instant in milliseconds.
    """

    table: str
    entity: str
    rest: str
    rest_type: str
    version: str

    @property
    def tables(self) -> dict[str, str]:
        # digest: of the values last reported as delivered; empty before the first report. The version is the newest message's.
        return {
            self.table: f"topic_id TEXT NOT NULL, {self.entity} TEXT NOT NULL, {self.rest} {self.rest_type} NOT NULL, "
            f"digest BLOB NOT NULL, {self.version} INTEGER NOT NULL, in_doubt INTEGER NOT NULL, "
            f"PRIMARY KEY (topic_id, {self.entity}, {self.rest})"
        }

    @property
    def known(self) -> str:
        return (
            f"SELECT {self.rest}, digest, {self.version}, in_doubt FROM {self.table} "
            f"WHERE topic_id = ? AND {self.entity} = ? AND {self.rest} BETWEEN ? AND ?"
        )

    @property
    def put_in_doubt(self) -> str:
        return (
            f"INSERT INTO {self.table} VALUES (?, ?, ?, x'', ?, 1) ON CONFLICT DO UPDATE SET "
            f"in_doubt = 1, {self.version} = max({self.version}, excluded.{self.version})"
        )

    @property
    def remember(self) -> str:
        # Of two different values with the same version, silver chooses by content, so the record stays in doubt.
        return (
            f"INSERT INTO {self.table} VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET "
            f"in_doubt = NOT (excluded.{self.version} > {self.version} OR in_doubt OR digest = excluded.digest), "
            f"digest = excluded.digest, {self.version} = excluded.{self.version} WHERE excluded.{self.version} >= {self.version}"
        )

    @property
    def forget(self) -> str:
        return f"DELETE FROM {self.table} WHERE {self.rest} < ?"


log = structlog.get_logger()


class _Known(NamedTuple):
    digest: bytes
    version: float
    in_doubt: int


class Published:
    """The memory of one source and topic. Several processes may use it at the same time.

    Args:
        folder: HOME/state.
        source: the source's name, used for the file.
        contract: of the records.
        topic_id: the broker's id of the topic.
        identity: the fields by which a record is found again; the contract's key when empty. The key's other fields are no values.

    Raises:
        StateFileError: the file can be neither read nor replaced by a new one.
    """

    def __init__(self, folder: Path, source: str, contract: Contract, topic_id: str, identity: tuple[str, ...] = ()) -> None:
        self._entity = contract.entity
        self._rest = tuple(name for name in identity or contract.key if name not in contract.entity)
        # Then one entity's records can be selected by a range of event times, and old ones forgotten by event time.
        self._is_by_time = bool(contract.event_time) and self._rest == (contract.event_time,)
        self._layout = (
            _Layout("hours", "_".join(contract.entity), "ts_ms", "INTEGER", "retrieved_ms")
            if self._is_by_time
            else _Layout("records", "entity", "rest_of_key", "TEXT", "version")
        )
        self._file = StateFile(folder / f"{source}.published.db", self._layout.tables, "the home folder (WEIR_HOME)")
        self._topic_id = topic_id
        self._values = tuple(name for name in contract.names if name not in (*contract.key, contract.version))
        self._version = contract.version
        problem = self._file.prepare()
        if problem:
            log.warning(
                "the memory of published records was lost: the next poll publishes everything it fetches; no record is lost",
                path=str(self.path),
                reason=problem,
                kept_as=f"{self.path.name}.broken",
            )

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def judge(self, records: Sequence[Record]) -> list[Kind]:
        """Return for each record, in order, whether Kafka has it already; all but the unchanged must be sent.

        Records that are kept by event time must be of one entity.

        Raises:
            StateFileError: the memory cannot be read.
        """
        if not records:
            return []
        if not self._is_by_time:
            with self._file.changing() as state:
                return [self._judge_one(state, record) for record in records]
        keys = [self._rest_of(record) for record in records]
        span = (self._topic_id, self._entity_of(records[0]), min(keys), max(keys))
        with self._file.changing() as state:
            known = {rest: _Known(*known) for rest, *known in state.execute(self._layout.known, span)}
        return [self._kind(known.get(rest), rest, record) for rest, record in zip(keys, records, strict=True)]

    def doubt(self, records: Iterable[Record]) -> None:
        """Mark records as in doubt; call it before they are sent.

        Raises:
            StateFileError: the memory cannot be written.
        """
        rows = [self._row(record) for record in records]
        if rows:
            with self._file.changing() as state:
                state.executemany(self._layout.put_in_doubt, [(*key, version) for *key, _, version in rows])

    def remember(self, records: Iterable[Record]) -> None:
        """Remember records as published; call it after their delivery was reported.

        Raises:
            StateFileError: the memory cannot be written.
        """
        rows = [self._row(record) for record in records]
        if rows:
            with self._file.changing() as state:
                state.executemany(self._layout.remember, rows)

    def forget(self, before: datetime) -> None:
        """Drop records with event times before an instant, of all topics, since no poll requests them again.

        Where the key is not entity and event time, nothing is dropped, since a poll may request any record again.

        Raises:
            StateFileError: the memory cannot be written.
        """
        if self._is_by_time:
            with self._file.changing() as state:
                state.execute(self._layout.forget, (to_millis(before),))

    def _judge_one(self, state: sqlite3.Connection, record: Record) -> Kind:
        rest = self._rest_of(record)
        found = state.execute(self._layout.known, (self._topic_id, self._entity_of(record), rest, rest)).fetchone()
        return self._kind(_Known(*found[1:]) if found else None, rest, record)

    def _kind(self, known: _Known | None, rest: int | str, record: Record) -> Kind:
        if known is None:
            return "new"
        if known.digest and known.digest != self._digest(record):
            return "changed"
        if known.in_doubt:
            return "repeated"
        has_passed = isinstance(rest, int) and known.version < rest <= _number(record[self._version])
        return "measured" if has_passed else "unchanged"

    def _row(self, record: Record) -> tuple[str, str, int | str, bytes, float]:
        return (self._topic_id, self._entity_of(record), self._rest_of(record), self._digest(record), _number(record[self._version]))

    def _entity_of(self, record: Record) -> str:
        return ":".join(str(record[name]) for name in self._entity)

    def _rest_of(self, record: Record) -> int | str:
        values = [_plain(record[name]) for name in self._rest]
        if self._is_by_time:
            return int(_number(values[0]))
        return json.dumps([to_millis(value) if isinstance(value, datetime) else value for value in values])

    def _digest(self, record: Record) -> bytes:
        # Computed from `repr`, not from the encoded message: the writer reports records that cannot be encoded.
        values = [(name, _plain(record[name])) for name in self._values if record.get(name) is not None]
        return hashlib.blake2b(repr(values).encode(errors="surrogatepass"), digest_size=16).digest()


def _plain(value: Value) -> Value:
    """Convert integers to float, so that 1 and 1.0 are equal, as they are in a table's column."""
    return float(value) if type(value) is int and abs(value) < 2**53 else value


def _number(value: Value) -> float:
    """Return the number by which versions and event times are compared: milliseconds of an instant, or the number itself."""
    assert isinstance(value, (datetime, int, float))
    return to_millis(value) if isinstance(value, datetime) else value
