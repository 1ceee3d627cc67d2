"""Is a hadoop catalog read as Iceberg's own writer leaves it, at every moment of a commit?"""

from pathlib import Path

import pyarrow.fs as pafs
import pytest
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.types import LongType, NestedField

from lakehouse.tables.hadoop_catalog import HadoopCatalog


def write_version(root: Path, name: str, version: int, hint: int | None) -> None:
    """Write a version of a table as Iceberg does: the metadata, and afterwards the hint."""
    folder = root / name.replace(".", "/") / "metadata"
    folder.mkdir(parents=True, exist_ok=True)
    schema = Schema(NestedField(1, f"column_of_{version}", LongType()))
    metadata = new_table_metadata(schema, UNPARTITIONED_PARTITION_SPEC, UNSORTED_SORT_ORDER, f"file://{folder.parent}", {})
    (folder / f"v{version}.metadata.json").write_text(metadata.model_dump_json())
    if hint is not None:
        (folder / "version-hint.text").write_text(str(hint))


def opened(root: Path) -> HadoopCatalog:
    return HadoopCatalog("lh", f"file://{root}", pafs.LocalFileSystem(), str(root), {})


def version_of(root: Path, name: str) -> str:
    (column,) = opened(root).load_table(name).schema().column_names
    return column.removeprefix("column_of_")


def test_tables_are_found_by_their_folders(tmp_path: Path) -> None:
    write_version(tmp_path, "gold.facts", 1, 1)
    write_version(tmp_path, "silver.clean", 1, 1)
    (tmp_path / "gold" / "no_table").mkdir()
    (tmp_path / "a file").write_text("")
    catalog = opened(tmp_path)
    assert catalog.list_namespaces() == [("gold",), ("silver",)]
    assert catalog.list_tables("gold") == [("gold", "facts")]
    assert catalog.table_exists("gold.facts")
    assert not catalog.table_exists("gold.no_table")
    with pytest.raises(NoSuchTableError, match=r"gold\.other"):
        catalog.load_table("gold.other")


@pytest.mark.parametrize(
    "hint", [None, 1, 2, 3, 99], ids=["no hint", "an old hint", "the one before", "right", "of a version that is gone"]
)
def test_the_newest_version_is_read_whatever_the_hint_says(tmp_path: Path, hint: int | None) -> None:
    for version in (1, 2, 3):
        write_version(tmp_path, "gold.facts", version, hint)
    assert version_of(tmp_path, "gold.facts") == "3"


def test_old_versions_that_were_removed_do_not_matter(tmp_path: Path) -> None:
    for version in (9, 10, 11):
        write_version(tmp_path, "gold.facts", version, version)
    (tmp_path / "gold/facts/metadata/version-hint.text").write_text("no number")
    assert version_of(tmp_path, "gold.facts") == "11"
