"""How far has a query got that reads tables as streams?"""

import pytest

from lakehouse.tables.stream_positions import Position, committed_positions


def test_the_position_is_that_of_the_last_committed_micro_batch() -> None:
    files = {"offsets/3": 'v1\n{}\n{"version":1,"snapshot_id":7,"position":2,"scan_all_files":false}', "offsets/4": "cut"}
    assert committed_positions(["0", "3", ".3.crc"], files.get) == [Position(7, 2)]
    assert committed_positions([], files.get) == [None]
    with pytest.raises(ValueError, match="offsets/4"):
        committed_positions(["3", "4"], files.get)
