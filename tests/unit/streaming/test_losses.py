"""What counts as lost, and where does a new checkpoint begin?"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.broker.offsets import TopicOffsets
from streaming.checkpoints import Position
from streaming.errors import AheadOfTransaction, BrokerLostItsEnd, LostRange
from streaming.losses import Bounds, check_readable, find_lost, fits, starting_offsets

NEW = Position(True)


def at(start: dict[int, int], planned: dict[int, int] | None = None) -> Position:
    def text(offsets: dict[int, int]) -> str:
        return json.dumps({"t": {str(p): n for p, n in offsets.items()}})

    return Position(False, text(start), text(planned or start))


def lost(bounds: Bounds, held: dict[int, int], position: Position = NEW, recorded: tuple[LostRange, ...] = ()) -> list[LostRange]:
    return find_lost("t", bounds, held, position, recorded, "bronze.x")


def test_nothing_is_lost_while_all_is_there() -> None:
    assert lost({0: (0, 100), 1: (5, 5)}, {0: 40, 1: 5}, at({0: 30, 1: 5}, {0: 60, 1: 5})) == []
    assert lost({0: (70, 100)}, {}) == []  # dropped before our time


def test_what_the_broker_dropped_before_it_was_read_is_lost_once() -> None:
    gap = LostRange("t", 0, 40, 69)
    assert lost({0: (70, 100)}, {0: 40}) == [gap]
    assert lost({0: (70, 100)}, {}, at({0: 40})) == [gap]
    assert lost({0: (70, 100)}, {0: 40}, recorded=(gap,)) == []
    assert lost({0: (80, 100)}, {0: 40}, recorded=(gap,)) == [LostRange("t", 0, 70, 79)]
    assert lost({0: (80, 100)}, {0: 40}, recorded=(LostRange("t", 1, 40, 69),)) == [LostRange("t", 0, 40, 79)]
    assert str(gap) == "t partition 0 offsets 40 to 69 (30 messages at most)"


def test_an_offset_that_is_no_message_is_counted_by_the_checkpoint_alone() -> None:
    assert lost({0: (41, 41)}, {0: 40}, at({0: 41})) == []


def test_a_partition_that_was_added_since_is_read_from_zero_or_it_is_a_loss() -> None:
    added = LostRange("t", 1, 0, 1)
    for held, position in (({0: 40}, NEW), ({}, at({0: 40})), ({0: 40}, at({0: 40}))):
        assert lost({0: (0, 100), 1: (2, 3)}, held, position) == [added]
        assert lost({0: (0, 100), 1: (2, 3)}, held, position, (added,)) == []
        assert lost({0: (0, 100), 1: (0, 3)}, held, position) == []
    # Spark goes on only where nothing is gone; so the checkpoint of an accepted loss is moved aside.
    assert fits("t", {0: (0, 100), 1: (0, 3)}, at({0: 40}))
    assert not fits("t", {0: (0, 100), 1: (2, 3)}, at({0: 40}))


def test_what_an_older_version_read_of_an_open_transaction_is_waited_for() -> None:
    offsets = TopicOffsets("id", {0: (0, 10), 1: (0, 5)}, {0: 15, 1: 5})
    check_readable("t", offsets, {0: 10, 1: 5}, at({0: 10}), "bronze.x")
    for held, position in (({0: 12}, NEW), ({}, at({0: 12}))):
        with pytest.raises(AheadOfTransaction, match="partition 0 can be read up to 9, 11 was read"):
            check_readable("t", offsets, held, position, "bronze.x")
    check_readable("t", offsets, {0: 16}, NEW, "bronze.x")  # more than was written: the broker lost its end, which is another error


def test_what_was_planned_and_is_gone_from_the_end_is_lost_but_what_bronze_holds_cannot_be() -> None:
    assert lost({0: (0, 50)}, {0: 40}, at({0: 40}, {0: 60})) == [LostRange("t", 0, 50, 59)]
    with pytest.raises(BrokerLostItsEnd, match="partition 0 ends at 50, bronze holds up to 59"):
        lost({0: (0, 50)}, {0: 60}, at({0: 40}, {0: 60}))


def test_spark_can_go_on_only_where_all_of_its_next_micro_batch_is_there() -> None:
    assert fits("t", {0: (0, 100), 1: (0, 9)}, at({0: 0}, {0: 100}))
    assert not fits("t", {0: (1, 100)}, at({0: 0}, {0: 100}))
    assert not fits("t", {0: (0, 99)}, at({0: 0}, {0: 100}))


@given(st.dictionaries(st.integers(0, 5), st.tuples(st.integers(0, 99), st.integers(100, 200)), min_size=1), st.integers(0, 300))
def test_new_checkpoint_begins_where_bronze_ends_and_within_what_is_there(bounds: dict[int, tuple[int, int]], held: int) -> None:
    begins = json.loads(starting_offsets({"t": (bounds, {0: held})}))["t"]
    assert begins.keys() == {str(p) for p in bounds}
    assert all(bounds[int(p)][0] <= n <= bounds[int(p)][1] for p, n in begins.items())
    assert all(n == bounds[int(p)][0] for p, n in begins.items() if p != "0")
    assert starting_offsets({"t": (bounds, {})}) == "earliest"
