"""What do the tables hold? SQL over them without Spark: PyIceberg finds and reads, DuckDB computes, nothing is written.

Each table that a query names is read at the snapshot that is current now, the columns that it needs and no others, and
becomes a view `lh.<layer>.<table>` in a DuckDB that lives in memory and sees no file and no network. `lh.ops.batches` is
such a view too, made of what the snapshots say about themselves.

With a day, each table is read at the tag that maintenance made at the end of that UTC day, with the columns that it had then.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.errors import Fatal, LakehouseError
from lakehouse.query.table_view import NoTableTagged, NotTagged, TableView, view_of
from lakehouse.settings import Settings
from lakehouse.tables.catalog import NAME, NoTables, ancestors, open_catalog
from lakehouse.tables.day_tags import tag_name, tagged_days
from lakehouse.tables.properties import (
    BATCH_ID_PROPERTY,
    CODE_VERSION_PROPERTY,
    ENGINE_PROPERTY,
    GRAIN_PROPERTY,
    MARK_PROPERTY,
    OFFSET_RANGE_PROPERTY,
    QUERY_PROPERTY,
    REJECTED_PROPERTY,
    ROWS_ACCEPTED_PROPERTY,
    ROWS_IN_PROPERTY,
)
from lakehouse.tables.schema import quote_name

BATCHES = ("ops", "batches")
BATCHES_GRAIN = "one row per committed micro-batch or chunk and table that it changed"
# name, Arrow type, DuckDB type, meaning. `table` would have to be quoted in every query.
BATCHES_COLUMNS = (
    ("table_name", pa.string(), "VARCHAR", "table that the commit changed"),
    ("query", pa.string(), "VARCHAR", "the query, named for what it writes"),
    ("batch_id", pa.int64(), "BIGINT", "micro-batch, as the query's checkpoint counts them"),
    (
        "offsets",
        pa.string(),
        "JSON",
        "by topic; bronze: id and next offset of each partition after the batch; else first and last offset of it",
    ),
    ("rows_in", pa.int64(), "BIGINT", "rows that the batch read"),
    ("rows_accepted", pa.int64(), "BIGINT", "rows that passed the rules; null for bronze, which takes all"),
    ("rejected", pa.string(), "JSON", "rule -> rows that it rejected; null for bronze"),
    ("added_records", pa.int64(), "BIGINT", "rows in the files that the commit added"),
    ("deleted_records", pa.int64(), "BIGINT", "rows that the commit deleted, replaced, or moved to another file"),
    ("operation", pa.string(), "VARCHAR", "append, overwrite or delete, as Iceberg names it"),
    ("snapshot_id", pa.int64(), "BIGINT", "the table's snapshot"),
    ("committed_ts", pa.timestamp("us", tz="UTC"), "TIMESTAMP WITH TIME ZONE", "when the commit was made"),
    ("engine", pa.string(), "VARCHAR", "what computed the rows, duckdb or spark; null for bronze and older commits"),
    ("code_version", pa.string(), "VARCHAR", "the code that wrote it; null where it did not say"),
)
# Schemas of DuckDB's own, which it resolves by itself.
_OWN_SCHEMAS = {"information_schema", "pg_catalog", "main", "temp", "system"}


class QueryFailed(LakehouseError, Fatal):
    """The SQL does not parse, does not fit the tables, or fails on their data."""


class NotASelect(QueryFailed):
    """The SQL is something else than one question."""

    def __init__(self, found: str) -> None:
        super().__init__(f"The tables are read only here: expected one SELECT, found {found}.")


class UnknownTable(QueryFailed):
    """The SQL names a table that is not there."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = list(known)
        tails = {table.rpartition(".")[2]: table for table in known}
        near = difflib.get_close_matches(name, known, n=1) or [
            tails[tail] for tail in difflib.get_close_matches(name.rpartition(".")[2], tails, n=1)
        ]
        meant = f"; did you mean {near[0]}?" if near else "."
        super().__init__(f"No table {name}{meant} There are: {', '.join(known)}.")
        self.name = name


class UnreadableTable(LakehouseError, Fatal):
    """A file that the table refers to cannot be read."""

    def __init__(self, name: str, problem: object) -> None:
        super().__init__(f"{name} cannot be read: {problem}. `weir doctor` checks every file of every table.")


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """A column as it stands in the catalog: its type in Iceberg's words, and its comment."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True, slots=True)
class TableInfo:
    """A table as it stands in the catalog; `last_commit` is an instant in UTC, None before the first commit."""

    table: str
    layer: str
    grain: str
    rows: int
    last_commit: datetime | None
    columns: tuple[ColumnInfo, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of a query, in its order.

    Attributes:
        columns: their names, each once.
        types: of the columns, as DuckDB names them.
        rows: instants are aware UTC.
        more: the query has more rows than were asked for.
    """

    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool


