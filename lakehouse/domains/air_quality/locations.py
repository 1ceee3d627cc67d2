"""Which places are watched, and which pollutants are known?

Both lists are files with one JSON object a line. The shipped ones are in `config/`; settings name others. The producer, the stream and the
command read them the same way.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import structlog

from lakehouse.domains.dates.zones import VERSION, is_zone, zone_names
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.storage import paths
from lakehouse.storage.hdfs import is_hdfs, read_bytes

SHIPPED = Path(__file__).parent / "config"
KEY_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]*")

_Row = TypeVar("_Row")


class BadListError(LakehouseError, Fatal):
    """A list of places or pollutants cannot be read, or a line of it is not what it must be."""

    def __init__(self, path: Path | str, line: int | None, problem: str) -> None:
        where = f"{path}, line {line}" if line is not None else str(path)
        super().__init__(f"{where}: {problem}")
        self.path, self.line, self.problem = path, line, problem


class UnknownZone(ValueError):
    """The zone database does not know a name, or it names no place."""

    def __init__(self, name: str, place: str = "") -> None:
        near = difflib.get_close_matches(name, zone_names(), n=1)
        meant = f"; did you mean {near[0]}?" if near else ", expected an IANA name such as Asia/Ho_Chi_Minh"
        super().__init__(f"{name!r} is no time zone of a place (tzdata {VERSION}){meant}")
        self.place = place


class PlacesLeftOut(LakehouseError, Fatal):
    """Places of the list have a zone that the zone database does not know: nothing polls them."""

    def __init__(self, refused: list[str]) -> None:
        super().__init__(f"{len(refused)} place(s) are left out, the others go on: {'; '.join(refused)}. Correct the list.")


@dataclass(frozen=True, slots=True)
class Location:
    """One place.

    Attributes:
        location_key: short lower-case name; the key in Kafka and in every table.
        location_name: the name for people.
        latitude: degrees north.
        longitude: degrees east.
        timezone: IANA name; decides the local hour and day, never the stored instants.
    """

    location_key: str
    location_name: str
    latitude: float
    longitude: float
    timezone: str


@dataclass(frozen=True, slots=True)
class Pollutant:
    """One measured quantity.

    Attributes:
        pollutant_code: the column's name in silver and gold.
        display_name: the name for people.
        unit_default: the unit of that column.
        aqi_timespan: the averaging time of its AQI, such as `24h`; None for one without an AQI.
    """

    pollutant_code: str
    display_name: str
    unit_default: str
    aqi_timespan: str | None


def locations_file(configured: str, home: Path) -> Path | str:
    """Find the list of places: the configured one, else HOME/locations.jsonl where it exists, else the shipped one. On HDFS it is a URI."""
    if configured:
        return _place_of(configured)
    own = home / "locations.jsonl"
    return own if own.exists() else SHIPPED / "locations.jsonl"


def pollutants_file(configured: str) -> Path | str:
    """Find the list of pollutants: the configured one, else the shipped one. On HDFS it is a URI."""
    return _place_of(configured) if configured else SHIPPED / "dim_pollutant.jsonl"


def _place_of(path_or_uri: Path | str) -> Path | str:
    return str(path_or_uri) if is_hdfs(str(path_or_uri)) else local_path(str(path_or_uri))


def local_path(path_or_uri: str) -> Path:
    """Turn a plain path or a file: URI into a path; its escapes mean what they do in a URI unless a file is called just so.

    Raises:
        BadListError: for another file system.
    """
    if (found := paths.local_path(path_or_uri)) is not None:
        return found if found.exists() else Path(unquote(str(found)))
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path_or_uri):
        raise BadListError(path_or_uri, None, "expected a path, a file: URI of this machine, or for reading an hdfs: URI")
    return Path(path_or_uri).expanduser()


def read_locations(path: Path | str) -> list[Location]:
    """Read the places, in the order of the file. One whose zone is unknown is left out, with a warning: the others go on.

    Raises:
        BadListError: for a file that cannot be read, holds no place, repeats a key, or has a line that is not a place.
    """
    return read_places(path)[0]


def read_places(path: Path | str) -> tuple[list[Location], dict[str, BadListError]]:
    """Read the same, and why others were left out, by their keys.

    Raises:
        BadListError: as for `read_locations`.
    """
    places, refused = _places(path)
    for one in refused.values():
        _warn(str(one))
    return places, refused


def describe_places(path: Path | str) -> str:
    """Say how many places are watched, and from which file.

    Raises:
        PlacesLeftOut: the zone database does not know the zone of some.
        BadListError: as for `read_locations`.
    """
    places, refused = _places(path)
    if refused:
        raise PlacesLeftOut([str(one) for one in refused.values()])
    return f"{len(places)} places in {path}, local hours by tzdata {VERSION}"


def _places(path: Path | str) -> tuple[list[Location], dict[str, BadListError]]:
    return _read(_place_of(path), to_location, lambda place: place.location_key, "place")


@cache  # a list is read for every micro-batch
def _warn(refused: str) -> None:
    structlog.get_logger("weir.places").warning("place left out", reason=refused)


def read_pollutants(path: Path | str) -> list[Pollutant]:
    """Read the pollutants, in the order of the file.

    Raises:
        BadListError: as for `read_locations`.
    """
    return _read(_place_of(path), to_pollutant, lambda pollutant: pollutant.pollutant_code, "pollutant")[0]


def to_location(row: dict[str, object]) -> Location:
    """Check one decoded line.

    Raises:
        ValueError: with what was found and what was expected.
    """
    key = _text(row, "location_key")
    if not KEY_PATTERN.fullmatch(key):
        raise ValueError(f"location_key is {key!r}, expected lower-case letters a-z, digits, _ and -")
    return Location(
        location_key=key,
        location_name=_text(row, "location_name"),
        latitude=_degrees(row, "latitude", 90),
        longitude=_degrees(row, "longitude", 180),
        timezone=_zone(row),
    )


def to_pollutant(row: dict[str, object]) -> Pollutant:
    """Check one decoded line.

    Raises:
        ValueError: with what was found and what was expected.
    """
    timespan = row.get("aqi_timespan")
    if timespan is not None and not (isinstance(timespan, str) and re.fullmatch(r"[1-9]\d*h", timespan)):
        raise ValueError(f"aqi_timespan is {timespan!r}, expected hours such as '24h', or null")
    return Pollutant(_text(row, "pollutant_code"), _text(row, "display_name"), _text(row, "unit_default"), timespan)


def _read(
    path: Path | str, convert: Callable[[dict[str, object]], _Row], key_of: Callable[[_Row], str], noun: str
) -> tuple[list[_Row], dict[str, BadListError]]:
    """Read the lines of a list; give the rows, and why others are left out, by key."""
    rows: list[_Row] = []
    refused: dict[str, BadListError] = {}
    first_line: dict[str, int] = {}
    for number, row in _objects(path):
        try:
            one = convert(row)
        except UnknownZone as error:
            refused[error.place] = BadListError(path, number, str(error))
            continue
        except ValueError as error:
            raise BadListError(path, number, str(error)) from error
        key = key_of(one)
        if key in first_line:
            raise BadListError(path, number, f"{key!r} stands in line {first_line[key]} already, expected each {noun} once")
        first_line[key] = number
        rows.append(one)
    if not rows:
        raise next(iter(refused.values())) if refused else BadListError(path, None, f"no {noun} in it, expected one JSON object a line")
    return rows, refused


def _objects(path: Path | str) -> Iterator[tuple[int, dict[str, object]]]:
    try:
        text = (path.read_bytes() if isinstance(path, Path) else read_bytes(path)).decode("utf-8-sig")
    except OSError as error:
        raise BadListError(path, None, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadListError(path, None, f"byte {error.start} is not UTF-8") from error
    # Not splitlines(): that would cut a name that holds U+2028 or U+0085.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise BadListError(path, number, f"not JSON ({error.msg} at column {error.colno}), expected one JSON object a line") from error
        if not isinstance(row, dict):
            raise BadListError(path, number, f"a JSON {type(row).__name__}, expected an object")
        yield number, row


def _text(row: dict[str, object], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{_found(row, name)}, expected a text")
    return value


def _degrees(row: dict[str, object], name: str, most: float) -> float:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > most:
        raise ValueError(f"{_found(row, name)}, expected degrees from {-most:g} to {most:g}")
    return float(value)


def _zone(row: dict[str, object]) -> str:
    name = _text(row, "timezone")
    if not is_zone(name):
        raise UnknownZone(name, _text(row, "location_key"))
    return name


def _found(row: dict[str, object], name: str) -> str:
    if name not in row:
        return f"{name} is missing (found {', '.join(row) or 'nothing'})"
    return f"{name} is {row[name]!r}"
