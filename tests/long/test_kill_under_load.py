"""Is anything lost or doubled when the driver is killed again and again, at any moment, while readings go on coming?"""

import random
from collections.abc import Callable

import pytest

from tests.long.conftest import NewStand
from tests.support.faults import BRONZE, SILVER

pytestmark = pytest.mark.timeout(1800)
KILLS = 10


def test_ten_kills_at_random_under_load_lose_and_double_nothing(
    new_stand: NewStand, record_property: Callable[[str, object], None]
) -> None:
    stand, chance = new_stand(compact_after="3"), random.Random(2024)
    in_batch, back = 0, []
    with stand.load() as load:
        for nth in range(KILLS):
            before = stand.newest(BRONZE, "commits")
            driver = stand.start()
            ready = driver.until_ready()
            first = stand.until_commit(driver, BRONZE, after=before)
            if nth:
                back.append(ready + first)
            driver.live(chance.uniform(0, 12))
            driver.kill()
            in_batch += stand.is_in_batch(BRONZE) or stand.is_in_batch(SILVER)
        delivered = load.end()
    stand.drain()
    # A kill between two micro-batches would show nothing.
    assert in_batch >= KILLS / 2
    stand.assert_right(load.delivered)
    record_property("readings", delivered)
    record_property("kills", KILLS)
    record_property("of these in a micro-batch", in_batch)
    record_property("longest from start to the next commit of bronze, s", round(max(back), 1))
