"""How are offsets shown in a lineage? As runs."""

from batch.lineage import runs


def test_offsets_become_runs() -> None:
    assert list(runs([7, 1, 2, 3, 9, 8])) == [(1, 4), (7, 10)]
    assert list(runs([])) == []
