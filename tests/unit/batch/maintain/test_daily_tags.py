"""Which daily tags are missing, and on which snapshots do they belong?"""

from datetime import UTC, datetime, timedelta

from batch.maintain.daily_tags import wanted_tags
from batch.table_state import Snapshot, TableState
from tests.support.snapshots import NOW, chain, table


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
