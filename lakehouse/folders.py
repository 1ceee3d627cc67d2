"""How is a small folder read that may lie on any file system, such as a checkpoint's? By a few calls, of the JVM's own client."""

from datetime import UTC, datetime
from typing import Any, Protocol

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession


class Folder(Protocol):
    """The few calls that a checkpoint's folder is read by."""

    uri: str

    def names(self, sub: str = "") -> list[str]:
        """Name what is in a folder; empty where there is none."""

    def text(self, name: str) -> str | None:
        """Read a file; null where it is missing, or cannot be read as it was written."""

    def write(self, name: str, text: str) -> None:
        """Write a small file."""

    def remove(self, name: str) -> bool:
        """Remove a file; whether there was one."""

    def move_aside(self) -> str:
        """Rename the whole folder, and give its new URI."""


class HadoopFolder:
    """A folder of any file system that Spark knows, by the JVM's own client."""

    def __init__(self, spark: SparkSession, uri: str) -> None:
        self.uri = uri
        self._jvm: Any = spark._jvm
        self._fs: Any = self._path("").getFileSystem(spark.sparkContext._jsc.hadoopConfiguration())

    def names(self, sub: str = "") -> list[str]:
        """Name what is in a folder; empty where there is none."""
        path = self._path(sub)
        return sorted(str(one.getPath().getName()) for one in self._fs.listStatus(path)) if self._fs.exists(path) else []

    def text(self, name: str) -> str | None:
        """Read a file; null where it is missing, or its checksum is not that of what was written."""
        path = self._path(name)
        if not self._fs.exists(path):
            return None
        try:
            stream = self._fs.open(path)
            try:
                return bytes(stream.readAllBytes()).decode(errors="replace")
            finally:
                stream.close()
        except Py4JJavaError:
            return None

    def write(self, name: str, text: str) -> None:
        """Write a small file."""
        stream = self._fs.create(self._path(name), True)
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()

    def remove(self, name: str) -> bool:
        """Remove a file; whether there was one."""
        path = self._path(name)
        return bool(self._fs.exists(path) and self._fs.delete(path, False))

    def move_aside(self) -> str:
        """Rename the whole folder, and give its new URI."""
        aside = f"{self.uri}.old-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        if not self._fs.rename(self._path(""), self._jvm.org.apache.hadoop.fs.Path(aside)):
            raise OSError(f"{self.uri} cannot be renamed to {aside}: see who may write in that folder")
        return aside

    def _path(self, sub: str) -> Any:  # noqa: ANN401 - Hadoop's Path
        return self._jvm.org.apache.hadoop.fs.Path(f"{self.uri}/{sub}" if sub else self.uri)
