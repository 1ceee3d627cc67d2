"""Engines that are not weir's, in an environment of their own beside `.venv`, made at the first use."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse.settings import Settings
from lakehouse.storage.files import locked
from lakehouse.storage.paths import local_path
from lakehouse.tables.catalog import open_catalog
from tests.support.faults import ROOT

READERS = ROOT / "tests" / "readers"
LOCK = READERS / "requirements.lock"
MINUTES = 600


def readers_python() -> Path:
    """Return the interpreter of an environment with the engines of the lock file; it is made where it is missing or older."""
    folder = (ROOT / ".venv").resolve() / "readers"
    python, noted, key = folder / "bin/python", folder / "made-from", hashlib.sha256(LOCK.read_bytes()).hexdigest()
    with locked(folder.with_name("readers.lock")):
        if not (noted.exists() and noted.read_text() == key):
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, timeout=MINUTES)
            install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(LOCK)]
            subprocess.run(install, check=True, timeout=MINUTES)
            noted.write_text(key)
    return python


def read_by_all(settings: Settings, names: Sequence[str]) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Read the newest state of some tables with each engine: {table: {engine: its rows and their digest, or its error}}."""
    python = readers_python()  # first, since a stream removes old metadata files while the environment is being made
    catalog, files = open_catalog(settings), dict[str, str]()
    for name in names:
        location = local_path(catalog.load_table(name).metadata_location)
        assert location is not None
        files[str(location)] = name
    command = [str(python), str(READERS / "read.py"), *files]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "WEIR_"))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=MINUTES)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"metadata"')]
    assert len(answers) == len(files), done.stdout[-3000:]
    return {files[answer["metadata"]]: answer["engines"] for answer in answers}


def assert_all_agree(settings: Settings, names: Sequence[str]) -> dict[str, int]:
    """Assert that every engine reads the same rows; return the number of rows by table."""
    counts = {}
    for name, engines in read_by_all(settings, names).items():
        assert all("error" not in answer for answer in engines.values()), (name, engines)
        assert len({answer["digest"] for answer in engines.values()}) == 1, (name, engines)
        counts[name] = engines["pyiceberg"]["rows"]
    return counts
