"""Does every library open the same file for a name, and is nothing made beside it?"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import create_engine, text

from lakehouse.settings import Settings, load_settings
from lakehouse.storage.paths import UnusablePath, as_location, local_path, location_of
from lakehouse.tables.catalog import EscapedHome, database_url, open_catalog, pyiceberg_properties, spark_catalog_conf
from tests.support.foreign import EVERY_SIGN

NAMES = [
    *("plain", "my home", "Tài liệu", "数据", "Данные", "بيانات", "😀", "a#b", "50%", "%20", "a%3Fb", "what?", "a&b", "a+b", "a=b", "a;b"),
    *(
        "it's",
        '"quoted"',
        "a,b",
        "(2026)",
        "[x]",
        "{y}",
        "*",
        "~",
        "$HOME",
        "`id`",
        "back\\slash",
        "a:b",
        "user@host",
        " blanks ",
        EVERY_SIGN,
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_tables_of_a_home_are_in_that_home_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    settings = Settings(home=tmp_path / name)
    settings.home.mkdir()
    with closing(SqlCatalog("lh", **{**pyiceberg_properties(settings), "init_catalog_tables": "true"})) as catalog:
        catalog.create_namespace("gold")
        catalog.create_table("gold.hours", pa.schema([("hour", pa.int64())])).append(pa.table({"hour": [1, 2]}))
    with closing(open_catalog(settings)) as catalog:
        table = catalog.load_table("gold.hours")
        assert table.scan().to_arrow().column("hour").to_pylist() == [1, 2]
        file = local_path(table.inspect.files()["file_path"][0].as_py())
    assert file is not None
    assert file.is_relative_to(settings.home / "warehouse")
    assert file.exists()
    with closing(sqlite3.connect(settings.home / "catalog.db")) as direct:
        assert direct.execute("SELECT count(*) FROM iceberg_tables").fetchone() == (1,)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
def test_location_of_a_path_leads_back_to_it(name: str) -> None:
    path = Path("/srv") / name / "warehouse"
    assert local_path(location_of(path)) == path
    assert as_location(location_of(path)) == location_of(path)


@pytest.mark.parametrize(
    ("given", "location"),
    [
        ("", ""),
        ("/srv/my tables", "file:///srv/my tables"),
        ("file:/srv/tables", "file:///srv/tables"),
        ("file://localhost/srv/tables", "file:///srv/tables"),
        ("file:///srv/my%20tables", "file:///srv/my%20tables"),
        ("hdfs://name:8020/tables", "hdfs://name:8020/tables"),
        ("s3://bucket/a b", "s3://bucket/a b"),
    ],
)
def test_setting_of_a_folder_is_a_path_or_a_uri(given: str, location: str) -> None:
    assert as_location(given) == location


def test_relative_folder_is_one_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert as_location("tables") == f"file://{tmp_path}/tables"
    assert Settings(warehouse_uri="my tables").warehouse_uri == f"file://{tmp_path}/my tables"


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"\x1b[31m"])
def test_name_that_no_program_can_be_given_is_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes) -> None:
    monkeypatch.setenv("WEIR_HOME", os.fsdecode(bytes(tmp_path) + b"/" + name))
    with pytest.raises((UnusablePath, Exception)) as caught:
        load_settings(dict(os.environ))
    assert "\n" not in str(caught.value).replace("\\n", "") or "wrong setting" in str(caught.value)
    str(caught.value).encode()  # may be printed
    assert list(tmp_path.iterdir()) == []


def test_home_whose_tables_lie_in_an_escaped_folder_is_refused_with_the_way_to_go_on(tmp_path: Path) -> None:
    home, escaped = tmp_path / "my home", tmp_path / "my%20home"
    (escaped / "warehouse").mkdir(parents=True)
    home.mkdir()
    settings = Settings(home=home)
    spark_catalog_conf(settings)  # a new home beside somebody's folder
    (home / "catalog.db").touch()
    with pytest.raises(EscapedHome) as caught:
        spark_catalog_conf(settings)
    with pytest.raises(EscapedHome):
        open_catalog(settings)
    lines = [line.strip() for line in str(caught.value).splitlines() if "_uri = " in line]
    (home / "weir.toml").write_text("\n".join(lines))
    kept = Settings(home=home)
    assert local_path(kept.warehouse_uri) == escaped / "warehouse"
    assert local_path(kept.checkpoint("gold")) == escaped / "checkpoints" / "gold"
    assert spark_catalog_conf(kept)["spark.sql.catalog.lh.warehouse"] == f"file://{escaped}/warehouse"


def test_url_of_the_catalog_opens_it_for_sqlalchemy(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / EVERY_SIGN)
    settings.home.mkdir()
    engine = create_engine(database_url(settings))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (a INTEGER)"))
    engine.dispose()
    assert (settings.home / "catalog.db").stat().st_size
    with closing(load_catalog("lh", **pyiceberg_properties(settings))):
        pass
