"""Which hours has Kafka got already, and with which values?

A poll asks for days that were published before, because the source revises them. The memory, HOME/state/<source>.published.db, holds
per topic, place and hour a digest of the values and the `retrieved_ts` of the newest message that Kafka reported as delivered: what
is neither new nor changed need not be sent again.

Losing it, in part or whole, costs repeats and never an hour:

- It is written after the delivery reports. A kill before leaves the hours as they were known before.
- Before they are sent the hours are put in doubt: of a kill, or a report that never came, nobody knows whether Kafka has the message.
  An hour in doubt is sent again whatever its values; else a value that went and came back would never be corrected.
- Of two producers the later retrieval is remembered, as the later one wins in silver, in whatever order they write.
- It is kept by the topic's id: another topic, or another broker, has none of it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import structlog

from lakehouse.contract import Contract, Value, to_millis
from producers.sources.open_meteo.answers import Reading
from producers.state_file import StateFile

# measured: published as a forecast, and now it has passed; silver tells the two apart by retrieved_ts, and gold leaves forecasts out.
# repeated: in doubt, see above.
Kind = Literal["new", "changed", "measured", "repeated", "unchanged"]

_TABLES = {
    # digest: of the values last reported as delivered; empty where none were. retrieved_ms: of the newest message sent.
    "hours": "topic_id TEXT NOT NULL, location_key TEXT NOT NULL, ts_ms INTEGER NOT NULL, digest BLOB NOT NULL, "
    "retrieved_ms INTEGER NOT NULL, in_doubt INTEGER NOT NULL, PRIMARY KEY (topic_id, location_key, ts_ms)"
}
_KNOWN = "SELECT ts_ms, digest, retrieved_ms, in_doubt FROM hours WHERE topic_id = ? AND location_key = ? AND ts_ms BETWEEN ? AND ?"
_PUT_IN_DOUBT = (
    "INSERT INTO hours VALUES (?, ?, ?, x'', ?, 1) ON CONFLICT DO UPDATE SET "
    "in_doubt = 1, retrieved_ms = max(retrieved_ms, excluded.retrieved_ms)"
)
# Two different values of one millisecond: which of them silver keeps is decided by their content, so the hour stays in doubt.
_REMEMBER = (
    "INSERT INTO hours VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET "
    "in_doubt = NOT (excluded.retrieved_ms > retrieved_ms OR in_doubt OR digest = excluded.digest), "
    "digest = excluded.digest, retrieved_ms = excluded.retrieved_ms WHERE excluded.retrieved_ms >= retrieved_ms"
)

log = structlog.get_logger()


class _Known(NamedTuple):
    digest: bytes
    retrieved_ms: int
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
        self._file = StateFile(folder / f"{source}.published.db", _TABLES, "the home folder (WEIR_HOME)")
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

    def judge(self, readings: Sequence[Reading]) -> list[Kind]:
        """Say of each record of one place, in order, whether Kafka has it already; all but the unchanged are to be sent.

        Raises:
            StateFileError: the memory cannot be read.
        """
        if not readings:
            return []
        hours = [_millis(reading["ts_utc"]) for reading in readings]
        span = (self._topic_id, str(readings[0]["location_key"]), min(hours), max(hours))
        with self._file.changing() as state:
            known = {ts: _Known(*known) for ts, *known in state.execute(_KNOWN, span)}
        return [self._kind(known.get(ts), ts, reading) for ts, reading in zip(hours, readings, strict=True)]

    def doubt(self, readings: Iterable[Reading]) -> None:
        """Put records in doubt; call it before they are sent.

        Raises:
            StateFileError: the memory cannot be written.
        """
        rows = [self._row(reading) for reading in readings]
        if rows:
            with self._file.changing() as state:
                state.executemany(_PUT_IN_DOUBT, [(*key, retrieved) for *key, _, retrieved in rows])

    def remember(self, readings: Iterable[Reading]) -> None:
        """Remember records as published; call it after their delivery was reported.

        Raises:
            StateFileError: the memory cannot be written.
        """
        rows = [self._row(reading) for reading in readings]
        if rows:
            with self._file.changing() as state:
                state.executemany(_REMEMBER, rows)

    def forget(self, before: datetime) -> None:
        """Drop the hours before an instant, those of other topics too: no poll asks for them any more.

        Raises:
            StateFileError: the memory cannot be written.
        """
        with self._file.changing() as state:
            state.execute("DELETE FROM hours WHERE ts_ms < ?", (to_millis(before),))

    def _kind(self, known: _Known | None, ts_ms: int, reading: Reading) -> Kind:
        if known is None:
            return "new"
        if known.digest and known.digest != self._digest(reading):
            return "changed"
        if known.in_doubt:
            return "repeated"
        return "measured" if known.retrieved_ms < ts_ms <= _millis(reading[self._version]) else "unchanged"

    def _row(self, reading: Reading) -> tuple[str, str, int, bytes, int]:
        version = _millis(reading[self._version])
        return (self._topic_id, str(reading["location_key"]), _millis(reading["ts_utc"]), self._digest(reading), version)

    def _digest(self, reading: Reading) -> bytes:
        # By repr and not as on the wire: a record that cannot be encoded is for the writer to find.
        values = [(name, _plain(reading[name])) for name in self._values if reading.get(name) is not None]
        return hashlib.blake2b(repr(values).encode(errors="surrogatepass"), digest_size=16).digest()


def _plain(value: Value) -> Value:
    """Make 1 and 1.0 one value: a table has one column for both."""
    return float(value) if type(value) is int and abs(value) < 2**53 else value


def _millis(value: Value) -> int:
    assert isinstance(value, datetime)
    return to_millis(value)
