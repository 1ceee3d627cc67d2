"""Does `weir doctor --files` notice a data file that is not what its manifest says?"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from deploy.local.doctor import examine
from lakehouse.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    settings = Settings(home=tmp_path)
    catalog = SqlCatalog("lh", uri=settings.catalog_uri, warehouse=settings.warehouse_uri)
    catalog.create_namespace("gold")
    for name, rows in (("gold.never_written", None), ("gold.emptied", []), ("gold.fact", [1, 2, 3])):
        table = catalog.create_table(name, schema=pa.schema([("hour", pa.int64())]))
        if rows is not None:
            table.append(pa.table({"hour": pa.array(rows, pa.int64())}))
    yield settings
    catalog.close()


def data_files(settings: Settings) -> tuple[bool, str]:
    (found,) = [one for one in examine(settings, files=True) if one.check == "data files"]
    return found.ok, found.says


def test_files_that_agree_are_counted(settings: Settings) -> None:
    ok, says = data_files(settings)
    assert ok
    assert says.endswith("files have the size and the rows that their manifests say")


@pytest.mark.parametrize(("damage", "found"), [("cut", "10 bytes that do not open"), ("gone", "no such file")])
def test_damaged_file_is_named_with_its_table(settings: Settings, damage: str, found: str) -> None:
    (file,) = settings.home.glob("warehouse/gold/fact/data/*.parquet")
    file.write_bytes(file.read_bytes()[:10]) if damage == "cut" else file.unlink()
    ok, says = data_files(settings)
    assert not ok
    assert says.startswith(f"lh.gold.fact refers to {file}: found {found}, expected ")
    assert "Stop the stream (`weir down`)" in says
