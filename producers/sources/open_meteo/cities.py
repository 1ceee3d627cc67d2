"""How is a city added to the list of places?"""

import json
import math
import unicodedata
from dataclasses import asdict
from pathlib import Path

from lakehouse.domains.air_quality.locations import KEY_PATTERN, SHIPPED, Location, UnknownZone, local_path, read_locations
from lakehouse.domains.dates.zones import is_zone
from lakehouse.errors import Fatal, ProducerError
from lakehouse.storage.files import replace_file

# Letters without a decomposition into letter and accent, and their usual ASCII spelling.
PLAIN_LETTERS = str.maketrans(
    {"đ": "d", "ð": "d", "ß": "ss", "ø": "o", "ł": "l", "æ": "ae", "œ": "oe", "þ": "th", "ı": "i", "ħ": "h", "ŧ": "t", "ŋ": "n", "ə": "e"}
)


class CityTakenError(ProducerError, Fatal):
    """The list has another place with that key."""


def to_key(name: str, latitude: float, longitude: float) -> str:
    """Derive a `location_key` from a name: words of lower-case ASCII letters and digits, joined by underscores.

    The same input always has the same key. A name in another script, without such letters, gets a key derived from the coordinates.
    """
    # Decomposed before case folding: letters such as a mathematical A become plain capitals only by decomposition.
    plain = unicodedata.normalize("NFKD", name).casefold().translate(PLAIN_LETTERS)
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in letters).split()
    if words and any(letter.isalpha() for word in words for letter in word):
        return "_".join(words)
    north, east = ("s" if latitude < 0 else "n"), ("w" if longitude < 0 else "e")
    return f"place_{north}{abs(round(latitude * 10_000))}_{east}{abs(round(longitude * 10_000))}"


def to_city(name: str, latitude: float, longitude: float, timezone: str, key: str = "") -> Location:
    """Validate the arguments and return the place.

    Raises:
        ValueError: an empty name, invalid coordinates, an unknown time zone, or a key with characters that are not allowed.
    """
    name = unicodedata.normalize("NFC", " ".join(name.split()))
    if not name:
        raise ValueError("the name is empty")
    for what, value, most in (("LAT", latitude, 90), ("LON", longitude, 180)):
        if not math.isfinite(value) or abs(value) > most:
            raise ValueError(f"{what} is {value:g}, expected degrees from {-most} to {most}")
    if not is_zone(timezone):
        raise UnknownZone(timezone)
    if key and not KEY_PATTERN.fullmatch(key):
        raise ValueError(f"--key {key!r}, expected lower-case letters a-z, digits, _ and -")
    return Location(key or to_key(name, latitude, longitude), name, latitude, longitude, timezone)


def add_to_list(city: Location, configured: str, home: Path, same_zone: bool) -> tuple[Path, bool]:
    """Append a city to the list of places, which starts as a copy of the shipped one.

    Args:
        city: the place.
        configured: the setting `locations_path`; where it is empty, the list is HOME/locations.jsonl.
        home: the home folder.
        same_zone: whether a city on the list must have the same time zone to count as the same city; false where no zone was given.

    Returns:
        The list's file, and whether the city was added.

    Raises:
        CityTakenError: another place has the key.
        BadListError: the list cannot be read.
    """
    path = local_path(configured) if configured else home / "locations.jsonl"
    base = path if path.exists() else SHIPPED / "locations.jsonl"
    for place in read_locations(base):
        if place.location_key != city.location_key:
            continue
        if (place.latitude, place.longitude) == (city.latitude, city.longitude) and (not same_zone or place.timezone == city.timezone):
            return base, False
        raise CityTakenError(
            f"{city.location_key} is {place.location_name} at {place.latitude}, {place.longitude}, {place.timezone} in {base}, "
            f"not {city.latitude}, {city.longitude}, {city.timezone}. Choose another --key for the new city, or edit that file."
        )
    text = base.read_text(encoding="utf-8").rstrip("\n")
    replace_file(path, f"{text}\n{json.dumps(asdict(city), ensure_ascii=False, separators=(',', ':'))}\n")
    return path, True
