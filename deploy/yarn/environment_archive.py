"""How does Python reach a node of a cluster that has none of it? As one archive: interpreter, standard library, packages and weir's code.

YARN unpacks it beside each container. An interpreter finds its standard library by its own place, so a copied one works anywhere, which a
virtual environment does not: that one needs the interpreter that it was made from. Left out are Spark's jars, which the application gets
from HDFS by themselves, and the packages of tests and benchmarks. The C library and libstdc++ are the node's, as for every wheel of PyPI.
"""

import hashlib
import importlib.metadata
import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

from deploy.yarn.archives import built_once

REPOSITORY = Path(__file__).resolve().parents[2]
# As the wheel: see `only-include` in pyproject.toml.
OWN = ("lakehouse", "producers", "streaming", "batch", "deploy", "monitoring", "weir.py")
ENTRY = "bin/python"
_UNUSED = frozenset(
    {"__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "site-packages", "dist-packages", "lib2to3"}
)
# What every Linux with glibc has, in the version that its own programs need; a copy of another version would break them.
_OF_THE_NODE = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|util|pthread|resolv|nsl|crypt|stdc\+\+|gcc_s))\.so.*")
_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_PACKAGES = f"lib/{_VERSION}/site-packages"
_START = f"""\
#!/bin/sh
# Starts the interpreter of this archive: nothing of the node's own Python has a say.
here=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd -P)
export PYTHONHOME="$here" LD_LIBRARY_PATH="$here/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
# By name, since Debian's interpreter does not look there by itself.
export PYTHONPATH="$here/{_PACKAGES}${{PYTHONPATH:+:$PYTHONPATH}}"
exec "$here/bin/interpreter" -s "$@"
"""


def build_archive(folder: Path) -> Path:
    """Build the archive of this checkout, unless it is there.

    Args:
        folder: where archives are kept; older ones are removed.

    Returns:
        Its path. The name holds a hash of the versions and of weir's code.
    """
    return built_once(folder, "weir-python", _fingerprint(), ".tar.gz", _write)


def _write(path: Path) -> None:
    # Packed quickly rather than small: it is sent and unpacked once.
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for file, name in _files():
            tar.add(file, name, recursive=False)
        start = tarfile.TarInfo(ENTRY)
        start.size, start.mode = len(_START.encode()), 0o755
        tar.addfile(start, io.BytesIO(_START.encode()))


def _files() -> Iterator[tuple[Path, str]]:
    """Give each file with its name in the archive."""
    interpreter = Path(sys.executable).resolve()
    yield interpreter, "bin/interpreter"
    standard = Path(sysconfig.get_path("stdlib"))
    for path in _tree(standard):
        yield path, f"lib/{_VERSION}/{path.relative_to(standard)}"
    for library in _libraries([interpreter, *(path for path in _tree(standard) if path.suffix == ".so")]):
        # Under the name by which it is asked for, which is often that of a link.
        yield library.resolve(), f"lib/{library.name}"
    for path, name in _packages():
        yield path, f"{_PACKAGES}/{name}"
    for one in OWN:
        place = REPOSITORY / one
        for path in [place] if place.is_file() else _tree(place):
            yield path, f"{_PACKAGES}/{path.relative_to(REPOSITORY)}"
    # By this weir knows its own version.
    metadata = next(file for file in importlib.metadata.files("weir") or () if file.name == "METADATA")
    yield Path(str(metadata.locate())), f"{_PACKAGES}/{metadata}"


def _packages() -> Iterator[tuple[Path, str]]:
    """Give the files of every package that weir needs at run time."""
    for name in sorted(_needed("weir")):
        for file in importlib.metadata.files(name) or ():
            parts = file.parts
            # Commands and headers lie outside, and Spark's jars come by another way.
            if parts[0] == ".." or "__pycache__" in parts or parts[:2] == ("pyspark", "jars"):
                continue
            path = Path(str(file.locate()))
            if path.is_file():
                yield path, str(file)


def _needed(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Return the names of the packages that a package needs, without itself."""
    found: set[str] = set()
    waiting = [(name, extras)]
    asked = set(waiting)
    while waiting:
        one, wanted = waiting.pop()
        for text in importlib.metadata.requires(one) or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                continue
            found.add(requirement.name)
            following = (requirement.name, frozenset(requirement.extras))
            if following not in asked:
                asked.add(following)
                waiting.append(following)
    return found


def _tree(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _UNUSED or path.name.startswith("_tkinter") or path.suffix == ".pyc":
            continue
        if path.is_dir():
            yield from _tree(path)
        else:
            yield path


def _libraries(binaries: list[Path]) -> list[Path]:
    """Return the shared libraries that the interpreter and its modules load and that a node may lack, by the loader's own words."""
    if shutil.which("ldd") is None:
        return []
    said = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    found = {Path(path).name: Path(path) for path in re.findall(r"=> (/\S+)", said)}
    return [path for name, path in sorted(found.items()) if not _OF_THE_NODE.fullmatch(name)]


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{sys.version} {_START} {importlib.metadata.version('weir')}".encode())
    for name in sorted(_needed("weir")):
        digest.update(f"{name}=={importlib.metadata.version(name)}\n".encode())
    for one in OWN:
        place = REPOSITORY / one
        for path in [place] if place.is_file() else _tree(place):
            digest.update(f"{path.relative_to(REPOSITORY)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
