"""Where are the tables? One URI names the catalog, for Spark and for PyIceberg alike."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.fs as pafs
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.errors import Fatal, LakehouseError, Retryable
from lakehouse.settings import Settings
from lakehouse.storage.hdfs import arrow_hdfs, is_hdfs
from lakehouse.storage.paths import is_cut_by_urlparse, is_read_only, jdbc_url, local_path, location_of, sqlalchemy_url, sqlite_file
from lakehouse.tables.properties import MARK_PROPERTY

NAME = "lh"
# How PyIceberg opens a file there.
_ON_HDFS = "lakehouse.storage.hdfs_io.HdfsFileIO"


class UnsupportedCatalog(LakehouseError, Fatal):
    """The catalog's URI names a kind that weir does not support, or that is unsafe there."""

    def __init__(self, uri: str, why: str) -> None:
        super().__init__(
            f"catalog_uri {without_password(uri)!r}: {why}. "
            "Use sqlite:///FILE, postgresql://…, http(s)://… (REST), glue:, or hdfs://… (hadoop)."
        )


class NoTables(LakehouseError, Fatal):
    """Nothing has been written yet where the settings point."""

    def __init__(self, uri: str) -> None:
        super().__init__(
            f"No tables yet: the catalog {without_password(uri)} is not there or empty. "
            "`weir up` starts the stream that makes them, `weir demo` shows one."
        )


class UnreadableCatalog(LakehouseError, Retryable):
    """The catalog's database does not answer, or is not one."""

    def __init__(self, uri: str, problem: object) -> None:
        super().__init__(
            f"The catalog {without_password(uri)} cannot be read: {problem}. See that its database runs and that WEIR_CATALOG_URI names it."
        )


class NeedsWriteAccess(LakehouseError, Fatal):
    """The embedded catalog lies in a folder that this user may not write in."""

    def __init__(self, file: Path, problem: object) -> None:
        super().__init__(
            f"The catalog {file} cannot be read: {problem}. Programs that write these tables may run, so SQLite needs write access to "
            f"{file.parent} to see what they have committed. Give this user write access there, or mount the folder read-only: then "
            "reading works without it."
        )


class EscapedHome(LakehouseError, Fatal):
    """The tables lie in a folder beside the home, whose name has escapes in place of the home's own signs."""

    def __init__(self, home: Path, escaped: Path) -> None:
        lines = [f"{name}_uri = {json.dumps(location_of(escaped / name), ensure_ascii=False)}" for name in ("warehouse", "checkpoints")]
        super().__init__(
            f"The tables of {home} lie in {escaped}, where an earlier version of weir put them. To go on with them, write two lines into "
            f"{home / 'weir.toml'}:\n  {lines[0]}\n  {lines[1]}\nTo begin with empty tables, move {escaped} and {home / 'catalog.db'} away."
        )


def without_password(uri: str) -> str:
    """Return a URI as it may be shown."""
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1:***@", uri)


def catalog_file(settings: Settings) -> Path | None:
    """Return the file of an embedded catalog; None for the other kinds."""
    return sqlite_file(settings.catalog_uri)


def spark_catalog_conf(settings: Settings) -> dict[str, str]:
    """Return Spark's configuration of the catalog `lh`.

    The catalog's cache is off: a micro-batch has a session, hence a cache, of its own, and the driver would go on reading
    the snapshot from before a MERGE.
    """
    _check_escaped(settings)
    prefix = f"spark.sql.catalog.{NAME}"
    conf = {
        prefix: "org.apache.iceberg.spark.SparkCatalog",
        f"{prefix}.cache-enabled": "false",
        f"{prefix}.warehouse": settings.warehouse_uri,
        f"{prefix}.table-default.format-version": str(format_version(settings)),
    }
    scheme = catalog_kind(settings)
    if (file := catalog_file(settings)) is not None:
        return conf | {f"{prefix}.type": "jdbc", f"{prefix}.uri": jdbc_url(file), f"{prefix}.jdbc.schema-version": "V1"}
    if scheme == "postgresql":
        named = {f"{prefix}.{name}": value for name, value in _by_jdbc(settings.catalog_uri).items()}
        return conf | {f"{prefix}.type": "jdbc", f"{prefix}.jdbc.schema-version": "V1", **named}
    if scheme in ("http", "https"):
        return conf | {f"{prefix}.type": "rest", f"{prefix}.uri": settings.catalog_uri}
    if scheme == "glue":
        return conf | {f"{prefix}.type": "glue"}
    if scheme == "hdfs":
        return conf | {f"{prefix}.type": "hadoop", f"{prefix}.warehouse": settings.catalog_uri}
    if scheme == "file":
        raise UnsupportedCatalog(settings.catalog_uri, "a hadoop catalog on a local disk loses commits of concurrent writers")
    raise UnsupportedCatalog(settings.catalog_uri, f"unknown kind {scheme!r}")


def format_version(settings: Settings) -> int:
    """Return Iceberg's format of merged tables: 3 has deletion vectors, which fewer engines read than 2's delete files."""
    return 3 if settings.delete_format == "vectors" else 2


def catalog_kind(settings: Settings) -> str:
    """Return the scheme of the catalog's URI, for PostgreSQL without the driver that SQLAlchemy's may name (`postgresql+psycopg2`)."""
    scheme = urlsplit(settings.catalog_uri).scheme
    return "postgresql" if scheme.startswith("postgresql+") else scheme


def database_url(settings: Settings) -> str:
    """Return the URL of the catalog's database as SQLAlchemy takes it."""
    file = catalog_file(settings)
    return settings.catalog_uri if file is None else sqlalchemy_url(file)


