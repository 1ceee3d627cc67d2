"""Does one's own town get into gold by `add-city` and `up` alone, and does the metrics page tell the truth of it? Every part is real."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.agent.run_files import strays
from deploy.local.services.open_meteo_server import OpenMeteoServer
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.settings import Settings
from tests.support.pipeline import reading

RECORDED = Path(__file__).parents[2] / "deploy/local/services/recorded/open_meteo.jsonl.gz"
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


class Page:
    """The metrics page, as Prometheus reads it."""

    def __init__(self, address: str) -> None:
        self._address = address

    def values(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Give the samples of a name by the values of some labels, added up over the others."""
        with urllib.request.urlopen(self._address, timeout=30) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        found: dict[tuple[str, ...], float] = {}
        for sample in (sample for family in families for sample in family.samples if sample.name == name):
            key = tuple(sample.labels[label] for label in labels)
            found[key] = found.get(key, 0.0) + sample.value
        return found

    def until(self, expected: dict[tuple[str, ...], float], name: str, *labels: str) -> None:
        """Wait for samples; those of other labels, such as the queries of another domain, are left out."""
        until(lambda: self._some(expected, name, *labels) == expected, lambda: (name, self.values(name, *labels), expected))

    def _some(self, wanted: Collection[tuple[str, ...]], name: str, *labels: str) -> dict[tuple[str, ...], float]:
        return {key: value for key, value in self.values(name, *labels).items() if key in wanted}


def until(what: Callable[[], object], shown: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < limit, shown()
        time.sleep(0.5)


def publish(bootstrap: str, *messages: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for message in messages:
        producer.produce(HOURLY.topic, message, key=b"hue")
    assert producer.flush(30) == 0


def messages(first: int, last: int) -> list[bytes]:
    """Readings of an hour each, in 2024."""
    return [HOURLY.encode(reading("hue", hour)) for hour in range(first, last)]


BRONZE, SILVER, FACT = "bronze.open_meteo_hourly", "silver.air_quality_hourly_clean", "lh.gold.fact_air_quality_hourly"


def assert_page_is_true_of_tables(home: Path, page: Page) -> int:
    """Compare what the page counts with what stands in the tables; return the rows of bronze."""
    (rows,) = ask(
        home,
        """
        SELECT (SELECT count(*) FROM bronze.open_meteo_hourly) AS bronze, (SELECT count(*) FROM ops.rejects) AS rejected,
               (SELECT any_value(rule) FROM ops.rejects) AS rule, (SELECT count(*) FROM gold.fact_air_quality_hourly) AS facts,
               (SELECT count(*) FROM bronze.open_meteo_hourly WHERE ts_utc < kafka_ts - INTERVAL 48 HOURS) AS late
        """,
    )
    page.until({(BRONZE,): 0, (SILVER,): 0}, "weir_query_lag_messages", "query")
    assert set(page.values("weir_query_lag_seconds").values()) == {0}
    page.until({(BRONZE,): rows["bronze"], (SILVER,): rows["bronze"]}, "weir_query_input_rows_total", "query")
    page.until({(BRONZE,): rows["bronze"], (SILVER,): rows["bronze"] - rows["rejected"]}, "weir_query_rows_out_total", "query")
    assert page.values("weir_rejects_total", "reason") == {(rows["rule"],): rows["rejected"]}
    assert page.values("weir_late_rows_total", "query")[(SILVER,)] == rows["late"] > 0
    until(lambda: page.values("weir_table_rows", "table")[(FACT,)] == rows["facts"], lambda: rows)
    return int(rows["bronze"])


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
        assert {name for name, part in parts.items() if part["state"] != "up"} == {"producer-kaggle"}  # for which there are no credentials
        assert parts["producer-kaggle"]["state"] == "off"
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
        publish(parts["kafka"]["address"], b"no reading")
        page = Page(parts["metrics"]["address"])
        until(lambda: sum(page.values("weir_rejects_total").values()) == 1, lambda: weir(home, "status"))
        taken = assert_page_is_true_of_tables(home, page)
        cities = page.values("weir_city_freshness_seconds", "table", "city")
        (fact,) = [row for row in json.loads(weir(home, "status", "--json"))["freshness"] if row["city"] == "hue"]
        assert abs(cities[(FACT, "hue")] - fact["age_seconds"]) < 60
        counted = page.values("weir_query_phase_seconds_count", "query", "phase")
        assert {(BRONZE, "append"), (BRONZE, "spark.commit"), (SILVER, "silver"), (SILVER, FACT.removeprefix("lh."))} <= counted.keys()

        # A driver that hangs, and one that is killed, tell nothing any more: lag goes on.
        driver = parts["stream"]["pid"]
        os.killpg(driver, signal.SIGSTOP)
        publish(parts["kafka"]["address"], *messages(2000, 2003))
        page.until({(BRONZE,): 3, (SILVER,): 0}, "weir_query_lag_messages", "query")
        assert page.values("weir_partition_lag_messages", "query")[(BRONZE,)] == 3
        before = page.values("weir_query_lag_seconds", "query")[(BRONZE,)]
        until(lambda: page.values("weir_query_lag_seconds", "query")[(BRONZE,)] > before + 1, lambda: before)
        os.killpg(driver, signal.SIGKILL)
        page.until({(BRONZE,): 0, (SILVER,): 0}, "weir_query_up", "query")
        publish(parts["kafka"]["address"], *messages(2003, 2005))
        assert max(page.values("weir_query_lag_seconds", "query").values()) > before
        page.until({(BRONZE,): 1, (SILVER,): 1}, "weir_query_up", "query")
        page.until({(BRONZE,): taken + 5, (SILVER,): taken + 5}, "weir_query_input_rows_total", "query")
        assert assert_page_is_true_of_tables(home, page) == taken + 5

        place = ask(home, "SELECT * FROM gold.dim_location WHERE location_key = 'hue'")
        assert place == [
            {"location_key": "hue", "location_name": "Huế", "latitude": 16.4637, "longitude": 107.5909, "timezone": "Asia/Ho_Chi_Minh"}
        ]
    finally:
        weir(home, "down")
        server.stop()
    assert not list(strays(Settings(home=home)))
    assert ask(home, history)[0]["n"] == 72
