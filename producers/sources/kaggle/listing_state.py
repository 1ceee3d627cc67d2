"""How far has a poll of the dataset list come, and which datasets were ever seen in it? In HOME/state/kaggle.list.db.

A poll that was interrupted goes on at its page. A dataset is noted as known before its row is sent, so a process that is killed anywhere
later finds it absent. If the file is lost, the next poll begins anew, and datasets that had left the list meanwhile are not told.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from producers.state_file import StateFile

# An absence is told twice; with the second one the dataset is unlisted, so a third one says nothing new.
TOLD = 2
_TABLES = {
    # One row at most: the poll that has begun. read_ms is when its last page was answered; null before.
    "poll": "list_name TEXT NOT NULL, poll_ms INTEGER NOT NULL, token TEXT NOT NULL, pages INTEGER NOT NULL, read_ms INTEGER",
    "seen": "ref TEXT PRIMARY KEY",
    # absent: complete polls in a row that did not find it, at most TOLD.
    "known": "ref TEXT PRIMARY KEY, absent INTEGER NOT NULL",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A poll that has begun.

    Attributes:
        list_name: the list and its order.
        poll_ts: when it began, UTC.
        token: of the page that comes next.
        pages: that were read and delivered.
        read_ts: when the last page of the list was answered; None while there are more.
    """

    list_name: str
    poll_ts: datetime
    token: str
    pages: int
    read_ts: datetime | None


class ListState:
    """The state of one home. Several processes may change it, but two that poll at once disturb each other's poll.

    Args:
        folder: HOME/state.

    Raises:
        StateFileError: the file can be neither read nor replaced by a new one.
    """

    def __init__(self, folder: Path) -> None:
        self._file = StateFile(folder / "kaggle.list.db", _TABLES, "the home folder (WEIR_HOME)")
        if problem := self._file.prepare():
            log.warning(
                "the state of the polled list was lost: the poll begins anew, and datasets that left the list before it are not told",
                path=str(self._file.path),
                reason=problem,
                kept_as=f"{self._file.path.name}.broken",
            )

    def unfinished(self) -> Unfinished | None:
        """Return the poll that has begun; None where the last one has ended."""
        with self._file.changing() as state:
            row = state.execute("SELECT list_name, poll_ms, token, pages, read_ms FROM poll").fetchone()
        if row is None:
            return None
        return Unfinished(row[0], _instant(row[1]), row[2], row[3], None if row[4] is None else _instant(row[4]))

    def begin(self, list_name: str, now: datetime) -> Unfinished:
        """Begin a poll; what was left of another is dropped."""
        with self._file.changing() as state:
            state.execute("DELETE FROM poll")
            state.execute("DELETE FROM seen")
            state.execute("INSERT INTO poll VALUES (?, ?, '', 0, NULL)", (list_name, _millis(now)))
        return Unfinished(list_name, _instant(_millis(now)), "", 0, None)

    def saw(self, refs: Iterable[str]) -> None:
        """Note the datasets of a page, before they are sent."""
        rows = [(ref,) for ref in refs]
        with self._file.changing() as state:
            state.executemany("INSERT OR IGNORE INTO seen VALUES (?)", rows)
            state.executemany("INSERT INTO known VALUES (?, 0) ON CONFLICT DO UPDATE SET absent = 0", rows)

    def turn(self, token: str, pages: int, read_ts: datetime | None) -> None:
        """Note that a page was delivered, and the token of the next one; `read_ts` where it was the last."""
        with self._file.changing() as state:
            state.execute(
                "UPDATE poll SET token = ?, pages = ?, read_ms = ?", (token, pages, None if read_ts is None else _millis(read_ts))
            )

    def seen(self) -> int:
        """Count the datasets that the poll has found."""
        with self._file.changing() as state:
            return int(state.execute("SELECT count(*) FROM seen").fetchone()[0])

    def absent(self) -> list[tuple[str, int]]:
        """Return what the poll did not find of the known datasets, and in how many complete polls in a row, TOLD + 1 at most."""
        with self._file.changing() as state:
            return [(ref, absent + 1) for ref, absent in state.execute(f"SELECT ref, absent FROM known WHERE {_NOT_SEEN} ORDER BY ref")]

    def end(self, is_complete: bool) -> None:
        """End the poll; a complete one counts for the datasets that it did not find."""
        with self._file.changing() as state:
            if is_complete:
                state.execute(f"UPDATE known SET absent = min(absent + 1, {TOLD}) WHERE {_NOT_SEEN}")
            state.execute("DELETE FROM seen")
            state.execute("DELETE FROM poll")


_NOT_SEEN = "ref NOT IN (SELECT ref FROM seen)"


def _millis(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def _instant(millis: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=millis)
