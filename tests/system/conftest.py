"""What the tests with real processes share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.services.kafka_broker import EmbeddedKafka
from deploy.local.services.open_meteo_server import OpenMeteoServer
from tests.support.services import Kafka


@pytest.fixture
def api() -> Iterator[OpenMeteoServer]:
    """Give the API with recorded answers, on a free port."""
    with OpenMeteoServer() as server:
        yield server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Kafka]:
    """Give a broker of its own: a driver in a process of its own reads topics of one name."""
    own = EmbeddedKafka(tmp_path / "kafka", tmp_path / "kafka.log", environment=dict(os.environ))
    try:
        own.start()
        yield Kafka(own.bootstrap)
    finally:
        own.stop()
