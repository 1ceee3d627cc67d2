"""How does PyIceberg open a file on HDFS? By this class, where the catalog's properties name it."""

from pyarrow.fs import FileSystem
from pyiceberg.io.pyarrow import PyArrowFileIO
from typing_extensions import override

from lakehouse.storage.hdfs import arrow_hdfs


class HdfsFileIO(PyArrowFileIO):
    """PyIceberg's own, but that HDFS is reached without a JVM."""

    @override
    def _initialize_hdfs_fs(self, scheme: str, netloc: str | None) -> FileSystem:
        return arrow_hdfs(netloc or "")
