"""How does PyIceberg open a file whose path holds `?` or `#`? By this class, where the catalog's properties name it."""

from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.typedef import EMPTY_DICT, Properties
from typing_extensions import override

from lakehouse.storage.paths import local_path


class LiteralFileIO(PyArrowFileIO):
    """PyIceberg's own, but that a local file's path is what follows `file://`, as it is for Spark: nothing is a query or a fragment."""

    @staticmethod
    @override
    def parse_location(location: str, properties: Properties = EMPTY_DICT) -> tuple[str, str, str]:
        """Split a location into scheme, host and path."""
        path = local_path(location)
        return PyArrowFileIO.parse_location(location, properties) if path is None else ("file", "", str(path))
