"""Which services may a test ask for? Each is started when the first test wants it, and stopped whatever happens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from lakehouse.machine.proxies import leave_out_this_machine
from lakehouse.settings import OLDER_NAMES
from tests.support.services import Kafka, Postgres

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What an operator has set for a home of their own has no say in a test, nor do a running stack's metrics.
for name in [name for name in os.environ if name.startswith("WEIR_") or name in (*OLDER_NAMES, "PROMETHEUS_MULTIPROC_DIR")]:
    del os.environ[name]

# Behind a proxy, too, tests ask what listens on the loopback directly.
leave_out_this_machine(os.environ)

# The same examples for the same code: what a change broke fails, and nothing else. `HYPOTHESIS_PROFILE=explore` looks for new ones.
# No deadline: how long an example takes says something about the machine alone.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# A driver that a test starts lives for a minute: the JVM's optimising compiler would take half of the processor and never earn it back.
os.environ["WEIR_SPARK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a case that is made of bytes by its argument and number: compressed bytes may hold the time, and workers must agree on names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Give a real broker, empty at first, on a free port; one for the whole test run."""
    from deploy.local.services.kafka_broker import EmbeddedKafka

    folder: Path = tmp_path_factory.mktemp("kafka")
    broker = EmbeddedKafka(folder / "kafka", folder / "kafka.log", environment=dict(os.environ))
    try:
        broker.start()
        yield Kafka(broker.bootstrap)
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Give a real PostgreSQL, on a free port; one for the whole test run."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """Give the one Spark of the test run; each test makes a session of its own from it, with a catalog of its own."""
    from lakehouse.settings import Settings
    from lakehouse.spark import open_spark

    # This one lives as long as the run, and earns the optimising compiler.
    session = open_spark(Settings(home=tmp_path_factory.mktemp("spark"), spark_java_options=""), "weir tests")
    yield session
    session.stop()
