"""From where does a source go on that the breaker held back? On checkpoints as Spark writes them."""

import json
from pathlib import Path

import pytest

from lakehouse.storage.folders import LocalFolder
from lakehouse.tables.stream_positions import HELD_BACK, Position, committed_positions
from streaming.errors import RejectRateExceeded
from streaming.held_back import HeldBack

META = json.dumps({"batchWatermarkMs": 0, "batchTimestampMs": 1, "conf": {}})
NAMES = ("users", "tags")


def offset(snapshot: int, files: int = 1) -> str:
    return json.dumps({"version": 1, "snapshot_id": snapshot, "position": files, "scan_all_files": False})


def refused(name: str) -> RejectRateExceeded:
    return RejectRateExceeded("kaggle", name, 2, 3, 10, {"no_id": 2})


class Checkpoint:
    def __init__(self, path: Path) -> None:
        self.folder = LocalFolder(path)

    def plan(self, number: int, *offsets: str) -> None:
        self.folder.write(f"offsets/{number}", "\n".join(["v1", META, *offsets]))

    def commit(self, number: int) -> None:
        self.folder.write(f"commits/{number}", 'v1\n{"nextBatchWatermarkMs":0}')

    def numbers(self) -> tuple[list[str], list[str]]:
        return self.folder.names("offsets"), self.folder.names("commits")

    def positions(self) -> list[Position | None]:
        return committed_positions(self.folder.names("commits"), self.folder.text, len(NAMES))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    """Two micro-batches that are committed, and a third that runs."""
    one = Checkpoint(tmp_path)
    one.plan(0, "-", offset(20))
    one.plan(1, offset(11), offset(20))
    one.plan(2, offset(12), offset(21))
    one.commit(0)
    one.commit(1)
    return one


def test_a_held_source_goes_back_to_its_first_refused_micro_batch_and_the_other_does_not(checkpoint: Checkpoint) -> None:
    HeldBack(checkpoint.folder, NAMES).hold(2, {"users": refused("users")})
    checkpoint.commit(2)
    checkpoint.plan(3, offset(13), offset(22))
    checkpoint.commit(3)
    assert checkpoint.positions() == [Position(11, 1), Position(22, 1)], "what lag and maintenance see"
    checkpoint.plan(4, offset(14), offset(23))  # planned when the driver was killed

    HeldBack(checkpoint.folder, NAMES).release()

    assert checkpoint.numbers() == (["0", "1", "2", "3", "4"], ["0", "1", "2", "3", "4"])
    assert (checkpoint.folder.text("offsets/4") or "").splitlines() == ["v1", META, offset(11), offset(22)]
    assert checkpoint.folder.text("commits/4") == checkpoint.folder.text("commits/3")
    assert checkpoint.positions() == [Position(11, 1), Position(22, 1)]
    HeldBack(checkpoint.folder, NAMES).release()
    assert checkpoint.numbers()[0][-1] == "4", "nothing is held any more"


@pytest.mark.parametrize("crash_after", ["planned removed", "offsets", "commits"])
def test_a_release_that_is_cut_off_is_repeated(checkpoint: Checkpoint, crash_after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held_back = HeldBack(checkpoint.folder, NAMES)
    held_back.hold(2, {"users": refused("users")})
    checkpoint.commit(2)
    checkpoint.plan(3, offset(13), offset(22))
    write = checkpoint.folder.write

    def cut(name: str, text: str) -> None:
        if crash_after == "planned removed" or (crash_after == "offsets" and name.startswith("commits")):
            raise KeyboardInterrupt
        write(name, text)

    def kept(name: str) -> bool:
        if crash_after == "commits" and name == HELD_BACK:
            raise KeyboardInterrupt
        return LocalFolder.remove(checkpoint.folder, name)

    monkeypatch.setattr(checkpoint.folder, "write", cut)
    monkeypatch.setattr(checkpoint.folder, "remove", kept)
    with pytest.raises(KeyboardInterrupt):
        HeldBack(checkpoint.folder, NAMES).release()
    monkeypatch.undo()
    assert checkpoint.positions() == [Position(11, 1), Position(21, 1)]
    HeldBack(checkpoint.folder, NAMES).release()
    assert checkpoint.positions() == [Position(11, 1), Position(21, 1)]
    assert checkpoint.numbers()[0] == checkpoint.numbers()[1]


def test_a_source_that_had_nothing_before_begins_at_its_tables_beginning(checkpoint: Checkpoint) -> None:
    HeldBack(checkpoint.folder, NAMES).hold(1, {"users": refused("users")})
    HeldBack(checkpoint.folder, NAMES).release()
    assert (checkpoint.folder.text("offsets/2") or "").splitlines()[2:] == ["-", offset(20)]


def test_what_was_not_committed_yet_is_simply_repeated(checkpoint: Checkpoint) -> None:
    HeldBack(checkpoint.folder, NAMES).hold(2, {"tags": refused("tags")})
    HeldBack(checkpoint.folder, NAMES).release()
    assert checkpoint.numbers() == (["0", "1", "2"], ["0", "1"])
    assert (checkpoint.folder.text("offsets/2") or "").splitlines()[2:] == [offset(12), offset(21)]


def test_the_first_refusal_counts_and_the_last_source_stops_the_query(checkpoint: Checkpoint) -> None:
    held_back = HeldBack(checkpoint.folder, NAMES)
    held_back.hold(2, {"users": refused("users")})
    assert held_back.noted() == {"users"} and set(held_back.refused) == {"users"}
    checkpoint.commit(2)
    checkpoint.plan(3, offset(13), offset(22))
    with pytest.raises(RejectRateExceeded, match="tags"):
        held_back.hold(3, {"tags": refused("tags")})
    assert checkpoint.positions() == [Position(11, 1), Position(21, 1)]
    assert HeldBack(checkpoint.folder, NAMES).noted() == {"users", "tags"}


def test_a_note_that_weir_did_not_write_is_loud(checkpoint: Checkpoint) -> None:
    checkpoint.folder.write(HELD_BACK, '{"0": {"since": "now"}}')
    with pytest.raises(ValueError, match=r"weir-held-back.json is not as weir writes it"):
        checkpoint.positions()
