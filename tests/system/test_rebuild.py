"""Rebuilds beside a stream under load: nothing that it writes is lost, and nobody sees a table that is missing or half there."""

import json
import signal
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from batch.prove import prove
from batch.rebuild import Rebuild
from deploy.local.open_meteo_server import OpenMeteoServer
from lakehouse.registry import build_domain
from tests.faults import BRONZE, LIMIT_SECONDS, SILVER, Stand
from tests.homes import Home

pytestmark = pytest.mark.timeout(1200)
ROUNDS = 20
HOURLY = "gold.fact_air_quality_hourly"
# Silver whole, gold whole, gold of days, silver of days; the load's hours begin on 2024-03-01.
KINDS = [("silver", None), ("gold", None), ("gold", (date(2024, 3, 2), date(2024, 3, 4))), ("silver", (date(2024, 3, 2), date(2024, 3, 4)))]


@pytest.fixture
def stand(spark: SparkSession, tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(spark, tmp_path / "stand", compact_after="8")
    try:
        yield stand
    finally:
        stand.close()


class Reader(threading.Thread):
    """Reads tables all the time, as anybody would; under this load they only grow."""

    def __init__(self, stand: Stand) -> None:
        super().__init__(name="reader")
        self._stand, self._ending = stand, threading.Event()
        self.reads, self.wrong = 0, list[str]()

    def run(self) -> None:
        before = {SILVER: 0, HOURLY: 0}
        while not self._ending.wait(0.2):
            for name, least in before.items():
                try:
                    rows = self._stand.pipeline.table(name).select(["location_key", "ts_utc"])
                except Exception as error:  # whatever a reader meets is wrong
                    self.wrong.append(f"{name}: {error!r}")
                    continue
                if rows.num_rows < least or rows.group_by(rows.column_names).aggregate([]).num_rows < rows.num_rows:
                    self.wrong.append(f"{name}: {rows.num_rows} rows after {least}")
                before[name] = rows.num_rows
                self.reads += 1

    def end(self) -> None:
        self._ending.set()
        self.join()


def test_twenty_rounds_beside_a_loaded_stream(stand: Stand) -> None:
    settings, pipeline = stand.settings, stand.pipeline.prepare()
    driver = stand.start()
    driver.until_ready()
    reader = Reader(stand)
    with stand.load(rows_per_second=20) as load:
        driver.until(lambda: stand.rows(HOURLY) > 100, every=1)
        reader.start()
        try:
            for nth in range(ROUNDS):
                layer, days = KINDS[nth % len(KINDS)]
                with Rebuild(settings, pipeline.domain, pipeline.spark, layer == "silver", days) as building:
                    building.build()
                    compared = building.compare()
                    differing = [(one.table, one.differences) for one in compared if one.differences]
                    assert differing == [], f"round {nth}: the rules are the same"
                    building.publish()
                proof = prove(settings, pipeline.domain, pipeline.spark)
                assert proof.is_equal, f"round {nth}, {layer} {days}: {[one for _, one in proof.compared if one.differences]}"
        finally:
            reader.end()
        load.end()
    stand.until_all(driver, load.delivered)
    assert {name: state.restarts for name, state in driver.queries().items()} == {SILVER: 0, BRONZE: 0}, driver.said()[-3000:]
    stand.assert_right(load.delivered)
    assert reader.reads > ROUNDS
    assert reader.wrong == []

    # Another edition of the index: the stream does not mix it with its own, and goes on when it is started with it.
    other = settings.model_copy(update={"aqi_rule": "us-epa-2012"})
    pipeline.domain = build_domain("air_quality", other)
    with Rebuild(other, pipeline.domain, pipeline.spark, is_silver=False) as building:
        building.build()
        building.publish()
    with stand.load(rows_per_second=20, seed=5) as more:
        assert driver.process.wait(LIMIT_SECONDS) == 1
        more.end()
    assert "us-epa-2012" in driver.said()
    last = stand.start("--available-now", WEIR_AQI_RULE="us-epa-2012")
    assert last.process.wait(LIMIT_SECONDS) == 0, last.said()[-3000:]
    stand.assert_right([*load.delivered, *more.delivered])


def test_the_command_killed_while_it_publishes(spark: SparkSession, tmp_path: Path, api: OpenMeteoServer) -> None:
    home = Home(spark, tmp_path / "home", api)
    assert home.weir("backfill", "air_quality", "--since", "2024-01-10", "--until", "2024-01-25").returncode == 0
    tried = home.weir("rebuild", "air_quality", "--layer", "silver", "--dry-run", "--json")
    assert tried.returncode == 0, tried.stderr
    told = json.loads(tried.stdout)
    assert not told["published"]
    assert [one["different"] + one["missing"] + one["extra"] for one in told["compared"]] == [0] * 5, "silver, rejects, and three facts"
    asked = home.weir("rebuild", "air_quality", "--layer", "silver")
    assert asked.returncode == 2 and "--yes" in asked.stderr, "nobody is there to ask"
    again = ("rebuild", "air_quality", "--layer", "gold", "--yes")
    for failpoint in ("publishing.noted", "publishing.table:2"):
        killed = home.weir(*again, WEIR_AQI_RULE="us-epa-2012", WEIR_FAILPOINT=failpoint)
        assert killed.returncode == -signal.SIGKILL, f"{failpoint}: {killed.stdout}\n{killed.stderr}"
    done = home.weir(*again, WEIR_AQI_RULE="us-epa-2012")
    assert done.returncode == 0, done.stderr
    proved = home.weir("prove", "air_quality", WEIR_AQI_RULE="us-epa-2012")
    assert proved.returncode == 0, proved.stdout + proved.stderr
