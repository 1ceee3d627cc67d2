"""How is a hadoop catalog read without Spark? Its folders are its names, and in each table's `metadata` the newest version is the table.

    WAREHOUSE/NAMESPACE/TABLE/metadata/v7.metadata.json
    WAREHOUSE/NAMESPACE/TABLE/metadata/version-hint.text   the number of the newest version, or of one shortly before

Source: Iceberg's HadoopTableOperations. Only reading is possible here: Spark alone writes such a catalog.
"""

from typing import Any

import pyarrow.fs as pafs
from pyiceberg.catalog.noop import NoopCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import load_file_io
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier
from typing_extensions import override

_HINT = "version-hint.text"


class HadoopCatalog(NoopCatalog):
    """A hadoop catalog, for reading.

    Args:
        name: of the catalog.
        warehouse: its folder, a URI.
        files: the file system that it is on.
        root: its path there.
        properties: PyIceberg's, which name how files are opened.
    """

    def __init__(self, name: str, warehouse: str, files: Any, root: str, properties: dict[str, str]) -> None:  # noqa: ANN401 - of Arrow
        super().__init__(name, **properties)
        self._warehouse, self._files, self._root = warehouse.rstrip("/"), files, root.rstrip("/")

    @override
    def list_namespaces(self, namespace: str | Identifier = ()) -> list[Identifier]:
        """Name the folders of the warehouse."""
        inside = self.identifier_to_tuple(namespace)
        return [(*inside, name) for name in self._folders("/".join([self._root, *inside]))]

    @override
    def list_tables(self, namespace: str | Identifier) -> list[Identifier]:
        """Name the folders of a namespace that hold a table."""
        inside = self.identifier_to_tuple(namespace)
        folder = "/".join([self._root, *inside])
        return [(*inside, name) for name in self._folders(folder) if self._newest(f"{folder}/{name}")]

    @override
    def table_exists(self, identifier: str | Identifier) -> bool:
        """Return whether there is a table of this name."""
        return bool(self._newest("/".join([self._root, *self.identifier_to_tuple(identifier)])))

    @override
    def load_table(self, identifier: str | Identifier) -> Table:
        """Load a table as it is now.

        Raises:
            NoSuchTableError: there is none of this name.
        """
        names = self.identifier_to_tuple(identifier)
        version = self._newest("/".join([self._root, *names]))
        if not version:
            raise NoSuchTableError(f"Table does not exist: {'.'.join(names)}")
        location = "/".join([self._warehouse, *names, "metadata", f"v{version}.metadata.json"])
        metadata = FromInputFile.table_metadata(load_file_io(self.properties, location).new_input(location))
        return Table(names, metadata, location, load_file_io({**self.properties, **metadata.properties}, location), self)

    def _folders(self, folder: str) -> list[str]:
        found = self._files.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
        return sorted(one.base_name for one in found if one.type == pafs.FileType.Directory)

    def _newest(self, table: str) -> int:
        """Return the newest version of a table; 0 where there is none."""
        try:
            with self._files.open_input_stream(f"{table}/metadata/{_HINT}") as hint:
                version = int(hint.read())
        except (FileNotFoundError, ValueError):
            return self._greatest(table)
        # A writer makes the version first, and the hint afterwards.
        while self._is_file(f"{table}/metadata/v{version + 1}.metadata.json"):
            version += 1
        return version if self._is_file(f"{table}/metadata/v{version}.metadata.json") else self._greatest(table)

    def _greatest(self, table: str) -> int:
        found = self._files.get_file_info(pafs.FileSelector(f"{table}/metadata", allow_not_found=True))
        names = [
            one.base_name.removeprefix("v").removesuffix(".metadata.json") for one in found if one.base_name.endswith(".metadata.json")
        ]
        return max((int(name) for name in names if name.isdigit()), default=0)

    def _is_file(self, path: str) -> bool:
        return bool(self._files.get_file_info(path).type == pafs.FileType.File)
