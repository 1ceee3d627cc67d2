"""The rules of maintenance: which partitions are closed, how far snapshots may be expired, what rewriting gains, which tags are missing."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import pytest

from batch.maintain.closed_partitions import Closed, closed_partitions
from batch.maintain.daily_tags import wanted_tags
from batch.maintain.expiry import NOTHING, Hold, backfill_hold, expired_by, limit, newest_hold, reader_hold
from batch.maintain.maintenance_table import Result, renewed
from batch.maintain.retention import droppable_offsets, wholly_read
from batch.maintain.table_health import DataFile, Figures, Files, Rewrite, expected_figures, expected_rewrite, freed_bytes, small_files
from batch.table_state import PartitionField, Snapshot, TableState
from lakehouse.tables.properties import MARK_PROPERTY
from lakehouse.tables.stream_positions import Position, committed_positions
from lakehouse.write.fenced_append import Mark
from monitoring.table_health import Maintained, maintained_json, maintained_of

NOW = datetime(2026, 3, 2, 5, 30, tzinfo=UTC)
MIB = 1 << 20


def table(*snapshots: Snapshot, refs: Mapping[str, int] | None = None, name: str = "lh.bronze.x") -> TableState:
    """A table whose head is the last of these."""
    held = {one.id: one for one in snapshots}
    return TableState(name, "file:/x", snapshots[-1].id, held, refs or {}, frozenset(), {}, (), 1000 * len(held))


def chain(*hours_ago: float, operation: str = "append", **said: str) -> list[Snapshot]:
    """Snapshots one after the other, numbered from 1, committed so many hours ago."""
    return [
        Snapshot(n, n - 1 or None, round((NOW - timedelta(hours=ago)).timestamp() * 1000), operation, {"added-data-files": "2", **said})
        for n, ago in enumerate(hours_ago, 1)
    ]


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


def test_the_position_is_that_of_the_last_committed_micro_batch() -> None:
    files = {"offsets/3": 'v1\n{}\n{"version":1,"snapshot_id":7,"position":2,"scan_all_files":false}', "offsets/4": "cut"}
    assert committed_positions(["0", "3", ".3.crc"], files.get) == [Position(7, 2)]
    assert committed_positions([], files.get) == [None]
    with pytest.raises(ValueError, match="offsets/4"):
        committed_positions(["3", "4"], files.get)


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


def test_what_binpack_would_do_with_files() -> None:
    closed = Closed("t < x", "t_month", 10)
    small, good = [DataFile(9, 3 * MIB)] * 3, DataFile(9, 200 * MIB)
    files = Files([*small, good, DataFile(8, MIB), DataFile(12, MIB), DataFile(12, MIB)], vectors=1)
    assert expected_rewrite(files, closed, 2) == Rewrite(3, 9 * MIB, 1), "one alone and an open partition are left"
    assert expected_rewrite(files, closed, 5) == Rewrite()
    assert expected_rewrite(Files([DataFile(9, 200 * MIB, deleted=0.2)], vectors=1), closed, 2) == Rewrite(1, 200 * MIB, 1, 1)
    assert expected_rewrite(Files([DataFile(9, 600 * MIB)]), closed, 2) == Rewrite(1, 600 * MIB, 3)
    assert expected_rewrite(Files([DataFile(9, 100 * MIB)] * 5), closed, 2) == Rewrite(5, 500 * MIB, 2)
    assert small_files(files.data) == 5
    before = Figures(files=7, small_files=5, delete_files=1, snapshots=10, metadata_bytes=1000, disk_bytes=100)
    after = expected_figures(before, Rewrite(3, 9 * MIB, 1), snapshots=4, freed=30)
    assert (after.files, after.small_files, after.snapshots, after.metadata_bytes, after.disk_bytes) == (5, 2, 7, 600, 70)


def test_tags_are_of_whole_applies() -> None:
    midnight = datetime(2026, 3, 2, tzinfo=UTC)

    def commit(n: int, seconds: float, batch: int) -> Snapshot:
        millis = round((midnight + timedelta(seconds=seconds)).timestamp() * 1000)
        return Snapshot(n, n - 1 or None, millis, "overwrite", {"weir.query": "silver.x", "weir.batch-id": str(batch)})

    silver = table(commit(1, -9, 1), commit(2, -1, 2), commit(3, 5, 3), name="lh.silver.x")
    gold = table(commit(1, -8, 1), commit(2, 1, 2), name="lh.gold.x")
    found = wanted_tags([silver, gold], NOW, days=1)
    assert [(one.table, one.name, one.snapshot_id) for one in found] == [
        ("lh.silver.x", "day-2026-03-01", 1),
        ("lh.gold.x", "day-2026-03-01", 1),
    ]
    whole = table(commit(1, -8, 1), commit(2, -0.5, 2), name="lh.gold.x")
    assert [one.snapshot_id for one in wanted_tags([silver, whole], NOW, days=1)] == [2, 2]
    tagged = TableState(**{**{f: getattr(silver, f) for f in TableState.__slots__}, "refs": {"day-2026-03-01": 1}})
    assert [one.table for one in wanted_tags([tagged, gold], NOW, days=1)] == ["lh.gold.x"], "made once"


def test_a_tag_of_an_idle_table_lives_as_long_as_the_others() -> None:
    idle = table(*chain(24 * 40))
    found = wanted_tags([idle], NOW, days=3)
    assert [one.days for one in found] == [3 + 40, 3 + 39, 3 + 38]


def test_what_is_known_goes_on_from_round_to_round() -> None:
    def result(name: str, left: tuple[str, ...] = (), failed: tuple[str, ...] = ()) -> Result:
        return Result(name, Figures(), Figures(small_files=4), left=left, failed=failed)

    known = {name: Maintained(9, 1, 1) for name in ("a", "b", "c", "d")}
    found = renewed(known, [result("a"), result("b", left=("x",)), result("c", failed=("x",)), result("e")], ["e"], NOW)
    millis = round(NOW.timestamp() * 1000)
    assert found == {
        "a": Maintained(4, millis, 1),
        "b": Maintained(4, 1, 1),
        "c": Maintained(9, 1, 1),
        "d": Maintained(9, 1, 1),
        "e": Maintained(4, millis, millis),
    }
    assert maintained_of(maintained_json(found)) == found and maintained_of(None) == {}


def test_limits_say_why() -> None:
    assert limit(NOW, 6, [Hold(NOTHING, "a rebuild")]).why == "a rebuild"
