"""Which records has Kafka got already, and with which values?

A poll asks for records that were published before, because the source revises them. The memory, HOME/state/<source>.published.db, holds
per topic and key a digest of the values and the version of the newest message that Kafka reported as delivered: what is neither new nor
changed need not be sent again.

Losing it, in part or whole, costs repeats and never a record:

- It is written after the delivery reports. A kill before leaves the records as they were known before.
- Before they are sent the records are put in doubt: of a kill, or a report that never came, nobody knows whether Kafka has the message.
  A record in doubt is sent again whatever its values; else a value that went and came back would never be corrected.
- Of two producers the later version is remembered, as the later one wins in silver, in whatever order they write.
- It is kept by the topic's id: another topic, or another broker, has none of it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import structlog

from lakehouse.contract import Contract, Value, to_millis
from producers.state_file import StateFile

Record = Mapping[str, Value]
# measured: published as a forecast, and now its event time has passed; silver tells the two apart by the version, which says when the
# source answered, and gold leaves forecasts out.
# repeated: in doubt, see above.
Kind = Literal["new", "changed", "measured", "repeated", "unchanged"]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The table of the memory. A file with other names or types is set aside as lost: a source's layout stays as it is.

    Attributes:
        table: its name.
        entity: the column with the entity.
        rest: the column with what else is in the key.
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
        # digest: of the values last reported as delivered; empty where none were. The version is that of the newest message sent.
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
        # Two different values of one version: which of them silver keeps is decided by their content, so the record stays in doubt.
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
    """The memory of one source and topic. Several processes may use it at a time.

    Args:
        folder: HOME/state.
        source: names the file.
        contract: of the records.
        topic_id: as the broker gives it.

    Raises:
        StateFileError: it can be neither read nor begun anew.
    """

    def __init__(self, folder: Path, source: str, contract: Contract, topic_id: str) -> None:
        self._entity = contract.entity
        self._rest = tuple(name for name in contract.key if name not in contract.entity)
        # One entity's records are then a span of event times, and old ones can be forgotten by theirs.
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
                "the memory of what was published is lost: the next poll publishes all it gets, nothing goes missing",
                path=str(self.path),
                reason=problem,
                kept_as=f"{self.path.name}.broken",
            )

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def judge(self, records: Sequence[Record]) -> list[Kind]:
        """Say of each record of one entity, in order, whether Kafka has it already; all but the unchanged are to be sent.

        Raises:
            StateFileError: the memory cannot be read.
        """
        if not records:
            return []
        keys = [self._rest_of(record) for record in records]
        span = (self._topic_id, self._entity_of(records[0]), min(keys), max(keys))
        with self._file.changing() as state:
            known = {rest: _Known(*known) for rest, *known in state.execute(self._layout.known, span)}
        return [self._kind(known.get(rest), rest, record) for rest, record in zip(keys, records, strict=True)]

    def doubt(self, records: Iterable[Record]) -> None:
        """Put records in doubt; call it before they are sent.

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
        """Drop the records of event times before an instant, those of other topics too: no poll asks for them any more.

        Where the key is not entity and event time, nothing is dropped: a poll may ask for any of them again.

        Raises:
            StateFileError: the memory cannot be written.
        """
        if self._is_by_time:
            with self._file.changing() as state:
                state.execute(self._layout.forget, (to_millis(before),))

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
        # By repr and not as on the wire: a record that cannot be encoded is for the writer to find.
        values = [(name, _plain(record[name])) for name in self._values if record.get(name) is not None]
        return hashlib.blake2b(repr(values).encode(errors="surrogatepass"), digest_size=16).digest()


def _plain(value: Value) -> Value:
    """Make 1 and 1.0 one value: a table has one column for both."""
    return float(value) if type(value) is int and abs(value) < 2**53 else value


def _number(value: Value) -> float:
    """Give what versions and event times are compared by: milliseconds of an instant, or the number itself."""
    assert isinstance(value, (datetime, int, float))
    return to_millis(value) if isinstance(value, datetime) else value
