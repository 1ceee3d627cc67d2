"""Is every jar checked before it takes its place?"""

import hashlib
import re
from pathlib import Path

import pytest

from deploy.local import jars as jars_module
from deploy.local.errors import JarsUnavailable, MissingJars, WrongJarHash
from deploy.local.jars import Jar, fetch, jars_for, locked_jars

CONTENT = b"the jar"
JAR = Jar("org.example", "thing", "1.0", "spark", hashlib.sha256(CONTENT).hexdigest())


def resolver(monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> list[list[Jar]]:
    """Put a resolver in Maven's place that brings this content, or nothing; gives the list of what it was asked for."""
    asked: list[list[Jar]] = []

    def run(jars: list[Jar], into: Path, _: object) -> str:
        asked.append(jars)
        for jar in jars if content is not None else []:
            (into / jar.file_name).write_bytes(content or b"")
        return "" if content is not None else "[ERROR] repo: Unknown host"

    monkeypatch.setattr(jars_module, "by_maven", run)
    monkeypatch.setattr(jars_module, "by_ivy", lambda *_: None)
    return asked


def test_right_jar_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolver(monkeypatch, CONTENT)
    assert (fetch(tmp_path, {}, [JAR]), fetch(tmp_path, {}, [JAR])) == (1, 0)
    assert asked == [[JAR]]
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["thing-1.0.jar"]


def test_cut_jar_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver(monkeypatch, CONTENT)
    (tmp_path / "spark").mkdir()
    (tmp_path / "spark" / JAR.file_name).write_bytes(CONTENT[:3])
    assert fetch(tmp_path, {}, [JAR]) == 1
    assert (tmp_path / "spark" / JAR.file_name).read_bytes() == CONTENT


def test_other_jar_than_locked_is_refused_with_both_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver(monkeypatch, b"another jar")
    found = hashlib.sha256(b"another jar").hexdigest()
    with pytest.raises(WrongJarHash, match=f"^org.example:thing:1.0 has SHA-256 {found}, expected {JAR.sha256} "):
        fetch(tmp_path, {}, [JAR])
    assert not list(tmp_path.rglob("*.jar"))


def test_no_network_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolver(monkeypatch, None)
    with pytest.raises(JarsUnavailable) as caught:
        fetch(tmp_path, {}, [JAR])
    assert "could not fetch 1 jar(s): no connection to its repository ([ERROR] repo: Unknown host)" in str(caught.value)


def test_missing_jars_name_the_command_that_fetches_them(tmp_path: Path) -> None:
    with pytest.raises(
        MissingJars, match=rf"^46 jar\(s\) are missing in {tmp_path}/kafka, the first is .*\.jar\. `make setup` fetches them\.$"
    ):
        jars_for("kafka", tmp_path)


def test_lock_holds_only_coordinates_hashes_and_class_paths() -> None:
    jars = locked_jars()
    assert {jar.classpath for jar in jars} == {"spark", "kafka"}
    assert all(re.fullmatch("[0-9a-f]{64}", jar.sha256) for jar in jars)
    assert len({(jar.classpath, jar.file_name) for jar in jars}) == len(jars)


def test_each_wanted_jar_is_locked() -> None:
    rows = [line.split() for line in jars_module.WANTED.read_text().splitlines() if line and not line.startswith("#")]
    assert {(row[0], row[1]) for row in rows} <= {(jar.coordinates, jar.classpath) for jar in locked_jars()}
