"""Does a stream lose anything to rebuilds, or see them fail? Twenty rounds beside a loaded one, each proved."""

from collections.abc import Callable

import pytest

from tests.long.conftest import NewStand
from tests.support.rebuilds import rebuild_beside_a_stream

pytestmark = pytest.mark.timeout(3600)
ROUNDS = 20


def test_twenty_rounds_beside_a_loaded_stream(new_stand: NewStand, record_property: Callable[[str, object], None]) -> None:
    _, delivered = rebuild_beside_a_stream(new_stand(), ROUNDS)
    record_property("readings", len(delivered))
    record_property("rounds", ROUNDS)
