"""Is an archive of classes used exactly where it fits the Java and the jars?"""

import os
from pathlib import Path

import pytest

from lakehouse.machine.class_archive import archive_file, archive_options, archive_stem
from lakehouse.settings import Settings
from lakehouse.spark import driver_jars, jvm_conf

OPTIONS = "spark.driver.extraJavaOptions"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with a Java, Spark's own jars and the driver's jars, all made up; also that of this process."""
    java = tmp_path / "jdk"
    for name, content in {"release": 'JAVA_VERSION="17.0.1"', "lib/modules": "modules", "bin/java": "#!/bin/sh"}.items():
        _write(java / name, content)
    _write(tmp_path / "spark" / "jars" / "spark-core.jar", "core")
    for name in ("a.jar", "b.jar"):
        _write(tmp_path / "jars" / "spark" / name, name)
    found = {"JAVA_HOME": str(java), "SPARK_HOME": str(tmp_path / "spark"), "PATH": str(tmp_path / "nothing")}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", jars_path=str(tmp_path / "jars"))


def _write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    file.chmod(0o755)


def made(settings: Settings, environment: dict[str, str]) -> Path:
    """Make the archive's file, of seven bytes."""
    stem = archive_stem(driver_jars(settings), environment)
    assert stem is not None
    archive = archive_file(stem, 7)
    archive.write_bytes(bytes(7))
    return archive


def test_without_an_archive_there_are_no_options(settings: Settings, environment: dict[str, str]) -> None:
    assert archive_options(driver_jars(settings), environment, []) == []
    assert "Share" not in jvm_conf(settings)[OPTIONS]


def test_an_archive_that_fits_is_used_and_must_not_speak_up(settings: Settings, environment: dict[str, str]) -> None:
    archive = made(settings, environment)
    assert archive.parent == Path(settings.jars_path)
    assert f'"-XX:SharedArchiveFile={archive}" -Xshare:auto -Xlog:cds*=off' in jvm_conf(settings)[OPTIONS]


def test_the_setting_switches_it_off(settings: Settings, environment: dict[str, str]) -> None:
    made(settings, environment)
    assert "Share" not in jvm_conf(settings.model_copy(update={"cds_archive": False}))[OPTIONS]


@pytest.mark.parametrize("own", ["-XX:ArchiveClassesAtExit=/tmp/x.jsa", '"-XX:SharedArchiveFile=/tmp/x.jsa"', "-Xshare:off"])
def test_an_operators_own_choice_of_an_archive_stands_alone(settings: Settings, environment: dict[str, str], own: str) -> None:
    made(settings, environment)
    options = jvm_conf(settings.model_copy(update={"spark_java_options": own}))[OPTIONS]
    assert options.endswith(own)
    assert "spark-" not in options


def test_one_that_was_cut_is_not_used(settings: Settings, environment: dict[str, str]) -> None:
    archive = made(settings, environment)
    archive.write_bytes(bytes(6))  # the JVM would map it and die
    assert archive_options(driver_jars(settings), environment, []) == []


@pytest.mark.parametrize("changed", ["jars/spark/a.jar", "jars/spark/c.jar", "spark/jars/spark-core.jar", "jdk/release", "jdk/lib/modules"])
def test_after_an_upgrade_none_is_found(settings: Settings, environment: dict[str, str], tmp_path: Path, changed: str) -> None:
    made(settings, environment)
    _write(tmp_path / changed, "another version")
    assert archive_options(driver_jars(settings), environment, []) == []


def test_a_jar_of_the_same_name_and_size_but_of_another_time_is_another(
    settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    made(settings, environment)
    os.utime(tmp_path / "jars" / "spark" / "a.jar", (1, 1))  # the JVM compares the time, too
    assert archive_options(driver_jars(settings), environment, []) == []


def test_java_is_the_one_that_spark_will_start(settings: Settings, environment: dict[str, str], tmp_path: Path) -> None:
    jars = driver_jars(settings)
    by_home = archive_stem(jars, environment)
    on_path = {"SPARK_HOME": environment["SPARK_HOME"], "PATH": str(tmp_path / "jdk" / "bin")}
    assert by_home is not None
    assert archive_stem(jars, on_path) == by_home
    link = tmp_path / "default-java"
    link.symlink_to(tmp_path / "jdk")
    assert archive_stem(jars, environment | {"JAVA_HOME": str(link)}) == by_home


def test_no_java_or_one_that_does_not_say_what_it_is_has_no_archive(
    settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    jars = driver_jars(settings)
    assert archive_stem(jars, {"SPARK_HOME": environment["SPARK_HOME"], "PATH": str(tmp_path)}) is None
    (tmp_path / "jdk" / "release").unlink()
    assert archive_stem(jars, environment) is None
