"""Which partitions does maintenance leave to the stream?"""

from datetime import date, timedelta

import pytest

from batch.maintain.closed_partitions import Closed, closed_partitions
from batch.table_state import PartitionField
from tests.support.snapshots import NOW


@pytest.mark.parametrize(
    ("transform", "type_", "open_for", "where", "open_", "shut"),
    [
        ("day", "timestamptz", timedelta(0), "t < TIMESTAMP '2026-03-02 00:00:00+00:00'", date(2026, 3, 2), date(2026, 3, 1)),
        # 48 h before 2 March lies in February: the month that holds it is open.
        ("month", "timestamptz", timedelta(hours=48), "t < TIMESTAMP '2026-02-01 00:00:00+00:00'", 56 * 12 + 1, 56 * 12),
        ("year", "date", timedelta(hours=48), "t < DATE '2026-01-01'", 56, 55),
        ("hour", "timestamptz", timedelta(hours=1), "t < TIMESTAMP '2026-03-02 04:00:00+00:00'", 20514 * 24 + 4, 20514 * 24 + 3),
    ],
)
def test_closed_is_what_lies_before_the_time_that_the_stream_may_reach(
    transform: str, type_: str, open_for: timedelta, where: str, open_: object, shut: object
) -> None:
    closed = closed_partitions([PartitionField("t_part", "t", transform, type_)], NOW, open_for, with_null=False)
    assert closed.where == where
    assert (closed.holds(open_), closed.holds(shut), closed.holds(None)) == (False, True, False)


def test_rows_without_a_time_are_closed_when_no_backfill_is_unfinished_and_a_table_without_time_is_closed_whole() -> None:
    by_day = PartitionField("t_day", "t", "day", "timestamptz")
    closed = closed_partitions([by_day], NOW, timedelta(0), with_null=True)
    assert closed.where == "(t < TIMESTAMP '2026-03-02 00:00:00+00:00' OR t IS NULL)" and closed.holds(None)
    assert closed_partitions([], NOW, timedelta(0), with_null=False) == Closed()
    assert closed_partitions([PartitionField("b", "t", "bucket[8]", "string")], NOW, timedelta(0), with_null=False).holds(3)
