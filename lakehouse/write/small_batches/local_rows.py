"""How are a table's rows read without a Spark job? From its data files with Arrow, where these are on this machine or on HDFS.

Iceberg names the files of a snapshot that may hold the rows, and the delete files of each. Spark needs some 200 ms to plan and schedule
the same scan, and several times as long as Arrow to bring many rows to Python.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog

from lakehouse.storage.hdfs import is_hdfs, open_to_read, read_bytes
from lakehouse.storage.paths import local_path
from lakehouse.write.small_batches.deletes import read_deletes

log = structlog.get_logger("weir.write")

FILE, POSITION = "_file", "_pos"
PLACES = pa.schema([(FILE, pa.string()), (POSITION, pa.int64())])
_ID = b"PARQUET:field_id"
# A row group up to this size is read at once; of a larger one first the columns by which rows are selected.
_READ_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows of a file are wanted.

    Attributes:
        columns: that decide.
        mask: returns for each row of a table with these columns whether it is wanted.
    """

    columns: Sequence[str]
    mask: Callable[[pa.Table], pa.ChunkedArray | pa.Array]


def read_local(
    files: Mapping[str, Sequence[str]], schema: pa.Schema, ids: Mapping[str, int], selection: Selection | None = None
) -> pa.Table | None:
    """Read the rows of some data files that are not deleted, with their `_file` and `_pos`.

    Args:
        files: the location of each data file, and of its delete files.
        schema: names and types of the wanted columns.
        ids: Iceberg's id of each column. A file from before a column was added gives nulls.
        selection: which rows; all of them when left out. Then no more than a row group of other rows is in memory at a time.

    Returns:
        The rows; None where a file is on another file system or HDFS does not answer, or a column's id in it is not the table's, so that
        Spark must read it.

    Raises:
        OSError: a file is not there, or this machine's disk cannot be read.
    """
    try:
        return _read_files(files, schema, ids, selection)
    except FileNotFoundError:  # another writer has rewritten it
        raise
    except (OSError, RuntimeError) as error:
        if not any(is_hdfs(location) for location in files):
            raise
        # Spark has a client of its own, with the cluster's credentials, and says itself what is wrong.
        log.warning("files on HDFS are read by Spark", reason=str(error))
        return None


def _read_files(
    files: Mapping[str, Sequence[str]], schema: pa.Schema, ids: Mapping[str, int], selection: Selection | None
) -> pa.Table | None:
    found = [_with_places(schema).empty_table()]
    for location, delete_files in files.items():
        if not all(_can_read(one) for one in (location, *delete_files)):
            return None
        with pq.ParquetFile(local_path(location) or open_to_read(location)) as file:
            if not _has_ids(file, ids):
                return None
            gone = [_deleted(one).get(location) for one in delete_files]
            for rows in _row_groups(file, schema, selection):
                placed = _placed(rows, location)
                for positions in gone:
                    if positions is not None:
                        placed = placed.filter(pc.invert(pc.is_in(placed[POSITION], value_set=positions)))
                found.append(placed)
    return pa.concat_tables(found)


def with_places(rows: pa.Table, location: str) -> pa.Table:
    """Add `_file` and `_pos` to all rows of a data file, in order."""
    files = pa.repeat(pa.scalar(location, pa.string()), rows.num_rows)
    return rows.append_column(FILE, files).append_column(POSITION, pa.arange(0, rows.num_rows))


def _with_places(schema: pa.Schema) -> pa.Schema:
    return pa.schema([*schema, *PLACES])


def _has_ids(file: pq.ParquetFile, ids: Mapping[str, int]) -> bool:
    return all(field.name not in ids or (field.metadata or {}).get(_ID) == str(ids[field.name]).encode() for field in file.schema_arrow)


def _row_groups(file: pq.ParquetFile, schema: pa.Schema, selection: Selection | None) -> Iterator[pa.Table]:
    """Yield the wanted rows of each row group, with their position in the file as last column."""
    begins = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        positions = pa.arange(begins, begins + group.num_rows)
        begins += group.num_rows
        if selection is not None and group.total_byte_size > _READ_AT_ONCE:
            deciding = pa.schema([schema.field(name) for name in dict.fromkeys(selection.columns)])
            wanted = pc.indices_nonzero(selection.mask(_read(file, number, deciding)))
            if len(wanted):
                yield _read(file, number, schema).take(wanted).append_column(POSITION, positions.take(wanted))
            continue
        rows = _read(file, number, schema).append_column(POSITION, positions)
        yield rows if selection is None else rows.filter(selection.mask(rows))


def _read(file: pq.ParquetFile, group: int, schema: pa.Schema) -> pa.Table:
    read = file.read_row_group(group, [field.name for field in schema if field.name in file.schema_arrow.names])
    columns: Sequence[pa.ChunkedArray | pa.Array] = [
        read[field.name].cast(field.type) if field.name in read.column_names else pa.nulls(read.num_rows, field.type) for field in schema
    ]
    return pa.table(list(columns), schema=schema)


def _placed(rows: pa.Table, location: str) -> pa.Table:
    """Add `_file` before the positions."""
    return rows.add_column(rows.num_columns - 1, FILE, pa.repeat(pa.scalar(location, pa.string()), rows.num_rows))


def _can_read(location: str) -> bool:
    return local_path(location) is not None or is_hdfs(location)


@lru_cache(maxsize=256)
def _deleted(location: str) -> Mapping[str, pa.Array]:
    """Return the deleted positions of each data file that a delete file, which never changes, names."""
    path = local_path(location)
    return read_deletes(location, read_bytes(location) if path is None else path.read_bytes())


def without(rows: pa.Table, others: pa.Table) -> pa.Table:
    """Remove the rows that others name by `_file` and `_pos`."""
    if not others.num_rows:
        return rows
    places = [FILE, POSITION]
    numbered = rows.select(places).append_column("_row", numbers(rows))
    left = numbered.join(others.select(places), places, join_type="left anti", use_threads=False)
    return rows.take(left["_row"])


def numbers(rows: pa.Table) -> pa.Array:
    """Count rows from 0."""
    return pa.arange(0, rows.num_rows)
