"""Does the core know a domain by name? Outside of `lakehouse/domains/` and `producers/sources/` no domain, topic or city is named."""

import re
from functools import cache
from pathlib import Path

import pytest

from lakehouse.domain_names import DOMAINS
from lakehouse.domains.air_quality.locations import locations_file, read_locations
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from producers.sources.registry import DUMPS, SOURCES, load_dumps

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("lakehouse", "streaming", "batch", "monitoring", "deploy", "producers")
# The registries name them; the demo shows one of them, with the server of its recorded answers; the one settings model holds those of all
# domains and sources, such as the address of an API.
ALLOWED = re.compile(
    r"lakehouse/domains/.*|lakehouse/domain_names\.py|lakehouse/settings\.py|producers/sources/.*"
    r"|deploy/local/(demo/\w+|services/open_meteo_server|make_class_archive)\.py|deploy/local/services/recorded/.*"
)
# Help shows an example of each verb.
EXAMPLE = re.compile(r"^\s*(Example: )?weir [a-z-]+ |help=\".*such as ")


@cache
def words() -> set[str]:
    """What must not be named: domains, topics, tables and cities."""
    found = set(DOMAINS) | set(SOURCES) | set(DUMPS)
    for dumped in map(load_dumps, DUMPS):
        found |= {dumped.notice.topic, *(table.contract.topic for table in dumped.tables)}
    for name in DOMAINS:
        domain = build_domain(name, Settings())
        found |= {*domain.topics, *(one.name for one in domain.sources)}
        found |= {table.name.rpartition(".")[2] for table in domain.merged}
    found |= {place.location_key for place in read_locations(locations_file("", Path("/nowhere")))}
    return found


def named(text: str, wanted: set[str]) -> list[str]:
    """Give the lines of a source that name one of some words."""
    pattern = re.compile(r"(?<![\w-])(" + "|".join(re.escape(word) for word in sorted(wanted)) + r")(?![\w-])")
    return [line for line in text.splitlines() if pattern.search(line) and not EXAMPLE.search(line)]


FILES = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_domain_topic_or_city_is_named(file: Path) -> None:
    if not ALLOWED.fullmatch(file.relative_to(ROOT).as_posix()):
        assert named(file.read_text(encoding="utf-8"), words()) == []


def test_the_look_would_find_them() -> None:
    wanted = words()
    assert {"air_quality", "air-quality.hourly.v1", "fact_city_daily", "hanoi", "open-meteo"} <= wanted
    assert named('if domain == "air_quality":\n  topic = TOPIC\n', wanted) == ['if domain == "air_quality":']
    assert named("    Example: weir prove air_quality --since 2025-01-01", wanted) == []
