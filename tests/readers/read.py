"""What do other engines read in a table? Run in the environment of `requirements.lock`, with metadata files of tables as arguments.

Prints one line of JSON per table: its metadata file, and for each engine its rows and a digest of them, or its error. All engines read the
same metadata file, so a stream may go on writing meanwhile.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyiceberg.table import StaticTable


def by_pyiceberg(table: StaticTable, _: Path) -> pa.Table:
    return table.scan().to_arrow()


def by_daft(table: StaticTable, _: Path) -> pa.Table:
    import daft  # type: ignore[import-not-found]  # in the other environment, as all of these

    return daft.read_iceberg(table).to_arrow()


def by_duckdb(_: StaticTable, metadata: Path) -> pa.Table:
    import duckdb
    from duckdb_extensions import import_extension  # type: ignore[import-not-found]

    for extension in ("avro", "iceberg"):
        import_extension(extension)
    connection = duckdb.connect()
    connection.execute("LOAD avro; LOAD iceberg; SET TimeZone = 'UTC'")
    return connection.execute(f"SELECT * FROM iceberg_scan('{quoted(metadata)}')").fetch_arrow_table()  # type: ignore[attr-defined]


def by_clickhouse(_: StaticTable, metadata: Path) -> pa.Table:
    from chdb import session  # type: ignore[import-not-found]

    os.chdir("/")  # ClickHouse reads files below its folder only
    folder, file = metadata.parents[1], metadata.relative_to(metadata.parents[1])
    chosen = f"SETTINGS iceberg_metadata_file_path = '{quoted(file)}'"
    return session.Session().query(f"SELECT * FROM icebergLocal('{quoted(folder)}/', {chosen})", "ArrowTable")


ENGINES: dict[str, Callable[[StaticTable, Path], pa.Table]] = {
    "pyiceberg": by_pyiceberg,
    "daft": by_daft,
    "duckdb": by_duckdb,
    "clickhouse": by_clickhouse,
}


def quoted(path: Path) -> str:
    """Write a path within a SQL literal."""
    return str(path).replace("\\", "\\\\").replace("'", "''")


def lines(rows: pa.Table) -> Iterator[str]:
    """Write each row as text, column by column in the order of their names; sorted."""
    names = sorted(rows.column_names)
    columns = [[text(value) for value in rows[name].to_pylist()] for name in names]
    yield from sorted("|".join(row) for row in zip(*columns, strict=True))


def text(value: object) -> str:
    """Write a value so that equal ones of two engines are equal."""
    match value:
        case datetime():
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
        case date():
            return value.isoformat()
        case bytes():
            return value.decode("latin-1")
        case bool():
            return str(int(value))  # ClickHouse has no truth values
        case str():
            return value
    return repr(value)


def look(metadata: Path) -> dict[str, Any]:
    """Read a table with every engine."""
    table = StaticTable.from_metadata(metadata.as_uri())
    found: dict[str, Any] = {}
    for name, read in ENGINES.items():
        try:
            rows = list(lines(read(table, metadata)))
            found[name] = {"rows": len(rows), "digest": hashlib.sha256("\n".join(rows).encode()).hexdigest(), "first": rows[:1]}
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}"[:1000]}
    return {"metadata": str(metadata), "engines": found}


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(json.dumps(look(Path(argument))), flush=True)
