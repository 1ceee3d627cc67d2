"""Which offset from UTC has a place at an instant? One zone database for Python, Spark and DuckDB: the locked package `tzdata`.

Each of the three brings a database of its own, of another release: they disagree after the changes of 2025 and 2026, and some lack zones.
So offsets are data here: `offsets` reads them from the package, `local_seconds` writes them into the SQL of a transform, and a domain keeps
them as a table (`dim_zone_offset`), which DuckDB's oracle and users' queries join.

Source: IANA time zone database, by the package's files; from FIRST_YEAR to LAST_YEAR, before and after which the nearest offset holds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

import tzdata

from lakehouse.engine.functions import text

VERSION: str = tzdata.IANA_VERSION
FIRST_YEAR, LAST_YEAR = 2000, 2060
# What the database lists and is no place: no zone was set, or the machine's own.
_NO_PLACES = frozenset({"Factory", "localtime", "posixrules"})
# No zone has changed its offset twice within so short a time since FIRST_YEAR.
_STEP = timedelta(days=3)
_NEVER = 1 << 60


@dataclass(frozen=True, slots=True)
class Offset:
    """From an instant on a zone's clocks are so many seconds ahead of UTC."""

    since: datetime
    seconds: int


@cache
def zone_names() -> frozenset[str]:
    """Name every zone that a place may have: those of the database, without aliases that are no place."""
    listed = files("tzdata").joinpath("zones").read_text(encoding="ascii").split()
    return frozenset(name for name in listed if name not in _NO_PLACES and not name.startswith(("posix/", "right/")))


def is_zone(name: str) -> bool:
    """Return whether a place may have this zone."""
    return name in zone_names()


@cache
def zone(name: str) -> ZoneInfo:
    """Return Python's object of a zone, read from the package and not from the machine's own database.

    Raises:
        KeyError: there is no such zone.
    """
    if not is_zone(name):
        raise KeyError(name)
    with files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@cache
def offsets(name: str) -> tuple[Offset, ...]:
    """Return a zone's offsets in the order of time; the first one holds at the beginning of FIRST_YEAR."""
    here, end = zone(name), datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC)
    at = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
    found = [Offset(at, _seconds(here, at))]
    while at < end:
        after = min(at + _STEP, end)
        if _seconds(here, after) != found[-1].seconds:
            before, since = at, after
            while since - before > timedelta(seconds=1):
                middle = before + (since - before) // 2
                middle = middle.replace(microsecond=0)
                if _seconds(here, middle) == found[-1].seconds:
                    before = middle
                else:
                    since = middle
            found.append(Offset(since, _seconds(here, since)))
        at = after
    return tuple(found)


def local_seconds(instant: str, places: Mapping[str, str], place: str) -> str:
    """Return the SQL of the seconds that a row's local clock is ahead of UTC; 0 for a place that is not listed.

    Args:
        instant: a timestamp column.
        places: zone by place.
        place: the column with the place.
    """
    by_zone: dict[str, list[str]] = {}
    for key, name in sorted(places.items()):
        by_zone.setdefault(name, []).append(text(key))
    # Spark looks a list of places up by hash, and so many zones as there are one after the other.
    cases = " ".join(f"WHEN {place} IN ({', '.join(keys)}) THEN {_seconds_sql(instant, name)}" for name, keys in by_zone.items())
    return f"CASE {cases} ELSE 0 END" if cases else "0"


def _seconds_sql(instant: str, name: str) -> str:
    """Return a zone's offset as a constant, or looked up in constant arrays that have an element for each year."""
    known = offsets(name)
    if len(known) == 1:
        return str(known[0].seconds)
    years = range(FIRST_YEAR, LAST_YEAR + 1)
    changes = {year: [one for one in known[1:] if one.since.year == year] for year in years}
    begun = {year: [one for one in known if one.since <= datetime(year, 1, 1, tzinfo=UTC)][-1].seconds for year in years}
    element = f"least(greatest(year({instant}), {FIRST_YEAR}), {LAST_YEAR}) - {FIRST_YEAR}"
    found = _element((begun[year] for year in years), element)
    cases = ""
    for n in range(max(map(len, changes.values()))):
        since = _element((int(changes[year][n].since.timestamp()) if n < len(changes[year]) else _NEVER for year in years), element)
        seconds = _element((changes[year][n].seconds if n < len(changes[year]) else 0 for year in years), element)
        cases = f"WHEN unix_seconds({instant}) >= {since} THEN {seconds} {cases}"
    return f"CASE {cases}ELSE {found} END"


def _element(numbers: Iterable[int], index: str) -> str:
    # One text, taken apart once for each plan: a number of its own for each would be parsed a hundred times slower.
    return f"CAST(get(split('{','.join(map(str, numbers))}', ','), {index}) AS BIGINT)"


def _seconds(here: ZoneInfo, at: datetime) -> int:
    offset = here.utcoffset(at.astimezone(here))
    assert offset is not None  # a zone knows it at every instant
    return round(offset.total_seconds())
