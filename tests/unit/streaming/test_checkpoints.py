"""Which checkpoints are refused before a query starts? On folders as Spark writes them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.write.fenced_append import TopicRecreated
from streaming.checkpoints import IDENTITY, Position, check_topics, claim, examine, kafka_offsets, planned_ends, tidy
from streaming.errors import BadCheckpoint

NAME = "bronze.x"
META = json.dumps({"batchWatermarkMs": 0, "batchTimestampMs": 1, "conf": {}})


class LocalFolder:
    def __init__(self, path: Path) -> None:
        self.path, self.uri = path, path.as_uri()

    def names(self, sub: str = "") -> list[str]:
        folder = self.path / sub
        return sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []

    def text(self, name: str) -> str | None:
        file = self.path / name
        return file.read_text() if file.is_file() else None

    def write(self, name: str, text: str) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text)

    def remove(self, name: str) -> bool:
        there = (self.path / name).exists()
        (self.path / name).unlink(missing_ok=True)
        return there

    def move_aside(self) -> str:
        raise AssertionError("reading changes nothing")


def offsets(number: int) -> str:
    return f"v1\n{META}\n" + json.dumps({"t": {"0": 10 * (number + 1), "1": number + 1}})


@pytest.fixture
def folder(tmp_path: Path) -> LocalFolder:
    """Three micro-batches, all committed."""
    for sub in ("offsets", "commits", "sources/0"):
        (tmp_path / sub).mkdir(parents=True)
    (tmp_path / "metadata").write_text('{"id":"f0a2"}')
    (tmp_path / "sources/0/0").write_text('\0v1\n{"t":{"0":3,"1":0}}')
    for number in range(3):
        (tmp_path / "offsets" / str(number)).write_text(offsets(number))
        (tmp_path / "commits" / str(number)).write_text('v1\n{"nextBatchWatermarkMs":0}')
    (tmp_path / "offsets" / ".2.crc").write_text("")
    return LocalFolder(tmp_path)


def seen(folder: LocalFolder) -> Position:
    return examine(folder, NAME, "air_quality", is_kafka=True)


def test_a_whole_one_says_where_it_stands(folder: LocalFolder) -> None:
    position = seen(folder)
    assert not position.is_new
    assert kafka_offsets(position.start, "t") == kafka_offsets(position.planned, "t") == {0: 30, 1: 3}
    (folder.path / "commits/2").unlink()  # killed within a micro-batch
    position = seen(folder)
    assert (kafka_offsets(position.start, "t"), kafka_offsets(position.planned, "t")) == ({0: 20, 1: 2}, {0: 30, 1: 3})
    for name in ("offsets/1", "offsets/2", "commits/0", "commits/1"):
        (folder.path / name).unlink()
    assert kafka_offsets(seen(folder).start, "t") == {0: 3, 1: 0}  # within the first


def test_a_micro_batchs_planned_ends_are_known_where_its_file_is_whole(folder: LocalFolder) -> None:
    assert planned_ends(folder, 1) == {("t", 0): 20, ("t", 1): 2}
    assert planned_ends(folder, 3) is None  # not begun
    (folder.path / "offsets/2").write_text(offsets(2)[:-4])
    assert planned_ends(folder, 2) is None
    (folder.path / "offsets/2").write_text(f'v1\n{META}\n{{"version":1,"snapshot_id":5,"position":1}}')
    assert planned_ends(folder, 2) is None  # of a table


def test_one_that_was_purged_from_its_beginning_is_whole(folder: LocalFolder) -> None:
    for name in ("offsets/0", "commits/0", "commits/1"):
        (folder.path / name).unlink()
    assert not seen(folder).is_new


def test_a_new_one_is_new_also_when_it_was_only_claimed(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path / "none")
    assert seen(folder).is_new
    claim(folder, NAME, {"t": "id"})
    assert seen(folder) == Position(True, topic_ids={"t": "id"})


def test_checksum_of_a_commit_that_is_gone_is_removed_and_no_other(folder: LocalFolder) -> None:
    for number in (1, 2):
        (folder.path / f"commits/.{number}.crc").write_text("")
    assert tidy(folder) == []
    (folder.path / "commits/2").unlink()
    assert tidy(folder) == ["commits/.2.crc"]
    assert folder.names("commits") == [".1.crc", "0", "1"]
    assert folder.names("offsets") == [".2.crc", "0", "1", "2"]


DAMAGES: list[tuple[str, Callable[[Path], object]]] = [
    ("no file metadata beside 3 offsets", lambda path: (path / "metadata").unlink()),
    ("metadata that is empty or cut", lambda path: (path / "metadata").write_text('{"id"')),
    ("of query silver.x", lambda path: (path / IDENTITY).write_text('{"query": "silver.x"}')),
    ("offsets/2 that is empty", lambda path: (path / "offsets/2").write_text("")),
    ("offsets/2 that is empty, cut", lambda path: (path / "offsets/2").write_text(offsets(2)[:-4])),
    ("offsets/1 that is empty, cut", lambda path: (path / "offsets/1").write_text(f"v1\n{META}")),
    ("commits/2 but no later offsets than 1", lambda path: (path / "offsets/2").unlink()),
    ("no offsets/1 between 0 and 2", lambda path: (path / "offsets/1").unlink()),
    ("no commits/1 between 0 and 2", lambda path: (path / "commits/1").unlink()),
    ("offsets/2 but no later commit than none", lambda path: shutil.rmtree(path / "commits")),
    ("commits/2 but no later offsets than none", lambda path: shutil.rmtree(path / "offsets")),
    (
        "offsets/2 of another kind of source",
        lambda path: (path / "offsets/2").write_text(f'v1\n{META}\n{{"snapshot_id": 1, "position": 0}}'),
    ),
]


@pytest.mark.parametrize(("found", "damage"), DAMAGES, ids=[found for found, _ in DAMAGES])
def test_what_is_not_whole_is_refused_with_the_way_out(folder: LocalFolder, found: str, damage: Callable[[Path], object]) -> None:
    damage(folder.path)
    with pytest.raises(BadCheckpoint) as caught:
        seen(folder)
    said = str(caught.value)
    assert found in said
    assert folder.uri in said
    assert "weir stream air_quality --new-checkpoint" in said


def test_it_remembers_its_query_and_topics(folder: LocalFolder) -> None:
    claim(folder, NAME, {"t": "old"})
    position = seen(folder)
    check_topics(position, {"t": "old", "other": "x"}, folder.uri)
    with pytest.raises(TopicRecreated, match="old"):
        check_topics(position, {"t": "new"}, folder.uri)
    with pytest.raises(BadCheckpoint):
        examine(folder, "bronze.y", "air_quality", is_kafka=True)
