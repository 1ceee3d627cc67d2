"""How is a small state file of several programs changed in one step, and what happens when it cannot be read any more?

SQLite, one transaction at a time over all processes: a kill at any moment leaves the state before or the state after. A file that
is damaged, cut short or of another layout is set aside under `<name>.broken`, and an empty one takes its place.
"""

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from lakehouse.errors import ProducerError, Retryable

# A transaction takes milliseconds; one that waits so long waits for a program that hangs.
LOCKED_SECONDS = 30.0


class StateFileError(ProducerError, Retryable):
    """A state file cannot be read or written now: locked for long, no room, no right to write, or damaged while in use."""

    def __init__(self, path: Path, error: Exception, setting: str) -> None:
        super().__init__(f"{path}: {error}. Is there room, and may this user write there? Another place: {setting}.")
        self.path = path


class StateFile:
    """One file with these tables.

    Args:
        path: of the file; its folder is made when needed.
        tables: name -> columns and constraints, as they stand within the parentheses of CREATE TABLE.
        setting: what moves the file elsewhere, for messages.
    """

    def __init__(self, path: Path, tables: Mapping[str, str], setting: str) -> None:
        self.path, self._tables, self._setting = path, tables, setting

    def prepare(self) -> str:
        """Make sure that the file is there and can be read.

        Returns:
            What was wrong with the one that was set aside; empty when nothing was.

        Raises:
            StateFileError: it can be neither read nor replaced.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Under a lock: of two programs that find it broken, the second must not set aside what the first began anew.
            with self.path.with_name(f"{self.path.name}.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                problem = self._problem()
                if problem:
                    shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.broken"))
                    # A journal left beside it would be played into the new file.
                    self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
                if problem or not self.path.exists():
                    self._begin_anew()
                return problem
        except (OSError, sqlite3.Error) as error:
            raise StateFileError(self.path, error, self._setting) from error

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Give the file to read and write alone: all of it is kept, or nothing when an exception leaves the `with`.

        Raises:
            StateFileError: it cannot be read or written.
        """
        try:
            with self._transaction() as state:
                yield state
        except sqlite3.Error as error:
            raise StateFileError(self.path, error, self._setting) from error

    def _begin_anew(self) -> None:
        # Beside it and renamed: another program finds the old file or the new one, never one without tables.
        beside = self.path.with_name(f"{self.path.name}.new")
        beside.unlink(missing_ok=True)
        with self._transaction(beside) as state:
            for name, columns in self._tables.items():
                state.execute(_create(name, columns))
        beside.replace(self.path)

    @contextmanager
    def _transaction(self, path: Path | None = None) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(path or self.path, timeout=LOCKED_SECONDS, isolation_level=None)) as state:
            state.execute("BEGIN IMMEDIATE")
            try:
                yield state
                state.execute("COMMIT")
            except BaseException:
                if state.in_transaction:
                    state.execute("ROLLBACK")
                raise

    def _problem(self) -> str:
        if not self.path.exists():
            return ""
        if not self.path.stat().st_size:
            return "it is empty"
        try:
            with closing(sqlite3.connect(self.path, timeout=LOCKED_SECONDS)) as state:
                said = [str(row[0]) for row in state.execute("PRAGMA quick_check(1)")]
                if said != ["ok"]:
                    return f"it is damaged ({'; '.join(said)})"
                found = dict(state.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall())
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            return str(error)
        expected = {name: _create(name, columns) for name, columns in self._tables.items()}
        return "" if found == expected else f"its tables are of another version ({', '.join(sorted(found)) or 'none'})"


def _create(name: str, columns: str) -> str:
    return f"CREATE TABLE {name} ({columns})"
