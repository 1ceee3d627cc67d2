"""Does the refine query get exactly the rows between two positions, or none?"""

import pyarrow as pa

from lakehouse.tables.stream_positions import Position
from lakehouse.write.hand_over import Appended, HandOver

TABLE = "lh.bronze.t"


def appended(snapshot: int, parent: int | None, *values: int, files: int | None = None, table: str = TABLE) -> Appended:
    rows = pa.table({"n": pa.array(values, pa.int64())})
    return Appended(table, snapshot, parent, (1 if values else 0) if files is None else files, rows)


def taken(between: HandOver, start: tuple[int, int], end: tuple[int, int], table: str = TABLE) -> list[int] | None:
    rows = between.take(table, Position(*start), Position(*end))
    return None if rows is None else list(rows["n"].to_pylist())


def test_rows_between_two_positions_come_in_order_and_once() -> None:
    between = HandOver()
    for one in (appended(1, None, 10), appended(2, 1, 20, 21), appended(3, 2), appended(4, 3, 40)):
        between.put(one)
    assert taken(between, (1, 1), (4, 1)) == [20, 21, 40]
    assert taken(between, (1, 1), (4, 1)) is None, "a micro-batch that is repeated reads the table"
    between.put(appended(5, 4, 50))
    assert taken(between, (4, 1), (5, 1)) == [50]
    assert taken(between, (5, 1), (5, 1)) == []


def test_what_is_not_known_whole_is_read_from_the_table() -> None:
    for start, end in (((9, 1), (3, 1)), ((1, 1), (9, 1)), ((1, 0), (3, 1)), ((1, 1), (3, 0)), ((3, 1), (1, 1))):
        between = HandOver()
        for one in (appended(1, None, 10), appended(2, 1, 20), appended(3, 2, 30)):
            between.put(one)
        assert taken(between, start, end) is None, (start, end)
        assert taken(between, (1, 1), (3, 1), "lh.bronze.other") is None


def test_a_commit_of_another_writer_in_between_breaks_the_chain() -> None:
    between = HandOver()
    for one in (appended(1, None, 10), appended(3, 2, 30)):  # 2 is a compaction, or a backfill
        between.put(one)
    assert taken(between, (1, 1), (3, 1)) is None


def test_the_oldest_are_forgotten_when_there_is_too_much() -> None:
    between = HandOver(most_bytes=40)
    for one in (appended(1, None, 1, 2), appended(2, 1, 3, 4), appended(3, 2, 5, 6)):  # 16 bytes each
        between.put(one)
    assert taken(between, (1, 1), (3, 1)) is None
    assert taken(between, (2, 1), (3, 1)) == [5, 6]
