"""The same for a folder below which Java finds no class: what it loads is put elsewhere, and `make clean` takes it away."""

import os
import subprocess
from pathlib import Path

from tests.support.checkouts import checked_out, make
from tests.support.foreign import EVERY_SIGN


def test_demo_succeeds_in_a_folder_below_which_java_finds_no_class(tmp_path: Path) -> None:
    clone, cache = checked_out(tmp_path / EVERY_SIGN), tmp_path / "cache"
    pip = subprocess.run(["python3", "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=False).stdout.strip()
    shell = {"XDG_CACHE_HOME": str(cache), "PIP_CACHE_DIR": pip or os.environ.get("PIP_CACHE_DIR", "")}
    done = make(clone, "demo", shell)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "0 lost, 0 doubled" in done.stdout
    assert (clone / ".venv").resolve().is_relative_to(cache)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([clone.name, "cache"])
    made = make(clone, "cds", shell)
    assert made.returncode == 0, made.stderr[-3000:]
    assert make(clone, "clean", shell).returncode == 0
    assert not list(cache.rglob("*.jar"))
    assert not os.path.lexists(clone / ".venv")
