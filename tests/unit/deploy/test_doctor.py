"""Does `weir doctor --files` notice a data file that is not what its manifest says?"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import time_machine
from pyiceberg.catalog.sql import SqlCatalog

from deploy.local.doctor import examine
from deploy.local.services.open_meteo_server import OpenMeteoServer
from lakehouse.machine import fitness
from lakehouse.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    settings = Settings(home=tmp_path, open_meteo_url="http://127.0.0.1:9")
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
    assert says.endswith("files have the size and the number of rows in their manifests")


@pytest.mark.parametrize(("damage", "found"), [("cut", "10 bytes that are not Parquet"), ("gone", "no such file")])
def test_damaged_file_is_named_with_its_table(settings: Settings, damage: str, found: str) -> None:
    (file,) = settings.home.glob("warehouse/gold/fact/data/*.parquet")
    file.write_bytes(file.read_bytes()[:10]) if damage == "cut" else file.unlink()
    ok, says = data_files(settings)
    assert not ok
    assert says.startswith(f"lh.gold.fact refers to {file}: found {found}, expected ")
    assert "Stop the stream (`weir down`)" in says


def clock(settings: Settings) -> tuple[bool, str]:
    (found,) = [one for one in examine(settings) if one.check == "clock"]
    return found.ok, found.says


def test_clock_is_compared_with_the_tables_and_with_the_api(settings: Settings) -> None:
    with OpenMeteoServer() as api:
        asked = settings.model_copy(update={"open_meteo_url": api.url})
        ok, says = clock(asked)
        assert ok
        assert says.endswith("within 5 min of the API's")
        api.now = lambda: datetime.now(UTC) + timedelta(minutes=7)
        ok, says = clock(asked)
        assert not ok
        assert f"and that of {api.url} says " in says
        assert api.requests == [], "a look costs no call"
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=1)):
        ok, says = clock(settings)
        assert not ok
        assert "and the newest commit of lh.gold." in says


def test_api_that_does_not_answer_and_a_proxy_that_cannot_be_used_are_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ok, says = clock(settings)
    assert ok
    assert "not compared with the API's clock (http://127.0.0.1:9 did not answer within 3 s)" in says
    monkeypatch.setenv("https_proxy", "socks5://me:s3cret@proxy")
    elsewhere = settings.model_copy(update={"open_meteo_url": "https://air-quality.invalid"})
    found = {one.check: one for one in examine(elsewhere)}
    assert not found["proxy"].ok
    assert "https_proxy=socks5://***@proxy cannot be used for air-quality.invalid" in found["proxy"].says
    assert found["clock"].ok


def test_a_system_call_that_fails_in_one_check_stops_no_other(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Settings) -> str:
        raise PermissionError(13, "Permission denied", "/somewhere")

    monkeypatch.setattr(fitness, "home_folder", fail)
    found = {one.check: one for one in examine(settings)}
    assert not found["home"].ok and "/somewhere" in found["home"].says
    assert {"python", "java", "tables", "clock"} <= {name for name, one in found.items() if one.ok}
