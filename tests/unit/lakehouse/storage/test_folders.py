"""Does a folder read and write alike, whatever it lies on?"""

from pathlib import Path

import pytest

from lakehouse.storage.folders import ArrowFolder, Folder, LocalFolder, open_folder


@pytest.fixture(params=["local", "by Arrow"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Folder:
    return LocalFolder(tmp_path / "state") if request.param == "local" else ArrowFolder(f"file://{tmp_path}/state")


def test_files_are_written_read_named_and_removed(folder: Folder) -> None:
    assert (folder.names(), folder.text("a.json"), folder.remove("a.json")) == ([], None, False)
    folder.write("a.json", "one")
    folder.write("a.json", "đà nẵng")
    folder.write("sub/3", "three")
    assert (folder.names(), folder.names("sub")) == (["a.json", "sub"], ["3"])
    assert (folder.text("a.json"), folder.text("sub/3"), folder.text("sub/4")) == ("đà nẵng", "three", None)
    assert folder.remove("a.json") and folder.names() == ["sub"]


def test_a_folder_is_set_aside_whole(folder: Folder, tmp_path: Path) -> None:
    folder.write("a.json", "one")
    aside = folder.move_aside()
    assert folder.names() == []
    assert [(path.name, (path / "a.json").read_text()) for path in tmp_path.iterdir()] == [(aside.rpartition("/")[2], "one")]


def test_a_place_decides_by_what_a_folder_is_read(tmp_path: Path) -> None:
    assert isinstance(open_folder(str(tmp_path)), LocalFolder)
    assert isinstance(open_folder(f"file://{tmp_path}"), LocalFolder)
    with pytest.raises(OSError, match="unknown://there"):
        open_folder("unknown://there/state").text("a.json")
