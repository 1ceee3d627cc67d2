"""Do other engines read the same rows at any moment? PyIceberg, DuckDB, ClickHouse and Daft beside a loaded stream, a kill, maintenance."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse.tables.catalog import open_catalog
from tests.support.faults import BRONZE, ROOT, SILVER, Stand
from tests.support.readers import assert_all_agree

pytestmark = pytest.mark.timeout(900)
GOLD = ("gold.fact_air_quality_hourly", "gold.fact_city_daily", "gold.fact_episode")


def test_engines_agree_beside_a_stream_after_a_kill_and_after_maintenance(spark: SparkSession, tmp_path: Path) -> None:
    # A table keeps its last 50 metadata files, and all engines take a while to read one of them on a busy machine.
    stand = Stand(spark, tmp_path / "stand", trigger_seconds="2")
    try:
        driver = stand.start()
        driver.until_ready()
        with stand.load() as load:
            driver.until(lambda: stand.rows(GOLD[1]) > 0)
            seen = []
            for _ in range(2):
                seen.append(assert_all_agree(stand.settings, [BRONZE, SILVER, *GOLD]))
                stand.until_commit(driver, SILVER)
            assert seen[0][BRONZE] < seen[1][BRONZE], "the stream wrote meanwhile"
            driver.kill()
            assert_all_agree(stand.settings, [BRONZE, SILVER, *GOLD])
            driver = stand.start()
            driver.until_ready()
            stand.until_commit(driver, SILVER)
            load.end()
            driver.until(lambda: stand.has_all(load.delivered), every=1)
            assert driver.stop() == 0
        command = [sys.executable, "-m", "weir", "maintain"]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | stand.environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        catalog = open_catalog(stand.settings)
        tables = [".".join(name) for space in catalog.list_namespaces() for name in catalog.list_tables(space)]
        counts = assert_all_agree(stand.settings, [name for name in tables if catalog.load_table(name).current_snapshot() is not None])
        assert counts.keys() >= {BRONZE, SILVER, *GOLD, "ops.maintenance", "gold.dim_location"}
        for name in (SILVER, *GOLD):
            assert stand.pipeline.spark.table(f"lh.{name}").count() == counts[name]
        stand.assert_right(load.delivered)
    finally:
        stand.close()
