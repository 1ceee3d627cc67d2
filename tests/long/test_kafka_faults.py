"""Does the stream outlive its broker? Killed in mid-batch, held up for a minute, and come back empty."""

import time
from collections.abc import Callable

import pytest

from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.storage.folders import LocalFolder
from streaming.resume import Request, ask
from tests.long.conftest import NewStand
from tests.support.faults import BRONZE, PLACES, SILVER, wait_until
from tests.support.pipeline import reading

pytestmark = pytest.mark.timeout(1800)
Record = Callable[[str, object], None]
KILLS, DOWN_SECONDS, PAUSE_SECONDS = 3, 10, 60


def test_kafka_killed_in_mid_batch_and_started_again_loses_and_doubles_nothing(new_stand: NewStand, record_property: Record) -> None:
    stand, back = new_stand(), []
    driver = stand.start()
    with stand.load(rows_per_second=60) as load:
        driver.until_ready()
        for _ in range(KILLS):
            stand.until_commit(driver, BRONZE)
            for _ in range(20):
                while not stand.is_in_batch(BRONZE):
                    time.sleep(0.005)
                stand.broker.kill()
                if hit := stand.is_in_batch(BRONZE):
                    break
                stand.broker.start()
                stand.until_commit(driver, BRONZE)
            assert hit, "no kill fell into a micro-batch"
            driver.live(DOWN_SECONDS)
            stand.broker.start()
            back.append(stand.until_commit(driver, BRONZE))
        delivered = load.end()
    took = stand.until_all(driver, load.delivered)
    restarts = driver.queries()[BRONZE].restarts
    assert driver.stop() == 0
    stand.assert_right(load.delivered)
    record_property("readings", delivered)
    record_property("kills in mid-batch", KILLS)
    record_property("restarts of the query", restarts)
    record_property("longest from the broker's return to bronze's next commit, s", round(max(back), 1))
    record_property("all in silver after the last reading, s", round(took, 1))


def test_kafka_held_up_for_a_minute_is_waited_for(new_stand: NewStand, record_property: Record) -> None:
    stand = new_stand()
    driver = stand.start()
    with stand.load() as load:
        driver.until_ready()
        stand.until_commit(driver, SILVER)
        before = len(load.delivered)
        stand.broker.pause(PAUSE_SECONDS)
        # What was on its way may have been reported; a minute's load was not.
        held_up = len(load.delivered) - before
        assert held_up < 0.2 * PAUSE_SECONDS * 30
        back = stand.until_commit(driver, BRONZE)
        driver.live(10)
        delivered = load.end()
    took = stand.until_all(driver, load.delivered)
    assert driver.all_run()
    assert driver.stop() == 0
    stand.assert_right(load.delivered)
    record_property("readings", delivered)
    record_property("from the broker's return to bronze's next commit, s", round(back, 1))
    record_property("all in silver after the last reading, s", round(took, 1))


def test_kafka_that_comes_back_empty_stops_bronze_until_its_data_is_back_and_a_new_home_takes_the_rest(
    new_stand: NewStand, record_property: Record
) -> None:
    stand = new_stand()
    first, second = ([reading(place, hour) for place in PLACES for hour in range(*span)] for span in ((0, 40), (40, 60)))
    driver = stand.start()
    stand.pipeline.publish(first)
    stand.until_all(driver, first)

    stand.broker.kill()
    stand.broker.move_data("kept")
    stand.broker.start()
    took = driver.until(lambda: driver.queries()[BRONZE].state == "stopped")
    status = driver.status()
    reason = status[BRONZE]["reason"]
    assert f"topic {HOURLY.topic}" in reason
    assert "was deleted and created again" in reason
    assert "Restore the broker's data, or publish what is missing under a new WEIR_HOME" in reason
    assert (status[BRONZE]["state"], status[SILVER]["state"]) == ("stopped", "running")
    stand.pipeline.publish(first + second)  # more than was there before: going on by offsets alone would take the rest of it
    driver.live(5)
    assert stand.rows(BRONZE) == len(first)

    # One way out: the broker's data is put back.
    stand.broker.stop()
    stand.broker.move_data("empty")
    stand.broker.move_data("kept", back=True)
    stand.broker.start()
    ask(LocalFolder(stand.settings.home / "state"), "air_quality", Request())
    stand.pipeline.publish(second)
    back = stand.until_all(driver, first + second)
    assert driver.stop() == 0
    stand.assert_right(first + second)

    # The other: a new home on the empty broker, to which the range was published again.
    stand.broker.stop()
    stand.broker.move_data("kept")
    stand.broker.move_data("empty", back=True)
    stand.broker.start()
    stand.move_to(stand.folder / "new home")
    assert wait_until(lambda: sum(stand.pipeline.end_offsets().values()) == len(first + second)) < 60
    stand.drain()
    stand.assert_right(first + second)
    record_property("readings", len(first + second))
    record_property("from the return to the stop, s", round(took, 1))
    record_property("from its data's return to all in silver, s", round(back, 1))
