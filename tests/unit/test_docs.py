"""Is what the documentation points at there? Links, paths in backticks, and the reference pages, against the repository."""

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$|\[[^\]]+\]\[([^\]]+)\]", re.MULTILINE)
FOLDERS = "lakehouse|producers|streaming|batch|deploy|monitoring|bench|tests|docs"
# A path of the repository: one that begins with one of its folders, or a file of tests without `tests/` before it.
PATH = re.compile(rf"`((?:{FOLDERS})/[\w./-]*|(?:unit|spark|system|long)/[\w/-]+\.py|[\w-]+/[\w./-]+\.py|[a-z_]+\.(?:md|toml|lock|sql))`")
# Written by the reader, or by `weir new`; in a home; or left out on purpose.
ELSEWHERE = re.compile(r"(weir\.toml|uv\.lock|lakehouse/domains/trades/|(contract|rules|transforms|tables|domain|source)\.py|oracle\.sql)")


def prose(page: Path) -> str:
    """Give a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """Name the headings of a page as GitHub names them in addresses."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", title).lower()).replace(" ", "-") for title in titles}


def broken_links(text: str, page: Path) -> list[str]:
    """Give the relative links of a text that lead nowhere."""
    named = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, re.MULTILINE))
    broken = []
    for target, defined, reference in LINK.findall(text):
        link = target or defined or named.get(reference, f"no definition of [{reference}]")
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    return broken


def broken_paths(text: str, page: Path) -> list[str]:
    """Give the paths in backticks that look like files or folders of the repository and are none."""
    near = (ROOT, page.parent, ROOT / "tests", ROOT / "lakehouse")
    return [path for path in PATH.findall(text) if not ELSEWHERE.fullmatch(path) and not any((folder / path).exists() for folder in near)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_and_path_leads_to_something(page: Path) -> None:
    text = prose(page)
    assert broken_links(text, page) == []
    assert broken_paths(text, page) == []


def test_the_look_would_find_broken_ones() -> None:
    page = ROOT / "docs/README.md"
    assert broken_links("[a](design.md) [b](desing.md) [c](design.md#metrics-monitoring) [d](design.md#nowhere) [e][f]", page) == [
        "desing.md",
        "design.md#nowhere",
        "no definition of [f]",
    ]
    assert broken_paths("`lakehouse/apply.py` `lakehouse/aply.py` `system/test_kill.py` `system/test_kil.py` `streaming/`", page) == [
        "lakehouse/aply.py",
        "system/test_kil.py",
    ]


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")} - {"README.md"}
    # A folder of many small pages has an index of its own, which is in the first one.
    runbooks = (ROOT / "docs/runbooks/README.md").read_text(encoding="utf-8")
    listed = {f"runbooks/{name}" for name in re.findall(r"\((\w+\.md)\)", runbooks)}
    assert [page for page in sorted(pages - listed) if f"({page}" not in index] == []


def test_walk_visits_at_most_eight_folders_each_once_and_names_files_that_are_there() -> None:
    walk = prose(ROOT / "docs/design.md").split("\n## ")[1]
    steps = re.findall(r"^\d+\. `([\w/]+)/`: (.+(?:\n {3}.+)*)", walk, re.MULTILINE)
    folders = [folder for folder, _ in steps]
    assert 0 < len(folders) == len(set(folders)) <= 8
    for folder, text in steps:
        missing = [name for name in re.findall(r"`([\w/]+(?:\.py|/))`", text) if not (ROOT / folder / name).exists()]
        assert missing == [], f"{folder} has no {missing}"


@cache
def reference() -> ModuleType:
    """Import the script that writes the reference pages."""
    spec = importlib.util.spec_from_file_location("reference_pages", ROOT / "docs/reference/generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_has_every_verb_option_table_and_column() -> None:
    for file, text in reference().pages():
        written = file.read_text(encoding="utf-8")
        # By names alone: a domain or a source of the reader's own adds rows of its own, and a help text may be reworded.
        names = re.findall(r"^(?:## weir .+|### lh\..+|\| `[^|]+` )", text, re.MULTILINE)
        known = re.findall(r"^(?:## weir .+|### lh\..+|\| `[^|]+` )", written, re.MULTILINE)
        assert len(names) > 50
        assert sorted(set(known) - set(names)) == [], f"run: .venv/bin/python {file.parent.relative_to(ROOT)}/generate.py"
        missing = set(names) - set(known)
        assert missing == set() or file.name == "tables.md", f"run: .venv/bin/python {file.parent.relative_to(ROOT)}/generate.py: {missing}"
