"""A home that is filled from recorded answers, and `weir` in processes of their own on it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from pyspark.sql import SparkSession

from deploy.local.services.open_meteo_server import OpenMeteoServer
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from tests.support.faults import LIMIT_SECONDS, ROOT
from tests.support.pipeline import Pipeline, session_of


class Home:
    """A home, and `weir` in processes of their own on it."""

    def __init__(self, spark: SparkSession, folder: Path, api: OpenMeteoServer, bootstrap: str = "", catalog_uri: str = "") -> None:
        self.environment = {
            "WEIR_HOME": str(folder),
            "WEIR_OPEN_METEO_URL": api.url,
            "WEIR_BUDGET_PATH": str(folder.with_suffix(".budget")),
            **({"WEIR_KAFKA_BOOTSTRAP": bootstrap} if bootstrap else {}),
            **({"WEIR_CATALOG_URI": catalog_uri} if catalog_uri else {}),
        }
        self.settings = Settings(home=folder, kafka_bootstrap=bootstrap, catalog_uri=catalog_uri)
        self.pipeline = Pipeline(self.settings, session_of(spark, self.settings), build_domain("air_quality", self.settings))

    def weir(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end, whichever that is."""
        command = [sys.executable, "-m", "weir", *arguments]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | self.environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=2 * LIMIT_SECONDS)
            return subprocess.CompletedProcess(command, process.returncode, out, err)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()  # closes its pipes: left open, they would fail whatever test is next

    def bronze_lane(self) -> list[tuple[str, int]]:
        """Name the backfilled rows of bronze."""
        rows = self.pipeline.table("bronze.open_meteo_hourly").select(["source_run", "source_row"]).to_pylist()
        return [(row["source_run"], row["source_row"]) for row in rows if row["source_run"] is not None]
