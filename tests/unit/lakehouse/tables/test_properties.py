"""Does every `weir.*` property have its name in one file?"""

import re
from pathlib import Path

from lakehouse.tables import properties

ROOT = Path(__file__).parents[4]
NAMES = {value for name, value in vars(properties).items() if name.endswith("_PROPERTY")}
FOLDERS = ("lakehouse", "producers", "streaming", "batch", "deploy", "monitoring")


def test_names_are_distinct_and_of_one_form() -> None:
    assert len(NAMES) == sum(name.endswith("_PROPERTY") for name in vars(properties)) >= 20
    assert all(re.fullmatch(r"weir\.[a-z-]+", name) for name in NAMES)


def test_no_other_file_writes_a_name_of_its_own() -> None:
    written = {
        f"{file.relative_to(ROOT)}: {name}"
        for folder in FOLDERS
        for file in (ROOT / folder).rglob("*.py")
        if file.name != "properties.py"
        for name in NAMES
        if f'"{name}"' in file.read_text(encoding="utf-8")
    }
    assert written == set()
