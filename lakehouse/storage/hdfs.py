"""How is HDFS reached without a JVM? By hdfs-native's client, which reads the cluster's own configuration from HADOOP_CONF_DIR.

`adopt_environment` sets that variable from the setting `hadoop_conf_dir`. PyArrow's own way needs libhdfs and a JVM. Where there is a JVM,
Spark's own client is used (`HadoopFolder` in `folders.py`).
"""

from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from hdfs_native import Client

SCHEME = "hdfs"
# Bytes of a file that are read by one call.
READ_AT_ONCE = 16 << 20
# A NameNode that does not answer is asked for some four seconds, as one is that is being restarted; by default it would be several minutes.
SETTINGS = {
    "dfs.client.failover.max.attempts": "6",
    "dfs.client.failover.sleep.base.millis": "100",
    "dfs.client.failover.sleep.max.millis": "1000",
}


def is_hdfs(uri: str) -> bool:
    """Return whether a URI names a place on HDFS."""
    return uri.startswith(f"{SCHEME}:")


@cache
def arrow_hdfs(netloc: str) -> Any:  # noqa: ANN401 - an Arrow file system
    """Return HDFS as a file system of Arrow.

    Args:
        netloc: `host:port` of the NameNode, or the name of a service of the configuration; empty for `fs.defaultFS`.
    """
    import pyarrow.fs as pafs
    from hdfs_native.fsspec import HdfsFileSystem

    host, _, port = netloc.partition(":")
    return pafs.PyFileSystem(pafs.FSSpecHandler(HdfsFileSystem(host or None, int(port) if port else None, **SETTINGS)))


def client_of(uri: str, conf_dir: str = "") -> "tuple[Client, str]":
    """Return a client of the file system that a URI names, and the path there.

    Args:
        uri: `hdfs://host:port/path`; without a host the file system is `fs.defaultFS` of the configuration.
        conf_dir: folder of the configuration; HADOOP_CONF_DIR where it is empty.
    """
    place = urlsplit(uri)
    return _client(f"{SCHEME}://{place.netloc}" if place.netloc else "", conf_dir), place.path or "/"


@cache
def _client(address: str, conf_dir: str) -> "Client":
    from hdfs_native import Client

    return Client(address or None, config=dict(SETTINGS), config_dir=conf_dir or None)


def open_to_read(uri: str) -> Any:  # noqa: ANN401 - what Arrow takes for a file
    """Open a file for Arrow: a small one is read whole, by one call instead of one for its end and one for each column.

    Raises:
        OSError: it is not there, or HDFS does not answer.
    """
    import pyarrow as pa

    client, path = client_of(uri)
    try:
        reader = client.read(path)
        return pa.BufferReader(reader.read()) if len(reader) <= READ_AT_ONCE else pa.PythonFile(reader, mode="r")
    except RuntimeError as error:  # how hdfs-native says that no NameNode answers
        raise OSError(str(error)) from error


def read_bytes(uri: str) -> bytes:
    """Read a whole file.

    Raises:
        OSError: it is not there, or HDFS does not answer.
    """
    client, path = client_of(uri)
    try:
        with client.read(path) as file:
            return bytes(file.read())
    except RuntimeError as error:  # how hdfs-native says that no NameNode answers
        raise OSError(str(error)) from error
