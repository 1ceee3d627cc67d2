"""What does a newcomer read when the setup cannot do its work?"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.errors import JarsUnavailable
from deploy.local.jars import REPOSITORY, fetch, locked_jars

NOBODY = "https://127.0.0.1:9/simple"


def test_setup_without_network_is_one_sentence(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "deploy/local/bootstrap.sh", "deploy/local/requirements.lock", "deploy/local/requirements-build.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, tmp_path / name)
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": NOBODY,
        "PIP_NO_CACHE_DIR": "1",
        "PIP_FIND_LINKS": "/nonexistent",
    }
    done = subprocess.run(
        [tmp_path / "deploy/local/bootstrap.sh"], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("setup: no connection to the Python package index (")
    advice = "Check the network, or PIP_INDEX_URL and the proxy settings, and run make setup again; downloaded packages are kept."
    assert last.endswith(advice)


def test_setup_names_an_old_python(tmp_path: Path) -> None:
    script = tmp_path / "deploy" / "local" / "bootstrap.sh"
    script.parent.mkdir(parents=True)
    shutil.copy2(REPOSITORY / "deploy/local/bootstrap.sh", script)
    for name in ("pyproject.toml", "deploy/local/requirements.lock", "deploy/local/requirements-build.lock"):
        (tmp_path / name).touch()
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "cat", "cut", "dirname", "env", "head", "id", "mktemp", "rm", "sha256sum"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    old = tools / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = subprocess.run([script], env={"PATH": str(tools)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("setup: Python 3.11 or newer is needed, found Python 3.9.2. Install one")


def test_jars_without_network_are_one_sentence_from_the_real_resolver(tmp_path: Path) -> None:
    tools = tmp_path / "bin"  # Java and no Maven: the resolver that a bare machine has
    tools.mkdir()
    (tools / "java").symlink_to(str(shutil.which("java")))
    proxy = "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9 -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=9"
    with pytest.raises(JarsUnavailable) as caught:
        fetch(tmp_path / "jars", {"PATH": str(tools), "JAVA_TOOL_OPTIONS": proxy}, locked_jars()[:2])
    assert str(caught.value).startswith("Ivy could not fetch 2 jar(s): no connection to its repository (")
    assert str(caught.value).endswith("then run `make setup` again; fetched jars are kept.")
    assert [file for file in (tmp_path / "jars").rglob("*") if file.is_file()] == []


def test_checkout_that_java_cannot_load_from_is_refused_in_one_sentence_where_no_other_folder_is_known(tmp_path: Path) -> None:
    clone = tmp_path / "a:b"
    script = clone / "deploy/local/bootstrap.sh"
    script.parent.mkdir(parents=True)
    shutil.copy2(REPOSITORY / "deploy/local/bootstrap.sh", script)
    shutil.copy2(REPOSITORY / "pyproject.toml", clone)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "what a home!")}
    done = subprocess.run([script], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("setup: Java cannot load programs below ")
    assert done.stderr.endswith("Set XDG_CACHE_HOME to a folder whose path has none.\n")
    assert not (tmp_path / "what a home!").exists()
