from collections.abc import Iterator

import pytest
import stamina

from deploy.local.services.open_meteo_server import OpenMeteoServer
from producers.sources.open_meteo.client import OpenMeteo
from tests.support.producers import FakeTime


@pytest.fixture(autouse=True)
def without_backoff() -> Iterator[None]:
    """Let stamina repeat as often as it would, but at once."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def api(time: FakeTime) -> Iterator[OpenMeteoServer]:
    with OpenMeteoServer(now=lambda: time.now) as server:
        yield server


@pytest.fixture
def source(api: OpenMeteoServer, time: FakeTime) -> Iterator[OpenMeteo]:
    with OpenMeteo(api.url, time.clock, read_seconds=0.5) as client:
        yield client
