"""May a new domain or source be called so? The name becomes a folder, a Python module and part of table names."""

import importlib.metadata
import keyword
import re
import sys
from collections.abc import Collection

from lakehouse.errors import DeployError, Fatal

_LONGEST = 40


class UnusableName(DeployError, Fatal):
    """The name cannot be taken."""

    def __init__(self, kind: str, name: str, why: str) -> None:
        super().__init__(f"{name!r} cannot be the name of a {kind}: {why}")


def check_name(kind: str, name: str, taken: Collection[str]) -> None:
    """Refuse a name that is no plain module name, hides a library, or is there already.

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
