"""What does the publisher of dumps need from a source? A `DumpSource` record: its tables, the files they are read from, and the joins.

A dump is the whole of several tables at one moment, as CSV files. It is published as changes: the rows that differ from the last delivered
dump. Such a source is a folder in `producers/sources/` with the record in its `source.py`, and one line in `DUMPS` of
`sources/registry.py`. It is not polled, so `weir up` starts no process for it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contract import Contract, Value

if TYPE_CHECKING:
    from lakehouse.settings import Settings

# In the rows that a form gives: the text of what does not fit its column's type, as the inside of a JSON object; null where all fits.
MISFITS = "_misfits"


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A file that a table is read from.

    Attributes:
        name: found without regard to case.
        required: columns without which it cannot be read.
        known: columns that it may have too, used or not; any other column is unknown, is kept and reported.
        may_lack: whether `--partial` reads the table without this file.
    """

    name: str
    required: tuple[str, ...]
    known: tuple[str, ...] = ()
    may_lack: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are not unknown."""
        return (*self.required, *self.known)


@dataclass(frozen=True, slots=True)
class Csv:
    """A file of a dump that was found and whose header was read.

    Attributes:
        path: where it lies.
        name: as the dump has it.
        relation: SQL that reads it: a text column per column of the header, and null for each column of `CsvFile.columns` that it lacks.
        header: its columns, in order.
        unknown: those that `CsvFile` does not know.
    """

    path: Path
    name: str
    relation: str
    header: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a table: its files, and how they become rows.

    Attributes:
        name: for people and for the report.
        files: that it needs.
        rows: given each file that was found, by the name of its `CsvFile`, and SQL of the last delivered rows (None where there are none),
            returns SQL of the rows: the table's `values`, and MISFITS, in the order of the file.
    """

    name: str
    files: tuple[CsvFile, ...]
    rows: Callable[[Mapping[str, Csv], str | None], str]


@dataclass(frozen=True, slots=True)
class Dump:
    """What the publisher says of a dump in each of its messages.

    Attributes:
        made: when it was made, UTC.
        files: the names of the files that the table was read from.
        form: of the table.
    """

    made: datetime
    files: tuple[str, ...]
    form: str


@dataclass(frozen=True, slots=True)
class Figures:
    """How many rows a table has, and how many differ from the dump before; None where that is not known, as of a late dump."""

    rows: int
    added: int | None
    changed: int | None
    gone: int | None


@dataclass(frozen=True, slots=True)
class DumpTable:
    """One table of a dump.

    Attributes:
        name: for people, and in the names of state files.
        contract: of its messages. Its `deleted` field says that a row has gone.
        identity: the fields by which a row is found again in another dump. Of rows with the same, the last one in the file counts.
        forms: in which a dump may have it.
        repeats: a whole number among `identity` that counts rows with otherwise the same identity, in which case all of them count; empty
            for none. Only the first of them is said to have gone.
    """

    name: str
    contract: Contract
    identity: tuple[str, ...]
    forms: tuple[Form, ...]
    repeats: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A dump that was downloaded: the folder with its files, and when it was made, UTC."""

    folder: Path
    made: datetime


@dataclass(frozen=True, slots=True)
class DumpSource:
    """The description of a source that is published from dumps.

    Attributes:
        name: as typed; also in the names of state files, in the header `source`, and as label of metrics.
        domain: whose tables the rows are written to, and whose rules judge them.
        tables: in the order in which they are published.
        stamp: the fields of a row's message that tell of the dump and not of the row.
        stamped: their names.
        notice: the contract of the message that follows each table's rows.
        to_notice: makes that message of the table's name, the dump and the figures.
        download: opens a context that downloads the named files into a folder; None where that is not possible.
    """

    name: str
    domain: str
    tables: tuple[DumpTable, ...]
    stamp: Callable[[Dump], Mapping[str, Value]]
    stamped: tuple[str, ...]
    notice: Contract
    to_notice: Callable[[str, Dump, Figures], Mapping[str, Value]]
    download: "Callable[[Settings, Path, Sequence[str]], AbstractContextManager[Fetched]] | None" = None

    def values(self, table: DumpTable) -> tuple[str, ...]:
        """Return the fields of a table that tell of the row, in the contract's order."""
        return tuple(name for name in table.contract.names if name not in self.stamped and name != table.contract.deleted)
