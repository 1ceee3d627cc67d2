"""How does a table come into a file? Data file by data file, so that memory holds one of them, whatever the table's size."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from pyiceberg.table import DataScan, FileScanTask

from lakehouse.days import Days
from lakehouse.domain_names import DOMAINS
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.machine.progress_bar import Step, progress
from lakehouse.query.export_files import Format, check_out, whole_file, write_csv, write_csv_to, write_parquet
from lakehouse.query.reader import BATCHES, Reader, UnreadableTable
from lakehouse.query.table_view import TableView
from lakehouse.settings import Settings
from lakehouse.tables.catalog import NAME

Item = TypeVar("Item")


class NotStored(LakehouseError, Fatal):
    """`lh.ops.batches` has no files."""

    def __init__(self) -> None:
        name = ".".join((NAME, *BATCHES))
        super().__init__(
            f'{name} is computed from the snapshots of the other tables and cannot be exported. Use: weir query "FROM {name}" --json'
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is exported, and where to.

    Attributes:
        table: its name, with `lh.` or without.
        out: the file; None for stdout.
        format: of it.
        days: UTC days, both included; None for all rows.
        time_column: by which the days choose rows; empty for what the table's domain says.
        as_of: read the table as it was at the end of this UTC day; None for now.
        force: whether a file that is there may be replaced.
    """

    table: str
    out: Path | None
    format: Format
    days: Days = None
    time_column: str = ""
    as_of: date | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of it; `time_column` is None where all rows were taken, `bytes` where they went to stdout."""

    table: str
    time_column: str | None
    rows: int
    bytes: int | None
    seconds: float

    def as_dict(self, wanted: Wanted) -> dict[str, Any]:
        """Give what --json prints."""
        first, last = wanted.days or (None, None)
        days = {name: day and str(day) for name, day in (("since", first), ("until", last), ("as_of", wanted.as_of))}
        return {
            "table": self.table,
            "out": str(wanted.out),
            "format": wanted.format,
            **days,
            "time_column": self.time_column,
            "rows": self.rows,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
        }


def export(settings: Settings, wanted: Wanted) -> Exported:
    """Write a table's rows into a file.

    Raises:
        UnknownTable, NotTagged, NoTimeColumn, NotATime: nothing can be read as asked for.
        OutExists, NotWritten: the file cannot be written; nothing is left of it.
        UnreadableTable: a file of the table cannot be read.
    """
    started = time.perf_counter()
    if wanted.out is not None:
        check_out(wanted.out, wanted.force)
    with Reader(settings, wanted.as_of) as reader:
        if wanted.table.lower().removeprefix(f"{NAME}.") == ".".join(BATCHES):
            raise NotStored
        view = reader.open_table(wanted.table)
        column, scan = _scan(settings, view, wanted)
        rows = _Rows(view.name, scan)
        with progress("rows", rows.most) as step:
            written = _write(rows.schema, partial(rows.batches, step), wanted)
    return Exported(view.name, column, rows.count, written, time.perf_counter() - started)


def _scan(settings: Settings, view: TableView, wanted: Wanted) -> tuple[str | None, DataScan]:
    """Plan to read the rows that are wanted; give the time column, too, where days choose them."""
    if wanted.days is None:
        return None, view.scan()
    # Here: a domain's record needs Spark's library, half a second that an export of all rows does not need.
    from lakehouse.query.time_columns import choose_column, time_columns, within
    from lakehouse.registry import build_domain

    known = {} if wanted.time_column else {k: v for name in DOMAINS for k, v in time_columns(build_domain(name, settings)).items()}
    column = choose_column(view.name, view.schema, wanted.time_column, known)
    return column, view.scan(within(view.schema, column, *wanted.days))


def _write(schema: pa.Schema, batches: Callable[[], Iterator[pa.RecordBatch]], wanted: Wanted) -> int | None:
    """Write the rows; give the file's bytes."""
    if wanted.out is None:
        sys.stdout.flush()
        write_csv_to(sys.stdout.buffer, lambda path: write_csv(batches(), schema, path))
        return None
    with whole_file(wanted.out) as part:
        if wanted.format == "csv":
            write_csv(batches(), schema, str(part))
        else:
            write_parquet(batches(), schema, part)
    return wanted.out.stat().st_size


def _batches(reading: ArrowScan, task: FileScanTask) -> list[pa.RecordBatch]:
    return list(reading.to_record_batches([task]))


class _Rows:
    """The rows of a scan, counted as they are read.

    Attributes:
        schema: of the batches.
        most: rows of the data files; there may be fewer that are wanted and not deleted.
        count: rows read so far.
    """

    def __init__(self, table: str, scan: DataScan) -> None:
        self._table, self._scan = table, scan
        self.schema = schema_to_pyarrow(scan.projection())
        self._tasks = self._readable(lambda: list(scan.plan_files()))
        self.most = sum(task.file.record_count for task in self._tasks)
        self.count = 0

    def batches(self, step: Step) -> Iterator[pa.RecordBatch]:
        """Read one data file after the other: PyIceberg's own reader of batches reads all of them at once, ahead of what is taken."""
        reading = ArrowScan(self._scan.table_metadata, self._scan.io, self._scan.projection(), self._scan.row_filter)
        for task in self._tasks:
            for batch in self._readable(partial(_batches, reading, task)):
                self.count += batch.num_rows
                yield batch.cast(self.schema)
            step(by=task.file.record_count)

    def _readable(self, read: Callable[[], list[Item]]) -> list[Item]:
        try:
            return read()
        except OSError as error:
            raise UnreadableTable(self._table, error) from error
