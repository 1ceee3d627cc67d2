"""A checkout of this repository in a folder of its own, and `make` in it as a newcomer types it."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What a tree has that was not checked out.
MADE = shutil.ignore_patterns(".git", ".venv", ".jars", ".tools", ".weir", ".weir-demo", "__pycache__", ".*_cache", ".hypothesis")


def checked_out(folder: Path) -> Path:
    """Copy the tree as it is, without what was made in it."""
    shutil.copytree(ROOT, folder, ignore=MADE)
    return folder


def make(folder: Path, target: str, shell: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a target to its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WEIR_", "MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", target]
    return subprocess.run(command, cwd=folder, env={**kept, **shell}, capture_output=True, text=True, timeout=900, check=False)
