"""A few rounds of maintenance beside a stream under load, real Kafka and a real driver; a hundred are in tests/long."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.support.faults import ROOT, SILVER, Stand
from tests.support.maintenance_rounds import maintain_beside_a_stream

pytestmark = pytest.mark.timeout(900)


def test_rounds_beside_a_loaded_stream_and_the_command_after_it(spark: SparkSession, tmp_path: Path) -> None:
    stand = Stand(spark, tmp_path / "stand", snapshot_hours="0.01", tag_days="2")
    try:
        found = maintain_beside_a_stream(stand, 2)
        assert found.rounds >= 2
        done = weir_maintain(stand, SILVER, "--json")
        assert done.returncode == 0, done.stderr
        (told,) = json.loads(done.stdout)
        assert (told["table"], told["after"]["delete_files"], told["failed"]) == (f"lh.{SILVER}", 0, [])
        unknown = weir_maintain(stand, "gold.no")
        assert unknown.returncode == 1 and "No table gold.no; there are bronze.open_meteo_hourly, " in unknown.stderr
    finally:
        stand.close()


def weir_maintain(stand: Stand, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "weir", "maintain", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | stand.environment, capture_output=True, text=True, timeout=300)
