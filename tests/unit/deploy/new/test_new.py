"""Do a new domain and a new source pass every check at once, in a checkout of their own, and is nothing overwritten?"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.new.names import UnusableName, check_name
from deploy.new.plan import FilesExist, NoCheckout, RegistryChanged, check_checkout
from deploy.new.source_files import plan_source
from lakehouse.domain_names import DOMAINS
from producers.sources.registry import SOURCES
from tests.support.checkouts import ROOT, checked_out

DOMAIN_FOLDER, UNIT = "lakehouse/domains/river_level", "tests/unit/lakehouse/domains/river_level"
SOURCE_FOLDER, SOURCE_TEST = "producers/sources/river_gauge", "tests/unit/producers/test_river_gauge.py"


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module in a checkout."""
    environment = {**os.environ, "WEIR_HOME": str(checkout / ".weir")}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=checkout, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return checked_out(tmp_path / "checkout")


def files(checkout: Path) -> dict[Path, bytes]:
    return {path.relative_to(checkout): path.read_bytes() for path in checkout.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_a_new_domain_and_a_new_source_pass_ruff_mypy_and_their_tests(checkout: Path) -> None:
    before = files(checkout)
    made = run(checkout, "weir", "new", "domain", "river_level")
    assert made.returncode == 0, made.stderr
    made = run(checkout, "weir", "new", "source", "river_gauge", "--domain", "river_level")
    assert made.returncode == 0, made.stderr
    assert "Next steps:\n1. Set the address" in made.stdout
    # Found at other paths, the types of the libraries are as good here: reading them again takes a minute.
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", checkout / ".mypy_cache")
    folders = [DOMAIN_FOLDER, UNIT, "tests/spark/test_river_level.py", SOURCE_FOLDER, SOURCE_TEST]
    registries = ["lakehouse/domain_names.py", "producers/sources/registry.py"]
    for tool in (["ruff", "check", *folders, *registries], ["ruff", "format", "--check", *folders, *registries], ["mypy", *folders]):
        ran = run(checkout, *tool)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    own = [UNIT, SOURCE_TEST, "tests/unit/test_names.py", "tests/unit/test_imports.py", "tests/unit/producers/test_registry.py"]
    ran = run(checkout, "pytest", "-p", "no:cacheprovider", *own)
    assert ran.returncode == 0, ran.stdout
    changed = [str(path) for path, text in before.items() if (checkout / path).read_bytes() != text]
    assert sorted(changed) == registries


def test_a_dry_run_lists_the_files_and_writes_none(checkout: Path) -> None:
    before = files(checkout)
    ran = run(checkout, "weir", "new", "domain", "river_level", "--dry-run")
    assert ran.stdout.splitlines()[2:4] == [f"{DOMAIN_FOLDER}/contract.py", f"{DOMAIN_FOLDER}/rules.py"]
    assert 'lakehouse/domain_names.py: "river_level": "lakehouse.domains.river_level.domain",' in ran.stdout
    assert files(checkout) == before


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("River", "use at most 30 lower-case letters"),
        ("river-level", "use at most 30 lower-case letters"),
        ("2rivers", "use at most 30 lower-case letters"),
        ("../river", "use at most 30 lower-case letters"),
        ("r" * 31, "use at most 30 lower-case letters"),
        ("class", "it is a word of Python"),
        ("calendar", "a Python module of that name is installed"),
        ("pyarrow", "a Python module of that name is installed"),
        ("publish", "the word stands in lakehouse/errors.py"),
        ("taken", "there is one already. There are: other, taken."),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(UnusableName) as caught:
        check_name("domain", name, ["taken", "other"], ROOT)
    assert str(caught.value).startswith(f"{name!r} cannot be the name of a domain: {why}")


def test_names_of_what_is_there_are_taken(tmp_path: Path) -> None:
    name = next(iter(SOURCES)).replace("-", "_")
    with pytest.raises(UnusableName, match="there is one already"):
        plan_source(ROOT, name, next(iter(DOMAINS)))


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path) -> None:
    plan = plan_source(tmp_path, "river_gauge", next(iter(DOMAINS)))
    registry = tmp_path / plan.registry
    registry.parent.mkdir(parents=True)
    registry.write_text("SOURCES = load()\n")
    with pytest.raises(RegistryChanged, match='Add this line by hand: "river-gauge"'):
        plan.write()
    mine = tmp_path / SOURCE_TEST
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(FilesExist, match=SOURCE_TEST):
        plan.write()
    assert mine.read_text() == "mine"
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted([mine, registry])


def test_an_installed_weir_is_no_place_for_new_files(tmp_path: Path) -> None:
    with pytest.raises(NoCheckout, match=r"is no checkout of weir .* Clone the repository"):
        check_checkout(tmp_path)
    check_checkout(ROOT)


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("source", "river_gauge"), 2, "a source needs --domain"),
        (("domain", "river_level", "--domain", "x"), 2, "--domain is for a source"),
        (("table", "river_level"), 2, "'table' is not one of 'domain', 'source'"),
        (("source", "river_gauge", "--domain", "nope"), 1, "weir: No domain 'nope'; there are: "),
        (("domain", "json"), 1, "weir: 'json' cannot be the name of a domain: a Python module"),
    ],
)
def test_what_cannot_be_begun_is_one_sentence(arguments: tuple[str, ...], status: int, why: str) -> None:
    ran = run(ROOT, "weir", "new", *arguments)
    assert ran.returncode == status
    assert why in " ".join(ran.stderr.replace("│", " ").split())
    assert "Traceback" not in ran.stderr
