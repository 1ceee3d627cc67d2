"""May a new domain or source be called so? The name becomes a folder, a Python module and part of table names."""

import importlib.metadata
import keyword
import re
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from lakehouse.errors import DeployError, Fatal

# Table names and the line of a registry grow with it.
_LONGEST = 30
# Help of a verb shows an example.
_EXAMPLE = re.compile(r"weir [a-z-]+ |such as ")


class UnusableName(DeployError, Fatal):
    """The name cannot be taken."""

    def __init__(self, kind: str, name: str, why: str) -> None:
        super().__init__(f"{name!r} cannot be the name of a {kind}: {why}")


def check_name(kind: str, name: str, taken: Collection[str], root: Path) -> None:
    """Refuse a name that is no plain module name, hides a library, stands in the shared code, or is there already.

    Raises:
        UnusableName: with the reason.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > _LONGEST:
        raise UnusableName(kind, name, f"use at most {_LONGEST} lower-case letters, digits and single _, with a letter first.")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise UnusableName(kind, name, "it is a word of Python.")
    if name in sys.stdlib_module_names or name in importlib.metadata.packages_distributions():
        raise UnusableName(kind, name, f"a Python module of that name is installed. Add a word to it, such as {name}_hourly.")
    if name in taken:
        raise UnusableName(kind, name, f"there is one already. There are: {', '.join(sorted(taken))}.")
    if place := next(_places(name, root), ""):
        why = f"the word stands in {place}, and shared code must not name a domain or a source. Add a word to it, such as {name}_hourly."
        raise UnusableName(kind, name, why)


def _places(name: str, root: Path) -> Iterator[str]:
    """Give the files of the shared code with the name in them, found as the unit tests look for it (test_names.py, test_registry.py)."""
    word = re.compile(rf"(?<![\w-])({name}|{name.replace('_', '-')})(?![\w-])")
    joined = name.replace("_", "")
    for folder in ("lakehouse", "streaming", "batch", "monitoring", "deploy", "producers"):
        for file in sorted((root / folder).rglob("*.py")):
            path = file.relative_to(root).as_posix()
            if path.startswith(("lakehouse/domains/", "producers/sources/")):
                continue
            is_producer = file.parent in (root / "producers", root / "producers" / "dumps")
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not _EXAMPLE.search(line)]
            if any(word.search(line) or (is_producer and joined in re.sub(r"[\s_.-]", "", line.lower())) for line in lines):
                yield path
