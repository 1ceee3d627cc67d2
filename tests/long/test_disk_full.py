"""Does a full disk lose or double anything, is it named, and does the stream go on once there is room again?"""

from collections.abc import Callable

import pytest

from deploy.local.errors import DiskFull
from tests.long.conftest import NewDisk, NewStand
from tests.support.faults import BRONZE, SILVER

pytestmark = pytest.mark.timeout(1800)
Record = Callable[[str, object], None]
NO_SPACE = "No space left on device"
# Bytes that are left: nothing at all; and enough to begin a micro-batch's files but not to end them.
LEFT = (0, 24 * 1024)


@pytest.mark.parametrize("what", ["warehouse", "checkpoints"])
def test_full_disk_is_named_and_the_stream_goes_on_by_itself_when_there_is_room(
    what: str, new_disk: NewDisk, new_stand: NewStand, record_property: Record
) -> None:
    told, back = [], []
    disk = new_disk(64)
    stand = new_stand(**{f"{what}_uri": disk.folder.joinpath(what).as_uri()})
    driver = stand.start()
    with stand.load(rows_per_second=15) as load:
        driver.until_ready()
        stand.until_commit(driver, SILVER)
        for leaving in LEFT:
            disk.fill(leaving)
            told.append(driver.until(lambda: any(NO_SPACE in query.reason for query in driver.queries().values())))
            # Between two attempts; while one runs there is no reason to tell.
            driver.until(lambda: any(NO_SPACE in (query["reason"] or "") for query in driver.status().values()))
            driver.live(10)
            disk.empty()
            back.append(driver.until(driver.all_run))
            back[-1] += max(stand.until_commit(driver, query) for query in (BRONZE, SILVER))
        delivered = load.end()
    stand.until_all(driver, load.delivered)
    assert driver.stop() == 0
    stand.assert_right(load.delivered)
    record_property("readings", delivered)
    record_property("times full", len(LEFT))
    record_property("longest until status named it, s", round(max(told), 1))
    record_property("longest from room to the next commits, s", round(max(back), 1))


def test_full_disk_under_kafka_ends_the_broker_and_loses_no_message_that_was_reported(
    new_disk: NewDisk, new_stand: NewStand, record_property: Record
) -> None:
    disk = new_disk(400)
    stand = new_stand(kafka_folder=str(disk.folder / "broker"))
    driver = stand.start()
    with stand.load() as load:
        driver.until_ready()
        stand.until_commit(driver, SILVER)
        ended, back = [], []
        for leaving in LEFT:
            disk.fill(leaving)
            ended.append(driver.until(lambda: not stand.broker.is_alive()))
            before = len(load.delivered)
            with pytest.raises(DiskFull, match="is full: 0 MiB are free"):
                stand.broker.start()
            driver.live(10)
            assert len(load.delivered) == before
            disk.empty()
            stand.broker.start()
            back.append(stand.until_commit(driver, BRONZE))
        delivered = load.end()
    stand.until_all(driver, load.delivered)
    assert driver.stop() == 0
    stand.assert_right(load.delivered)
    record_property("readings", delivered)
    record_property("times full", len(LEFT))
    record_property("longest until the broker ended, s", round(max(ended), 1))
    record_property("longest from the broker's return to bronze's next commit, s", round(max(back), 1))


def test_the_small_disk_is_really_full(new_disk: NewDisk) -> None:
    disk = new_disk(2)
    disk.fill()
    with pytest.raises(OSError, match=NO_SPACE):
        (disk.folder / "one more").write_bytes(b"x" * 4096)
    disk.empty()
    (disk.folder / "one more").write_bytes(b"x" * 4096)
