"""How do rows become a file? Parquet with the table's types, or CSV, batch by batch; a file is there when it is whole."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.errors import Fatal, LakehouseError
from lakehouse.query.show import text_of
from lakehouse.tables.schema import quote_name, quote_text

Format = Literal["parquet", "csv"]
# A row group is what a reader of Parquet holds in memory, and skips by its least and greatest values.
_ROW_GROUP = 122_880
_PIPE_BYTES = 1 << 20


class NotWritten(LakehouseError, Fatal):
    """The file cannot be written."""

    def __init__(self, out: str, problem: object) -> None:
        super().__init__(f"{out} was not written: {problem}")


class OutExists(LakehouseError, Fatal):
    """There is a file already."""

    def __init__(self, out: Path) -> None:
        super().__init__(f"{out} is there already. Choose another name, or replace it with --force.")


def check_out(out: Path, force: bool) -> None:
    """Refuse a place where the file cannot come to be, before anything is read.

    Raises:
        OutExists: a file is there, and may not be replaced.
        NotWritten: its folder is not there, or the name is that of a folder.
    """
    if out.is_dir():
        raise NotWritten(str(out), "it is a folder. Name a file in it.")
    if not out.parent.is_dir():
        raise NotWritten(str(out), f"the folder {out.parent} is not there. Make it with: mkdir -p '{out.parent}'")
    if out.exists() and not force:
        raise OutExists(out)


@contextlib.contextmanager
def whole_file(out: Path) -> Iterator[Path]:
    """Give a file to write beside another, which it becomes when the block ends well; otherwise nothing is left of it."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # Ctrl-C is an exception by itself; SIGTERM ends the process on the spot, and the file would stay.
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if is_main else None
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(out)
    except OSError as error:
        raise NotWritten(str(out), error.strerror or error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
        if is_main:
            signal.signal(signal.SIGTERM, before)


def write_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    """Write rows as Parquet, compressed by zstd, in row groups of one size whatever the batches are."""
    held: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            held.append(batch)
            if sum(one.num_rows for one in held) >= _ROW_GROUP:
                writer.write_table(pa.Table.from_batches(held, schema), _ROW_GROUP)
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held, schema), _ROW_GROUP)


def write_csv(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: str) -> None:
    """Write rows as CSV by RFC 4180, with a header.

    An instant is ISO 8601 in UTC with Z, a decimal has all its digits, null is an empty field and an empty text is "". Bytes are text where
    they are UTF-8, else base64, as `weir query --json` has them.

    Raises:
        OSError: the file cannot be written, in DuckDB's words.
    """
    problems: list[BaseException] = []

    def watched() -> Iterator[pa.RecordBatch]:
        # DuckDB makes an error of its own of what is raised here.
        try:
            for batch in batches:
                yield _with_texts(batch, readable)
        except BaseException as error:
            problems.append(error)
            raise

    columns = ", ".join(_csv_column(f) for f in schema)
    readable = pa.schema([pa.field(f.name, pa.string()) if _is_binary(f.type) else f for f in schema])
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        # Several threads hold rows back to keep them in order, which took hundreds of megabytes more.
        connection.execute("SET threads = 1")
        connection.register("batches", pa.RecordBatchReader.from_batches(readable, watched()))
        try:
            connection.execute(f"COPY (SELECT {columns} FROM batches) TO {quote_text(path)} (FORMAT csv, HEADER, NULLSTR '')")
        except (duckdb.Error, RuntimeError) as error:
            if problems:
                raise problems[0] from None
            if "interrupted" in str(error).lower():
                raise KeyboardInterrupt from error
            raise OSError(str(error)) from error


def write_csv_to(stream: BinaryIO, write: Callable[[str], None]) -> None:
    """Let a function that writes to a path write to an open stream, such as stdout.

    Raises:
        BrokenPipeError: nobody reads the stream any more.
    """
    reading, writing = os.pipe()
    problems: list[OSError] = []

    def pump() -> None:
        try:
            with open(reading, "rb") as source:  # noqa: PTH123 - a descriptor, not a path
                while some := source.read1(_PIPE_BYTES):
                    stream.write(some)
                stream.flush()
        except OSError as error:
            problems.append(error)

    pumping = threading.Thread(target=pump)
    pumping.start()
    try:
        write(f"/dev/fd/{writing}")
    except OSError:
        if not problems:
            raise
    finally:
        os.close(writing)
        pumping.join()
    if problems:
        raise problems[0]


def _csv_column(field: pa.Field) -> str:
    name, kind = quote_name(field.name), field.type
    if pa.types.is_timestamp(kind):
        instant, zone = (f"({name} AT TIME ZONE 'UTC')", "Z") if kind.tz else (name, "")
        return f"replace(strftime({instant}, '%Y-%m-%dT%H:%M:%S.%f{zone}'), '.000000{zone}', '{zone}') AS {name}"
    return name


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _with_texts(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Turn bytes into texts; DuckDB would raise and catch an error for each value that is no UTF-8."""
    columns = [
        pa.array([None if value is None else text_of(value) for value in column.to_pylist()], pa.string())
        if _is_binary(column.type)
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
