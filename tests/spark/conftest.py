"""What the tests on local Spark share."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse.settings import Settings
from tests.support.pipeline import session_of


@pytest.fixture
def session(spark: SparkSession, tmp_path: Path) -> SparkSession:
    """Give a session with an empty catalog of its own, in the test's folder."""
    return session_of(spark, Settings(home=tmp_path))
