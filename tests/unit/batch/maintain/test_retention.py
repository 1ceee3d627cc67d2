"""What may a topic lose, and how far has a reader read bronze?"""

import pytest

from batch.maintain.retention import droppable_offsets, wholly_read
from batch.table_state import Snapshot
from lakehouse.tables.properties import MARK_PROPERTY
from lakehouse.tables.stream_positions import Position
from lakehouse.write.fenced_append import Mark
from tests.support.snapshots import chain, table


def test_a_snapshot_read_in_part_is_not_read() -> None:
    bronze = table(*chain(30, 20, 10))
    assert [getattr(wholly_read(bronze, Position(2, n)), "id", None) for n in (0, 1, 2)] == [1, 1, 2]
    assert wholly_read(bronze, None) is None and wholly_read(bronze, Position(9, 1)) is None
    assert wholly_read(bronze, Position(1, 0)) is None, "nothing lies before it"


@pytest.mark.parametrize(
    ("young", "read", "expected"),
    [(100, 2, {0: 20}), (15, 2, {0: 15}), (100, 1, {0: 10}), (3, 2, {}), (100, 9, {})],
    ids=["as far as silver", "as far as the days", "as far as an earlier snapshot", "nothing is old", "no known position"],
)
def test_a_topic_loses_only_what_is_old_and_in_bronze_and_in_silver(young: int, read: int, expected: dict[int, int]) -> None:
    marks = [{MARK_PROPERTY: Mark({"t": "id"}, {("t", 0): 10 * n}).to_json()} for n in (1, 2, 3)]
    bronze = table(*(Snapshot(one.id, one.parent, one.millis, "append", mark) for one, mark in zip(chain(3, 2, 1), marks, strict=True)))
    assert droppable_offsets(bronze, Position(read, 2), "t", {0: young, 1: young}, {0: (5, 200), 1: (5, 200)}) == expected
