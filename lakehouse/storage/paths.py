"""How does every library open one folder as the same place, whatever it is called? The one address for a path's spellings.

Spark, Hadoop and Iceberg take the text behind `file://` as it is: `%20` there is three characters of a name, no blank. PyIceberg cuts
that text at `?` and `#`, SQLite takes a URI with escapes, Java's logging a URI with escapes too. So a path is never put together with a
scheme by hand; each of these has a function here.
"""

import os
import re
from pathlib import Path
from urllib.parse import quote, urlencode

from lakehouse.errors import Fatal, LakehouseError

# PyIceberg reads a location by `urlparse`, which takes the first two for the end of the path and leaves out the others.
_CUT_BY_URLPARSE = re.compile(r"[?#\t\r\n]")


class UnusablePath(LakehouseError, Fatal):
    """A folder has a name with which a library that weir stands on cannot work."""

    def __init__(self, what: str, path: Path, why: str, setting: str) -> None:
        # What is no UTF-8 in the name is printed as the byte it is.
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        super().__init__(f"{what} {shown!r} cannot be used: {why}. {setting}")
        self.path = path


class ReadOnlyCatalog(LakehouseError, Fatal):
    """The catalog lies on a read-only mount, and its file alone does not say what is committed."""

    def __init__(self, file: Path) -> None:
        super().__init__(
            f"The catalog {file} is on a read-only mount, and {file.name}-wal beside it holds commits that are not in it yet: a program "
            f"writes these tables, or ended without closing them. Reading them needs write access to {file.parent}: mount it writable, "
            "or end that program and run any verb once where the folder is writable."
        )


def location_of(path: Path) -> str:
    """Return a local path as Spark, Hadoop, Iceberg and PyIceberg take it: `file://` and the path as it is, nothing escaped."""
    return f"file://{path}"


def local_path(location: str) -> Path | None:
    """Return the path of a location, as `location_of` wrote it or with the fewer slashes of Hadoop; None for another file system."""
    if location.startswith("/"):
        return Path(location)
    if not location.startswith("file:"):
        return None
    rest = location.removeprefix("file:").removeprefix("//localhost")
    return Path(rest.removeprefix("//") if rest.startswith("///") else rest)


def as_location(given: str) -> str:
    """Return what a setting names as a location: a plain path is one of this machine, a URI stays; nothing is escaped or resolved."""
    if not given or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", given):
        found = local_path(given) if given.startswith("file:") else None
        return given if found is None else location_of(found)
    return location_of(Path(given).expanduser().absolute())


def is_cut_by_urlparse(location: str) -> bool:
    """Return whether PyIceberg's own reading of a location would lose a part of its path."""
    return _CUT_BY_URLPARSE.search(location) is not None


def sqlalchemy_url(file: Path) -> str:
    """Return the URL of a SQLite file for Python: PyIceberg and the lease. It is for reading alone on a read-only mount.

    Args:
        file: absolute.

    Raises:
        ReadOnlyCatalog: it is on a read-only mount, and not all that is committed stands in it.
    """
    from sqlalchemy import URL

    if not is_read_only(file):
        url = URL.create("sqlite", database=str(file))
    else:
        url = URL.create("sqlite", database=_sqlite_uri(file), query={**_unchanging(file), "uri": "true"})
    return url.render_as_string(hide_password=False)


def jdbc_url(file: Path) -> str:
    """Return the same for Java: Iceberg's catalog in Spark.

    Raises:
        ReadOnlyCatalog: as for `sqlalchemy_url`.
    """
    # WAL lets readers go on while one writes; the timeout queues writers instead of failing with "database is locked".
    options = _unchanging(file) if is_read_only(file) else {"busy_timeout": "30000", "journal_mode": "WAL"}
    return f"jdbc:sqlite:{_sqlite_uri(file)}?{urlencode(options)}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file that a catalog's URI names; None for other kinds. What follows `sqlite:///` is the path as it is, nothing escaped."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def _sqlite_uri(file: Path) -> str:
    """Write a file as SQLite's own URI, which a driver hands on whole; it would cut a bare name at its first `?`."""
    return f"file:{quote(os.fsencode(file))}"


def _unchanging(file: Path) -> dict[str, str]:
    """Return SQLite's options for a file that nobody can change: a database in WAL mode wants to make files beside it even to be read."""
    wal = file.with_name(f"{file.name}-wal")
    if wal.exists() and wal.stat().st_size:
        raise ReadOnlyCatalog(file)
    return {"mode": "ro", "immutable": "1"}


def check_class_path(folder: Path, setting: str) -> None:
    """Refuse a folder below which Java finds no class: its path ends an entry of the class path, or is not read as it stands.

    Raises:
        UnusablePath: its path holds a colon, an exclamation mark or a sign that takes four bytes.
    """
    if any(sign in ":!" or sign > "\uffff" for sign in str(folder)):
        why = "Java finds no class below a path with a colon, an exclamation mark or an emoji"
        raise UnusablePath("The folder of the jars", folder, why, setting)


def is_read_only(path: Path) -> bool:
    """Return whether a path, or the folder that it would be made in, is on a read-only mount: then nobody can write there by this path."""
    existing = next((one for one in (path, *path.parents) if one.exists()), None)
    try:
        return existing is not None and bool(os.statvfs(existing).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def check_name_of_home(home: Path) -> None:
    """Refuse a home whose name no program can be given.

    Raises:
        UnusablePath: its name is not UTF-8, or holds a control sign.
    """
    name = os.fsencode(home)
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise UnusablePath("The home", home, "its name is not UTF-8, and Java opens no such file", "Set WEIR_HOME to another.") from None
    if any(sign < " " or sign == "\x7f" for sign in text):
        raise UnusablePath(
            "The home", home, "its name holds a control sign such as a line break, which settings files end at", "Set WEIR_HOME to another."
        )
