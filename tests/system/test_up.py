"""Does one's own town get into gold by `add-city` and `up` alone, with every part real and the API a local one?"""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deploy.local.open_meteo_server import OpenMeteoServer
from deploy.local.state import strays
from lakehouse.settings import Settings

RECORDED = Path(__file__).parents[2] / "deploy/local/recorded/open_meteo.jsonl.gz"
PATIENCE_SECONDS = 240


def weir(home: Path, *arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", "weir", *arguments]
    done = subprocess.run(
        command, env=os.environ | {"WEIR_HOME": str(home)} | environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def ask(home: Path, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(weir(home, "query", "--json", sql))
    return rows


@pytest.mark.timeout(900)
def test_an_added_town_is_in_gold_after_the_first_poll_and_its_history_by_produce(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    weir(home, "add-city", "Huế", "16.4637", "107.5909", "--timezone", "Asia/Ho_Chi_Minh")
    server = OpenMeteoServer(0, RECORDED)
    server.start()
    try:
        api = {"WEIR_OPEN_METEO_URL": server.url}
        weir(home, "up", **api)
        parts = {part["part"]: part for part in json.loads(weir(home, "status", "--json"))["parts"]}
        assert {part["state"] for part in parts.values()} == {"up"}
        limit = time.monotonic() + PATIENCE_SECONDS
        hue = "SELECT count(*) AS n, max(ts_utc) AS newest FROM gold.fact_air_quality_hourly WHERE location_key = 'hue'"
        while not (rows := ask(home, hue))[0]["n"]:
            assert time.monotonic() < limit, weir(home, "status")
            time.sleep(1)
        newest = datetime.fromisoformat(rows[0]["newest"])
        assert (datetime.now(UTC) - newest).total_seconds() < 2 * 3600
        weir(home, "produce", "open-meteo", "--locations", "hue", "--since", "2024-03-01", "--until", "2024-03-03", **api)
        history = "SELECT count(*) AS n FROM gold.fact_air_quality_hourly WHERE location_key = 'hue' AND date_utc <= DATE '2024-03-03'"
        while ask(home, history)[0]["n"] != 72:
            assert time.monotonic() < limit, weir(home, "status")
            time.sleep(1)
        place = ask(home, "SELECT * FROM gold.dim_location WHERE location_key = 'hue'")
        assert place == [
            {"location_key": "hue", "location_name": "Huế", "latitude": 16.4637, "longitude": 107.5909, "timezone": "Asia/Ho_Chi_Minh"}
        ]
    finally:
        weir(home, "down")
        server.stop()
    assert not list(strays(Settings(home=home)))
    assert ask(home, history)[0]["n"] == 72
