"""How are a table's rows read without a Spark job? From its data files with Arrow, where these are on this machine.

Iceberg names the files of a snapshot that may hold the rows, and the delete files of each. Spark needs some 200 ms to plan and schedule
the same scan, and several times as long as Arrow to bring many rows to Python.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lakehouse.storage.paths import local_path
from lakehouse.write.small_batches.deletes import read_deletes

FILE, POSITION = "_file", "_pos"
PLACES = pa.schema([(FILE, pa.string()), (POSITION, pa.int64())])
_ID = b"PARQUET:field_id"


def read_local(files: Mapping[str, Sequence[str]], schema: pa.Schema, ids: Mapping[str, int]) -> pa.Table | None:
    """Read all rows of some data files that are not deleted, with their `_file` and `_pos`.

    Args:
        files: the location of each data file, and of its delete files.
        schema: names and types of the wanted columns.
        ids: Iceberg's id of each column. A file from before a column was added gives nulls.

    Returns:
        The rows; None where a file is on another file system, or a column's id in it is not the table's, so that Spark must read it.
    """
    found = [_with_places(schema).empty_table()]
    for location, delete_files in files.items():
        path, deletes = local_path(location), [local_path(one) for one in delete_files]
        rows = None if path is None or None in deletes else _columns(path, schema, ids)
        if rows is None:
            return None
        rows = with_places(rows, location)
        for one in deletes:
            assert one is not None  # seen above
            if (gone := _deleted(one).get(location)) is not None:
                rows = rows.filter(pc.invert(pc.is_in(rows[POSITION], value_set=gone)))
        found.append(rows)
    return pa.concat_tables(found)


def with_places(rows: pa.Table, location: str) -> pa.Table:
    """Add `_file` and `_pos` to all rows of a data file, in order."""
    files = pa.repeat(pa.scalar(location, pa.string()), rows.num_rows)
    return rows.append_column(FILE, files).append_column(POSITION, pa.arange(0, rows.num_rows))


def _with_places(schema: pa.Schema) -> pa.Schema:
    return pa.schema([*schema, *PLACES])


def _columns(path: Path, schema: pa.Schema, ids: Mapping[str, int]) -> pa.Table | None:
    with pq.ParquetFile(path) as file:
        held = file.schema_arrow
        for field in held:
            if field.name in ids and (field.metadata or {}).get(_ID) != str(ids[field.name]).encode():
                return None
        read = file.read([field.name for field in schema if field.name in held.names])
    columns: Sequence[pa.ChunkedArray | pa.Array] = [
        read[field.name].cast(field.type) if field.name in read.column_names else pa.nulls(read.num_rows, field.type) for field in schema
    ]
    return pa.table(list(columns), schema=schema)


@lru_cache(maxsize=256)
def _deleted(path: Path) -> Mapping[str, pa.Array]:
    """Return the deleted positions of each data file that a delete file, which never changes, names."""
    return read_deletes(path.name, path.read_bytes())


def without(rows: pa.Table, others: pa.Table) -> pa.Table:
    """Remove the rows that others name by `_file` and `_pos`."""
    places = [FILE, POSITION]
    numbered = rows.select(places).append_column("_row", numbers(rows))
    left = numbered.join(others.select(places), places, join_type="left anti", use_threads=False)
    return rows.take(left["_row"])


def numbers(rows: pa.Table) -> pa.Array:
    """Count rows from 0."""
    return pa.arange(0, rows.num_rows)
