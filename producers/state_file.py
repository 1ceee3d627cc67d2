"""How do several programs change a small state file atomically, and what happens when it can no longer be read?

It is a SQLite file, with one transaction at a time across all processes: a process killed at any moment leaves the old or the new state. A
file that is damaged, truncated or of another layout is kept as `<name>.broken`, and an empty file replaces it.
"""

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from lakehouse.errors import ProducerError, Retryable

# A transaction takes milliseconds; a program that waits this long for one waits for a program that hangs.
LOCKED_SECONDS = 30.0


class StateFileError(ProducerError, Retryable):
    """A state file cannot be read or written now: locked for long, disk full, no permission, or damaged while in use."""

    def __init__(self, path: Path, error: Exception, setting: str) -> None:
        super().__init__(f"{path}: {error}. Check free space and this user's permissions, or choose another place with {setting}.")
        self.path = path


class StateFile:
    """One file with the given tables.

    Args:
        path: of the file; its folder is created when needed.
        tables: {name: columns and constraints, as in the parentheses of CREATE TABLE}.
        setting: the setting with the file's place, for messages.
    """

    def __init__(self, path: Path, tables: Mapping[str, str], setting: str) -> None:
        self.path, self._tables, self._setting = path, tables, setting

    def prepare(self) -> str:
        """Check that the file exists and can be read; create or replace it if not.

        Returns:
            What was wrong with the file that was replaced; empty when nothing was.

        Raises:
            StateFileError: it can be neither read nor replaced.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Under a lock: if two programs find the file broken, the second must not replace the first one's new file.
            with self.path.with_name(f"{self.path.name}.lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                problem = self._problem()
                if problem:
                    shutil.copyfile(self.path, self.path.with_name(f"{self.path.name}.broken"))
                    # SQLite would apply a journal left beside it to the new file.
                    self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
                if problem or not self.path.exists():
                    self._create_empty()
                return problem
        except (OSError, sqlite3.Error) as error:
            raise StateFileError(self.path, error, self._setting) from error

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction with exclusive access: leaving the `with` block commits it, an exception rolls it back.

        Raises:
            StateFileError: the file cannot be read or written.
        """
        try:
            with self._transaction() as state:
                yield state
        except sqlite3.Error as error:
            raise StateFileError(self.path, error, self._setting) from error

    def _create_empty(self) -> None:
        # Created beside it and renamed, so that another program sees the old or the new file, never one without tables.
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
                messages = [str(row[0]) for row in state.execute("PRAGMA quick_check(1)")]
                if messages != ["ok"]:
                    return f"it is damaged ({'; '.join(messages)})"
                tables = dict(state.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall())
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            return str(error)
        expected = {name: _create(name, columns) for name, columns in self._tables.items()}
        return "" if tables == expected else f"its tables are of another version ({', '.join(sorted(tables)) or 'none'})"


def _create(name: str, columns: str) -> str:
    return f"CREATE TABLE {name} ({columns})"
