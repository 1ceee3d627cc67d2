"""What would rewriting a table gain?"""

from batch.maintain.closed_partitions import Closed
from batch.maintain.table_health import DataFile, Figures, Files, Rewrite, expected_figures, expected_rewrite, small_files

MIB = 1 << 20


def test_what_binpack_would_do_with_files() -> None:
    closed = Closed("t < x", "t_month", 10)
    small, good = [DataFile(9, 3 * MIB)] * 3, DataFile(9, 200 * MIB)
    files = Files([*small, good, DataFile(8, MIB), DataFile(12, MIB), DataFile(12, MIB)], deletes=1)
    assert expected_rewrite(files, closed, 2) == Rewrite(3, 9 * MIB, 1), "one alone and an open partition are left"
    assert expected_rewrite(files, closed, 5) == Rewrite()
    assert expected_rewrite(Files([DataFile(9, 200 * MIB, deleted=0.2)], deletes=1), closed, 2) == Rewrite(1, 200 * MIB, 1, 1)
    assert expected_rewrite(Files([DataFile(9, 600 * MIB)]), closed, 2) == Rewrite(1, 600 * MIB, 3)
    assert expected_rewrite(Files([DataFile(9, 100 * MIB)] * 5), closed, 2) == Rewrite(5, 500 * MIB, 2)
    assert small_files(files.data) == 5
    before = Figures(files=7, small_files=5, delete_files=1, snapshots=10, metadata_bytes=1000, disk_bytes=100)
    after = expected_figures(before, Rewrite(3, 9 * MIB, 1), snapshots=4, freed=30)
    assert (after.files, after.small_files, after.snapshots, after.metadata_bytes, after.disk_bytes) == (5, 2, 7, 600, 70)
