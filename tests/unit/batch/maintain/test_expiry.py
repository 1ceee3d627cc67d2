"""How far may snapshots be expired, and why no further?"""

from datetime import timedelta

from batch.maintain.expiry import NOTHING, Hold, backfill_hold, expired_by, limit, newest_hold, reader_hold
from batch.maintain.table_health import freed_bytes
from batch.table_state import Snapshot
from lakehouse.tables.stream_positions import Position
from tests.support.snapshots import NOW, chain, table


def test_the_earliest_need_decides_how_far_is_expired() -> None:
    bronze = table(*chain(30, 20, 10, 1))
    assert limit(NOW, 6, []).since == NOW - timedelta(hours=6)
    behind = reader_hold(bronze, Position(2, 2), "silver.x")
    assert behind.since == NOW - timedelta(hours=20)
    assert limit(NOW, 6, [behind, *backfill_hold(NOW - timedelta(hours=25))]).since == NOW - timedelta(hours=25, minutes=1)
    assert limit(NOW, 6, [reader_hold(bronze, Position(4, 2), "silver.x")]).since == NOW - timedelta(hours=6)
    assert limit(NOW, 6, [reader_hold(bronze, None, "silver.x")]).since == NOTHING
    assert limit(NOW, 6, [reader_hold(bronze, Position(99, 2), "silver.x")]).since == NOTHING, "a snapshot of another table"


def test_a_clock_that_went_back_does_not_hide_what_the_reader_needs() -> None:
    bronze = table(*chain(30, 10, 20, 1))  # the third says that it is older than the second
    assert reader_hold(bronze, Position(2, 2), "silver.x").since == NOW - timedelta(hours=20)


def test_the_newest_that_says_something_stays() -> None:
    first, second, third = chain(30, 20, 10)
    marked = Snapshot(second.id, second.parent, second.millis, "append", {"weir.said": "1"})
    assert [hold.since for hold in newest_hold(table(first, marked, third), "weir.said", "")] == [NOW - timedelta(hours=20)]
    assert newest_hold(table(first, second, third), "weir.said", "") == []


def test_what_is_expired_is_what_iceberg_expires() -> None:
    state = table(*chain(30, 20, 10, 1), refs={"mine": 2})
    assert expired_by(state, NOW - timedelta(hours=6)) == [1, 3]
    assert expired_by(state, NOW) == [1, 3], "the head stays"
    assert expired_by(state, NOW - timedelta(hours=40)) == []
    assert freed_bytes(table(*chain(30, 20, 10, 1, **{"removed-files-size": "7"})), [1, 2]) == 21, "the third removed files of the second"


def test_limits_say_why() -> None:
    assert limit(NOW, 6, [Hold(NOTHING, "a rebuild")]).why == "a rebuild"
