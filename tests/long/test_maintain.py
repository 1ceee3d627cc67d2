"""Does a stream ever fail of maintenance? A hundred rounds beside a loaded one, whose own tables they rewrite and expire."""

from collections.abc import Callable
from dataclasses import asdict

import pytest

from tests.long.conftest import NewStand
from tests.support.maintenance_rounds import maintain_beside_a_stream

pytestmark = pytest.mark.timeout(3600)
ROUNDS = 100


def test_a_hundred_rounds_beside_a_loaded_stream(new_stand: NewStand, record_property: Callable[[str, object], None]) -> None:
    stand = new_stand(snapshot_hours="0.01", tag_days="2")
    found = maintain_beside_a_stream(stand, ROUNDS)
    assert found.rounds >= ROUNDS
    for name, value in asdict(found).items():
        record_property(name, round(value, 1))
