"""Is the right Java found, and is a wrong one named?"""

from pathlib import Path

import pytest

from lakehouse.machine.java import WrongJava, find_java


def java(folder: Path, version: str, modules: bool = True) -> Path:
    """Make a home with a launcher that says it is of that version."""
    launcher = folder / "bin" / "java"
    launcher.parent.mkdir(parents=True)
    refuse = "" if modules else 'case "$1" in --add-modules) exit 1;; esac\n'
    launcher.write_text(f"#!/bin/sh\n{refuse}echo 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    launcher.chmod(0o755)
    return folder


def test_java_home_is_preferred_over_the_path(tmp_path: Path) -> None:
    home, other = java(tmp_path / "jdk21", "21.0.2"), java(tmp_path / "jdk17", "17.0.1")
    found = find_java({"JAVA_HOME": str(home), "PATH": str(other / "bin")}, installed=tmp_path / "none")
    assert (found.version, found.home) == (21, home)


def test_installed_java_is_found_behind_an_old_one_on_the_path(tmp_path: Path) -> None:
    old, installed = java(tmp_path / "old", "11.0.2"), tmp_path / "jvm"
    java(installed / "java-17", "17.0.15")
    assert find_java({"PATH": str(old / "bin")}, installed=installed).version == 17


def test_wrong_java_is_named_with_what_is_needed(tmp_path: Path) -> None:
    old, older = java(tmp_path / "old", "11.0.2"), java(tmp_path / "older", "1.8.0_392")
    with pytest.raises(WrongJava) as caught:
        find_java({"JAVA_HOME": str(old), "PATH": str(older / "bin")}, installed=tmp_path / "none")
    assert str(caught.value) == (
        f"Java 17 or 21 is needed, found Java 11 (JAVA_HOME={old}), Java 8 (on PATH). "
        "Install one (Debian: apt-get install openjdk-17-jre-headless) and set JAVA_HOME to its folder."
    )


def test_trimmed_java_is_refused_because_spark_would_not_start(tmp_path: Path) -> None:
    trimmed = java(tmp_path / "trimmed", "17.0.1", modules=False)
    with pytest.raises(WrongJava, match=r"found Java 17 without jdk\.incubator\.vector"):
        find_java({"JAVA_HOME": str(trimmed), "PATH": ""}, installed=tmp_path / "none")


def test_no_java_at_all_is_said(tmp_path: Path) -> None:
    with pytest.raises(WrongJava, match=f"found none in JAVA_HOME, on PATH or in {tmp_path}"):
        find_java({"PATH": ""}, installed=tmp_path)