@dataclass(frozen=True, slots=True)
class _Needs:
    """What a query needs: tables by their path, and the columns by name; None means all of them."""

    tables: tuple[tuple[str, ...], ...]
    columns: frozenset[str] | None


class Reader:
    """The tables of one catalog, open for reading. Use it in a `with`."""

    def __init__(self, settings: Settings, as_of: date | None = None) -> None:
        """Open the catalog.

        Args:
            settings: name it.
            as_of: read every table as it was at the end of this UTC day; as it is now without.

        Raises:
            NoTables: nothing has been written yet.
            UnsupportedCatalog: it can be read through Spark only.
        """
        self._as_of = as_of
        self._catalog: Catalog = open_catalog(settings)
        try:
            found = [identifier for namespace in self._catalog.list_namespaces() for identifier in self._catalog.list_tables(namespace)]
        except BaseException:
            self._catalog.close()
            raise
        self._stored = {tuple(part.lower() for part in identifier): identifier for identifier in sorted(found)}
        if not self._stored:
            self._catalog.close()
            raise NoTables(settings.catalog_uri)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._catalog.close()

    @property
    def names(self) -> list[str]:
        """The names of all tables, sorted, `lh.ops.batches` among them."""
        return sorted(".".join((NAME, *path)) for path in {*self._stored, BATCHES})

    def tables(self) -> Iterator[TableInfo]:
        """Describe every table; those that have the day's tag where a day was given. Rows that a MERGE deleted are not counted.

        Raises:
            NoTableTagged: none has the day's tag.
        """
        days: set[date] = set()
        count = 0
        for identifier in self._stored.values():
            table = self._load(identifier)
            if self._as_of is not None and tag_name(self._as_of) not in table.metadata.refs:
                days.update(tagged_days(table.metadata.refs))
                continue
            count += 1
            yield _info(view_of(table, self._as_of))
        if self._as_of is not None and not count:
            raise NoTableTagged(self._as_of, sorted(days))
        if BATCHES not in self._stored and self._as_of is None:
            batches = self._batches()
            commits = batches.column("committed_ts").to_pylist()
            columns = tuple(ColumnInfo(name, kind.lower(), about) for name, _, kind, about in BATCHES_COLUMNS)
            yield TableInfo(".".join((NAME, *BATCHES)), BATCHES[0], BATCHES_GRAIN, len(commits), max(commits, default=None), columns)

    def query(self, sql: str, limit: int | None = None) -> Answer:
        """Answer one SELECT.

        Args:
            sql: in DuckDB's dialect; tables are named with `lh.` or without. The zone is UTC.
            limit: give at most so many rows.

        Raises:
            NotASelect: it is another statement, or several.
            UnknownTable: a table is not there.
            NotTagged: a table has no tag of the day that is asked for.
            QueryFailed: it does not parse, a column is not there, or a value does not fit; in DuckDB's words.
        """
        with _sandbox() as connection:
            needs = _needs(connection, sql)
            wanted = [path for path in needs.tables if len(path) < 2 or path[0] not in _OWN_SCHEMAS]
            for path in wanted:
                if path not in self._stored and path != BATCHES:
                    raise UnknownTable(".".join(path), self.names)
                if path not in self._stored and self._as_of is not None:
                    raise NotTagged(".".join((NAME, *path)), self._as_of, ())
            loaded = {path: view_of(self._load(self._stored[path]), self._as_of) for path in wanted if path in self._stored}
            # Bound against the whole tables without a row: a mistake is reported before anything is read, with the names of all columns.
            for path in wanted:
                _register(connection, path, schema_to_pyarrow(loaded[path].schema).empty_table() if path in loaded else _to_batches(()))
            _bind(connection, sql, {path: [f.name for f in view.schema.fields] for path, view in loaded.items()})
            for path in wanted:
                _register(connection, path, _read(loaded[path], needs.columns) if path in loaded else self._batches())
            return _fetch(connection, sql, limit)

    def open_table(self, name: str) -> TableView:
        """Open one stored table, named with `lh.` or without.

        Raises:
            UnknownTable: it is not there, or it is `lh.ops.batches`, which is not stored.
            NotTagged: it has no tag of the day that is asked for.
            UnreadableTable: a file of its metadata cannot be read.
        """
        path = tuple(name.lower().removeprefix(f"{NAME}.").split("."))
        if path not in self._stored:
            raise UnknownTable(name, sorted(".".join((NAME, *one)) for one in self._stored))
        return view_of(self._load(self._stored[path]), self._as_of)

    def _load(self, identifier: tuple[str, ...]) -> Table:
        try:
            return self._catalog.load_table(identifier)
        except OSError as error:
            raise UnreadableTable(".".join((NAME, *identifier)), error) from error

    def _batches(self) -> pa.Table:
        return _to_batches((path, self._load(identifier)) for path, identifier in self._stored.items())


