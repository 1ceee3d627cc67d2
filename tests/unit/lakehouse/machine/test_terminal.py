"""Does every sign come out, or a replacement of it, whatever the locale?"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
SHELLS = {
    "C without UTF-8": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ASCII output": ASCII,
    "Latin-1 output": {"LANG": "C.UTF-8", "PYTHONIOENCODING": "latin-1"},
    "strict ASCII": {"LANG": "POSIX", "PYTHONIOENCODING": "ascii:strict"},
    "a locale that is not there": {"LANG": "xx_YY.UTF-8"},
    "a Latin-1 locale that is not there": {"LC_ALL": "fr_FR.ISO-8859-1", "PYTHONUTF8": "0"},
    "nothing": {},
}


def weir(home: Path, shell: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    kept = {"PATH": os.environ["PATH"], "TERM": "dumb", "WEIR_HOME": str(home), "WEIR_OPEN_METEO_URL": "http://127.0.0.1:9"}
    command = [sys.executable, "-P", "-m", "weir", *arguments]
    return subprocess.run(command, env={**kept, **shell}, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("name", SHELLS)
def test_names_of_every_alphabet_are_printed_and_kept(name: str, tmp_path: Path) -> None:
    home = tmp_path / "Tài liệu 🌏"
    added = weir(home, SHELLS[name], "add-city", "Đà Lạt", "11.94", "108.44")
    assert added.returncode == 0, added.stderr
    assert b"added da_lat" in added.stdout
    assert "Đà Lạt" in (home / "locations.jsonl").read_text(encoding="utf-8")
    assert [folder.name for folder in tmp_path.iterdir()] == ["Tài liệu 🌏"]
    again = weir(home, SHELLS[name], "add-city", "Đà Lạt", "11.94", "108.44")
    assert b"already" in again.stdout, again.stderr


@pytest.mark.parametrize("verb", [("--help",), ("up", "--help"), ("status",), ("doctor",), ("query", "FROM nothing"), ("nonsense",)])
def test_no_verb_dies_of_what_it_prints(verb: tuple[str, ...], tmp_path: Path) -> None:
    done = weir(tmp_path / "Tài liệu", SHELLS["C without UTF-8"], *verb)
    assert b"Traceback" not in done.stderr, done.stderr
    assert done.stdout or done.stderr
    (done.stdout + done.stderr).decode("ascii")


def test_json_loses_nothing_in_ascii(tmp_path: Path) -> None:
    done = weir(tmp_path / "Tài liệu 🌏", ASCII, "status", "--json")
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "Tài liệu 🌏") in json.dumps(json.loads(done.stdout.decode("ascii")), ensure_ascii=False)


def test_doctor_names_a_locale_that_is_missing_and_letters_that_are() -> None:
    missing = weir(Path("/nonexistent/home"), {"LANG": "xx_YY.UTF-8"}, "doctor")
    assert b"LANG=xx_YY.UTF-8: no such locale is installed" in missing.stdout
    ascii_only = weir(Path("/nonexistent/home"), ASCII, "doctor")
    assert b"note   locale        output is in ascii" in ascii_only.stdout
