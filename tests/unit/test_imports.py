"""Do imports point one way? Read from the files, not by importing them."""

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.domain_names import DOMAINS
from lakehouse.registry import build_domain
from lakehouse.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("lakehouse", "producers", "streaming", "batch", "deploy", "monitoring", "bench")
FILES = [ROOT / "weir.py", *(file for folder in PROGRAMS for file in sorted((ROOT / folder).rglob("*.py")))]
LIBRARIES = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions()) - {*PROGRAMS, "weir"}
MODULES = {file.relative_to(ROOT).as_posix(): file for file in FILES}


def imports(file: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever in the file; and what it takes from a package of ours."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides where a name comes from"
            assert node.module is not None
            yield node.module
            if node.module.partition(".")[0] in PROGRAMS:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(*targets: str, under: tuple[str, ...], but: tuple[str, ...] = ()) -> list[str]:
    """Name each file under some folders that imports a target."""
    return [
        f"{name} imports {module}"
        for name, file in MODULES.items()
        if name.startswith(under) and not name.startswith(but or ("\0",))
        for module in imports(file)
        if any(module == target or module.startswith(f"{target}.") for target in targets)
    ]


def test_contracts_import_the_standard_library_their_types_codecs_and_each_other_only() -> None:
    contracts = [name for name in MODULES if name.endswith("/contract.py")]
    assert {"lakehouse/contract.py", "lakehouse/domains/air_quality/contract.py"} <= set(contracts)
    codecs = [name for name in MODULES if name.startswith("lakehouse/codecs/") and name.endswith("_codec.py")]
    assert len(codecs) == 2
    parts = ["lakehouse/codecs/field_types.py", *codecs]
    ours = {name.removesuffix(".py").replace("/", ".") for name in (*contracts, *parts)} | {"lakehouse.codecs"}
    libraries = {"lakehouse/codecs/avro_codec.py": {"fastavro"}}
    for name in (*contracts, *parts):
        for module in imports(MODULES[name]):
            is_ours = module in ours or module.rpartition(".")[0] in ours
            outside = sys.stdlib_module_names | libraries.get(name, set())
            assert is_ours or module.partition(".")[0] in outside, f"{name} imports {module}"


def test_a_program_that_sends_json_loads_neither_spark_nor_avro() -> None:
    sent = (
        "import sys; from lakehouse.domains.air_quality.contract import HOURLY; "
        "assert HOURLY.encode({'location_key': 'a'}) == b'{\"location_key\":\"a\"}'; "
        "print(sorted({'fastavro', 'pyspark', 'pyarrow', 'lakehouse.codecs.avro_codec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", sent], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_init_is_empty_so_that_a_producer_starts_without_spark() -> None:
    for name, file in MODULES.items():
        if file.name == "__init__.py":
            assert file.read_text() == "", name


def test_lakehouse_imports_none_of_the_programs() -> None:
    assert importers("producers", "streaming", "batch", "deploy", "monitoring", "bench", "weir", under=("lakehouse/",)) == []


def test_transforms_and_rules_know_no_settings_clock_catalog_or_metric() -> None:
    pure = tuple(
        name for name in MODULES if name.startswith("lakehouse/domains/") and Path(name).name in ("transforms.py", "rules.py", "aqi.py")
    )
    assert len(pure) >= 3
    outside = (
        "lakehouse.settings",
        "lakehouse.tables.catalog",
        "lakehouse.spark",
        "lakehouse.write",
        "lakehouse.machine.logs",
        "os",
        "time",
        "structlog",
    )
    assert importers(*outside, under=pure) == []
    clocks = {"now", "utcnow", "today", "current_timestamp", "current_date"}
    for name in pure:
        called = {
            node.func.attr
            for node in ast.walk(ast.parse(MODULES[name].read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        assert not called & clocks, f"{name} reads a clock: {called & clocks}"


def test_streaming_and_batch_do_not_know_each_other() -> None:
    assert importers("batch", under=("streaming/",)) == []
    assert importers("streaming", under=("batch/",)) == []


def test_producers_know_contracts_and_metrics_but_neither_spark_nor_tables() -> None:
    assert importers("streaming", "batch", "deploy", "bench", "pyspark", "pyiceberg", under=("producers/",)) == []
    assert {module.partition(" imports ")[2] for module in importers("monitoring", under=("producers/",))} <= {
        "monitoring",
        "monitoring.metrics",
    }
    with_spark = [
        name.removesuffix(".py").replace("/", ".") for name, file in MODULES.items() if any(m.startswith("pyspark") for m in imports(file))
    ]
    assert importers(*with_spark, under=("producers/",)) == []


def test_the_oracle_shares_nothing_with_what_it_proves() -> None:
    assert importers(*PROGRAMS, "weir", "pyspark", under=("batch/prove/oracle/",)) == []
    assert all(build_domain(name, Settings()).oracle for name in DOMAINS), "every domain can be proved by somebody else"


def test_nothing_imports_batch_or_deploy_but_the_command() -> None:
    assert importers("batch", under=("lakehouse/", "producers/", "streaming/", "monitoring/", "deploy/")) == []
    assert importers("deploy", under=("lakehouse/", "producers/", "streaming/", "monitoring/", "batch/")) == []


def test_nothing_imports_the_command() -> None:
    assert importers("weir", under=("",), but=("weir.py",)) == []


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_module_hides_a_library(name: str) -> None:
    # A script's own folder comes first on the import path, so producers/kafka.py would hide the Kafka client.
    stem = Path(name).stem
    assert stem == "__init__" or name == "weir.py" or stem not in LIBRARIES
