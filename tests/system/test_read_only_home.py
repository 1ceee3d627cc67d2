"""What can be done with a home on a read-only mount? Everything that reads; what writes says in one sentence that it needs write access."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse.settings import Settings
from tests.support.foreign import EVERY_SIGN
from tests.support.pipeline import Pipeline, reading, write_locations
from tests.support.services import Kafka

# A mount namespace of its own: the mount is gone with the process, however it ends.
READ_ONLY = 'mount --bind "$WEIR_HOME" "$WEIR_HOME" && mount -o remount,ro,bind "$WEIR_HOME" && exec "$@"'
MAY_MOUNT = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0

pytestmark = pytest.mark.skipif(not MAY_MOUNT, reason="this user may not mount")


def weir(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", sys.executable, "-P", "-m", "weir", *arguments]
    return subprocess.run(command, env={**os.environ, "WEIR_HOME": str(home)}, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture(scope="module")
def home(spark: SparkSession, kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a day of two places in gold, whose name has every sign."""
    folder = tmp_path_factory.mktemp("read-only") / EVERY_SIGN
    write_locations(folder, ("hanoi", "danang"))
    pipeline = Pipeline.open(spark, Settings(home=folder, kafka_bootstrap=kafka.bootstrap), topic="read-only-home").prepare()
    pipeline.publish(reading(place, hour) for place in ("hanoi", "danang") for hour in range(24))
    pipeline.drain()
    # As a driver that ended leaves it: nothing in the file beside the catalog.
    with closing(sqlite3.connect(folder / "catalog.db")) as catalog:
        catalog.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


def test_everything_that_reads_works_and_a_proof_is_printed(home: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in home.rglob("*"))
    counted = weir(home, "query", "--json", "SELECT count(*) AS hours FROM gold.fact_air_quality_hourly")
    assert '"hours": 48' in counted.stdout, counted.stderr
    for verb in (
        ("check",),
        ("status",),
        ("status", "--json"),
        ("connect",),
        ("why", "gold.fact_city_daily", "location_key=hanoi"),
        ("doctor",),
    ):
        done = weir(home, *verb)
        assert "Traceback" not in done.stderr, verb
        assert done.stdout, verb
        assert done.returncode in ((0, 1) if verb in (("check",), ("doctor",)) else (0,)), (verb, done.stderr)
    proved = weir(home, "prove")
    assert proved.returncode == 0, proved.stderr[-2000:]
    assert "gold equals what is computed from the messages that arrived" in proved.stdout
    assert "not stored: the tables are on a read-only mount" in proved.stdout
    assert sorted((path, path.stat().st_mtime_ns) for path in home.rglob("*")) == before


@pytest.mark.parametrize(
    "verb",
    [
        ("up",),
        ("stream", "air_quality"),
        ("resume", "air_quality"),
        ("produce", "open-meteo"),
        ("add-city", "Madrid", "40.4", "-3.7", "--timezone", "Europe/Madrid"),
        ("backfill", "air_quality", "--since", "2024-01-01", "--until", "2024-01-02"),
        ("rebuild", "air_quality", "--layer", "gold", "--yes"),
        ("maintain",),
    ],
)
def test_what_writes_says_in_one_sentence_that_it_needs_write_access(home: Path, verb: tuple[str, ...]) -> None:
    done = weir(home, *verb)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("weir: ")
    assert "write access" in done.stderr
    assert str(home) in done.stderr


def test_catalog_that_a_writer_has_not_closed_is_not_read_as_it_stands(home: Path) -> None:
    with closing(sqlite3.connect(home / "catalog.db")) as writer:
        writer.execute("CREATE TABLE IF NOT EXISTS somebodys (a INTEGER)")
        writer.commit()
        assert (home / "catalog.db-wal").stat().st_size
        done = weir(home, "query", "SELECT 1 FROM gold.fact_city_daily")
    assert done.returncode == 1
    assert "write access" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