def _sandbox() -> duckdb.DuckDBPyConnection:
    """Open a DuckDB in memory that reads no file, loads no extension and takes no Python variable for a table."""
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET python_enable_replacements = false")
    connection.execute(f"ATTACH ':memory:' AS {NAME}")
    connection.execute("SET enable_external_access = false")
    connection.execute(f"USE {NAME}")
    return connection


def _needs(connection: duckdb.DuckDBPyConnection, sql: str) -> _Needs:
    """Read from DuckDB's own syntax tree which tables and columns a query names."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryFailed(str(error)) from error
    if len(statements) != 1:
        raise NotASelect(f"{len(statements)} statements" if statements else "nothing")
    tree = json.loads(_one(connection, "SELECT json_serialize_sql(?)", sql))
    if tree["error"]:
        kind = statements[0].type.name
        raise NotASelect("PIVOT; write it as GROUP BY with FILTER" if kind in ("MULTI", "SELECT") else kind)
    nodes = list(_nodes(tree))
    ctes = {entry["key"].lower() for node in nodes if isinstance(node.get("cte_map"), dict) for entry in node["cte_map"]["map"]}
    named = [node for node in nodes if node.get("type") == "BASE_TABLE"]
    paths = [tuple(part.lower() for part in node["qualified_name"]["path"]) for node in named]
    tables = {path[1:] if len(path) == 3 and path[0] == NAME else path for path in paths if path[0] not in ctes or len(path) > 1}
    if any(node.get("show_type") == "SHOW_SPECIAL" or (node.get("type") == "SHOW_REF" and node.get("query") is None) for node in nodes):
        raise NotASelect("SHOW; `weir query` without SQL lists the tables and their columns")
    return _Needs(
        tuple(sorted(tables)), _columns(nodes, {str(node["alias"] or path[-1]).lower() for node, path in zip(named, paths, strict=True)})
    )


def _columns(nodes: Sequence[dict[str, Any]], row_names: set[str]) -> frozenset[str] | None:
    """Return every text in the tree that could be a column's name; None where columns can be meant without being named."""
    by_place = any(node.get("type") in ("STAR", "POSITIONAL_REFERENCE", "SHOW_REF") or node.get("ref_type") == "NATURAL" for node in nodes)
    whole_rows = any(node.get("type") == "COLUMN_REF" and node["column_names"][-1].lower() in row_names for node in nodes)
    if by_place or whole_rows:
        return None
    texts: set[str] = set()
    for node in nodes:
        for value in node.values():
            texts.update(text.lower() for text in (value if isinstance(value, list) else [value]) if isinstance(text, str))
    return frozenset(texts)


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _one(connection: duckdb.DuckDBPyConnection, sql: str, *values: object) -> str:
    return str(connection.execute(sql, values).fetchall()[0][0])


def _register(connection: duckdb.DuckDBPyConnection, path: tuple[str, ...], rows: pa.Table) -> None:
    """Make rows the view `lh.<layer>.<table>`."""
    layer, name = (quote_name(part) for part in path)
    held = ".".join(path)
    connection.register(held, rows)
    json_columns = (
        [name for name, _, kind, _ in BATCHES_COLUMNS if kind == "JSON"] if path == BATCHES and "offsets" in rows.column_names else []
    )
    typed = f" REPLACE ({', '.join(f'{column}::JSON AS {column}' for column in json_columns)})" if json_columns else ""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {NAME}.{layer}")
    source = f"SELECT *{typed} FROM temp.main.{quote_name(held)}"
    connection.execute(f"CREATE OR REPLACE VIEW {NAME}.{layer}.{name} AS {source}")