def _by_jdbc(uri: str) -> dict[str, str]:
    """Return Iceberg's properties of a database: Java's driver takes no user within the URI, nor a password."""
    from sqlalchemy import URL, make_url

    url = make_url(uri)
    bare = URL.create(f"jdbc:{url.get_backend_name()}", host=url.host, port=url.port, database=url.database, query=url.query)
    who = {"jdbc.user": url.username, "jdbc.password": url.password}
    return {"uri": str(bare), **{name: value for name, value in who.items() if value is not None}}


def pyiceberg_properties(settings: Settings) -> dict[str, str]:
    """Return PyIceberg's configuration of the same catalog: what `pyiceberg.catalog.load_catalog` takes.

    Raises:
        UnsupportedCatalog: PyIceberg has no hadoop catalog; such tables are read through Spark.
    """
    scheme = catalog_kind(settings)
    common = {"warehouse": settings.warehouse_uri}
    if is_hdfs(settings.warehouse_uri):
        common["py-io-impl"] = _ON_HDFS
    elif is_cut_by_urlparse(settings.warehouse_uri):
        common["py-io-impl"] = "lakehouse.storage.literal_io.LiteralFileIO"
    if scheme in ("sqlite", "postgresql"):
        return {"type": "sql", "uri": database_url(settings), "init_catalog_tables": "false", **common}
    if scheme in ("http", "https"):
        return {"type": "rest", "uri": settings.catalog_uri, **common}
    if scheme == "glue":
        return {"type": "glue", **common}
    raise UnsupportedCatalog(settings.catalog_uri, "it cannot be read without Spark")


def open_catalog(settings: Settings) -> Catalog:
    """Open the same catalog with PyIceberg, for reading without Spark.

    Raises:
        NoTables: the embedded catalog's file is not there yet, or nothing has been entered in it.
        UnreadableCatalog: the database does not answer, or is none.
        UnsupportedCatalog: the URI names a kind that is not supported.
    """
    _check_escaped(settings)
    if is_hdfs(settings.catalog_uri):
        return _open_hadoop(settings.catalog_uri)
    properties = pyiceberg_properties(settings)
    if (file := catalog_file(settings)) is not None and not file.exists():
        raise NoTables(settings.catalog_uri)  # SQLite would make an empty file
    if properties["type"] == "sql":
        return _open_sql(properties, settings.catalog_uri, file)
    return load_catalog(NAME, **properties)


def _open_hadoop(uri: str) -> Catalog:
    """Open a hadoop catalog on HDFS for reading.

    Raises:
        NoTables: its folder is not there.
        UnreadableCatalog: HDFS does not answer.
    """
    from lakehouse.tables.hadoop_catalog import HadoopCatalog

    place = urlsplit(uri)
    try:
        files = arrow_hdfs(place.netloc)
        if files.get_file_info(place.path or "/").type == pafs.FileType.NotFound:
            raise NoTables(uri)
    except OSError as error:
        raise UnreadableCatalog(uri, error) from error
    return HadoopCatalog(NAME, uri, files, place.path, {"warehouse": uri, "py-io-impl": _ON_HDFS})


def cannot_be_written(settings: Settings) -> bool:
    """Return whether the catalog's file or the tables are on a read-only mount."""
    places = (catalog_file(settings), local_path(settings.warehouse_uri))
    return any(is_read_only(place) for place in places if place is not None)


def only_spark_writes(settings: Settings) -> bool:
    """Return whether the catalog is one that PyIceberg can read only: a hadoop catalog."""
    return catalog_kind(settings) == "hdfs"


def _check_escaped(settings: Settings) -> None:
    """Refuse a home whose tables an earlier version put into `my%20home` instead of `my home`: they would seem to be gone.

    Raises:
        EscapedHome: with the way to go on.
    """
    home = settings.home
    escaped = Path(home.as_uri().removeprefix("file://"))
    is_default = settings.warehouse_uri == location_of(home / "warehouse")
    was_there = (escaped / "warehouse").is_dir() and (home / "catalog.db").exists()
    if is_default and escaped != home and was_there and not (home / "warehouse").exists():
        raise EscapedHome(home, escaped)


def _open_sql(properties: dict[str, str], uri: str, file: Path | None) -> Catalog:
    """Open a catalog in a database and see that it holds one: before the first table it may hold nothing."""
    from pyiceberg.catalog.sql import SqlCatalog
    from sqlalchemy import inspect
    from sqlalchemy.exc import DBAPIError

    try:
        catalog = SqlCatalog(NAME, **properties)
        there = inspect(catalog.engine).has_table("iceberg_tables")
    except DBAPIError as error:
        if file is not None and not os.access(file.parent, os.W_OK):
            raise NeedsWriteAccess(file, error.orig) from error
        raise UnreadableCatalog(uri, error.orig) from error
    if not there:
        catalog.close()
        raise NoTables(uri)
    return catalog


def ancestors(table: Table) -> Iterator[Snapshot]:
    """Walk from a table's head back to the oldest snapshot that is kept. Compaction leaves snapshots that say nothing of weir's."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in table.snapshots()}
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        snapshot = by_id.get(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id is not None else None


def newest_mark_of(bronze: Table) -> dict[str, Any]:
    """Read the newest mark among the ancestors of bronze's head: {topic: {"id": …, "next": {partition: offset}}}; empty without one."""
    for snapshot in ancestors(bronze):
        if snapshot.summary is not None and (text := snapshot.summary.additional_properties.get(MARK_PROPERTY)):
            mark: dict[str, Any] = json.loads(text)
            return mark
    return {}
