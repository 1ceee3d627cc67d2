"""How does DuckDB compute a transform? As one query over Arrow tables, in this process."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import duckdb
import pyarrow as pa

from lakehouse.engine.engine import DoesNotFit, Engine
from lakehouse.engine.newest import latest_query
from lakehouse.engine.relation import How, Relation, Transform
from lakehouse.tables.schema import Table, quote, quote_name

# Functions that transforms use and DuckDB lacks, or has under another name, with Spark's meaning. See `functions.py`.
_MACROS = (
    # Rounded down, also before 1970.
    "unix_seconds(t) AS (epoch_us(t) - ((epoch_us(t) % 1000000) + 1000000) % 1000000) // 1000000",
    "unix_millis(t) AS (epoch_us(t) - ((epoch_us(t) % 1000) + 1000) % 1000) // 1000",
    "timestamp_seconds(s) AS make_timestamptz(CAST(s AS BIGINT) * 1000000)",
    "get(list, n) AS list[CAST(n AS BIGINT) + 1]",
    "array_sort(list) AS list_sort(list)",
    "collect_list(x) AS list(x) FILTER (x IS NOT NULL)",
    "array_join(list, separator) AS array_to_string(list, separator)",
    "unix_date(day) AS date_diff('day', DATE '1970-01-01', day)",
    # Of Spark's bases the one that transforms use: from 16 to 10.
    "conv(digits, base, wanted) AS CAST(CAST('0x' || digits AS UBIGINT) AS VARCHAR)",
)
# A wide row with the bytes of its message takes so much, in Arrow and while it is computed.
BYTES_OF_A_ROW = 1_000
_UNITS = {"MB": 1_000_000, "GB": 1_000_000_000}
_TYPES = {"TIMESTAMP": "TIMESTAMPTZ", "BINARY": "BLOB"}


def open_duckdb(memory: str, folder: Path | None, threads: int = 2) -> duckdb.DuckDBPyConnection:
    """Open a database in memory that reads the texts of transforms and rules; for the arguments see `DuckEngine`."""
    database = duckdb.connect()
    database.execute(
        # Stdout is the commands' own.
        "SET enable_progress_bar = false;"
        f"SET GLOBAL TimeZone = 'UTC'; SET memory_limit = {quote(memory)}; SET threads = {threads};"
        # DuckDB must not download extensions.
        "SET autoinstall_known_extensions = false; SET autoload_known_extensions = false"
    )
    database.execute("SET temp_directory = $folder", {"folder": "" if folder is None else str(folder)})
    for macro in _MACROS:
        database.execute(f"CREATE MACRO {macro}")
    return database


class DuckRelation(Relation):
    """A relation that is the text of a query."""

    def __init__(self, query: str) -> None:
        self.query = query

    def select(self, *columns: str) -> Self:
        """See `Relation`."""
        return type(self)(f"SELECT {', '.join(columns)} FROM ({self.query})")

    def where(self, condition: str) -> Self:
        """See `Relation`."""
        return type(self)(f"SELECT * FROM ({self.query}) WHERE {condition}")

    def group(self, by: Sequence[str], *aggregates: str) -> Self:
        """See `Relation`."""
        return type(self)(f"SELECT {', '.join([*by, *aggregates])} FROM ({self.query}) GROUP BY {', '.join(by) or '()'}")

    def join(self, other: Self, on: Sequence[str], how: How = "inner") -> Self:
        """See `Relation`."""
        return type(self)(f"SELECT * FROM ({self.query}) AS one {how.upper()} JOIN ({other.query}) AS other USING ({', '.join(on)})")

    def union(self, other: Self) -> Self:
        """See `Relation`."""
        return type(self)(f"({self.query}) UNION ALL BY NAME ({other.query})")


class DuckEngine(Engine):
    """DuckDB in this process, without tables of its own. May be used by several threads.

    Args:
        memory: what it may hold before it writes to `folder`, such as `1GB`; the Arrow tables that it reads and returns come on top.
        folder: for what does not fit; nothing is written there when everything does. None keeps it from writing.
        threads: at most so many.
    """

    def __init__(self, memory: str = "1GB", folder: Path | None = None, threads: int = 2) -> None:
        self.most_rows = max(1, int(memory[:-2]) * _UNITS[memory[-2:]] // BYTES_OF_A_ROW)
        self._database = open_duckdb(memory, folder, threads)

    @property
    def name(self) -> str:
        """See `Engine`."""
        return "duckdb"

    def compute(self, transform: Transform, inputs: Sequence[pa.Table], table: Table) -> pa.Table:
        """See `Engine`; a text that DuckDB does not read raises duckdb.Error."""
        named = {f"input_{n}": rows for n, rows in enumerate(inputs)}
        return self.query(_made(transform, list(named), table), named)

    def newest(self, transform: Transform, rows: pa.Table, present: pa.Table, table: Table, version: str) -> pa.Table:
        """See `Engine`; a text that DuckDB does not read raises duckdb.Error."""
        both = f"({_made(transform, ['come'], table)}) UNION ALL (SELECT {_columns(table)} FROM present)"
        return self.query(latest_query(both, table, version), {"come": rows, "present": present})

    def query(self, text: str, tables: Mapping[str, pa.Table]) -> pa.Table:
        """Return the rows of a query over Arrow tables, named as in the text; a backtick quotes a name.

        Raises:
            DoesNotFit: DuckDB's memory does not suffice.
            duckdb.Error: DuckDB does not read the text.
        """
        with self._database.cursor() as cursor:
            for name, rows in tables.items():
                cursor.register(name, rows)
            try:
                return cursor.sql(text.replace("`", '"')).to_arrow_table()  # how DuckDB quotes a name
            except duckdb.OutOfMemoryException as error:
                raise DoesNotFit(str(error)) from error

    def close(self) -> None:
        """Give the memory back."""
        self._database.close()


def _made(transform: Transform, names: Sequence[str], table: Table) -> str:
    """Return the query of a transform of named inputs, with the columns and types of a table."""
    made = transform(*(DuckRelation(f"SELECT * FROM {name}") for name in names))
    assert isinstance(made, DuckRelation)  # a transform returns what it was given
    return f"SELECT {_columns(table)} FROM ({made.query})"


def _columns(table: Table) -> str:
    return ", ".join(f"CAST({quote_name(c.name)} AS {_TYPES.get(c.type, c.type)}) AS {quote_name(c.name)}" for c in table.columns)
