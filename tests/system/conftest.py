"""What the tests with real processes share."""

from collections.abc import Iterator

import pytest

from deploy.local.open_meteo_server import OpenMeteoServer


@pytest.fixture
def api() -> Iterator[OpenMeteoServer]:
    """Give the API with recorded answers, on a free port."""
    with OpenMeteoServer() as server:
        yield server
