"""Which dump did Kafka get last? For each table the rows of the last delivered dump, as Parquet.

HOME/state/<source>.dumps/<table>.<topic id>.parquet is replaced after Kafka has reported every row of a dump and the message that follows
them: a process that is killed before leaves the old file, and the next run sends the same changes again. Losing the file repeats a whole
dump and loses no row. It is kept by the topic's id: another topic, or another broker, has none of it.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import structlog

from producers.dumps.csv_files import file_name
from producers.dumps.errors import AnotherRunError

_SAFE = str.maketrans("/+", "_-")
_MADE, _STAMPED = "weir.made", "weir.stamped"
_HASHED = "weir.hashed"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Kept:
    """The last delivered rows of a table.

    Attributes:
        path: the file.
        made: when the dump was made that it is of, UTC.
        stamped: the time in its messages: later than `made` where another dump of that very time was delivered before it.
        hashed: how its hashes were computed; others do not compare with them.
        columns: of the file.
    """

    path: Path
    made: datetime
    stamped: datetime
    hashed: str
    columns: tuple[str, ...]


class KeptDumps:
    """The kept tables of one source and home.

    Attributes:
        scratch: a folder for what is needed while a dump is published.
    """

    def __init__(self, state: Path, source: str) -> None:
        self._folder = state / f"{source}.dumps"
        self._source = source
        self.scratch = self._folder / "scratch"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while a dump is published, and remove the scratch folder before and after.

        Raises:
            AnotherRunError: another process holds it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AnotherRunError(
                    f"another process publishes a dump of {self._source} from {self._folder.parent.parent}: wait until it has ended"
                ) from error
            # Left by a process that was killed.
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.scratch.mkdir()
            try:
                yield
            finally:
                shutil.rmtree(self.scratch, ignore_errors=True)

    def find(self, database: duckdb.DuckDBPyConnection, table: str, topic_id: str) -> Kept | None:
        """Return the kept rows of a table; None where there are none, or where the file cannot be read, which is logged."""
        path = self._path(table, topic_id)
        if not path.exists():
            return None
        try:
            said = {
                bytes(key).decode(): bytes(value).decode()
                for key, value in database.execute(f"SELECT key, value FROM parquet_kv_metadata({file_name(path)})").fetchall()
            }
            columns = tuple(str(row[0]) for row in database.execute(f"DESCRIBE SELECT * FROM {parquet(path)}").fetchall())
            made, stamped = (datetime.fromisoformat(said[name]).astimezone(UTC) for name in (_MADE, _STAMPED))
            return Kept(path, made, stamped, said[_HASHED], columns)
        except (duckdb.Error, KeyError, ValueError) as error:
            log.warning(
                "the last delivered dump was lost: this one is published whole, and rows that have gone meanwhile are not told",
                path=str(path),
                reason=str(error).splitlines()[0],
            )
            return None

    def replace(self, table: str, topic_id: str, staged: Path) -> None:
        """Keep the rows of a dump that was delivered; a reader, or a crash, sees the old file or the new one."""
        with staged.open("rb") as file:
            os.fsync(file.fileno())
        staged.replace(self._path(table, topic_id))
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _path(self, table: str, topic_id: str) -> Path:
        # An id is Base64, in which / and + are letters.
        return self._folder / f"{table}.{topic_id.translate(_SAFE)}.parquet"


def metadata(made: datetime, stamped: datetime, hashed: str) -> str:
    """Return the SQL option of COPY that notes in a file what `Kept` tells of it."""
    return f"KV_METADATA {{'{_MADE}': '{made.isoformat()}', '{_STAMPED}': '{stamped.isoformat()}', '{_HASHED}': '{hashed}'}}"


def parquet(path: Path) -> str:
    """Return the SQL of the rows of a Parquet file, with their number in the file as file_row_number."""
    return f"read_parquet({file_name(path)}, file_row_number = true)"
