"""Does the shell's Tab key complete verbs, options, domains and tables, without Spark and without complaint?"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.domain_names import DOMAINS
from producers.sources.registry import DUMPS, SOURCES
from tests.unit.lakehouse.conftest import House, house
from weir import VERBS

__all__ = ["house"]  # a fixture
ROOT = Path(__file__).resolve().parents[2]
WEIR = Path(sys.executable).parent / "weir"


def completed(line: str, home: Path, **environment: str) -> list[str]:
    """Ask as bash does when Tab is pressed at the end of a line."""
    words = line.split(" ")
    asked = {"_WEIR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "WEIR_HOME": str(home)}
    ran = subprocess.run([WEIR], capture_output=True, text=True, env=os.environ | asked | environment, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.split()


def test_verbs_options_domains_and_sources_are_completed(tmp_path: Path) -> None:
    assert set(completed("weir ", tmp_path)) == set(VERBS)
    assert completed("weir pro", tmp_path) == ["produce", "prove"]
    assert completed("weir query --as", tmp_path) == ["--as-of"]
    assert completed("weir prove ", tmp_path) == sorted(DOMAINS)
    assert completed("weir produce ", tmp_path) == sorted({*SOURCES, *DUMPS})


@pytest.mark.parametrize("verb", ["why", "maintain"])
def test_tables_are_those_of_the_catalog_with_the_prefix_as_typed(house: House, verb: str) -> None:
    home = house.settings.home
    assert completed(f"weir {verb} ", home) == ["bronze.trades", "gold.fact_city_daily", "silver.trades"]
    assert completed(f"weir {verb} lh.g", home) == ["lh.gold.fact_city_daily"]


def test_what_is_wrong_completes_nothing_and_says_nothing(tmp_path: Path) -> None:
    assert completed("weir why g", tmp_path) == []
    assert not any(tmp_path.iterdir()), "no catalog was made by looking for one"
    assert completed("weir why g", tmp_path, WEIR_NO_SUCH_SETTING="1") == []
    assert completed("weir why g", tmp_path, WEIR_CATALOG_URI="postgresql://nobody@127.0.0.1:1/none") == []
    (tmp_path / "catalog.db").write_text("no database")
    assert completed("weir why g", tmp_path) == []


def test_completing_loads_neither_spark_nor_a_table_library() -> None:
    code = """
import os, sys
os.environ |= {"_WEIR_COMPLETE": "complete_bash", "COMP_WORDS": "weir ", "COMP_CWORD": "1"}
sys.argv = ["weir"]
import weir
try:
    weir.app(prog_name="weir")
finally:
    print(sorted({"pyspark", "pyarrow", "pyiceberg", "duckdb", "confluent_kafka", "requests"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr
    assert "maintain" in ran.stdout


def test_bash_completes_after_the_command_installed_it(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{WEIR.parent}:{os.environ['PATH']}", "WEIR_HOME": str(tmp_path)}
    install = ["bash", "-c", "weir --install-completion; :"]  # a shell is found by the parents of the process
    installed = subprocess.run(install, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert installed.returncode == 0, installed.stderr
    press_tab = """
source ~/.bashrc
COMP_WORDS=(weir query --as); COMP_CWORD=2
_weir_completion weir
echo "${COMPREPLY[@]}"
complete -p weir
"""
    ran = subprocess.run(["bash", "-c", press_tab], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert ran.stdout.splitlines()[0] == "--as-of", ran.stderr
    assert "-F _weir_completion weir" in ran.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_can_be_shown(shell: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    ran = subprocess.run([WEIR, "--show-completion", shell], capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert f"_WEIR_COMPLETE=complete_{shell}" in ran.stdout
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [("query",), ("up",), ("maintain",), ("produce",), ()])
def test_help_shows_types_of_values_only(arguments: tuple[str, ...]) -> None:
    ran = subprocess.run([WEIR, *arguments, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0
    assert "Usage: weir " in ran.stdout
    assert "<bool>" not in ran.stdout
    assert ("<str>" in ran.stdout) == (arguments in [("query",), ("produce",)])
