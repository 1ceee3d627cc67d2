"""How is a small folder read that may lie on any file system, such as a checkpoint's, or a driver's state? By a few calls.

On a local disk by Python itself. Elsewhere by the JVM's own client where there is a JVM, and by Arrow's where there is none.
"""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import pyarrow.fs as pafs
from py4j.protocol import Py4JJavaError

from lakehouse.storage.files import replace_file
from lakehouse.storage.hdfs import arrow_hdfs, is_hdfs
from lakehouse.storage.paths import local_path

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class Folder(Protocol):
    """The few calls that a checkpoint's folder, or one with a driver's state, is read and written by."""

    uri: str

    def names(self, sub: str = "") -> list[str]:
        """Name what is in a folder; empty where there is none."""

    def text(self, name: str) -> str | None:
        """Read a file; null where it is missing, or cannot be read as it was written."""

    def write(self, name: str, text: str) -> None:
        """Write a small file, as a whole or not at all where the file system can; the folder is made where it is missing."""

    def remove(self, name: str) -> bool:
        """Remove a file; whether there was one."""

    def move_aside(self) -> str:
        """Rename the whole folder, and give its new URI."""


def open_folder(uri: str, spark: "SparkSession | None" = None) -> Folder:
    """Open a folder, which need not be there.

    Args:
        uri: where; a path of this machine has no scheme, or `file`.
        spark: a session, if there is one: elsewhere than on this machine its JVM knows how to get there.
    """
    path = local_path(uri)
    if path is not None:
        return LocalFolder(path)
    return HadoopFolder(spark, uri) if spark is not None else ArrowFolder(uri)


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uri = str(path)

    def names(self, sub: str = "") -> list[str]:
        """Name what is in a folder; empty where there is none."""
        folder = self.path / sub
        return sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []

    def text(self, name: str) -> str | None:
        """Read a file; null where it is missing."""
        try:
            return (self.path / name).read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, text: str) -> None:
        """Replace a small file in one step."""
        replace_file(self.path / name, text)

    def remove(self, name: str) -> bool:
        """Remove a file; whether there was one."""
        try:
            (self.path / name).unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def move_aside(self) -> str:
        """Rename the whole folder, and give its new path."""
        aside = _aside(self.uri)
        self.path.rename(aside)
        return aside


class ArrowFolder:
    """A folder of a file system that Arrow knows, such as HDFS or an object store.

    Raises:
        OSError: Arrow does not know it, or lacks what it needs to get there; from every call.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._opened: tuple[Any, str] | None = None

    def names(self, sub: str = "") -> list[str]:
        """Name what is in a folder; empty where there is none."""
        fs, path = self._at(sub)
        return sorted(one.base_name for one in fs.get_file_info(pafs.FileSelector(path, allow_not_found=True)))

    def text(self, name: str) -> str | None:
        """Read a file; null where it is missing."""
        fs, path = self._at(name)
        try:
            with fs.open_input_stream(path) as stream:
                return bytes(stream.read()).decode(errors="replace")
        except FileNotFoundError:
            return None

    def write(self, name: str, text: str) -> None:
        """Write a small file beside the old one, and rename it."""
        fs, path = self._at(name)
        fs.create_dir(path.rpartition("/")[0], recursive=True)
        beside = f"{path}.new"
        with fs.open_output_stream(beside) as stream:
            stream.write(text.encode())
        # HDFS renames onto no file that is there.
        with contextlib.suppress(FileNotFoundError):
            fs.delete_file(path)
        fs.move(beside, path)

    def remove(self, name: str) -> bool:
        """Remove a file; whether there was one."""
        fs, path = self._at(name)
        try:
            fs.delete_file(path)
        except FileNotFoundError:
            return False
        return True

    def move_aside(self) -> str:
        """Rename the whole folder, and give its new URI."""
        aside = _aside(self.uri)
        fs, path = self._at("")
        fs.move(path, _aside(path, aside))
        return aside

    def _at(self, sub: str) -> tuple[Any, str]:
        if self._opened is None:
            try:
                files, place = arrow_place(self.uri)
                self._opened = pafs.FileSystem.from_uri(self.uri) if files is None else (files, place)
            except (ValueError, NotImplementedError) as error:  # a scheme that Arrow was built without, or knows nothing of
                raise OSError(f"{self.uri}: {error}") from error
        fs, root = self._opened
        return fs, f"{root.rstrip('/')}/{sub}" if sub else root


def arrow_place(uri: str) -> tuple[Any, str]:
    """Return a place as Arrow takes it: a file system, None where Arrow finds it by the place itself, and the place in it."""
    if (path := local_path(uri)) is not None:
        return None, str(path)  # Arrow would read `file://` with escapes
    if is_hdfs(uri):
        place = urlsplit(uri)
        return arrow_hdfs(place.netloc), place.path
    return None, uri


def _aside(name: str, like: str = "") -> str:
    """Name a folder that is set aside; with the time of another one where that is given."""
    return name + (like[like.rindex(".old-") :] if like else f".old-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")


class HadoopFolder:
    """A folder of any file system that Spark knows, by the JVM's own client.

    Raises:
        OSError: the file system refuses, as HDFS does in safe mode, or does not answer; from every call.
    """

    def __init__(self, spark: "SparkSession", uri: str) -> None:
        self.uri = uri
        self._jvm: Any = spark._jvm
        self._fs: Any = self._path("").getFileSystem(spark.sparkContext._jsc.hadoopConfiguration())

    def names(self, sub: str = "") -> list[str]:
        """Name what is in a folder; empty where there is none."""
        path = self._path(sub)
        with _as_os_error():
            return sorted(str(one.getPath().getName()) for one in self._fs.listStatus(path)) if self._fs.exists(path) else []

    def text(self, name: str) -> str | None:
        """Read a file; null where it is missing, or its checksum is not that of what was written."""
        path = self._path(name)
        with _as_os_error():
            if not self._fs.exists(path):
                return None
            stream = self._fs.open(path)
            try:
                return bytes(stream.readAllBytes()).decode(errors="replace")
            except Py4JJavaError as error:
                # What cannot be read now, as in HDFS's safe mode, is not what is broken.
                if error.java_exception.getClass().getSimpleName() == "ChecksumException":
                    return None
                raise
            finally:
                stream.close()

    def write(self, name: str, text: str) -> None:
        """Write a small file."""
        with _as_os_error():
            stream = self._fs.create(self._path(name), True)
            try:
                stream.write(bytearray(text.encode()))
            finally:
                stream.close()

    def remove(self, name: str) -> bool:
        """Remove a file; whether there was one."""
        path = self._path(name)
        with _as_os_error():
            return bool(self._fs.exists(path) and self._fs.delete(path, False))

    def move_aside(self) -> str:
        """Rename the whole folder, and give its new URI."""
        aside = _aside(self.uri)
        with _as_os_error():
            is_done = self._fs.rename(self._path(""), self._jvm.org.apache.hadoop.fs.Path(aside))
        if not is_done:
            raise OSError(f"{self.uri} cannot be renamed to {aside}: see who may write in that folder")
        return aside

    def _path(self, sub: str) -> Any:  # noqa: ANN401 - Hadoop's Path
        return self._jvm.org.apache.hadoop.fs.Path(f"{self.uri}/{sub}" if sub else self.uri)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise what Java's file systems raise as Python's do."""
    try:
        yield
    except Py4JJavaError as error:
        raise OSError(str(error.java_exception.getMessage()).partition("\n")[0]) from error