def _bind(connection: duckdb.DuckDBPyConnection, sql: str, columns: dict[tuple[str, ...], list[str]]) -> None:
    """Let DuckDB check names and types."""
    try:
        connection.sql(sql)  # a relation: bound, and not run
    except duckdb.Error as error:
        present = [f"Columns of {'.'.join((NAME, *path))}: {', '.join(names)}." for path, names in columns.items()]
        raise QueryFailed("\n".join([str(error), *(present if isinstance(error, duckdb.BinderException) else ())])) from error


def _info(view: TableView) -> TableInfo:
    """Describe a table at a snapshot."""
    properties = view.table.properties
    columns = tuple(ColumnInfo(f.name, str(f.field_type), f.doc or "") for f in view.schema.fields)
    grain = properties.get(GRAIN_PROPERTY) or properties.get("comment") or ""
    commit = None if view.snapshot is None else _instant(view.snapshot.timestamp_ms)
    return TableInfo(view.name, view.name.split(".")[1], grain, view.scan().count(), commit, columns)


def _read(view: TableView, columns: frozenset[str] | None) -> pa.Table:
    """Read the rows; the columns named, at least one, since a table without any has no rows either."""
    fields = [f.name for f in view.schema.fields]
    selected = fields if columns is None else [name for name in fields if name.lower() in columns] or fields[:1]
    try:
        return view.scan(selected_fields=tuple(selected)).to_arrow()
    except OSError as error:
        raise UnreadableTable(view.name, error) from error


def _fetch(connection: duckdb.DuckDBPyConnection, sql: str, limit: int | None) -> Answer:
    try:
        relation = connection.sql(sql)
        types = tuple(str(kind) for kind in relation.types)
        reader = relation.to_arrow_reader(10_000)
        rows: list[tuple[Any, ...]] = []
        # Column by column: two may have one name.
        for batch in reader:
            rows += zip(*[column.to_pylist() for column in batch.columns], strict=True)
            if limit is not None and len(rows) > limit:
                break
    except duckdb.Error as error:
        raise QueryFailed(str(error)) from error
    more = limit is not None and len(rows) > limit
    return Answer(_unique(reader.schema.names), types, rows[:limit] if more else rows, more)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Number repeated names, as DuckDB does in a subquery: a, a_1."""
    given: list[str] = []
    for name in names:
        number, candidate = 0, name
        while candidate in given:
            number += 1
            candidate = f"{name}_{number}"
        given.append(candidate)
    return tuple(given)


def _to_batches(tables: Iterable[tuple[tuple[str, ...], Table]]) -> pa.Table:
    """Make `lh.ops.batches` of the snapshots that lead to each table's head and that a micro-batch or chunk wrote."""
    rows = [_to_batch(".".join((NAME, *path)), snapshot) for path, table in tables for snapshot in ancestors(table)]
    schema = pa.schema([(name, kind) for name, kind, _, _ in BATCHES_COLUMNS])
    return pa.Table.from_pylist(sorted((row for row in rows if row), key=lambda row: row["committed_ts"]), schema=schema)


def _to_batch(table_name: str, snapshot: Snapshot) -> dict[str, Any] | None:
    """Turn a snapshot into a row; None for one that no batch wrote, such as a compaction's."""
    said = {} if snapshot.summary is None else snapshot.summary.additional_properties
    if QUERY_PROPERTY not in said:
        return None

    def number(name: str) -> int | None:
        return int(said[name]) if name in said else None

    return {
        "table_name": table_name,
        "query": said[QUERY_PROPERTY],
        "batch_id": number(BATCH_ID_PROPERTY),
        "offsets": said.get(MARK_PROPERTY, said.get(OFFSET_RANGE_PROPERTY)),
        # An append takes in what it adds: nothing where it only says that offsets without a message were passed.
        "rows_in": number(ROWS_IN_PROPERTY) if ROWS_IN_PROPERTY in said else number("added-records") or 0,
        "rows_accepted": number(ROWS_ACCEPTED_PROPERTY),
        "rejected": said.get(REJECTED_PROPERTY),
        "added_records": number("added-records") or 0,
        # A file rewritten without the row, or a delete file that names it.
        "deleted_records": (number("deleted-records") or 0) + (number("added-position-deletes") or 0),
        "operation": snapshot.summary.operation.value if snapshot.summary else None,
        "snapshot_id": snapshot.snapshot_id,
        "committed_ts": _instant(snapshot.timestamp_ms),
        "engine": said.get(ENGINE_PROPERTY),
        "code_version": said.get(CODE_VERSION_PROPERTY),
    }


def _instant(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
