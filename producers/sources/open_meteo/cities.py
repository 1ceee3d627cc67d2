"""How does a city come onto the list of places?"""

import json
import math
import unicodedata
from dataclasses import asdict
from pathlib import Path

from lakehouse.domains.air_quality.locations import KEY_PATTERN, SHIPPED, Location, UnknownZone, local_path, read_locations
from lakehouse.domains.dates.zones import is_zone
from lakehouse.errors import Fatal, ProducerError
from lakehouse.storage.files import replace_file

# Letters that have no accent to lose: what people write for them in plain ASCII.
PLAIN_LETTERS = str.maketrans(
    {"đ": "d", "ð": "d", "ß": "ss", "ø": "o", "ł": "l", "æ": "ae", "œ": "oe", "þ": "th", "ı": "i", "ħ": "h", "ŧ": "t", "ŋ": "n", "ə": "e"}
)


class CityTakenError(ProducerError, Fatal):
    """The list holds another place under that key."""


def to_key(name: str, latitude: float, longitude: float) -> str:
    """Make a `location_key` of a name: plain lower-case letters and digits, joined by underscores; always the same one.

    A name of another script has none of these; its key is made of its coordinates.
    """
    # Decomposed first: letters such as a mathematical A are plain capitals only after it.
    plain = unicodedata.normalize("NFKD", name).casefold().translate(PLAIN_LETTERS)
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in letters).split()
    if words and any(letter.isalpha() for word in words for letter in word):
        return "_".join(words)
    north, east = ("s" if latitude < 0 else "n"), ("w" if longitude < 0 else "e")
    return f"place_{north}{abs(round(latitude * 10_000))}_{east}{abs(round(longitude * 10_000))}"


def to_city(name: str, latitude: float, longitude: float, timezone: str, key: str = "") -> Location:
    """Check what was given and make a place of it.

    Raises:
        ValueError: for an empty name, coordinates that are none, an unknown zone, or a key with other characters than it may have.
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
        configured: the setting `locations_path`; the list is HOME/locations.jsonl where it is empty.
        home: the home folder.
        same_zone: whether the zone must agree for the city to be the same as one on the list; not so where it was not given.

    Returns:
        The list's file, and whether the city is new to it.

    Raises:
        CityTakenError: for a key that another place has.
        BadListError: for a list that cannot be read.
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
            f"not {city.latitude}, {city.longitude}, {city.timezone}. Give the new one another --key, or edit that file."
        )
    text = base.read_text(encoding="utf-8").rstrip("\n")
    replace_file(path, f"{text}\n{json.dumps(asdict(city), ensure_ascii=False, separators=(',', ':'))}\n")
    return path, True
