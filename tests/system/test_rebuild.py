"""Rebuilds beside a stream under load, another edition of gold, and the command killed while it publishes. Real processes."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from batch.rebuild.on_branches import Rebuild
from deploy.local.services.open_meteo_server import OpenMeteoServer
from lakehouse.registry import build_domain
from tests.support.faults import LIMIT_SECONDS, Stand
from tests.support.homes import Home
from tests.support.rebuilds import KINDS, rebuild_beside_a_stream
from tests.support.services import Postgres

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def stand(spark: SparkSession, tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(spark, tmp_path / "stand", compact_after="8")
    try:
        yield stand
    finally:
        stand.close()


def test_each_kind_beside_a_loaded_stream_and_then_another_edition(stand: Stand) -> None:
    """One round of each kind; twenty rounds are in tests/long."""
    driver, delivered = rebuild_beside_a_stream(stand, len(KINDS))
    # The stream does not mix it with its own, and goes on when it is started with it.
    settings, pipeline = stand.settings, stand.pipeline
    other = settings.model_copy(update={"aqi_rule": "us-epa-2012"})
    pipeline.domain = build_domain("air_quality", other)
    with Rebuild(other, pipeline.domain, pipeline.spark, is_silver=False) as building:
        building.build()
        building.publish()
    with stand.load(rows_per_second=20) as more:
        assert driver.process.wait(LIMIT_SECONDS) == 1
        more.end()
    assert "us-epa-2012" in driver.said()
    last = stand.start("--available-now", WEIR_AQI_RULE="us-epa-2012")
    assert last.process.wait(LIMIT_SECONDS) == 0, last.said()[-3000:]
    stand.assert_right([*delivered, *more.delivered])


def test_the_command_killed_while_it_publishes(spark: SparkSession, tmp_path: Path, api: OpenMeteoServer, postgres: Postgres) -> None:
    """On a catalog in PostgreSQL: its lease, its turns and its commits; the other tests have SQLite's."""
    home = Home(spark, tmp_path / "home", api, catalog_uri=postgres.database())
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
