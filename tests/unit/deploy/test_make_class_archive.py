"""Is the archive of classes made when it is missing, left alone when it is there, and never half there?"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from deploy.local import make_class_archive as class_archive
from deploy.local.errors import ArchiveNotMade
from deploy.local.make_class_archive import MAGIC, is_whole, make_archive
from lakehouse.settings import Settings

NO_PROCESS = 2**22 + 1  # above the kernel's greatest id


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "jars" / "spark").mkdir(parents=True)
    (tmp_path / "jars" / "spark" / "a.jar").touch()
    return Settings(home=tmp_path / "home", jars_path=str(tmp_path / "jars"))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """Let a run leave a small file at once; gives the environments that it was started in."""
    found: list[Mapping[str, str]] = []

    def run(home: Path, inherited: Mapping[str, str], archive: Path) -> None:
        found.append(inherited)
        archive.write_bytes(MAGIC + bytes(len(found)))

    monkeypatch.setattr(class_archive, "run_once", run)
    return found


def test_it_is_made_once_and_anew_when_forced(settings: Settings, runs: list[Mapping[str, str]]) -> None:
    said: list[str] = []
    archive = make_archive(settings, os.environ, said.append)
    assert is_whole(archive)
    archive_size = archive.stat().st_size
    assert make_archive(settings, os.environ, said.append) == archive
    assert len(runs) == 1
    assert " exists, " in said[-1]
    anew = make_archive(settings, os.environ, said.append, force=True)
    assert anew.stat().st_size == archive_size + 1
    assert not archive.exists()


def test_archives_of_other_jars_and_leftovers_of_a_kill_are_removed(settings: Settings, runs: list[Mapping[str, str]]) -> None:
    folder = Path(settings.jars_path)
    other, half, beside = folder / "spark-0-1.jsa", folder / f".spark-0.jsa.{NO_PROCESS}", folder / f".spark-0.jsa.{os.getpid()}"
    for file in (other, half, beside):
        file.touch()
    archive = make_archive(settings, os.environ, lambda _: None)
    assert sorted(folder.glob("*spark-*")) == sorted([archive, beside])  # that one is being made by a process that runs


def test_one_that_was_cut_is_made_anew(settings: Settings, runs: list[Mapping[str, str]]) -> None:
    archive = make_archive(settings, os.environ, lambda _: None)
    archive.write_bytes(MAGIC)
    anew = make_archive(settings, os.environ, lambda _: None)
    assert len(runs) == 2
    assert list(Path(settings.jars_path).glob("*jsa*")) == [anew]


def test_a_run_that_fails_leaves_nothing_and_the_older_one_in_place(
    settings: Settings, runs: list[Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_archive(settings, os.environ, lambda _: None)

    def fail(home: Path, inherited: Mapping[str, str], beside: Path) -> None:
        beside.write_bytes(b"half")
        raise ArchiveNotMade("the JVM wrote no archive, or an incomplete one", "killed")

    monkeypatch.setattr(class_archive, "run_once", fail)
    with pytest.raises(ArchiveNotMade, match="Drivers start without it"):
        make_archive(settings, os.environ, lambda _: None, force=True)
    assert list(Path(settings.jars_path).glob("*jsa*")) == [archive]
    assert is_whole(archive)


def test_a_dump_that_was_cut_off_is_not_whole(tmp_path: Path) -> None:
    half = tmp_path / "half.jsa"
    assert not is_whole(half)
    half.write_bytes(bytes(4096))
    assert not is_whole(half)


def test_other_data_and_folders_on_the_class_path_have_no_say(settings: Settings, runs: list[Mapping[str, str]]) -> None:
    given = dict(os.environ) | {"HADOOP_CONF_DIR": "/etc/hadoop", "WEIR_CATALOG_URI": "sqlite:////x.db", "WEIR_FAILPOINT": "x"}
    make_archive(settings, given, lambda _: None)
    assert not {"HADOOP_CONF_DIR", "WEIR_CATALOG_URI", "WEIR_FAILPOINT"} & set(runs[0])
    assert runs[0]["WEIR_JARS_PATH"] == settings.jars_path
