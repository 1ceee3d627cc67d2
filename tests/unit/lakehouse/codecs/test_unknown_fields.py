"""Is each message counted once, by a bounded number of names, over the driver's lives?"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.codecs.unknown_fields import MOST_NAMES, Seen, UnknownFields, read_unknown_fields
from lakehouse.contract import Contract, Field
from lakehouse.storage.folders import LocalFolder

CONTRACT = Contract("t.v1", ("a",), ("a",), "b", (Field("a", "string", required=True), Field("b", "timestamp", required=True)))
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def offsets(first: int, last: int, partition: str = "0") -> dict[str, dict[str, tuple[int, int]]]:
    return {"t.v1": {partition: (first, last)}}


def test_messages_are_added_up_over_micro_batches_and_starts(tmp_path: Path) -> None:
    path = tmp_path / "state/x.json"
    assert UnknownFields(LocalFolder(path.parent), path.name, CONTRACT, lambda: NOON).note({"c": 2}, offsets(0, 4)) == {"c": 2}
    later = UnknownFields(LocalFolder(path.parent), path.name, CONTRACT, lambda: NOON + timedelta(hours=1))
    assert later.note({"c": 3, "d": 1}, offsets(5, 9)) == {"c": 3, "d": 1}
    assert read_unknown_fields(LocalFolder(path.parent), path.name) == {
        "c": Seen(5, "2026-01-02T12:00:00Z", "2026-01-02T13:00:00Z"),
        "d": Seen(1, "2026-01-02T13:00:00Z", "2026-01-02T13:00:00Z"),
    }


def test_repeated_micro_batch_is_not_counted_again(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    UnknownFields(LocalFolder(path.parent), path.name, CONTRACT).note({"c": 2}, offsets(0, 4))
    again = UnknownFields(LocalFolder(path.parent), path.name, CONTRACT)
    assert again.note({"c": 2}, offsets(0, 4)) == {}
    assert again.note({"c": 2}, offsets(0, 4, "1")) == {"c": 2}
    assert read_unknown_fields(LocalFolder(path.parent), path.name)["c"].messages == 4


def test_names_beyond_the_first_twenty_are_one(tmp_path: Path) -> None:
    counted = UnknownFields(LocalFolder(tmp_path), "x.json", CONTRACT)
    counted.note({f"n{n}": 1 for n in range(MOST_NAMES + 5)}, offsets(0, 0))
    assert counted.note({"more": 2, "n0": 1}, offsets(1, 2)) == {"other": 2, "n0": 1}
    held = read_unknown_fields(LocalFolder(tmp_path), "x.json")
    assert len(held) == MOST_NAMES + 1 and held["other"].messages == 7


def test_field_that_the_contract_has_come_to_know_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    UnknownFields(LocalFolder(path.parent), path.name, CONTRACT).note({"c": 2, "d": 1}, offsets(0, 4))
    UnknownFields(LocalFolder(path.parent), path.name, Contract("t.v1", ("a",), ("a",), "b", (*CONTRACT.fields, Field("c", "double"))))
    assert list(read_unknown_fields(LocalFolder(path.parent), path.name)) == ["d"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fields": {"c": 1}, "counted": {}}'])
def test_file_that_is_not_whole_is_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert read_unknown_fields(LocalFolder(path.parent), path.name) == {}


def test_file_that_cannot_be_written_fails_no_micro_batch(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert UnknownFields(LocalFolder(tmp_path / "file"), "x.json", CONTRACT).note({"c": 1}, offsets(0, 0)) == {"c": 1}
