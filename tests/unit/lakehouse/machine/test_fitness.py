"""What does a look at this machine find, and how does it say so? What takes a mount or a limit is in tests/system/test_unfit_machine.py."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse.machine.fitness import (
    NOT_BEFORE,
    ClockWrong,
    HomeNotWritable,
    NoTemporaryFolder,
    check_home,
    check_machine,
    clock,
    sentence_of,
    temporary_folder,
)
from lakehouse.machine.java import find_java, last_words
from lakehouse.machine.jvm_start import why_not_started
from lakehouse.settings import Settings


def test_folder_of_somebody_else_within_the_home_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    assert check_home(tmp_path) == f"{tmp_path} can be written"
    assert check_home(tmp_path / "new") == f"{tmp_path / 'new'} can be made"
    assert list(tmp_path.iterdir()) == [tmp_path / "state"], "a look leaves no trace"
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "state" and access(path, mode))
    with pytest.raises(HomeNotWritable, match="state belongs to somebody else"):
        check_home(tmp_path)


def test_no_temporary_folder_at_all_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']")

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(NoTemporaryFolder, match="No usable temporary directory"):
        temporary_folder(Settings(home=tmp_path))


def test_clock_before_the_code_was_written_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ClockWrong, match=r"clock of this machine says 2019-01-01T00:00:00Z, and weir holds answers of 2025-09-23"):
        clock(datetime(2019, 1, 1, tzinfo=UTC))
    clock(NOT_BEFORE)
    check_machine(Settings(home=tmp_path))


def test_reason_of_a_driver_that_did_not_start_is_the_jvms_own() -> None:
    java = find_java(os.environ)
    gone = RuntimeError("[JAVA_GATEWAY_EXITED] Java gateway process exited before sending its port number.")
    assert why_not_started(gone, java, "1g", ["-XX:+Nonsense"]) == "Unrecognized VM option 'Nonsense'"
    assert "Initial heap size set to a larger value" in why_not_started(gone, java, "1m", ["-Xms2g"])
    assert why_not_started(gone, java, "64m", []).endswith("its port number; what the JVM said stands above")
    of_spark = RuntimeError("An error occurred while calling None.\n: java.lang.IllegalStateException: Too little.\n\tat a.b")
    assert why_not_started(of_spark, java, "64m", []) == "IllegalStateException: Too little"
    assert (
        last_words("NOTE: Picked up JDK_JAVA_OPTIONS: x\nError: one\nError: Could not create the Java Virtual Machine.\n") == "Error: one"
    )


def test_system_call_that_failed_anywhere_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_HOME", str(tmp_path))
    assert "A process may open" in sentence_of(OSError(errno.EMFILE, "Too many open files"))
    assert "write access" in sentence_of(OSError(errno.EROFS, "Read-only file system", "/somewhere"))
    assert "No space left on device (/somewhere). Make room" in sentence_of(OSError(errno.ENOSPC, "No space left on device", "/somewhere"))
    assert sentence_of(FileNotFoundError(errno.ENOENT, "No such file or directory", "/somewhere")) == ""
    monkeypatch.setenv("WEIR_HOME", "/proc/home")
    assert "no write access to its home /proc/home" in sentence_of(FileNotFoundError(errno.ENOENT, "No such file", "/proc/home"))
