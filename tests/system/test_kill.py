"""Is anything lost or doubled when the driver is killed with SIGKILL? A real process, ended at a named point, and started again."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse.settings import Settings
from tests.support.pipeline import Pipeline, reading, write_locations
from tests.support.services import Kafka

pytestmark = pytest.mark.timeout(900)
PLACES = ["a", "b", "c"]


def run_driver(settings: Settings, **overrides: str) -> int:
    """Run `weir stream air_quality --available-now` to its end, whichever that is; its exit code."""
    environment = os.environ | {"WEIR_HOME": str(settings.home), "WEIR_KAFKA_BOOTSTRAP": settings.kafka_bootstrap}
    command = [sys.executable, "-m", "weir", "stream", "air_quality", "--available-now"]
    driver = subprocess.Popen(command, env=environment | overrides, start_new_session=True)
    try:
        return driver.wait(timeout=400)
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)


def hours(first: int, last: int) -> Iterator[dict[str, object]]:
    for place in PLACES:
        for hour in range(first, last):
            yield reading(place, hour, pm25=float(20 + (hour * 37) % 300), o3=float((hour * 13) % 280))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("failpoint", "drained_before", "afterwards"),
    [
        ("bronze.committed", True, {"WEIR_MIN_PARTITIONS": "7"}),
        ("bronze.committed:2", False, {}),
        ("bronze.committed:2", False, {"checkpoint": "deleted"}),
        ("silver.merged", False, {}),
        ("gold.first_table", False, {}),
        ("gold.merged", False, {}),
    ],
    ids=[
        "first batch of its driver, then other tasks",
        "second batch",
        "checkpoint deleted",
        "between silver and gold",
        "between two golds",
        "after gold",
    ],
)
def test_sigkill_of_the_driver_loses_and_doubles_nothing(
    spark: SparkSession, broker: Kafka, tmp_path: Path, failpoint: str, drained_before: bool, afterwards: dict[str, str]
) -> None:
    home = tmp_path / "home"
    write_locations(home, PLACES)
    settings = Settings(home=home, kafka_bootstrap=broker.bootstrap)
    pipeline = Pipeline.open(spark, settings)
    small = {"WEIR_MAX_OFFSETS_PER_TRIGGER": "200"}
    if drained_before:
        pipeline.publish(hours(0, 60))  # type: ignore[arg-type]
        assert run_driver(settings) == 0
    pipeline.publish(hours(60, 180))  # type: ignore[arg-type]

    assert run_driver(settings, WEIR_FAILPOINT=failpoint, **small) == -signal.SIGKILL
    if afterwards.pop("checkpoint", None):
        shutil.rmtree(home / "checkpoints" / "bronze.open_meteo_hourly")
    pipeline.publish(hours(170, 200))  # type: ignore[arg-type]
    assert run_driver(settings, **small, **afterwards) == 0

    pipeline.assert_bronze_holds_the_topic()
    pipeline.assert_gold_is_right()
