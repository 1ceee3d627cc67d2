"""Is the poller free of what is a source's own, and is every registered source what the poller takes?"""

import inspect
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from deploy.local.agent.run_files import producer_parts
from lakehouse.domain_names import DOMAINS
from lakehouse.domains.air_quality.locations import SHIPPED, read_locations
from producers.source import RangeClient
from producers.sources.registry import DUMPS, SOURCES, load_dumps, load_source

ROOT = Path(__file__).parents[3]
SHARED = [
    *sorted((ROOT / "producers").glob("*.py")),
    *sorted((ROOT / "producers" / "dumps").glob("*.py")),
    ROOT / "producers" / "sources" / "registry.py",
]
EXAMPLE = re.compile(r"      weir produce [a-z-]+( .+)?")
REGISTRY_LINE = re.compile(r'    "[a-z-]+": "producers\.sources\.[a-z_]+\.source:[A-Z_]+",')


def plain(text: str) -> str:
    """Write a text without accents, capitals and what joins words: Open-Meteo and open_meteo become the same."""
    letters = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return re.sub(r"[\s_.-]", "", letters.lower())


def own_words() -> set[str]:
    """Name what belongs to a source: its name, its domain, its topic, the columns of its key, the places on its list."""
    sources = [load_source(name) for name in SOURCES]
    dumped = [load_dumps(name) for name in DUMPS]
    words = {*SOURCES, *DUMPS, *DOMAINS, *(one.domain for one in dumped)}
    for one in dumped:
        # Of the columns those whose name is no word, as `tag` is one; when a dump was made is a word of the command too.
        words |= {one.notice.topic, *(table.contract.topic for table in one.tables)}
        words |= {name for table in one.tables for name in table.contract.entity if "_" in name}
    words |= {*SOURCES, *DOMAINS, *(source.domain for source in sources), *(source.contract.topic for source in sources)}
    for source in sources:
        # A column such as `ref` is part of many words.
        words |= {name for name in (*source.contract.key, source.contract.version, source.contract.event_time) if "_" in name}
    for place in read_locations(SHIPPED / "locations.jsonl"):
        words |= {place.location_key, place.location_name}
    return {plain(word) for word in words if word}


def lines_with_own_words(file: Path) -> list[str]:
    """Give the lines of a file that name something of a source, but for the registry's and the examples of a command's help."""
    words = own_words()
    return [
        f"{file.name}:{number}: {line}"
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if not (EXAMPLE.fullmatch(line) and file.name == "cli.py")
        and not (REGISTRY_LINE.fullmatch(line) and file.name == "registry.py")
        and any(word in plain(line) for word in words)
    ]


@pytest.mark.parametrize("file", SHARED, ids=[file.name for file in SHARED])
def test_shared_part_names_no_source_domain_topic_column_or_place(file: Path) -> None:
    assert lines_with_own_words(file) == []


def test_what_is_looked_for_is_found_where_it_belongs() -> None:
    assert len(SHARED) > 15
    assert {"openmeteo", "airquality", "airqualityhourlyv1", "locationkey", "tsutc", "retrievedts", "hanoi", "danang"} <= own_words()
    folder = ROOT / "producers" / "sources" / "open_meteo"
    silent = [file.name for file in folder.glob("*.py") if not lines_with_own_words(file)]
    assert silent == ["__init__.py"]


def test_shared_part_imports_a_source_only_through_the_registry() -> None:
    imports = [line for file in SHARED for line in file.read_text().splitlines() if re.match(r"\s*(from|import) producers\.sources", line)]
    assert imports == ["from producers.sources.registry import DUMPS, SOURCES, load_dumps, load_source"]


@pytest.mark.parametrize("name", SOURCES)
def test_registered_source_is_what_the_poller_takes(name: str) -> None:
    source = load_source(name)
    assert source.domain in DOMAINS
    assert {*source.contract.entity, source.contract.version} <= set(source.contract.names)
    assert not source.contract.event_time or source.contract.field(source.contract.event_time).type == "timestamp"
    module = inspect.getmodule(source.open)
    assert module is not None
    assert module.__name__.startswith(f"producers.sources.{name.replace('-', '_')}.")


@pytest.mark.parametrize("name", DUMPS)
def test_registered_source_of_dumps_is_what_the_publisher_takes(name: str) -> None:
    source = load_dumps(name)
    for table in source.tables:
        contract = table.contract
        assert contract.codec == "json"
        assert contract.deleted
        assert set(source.stamped) <= set(contract.names)
        assert set(table.identity) <= set(source.values(table))
        assert {name for name in contract.key if name not in source.stamped} <= set(table.identity)
        assert not table.repeats or contract.field(table.repeats).type == "long"
    assert producer_parts(SOURCES).keys() == {"producer", *(f"producer-{other}" for other in list(SOURCES)[1:])}
    assert name in SOURCES or name not in producer_parts(SOURCES).values(), "weir up polls no source that is only dumped"


def test_source_with_ranges_opens_a_client_that_has_them() -> None:
    from producers.sources.open_meteo.polling import OpenMeteoPolls

    assert load_source("open-meteo").ranges is not None
    assert issubclass(OpenMeteoPolls, RangeClient)


def test_names_are_told_without_importing_a_source_and_a_source_without_an_http_client() -> None:
    code = """
import sys
from producers.sources.registry import DUMPS, SOURCES, load_dumps, load_source
print([name for name in sys.modules if name.startswith("producers.sources.") and name != "producers.sources.registry"])
for name in SOURCES: load_source(name)
for name in DUMPS: load_dumps(name)
print(sorted({"requests", "stamina", "confluent_kafka", "pyspark", "pyarrow", "duckdb"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_each_source_is_a_part_and_the_first_keeps_the_name_it_had() -> None:
    assert producer_parts(["open-meteo", "toys"]) == {"producer": "open-meteo", "producer-toys": "toys"}
    assert producer_parts(SOURCES)["producer"] == "open-meteo"
