"""Which files does a skeleton have, and how do they come to be? All or none, and never over a file that is there."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from lakehouse.errors import DeployError, Fatal

TEMPLATES = Path(__file__).parent / "templates"
# What only a checkout has: the tests and the settings of the checks.
_OF_A_CHECKOUT = ("pyproject.toml", "tests/support/law.py", "lakehouse/domain_names.py")


class NoCheckout(DeployError, Fatal):
    """weir was installed, and its files are no place for new ones."""

    def __init__(self, root: Path) -> None:
        super().__init__(
            f"{root} is no checkout of weir (it has no {_OF_A_CHECKOUT[0]} or no tests), so nothing can be added to it. "
            "Clone the repository, run `make setup`, and use its .venv/bin/weir."
        )


class FilesExist(DeployError, Fatal):
    """Files of the skeleton are there already."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"Nothing was written, since these files are there: {', '.join(names)}. Remove them, or choose another name.")


class RegistryChanged(DeployError, Fatal):
    """A registry does not look as expected."""

    def __init__(self, name: str, line: str) -> None:
        super().__init__(f"{name} has no dictionary that a line could be added to, and nothing was written. Add this line by hand: {line}")


@dataclass(slots=True)
class Plan:
    """What is to be written below the root of a checkout.

    Attributes:
        root: of the checkout.
        files: text by path.
        line: what is added to a registry.
        registry: the file of that registry.
    """

    root: Path
    registry: str
    line: str
    files: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, template: str, words: Mapping[str, str]) -> None:
        """Add a file, made from a template."""
        self.files[path] = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(words)

    def write(self) -> None:
        """Write all files, add the line, and format them.

        Raises:
            FilesExist, RegistryChanged: and nothing is written.
        """
        if existing := [path for path in self.files if (self.root / path).exists()]:
            raise FilesExist(existing)
        registry = self.root / self.registry
        text = registry.read_text(encoding="utf-8")
        changed = re.sub(r"(: dict\[str, str\] = \{\n(?:    .*\n)*)\}", lambda found: f"{found[1]}{self.line}\n}}", text, count=1)
        if changed == text:
            raise RegistryChanged(self.registry, self.line.strip())
        for path, content in self.files.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(content, encoding="utf-8")
        registry.write_text(changed, encoding="utf-8")
        self._format()

    def _format(self) -> None:
        """Fold lines and sort imports as the length of the name asks for; a checkout without ruff gets them as they are."""
        written = [path for path in self.files if path.endswith(".py")]
        for arguments in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--quiet"]):
            subprocess.run([sys.executable, "-m", "ruff", *arguments, *written], cwd=self.root, check=False, capture_output=True)


def check_checkout(root: Path) -> None:
    """Refuse to write where weir was installed.

    Raises:
        NoCheckout: it is none.
    """
    if not all((root / name).is_file() for name in _OF_A_CHECKOUT):
        raise NoCheckout(root)
