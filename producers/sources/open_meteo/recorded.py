"""Which answers of the API have been recorded, and when were they served?

Reads three forms: a packed file (.jsonl or .jsonl.gz, one recorded answer per line), a single answer (.json), and a folder of them.
For the latter two, an index.jsonl in the same or a parent folder lists when each answer was served; without it the file's modification
time is used.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import structlog

from lakehouse.domains.air_quality.locations import Location
from lakehouse.errors import Fatal, ProducerError
from producers.call_errors import BrokenAnswerError
from producers.history import Records
from producers.sources.open_meteo.answers import PlaceHours, cell_of, decode, degrees_apart, elements_of, is_near, to_records

INDEX = "index.jsonl"
# In how many folders, from the answer's own upwards, its index is searched.
INDEX_ABOVE = 3

log = structlog.get_logger()


class BadRecordingError(ProducerError, Fatal):
    """A file cannot be read, or is not a recorded answer."""


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """One recorded answer.

    Attributes:
        name: where it was read from, for messages.
        set_name: the set to which it belongs: as in the packed record, else the name of its folder.
        cities: `location_key` of each of its places; empty where the recording does not have them.
        served_at: when the API answered, UTC.
        model_domain: the requested model; None where the request is not known.
        elements: the answer's places.
    """

    name: str
    set_name: str
    cities: tuple[str, ...]
    served_at: datetime
    model_domain: str | None
    elements: tuple[dict[str, object], ...]

    def places(self, known: Sequence[Location]) -> Iterator[tuple[str, PlaceHours | None]]:
        """Decode the answer's places.

        Args:
            known: the watched places.

        Yields:
            Per place a name for messages, and its hours; None instead of hours where the place is not a known one.

        Raises:
            BadRecordingError: the answer cannot be decoded.
        """
        for index, element in enumerate(self.elements):
            city = self.cities[index] if index < len(self.cities) else ""
            try:
                latitude, longitude = cell_of(element)
                place = _place(city, latitude, longitude, known)
                hours = decode(element, place, self.served_at, self.model_domain) if place else None
            except BrokenAnswerError as error:
                raise BadRecordingError(f"{self.name}: {error}") from error
            yield (place.location_key if place else f"{city or 'a place'} at {latitude:g}, {longitude:g}"), hours

    def records(self, known: Sequence[Location], days: tuple[date, date] | None) -> Iterator[tuple[str, Records | None]]:
        """Return the same in the poller's form; see `producers.source.RecordedAnswer`.

        Raises:
            BadRecordingError: as for `places`.
        """
        for name, hours in self.places(known):
            yield name, to_records(hours.kept(*days) if days else hours) if hours else None


def read_recorded(path: Path, set_name: str | None = None) -> list[RecordedAnswer]:
    """Read recorded answers, in the order in which they were served.

    Args:
        path: a packed file, one answer, or a folder of answers with its subfolders.
        set_name: only this set.

    Raises:
        BadRecordingError: a file cannot be read, or there is no answer at all.
    """
    try:
        if path.is_dir():
            answers = [_single(file) for file in sorted(path.rglob("*.json"))]
        elif path.name.endswith((".jsonl", ".jsonl.gz")):
            answers = list(_packed(path))
        else:
            answers = [_single(path)]
    except OSError as error:
        raise BadRecordingError(f"{path}: cannot be read ({error.strerror or error})") from error
    chosen = [answer for answer in answers if set_name in (None, answer.set_name)]
    if not chosen:
        sets = ", ".join(sorted({answer.set_name for answer in answers}))
        raise BadRecordingError(
            f"{path}: no recorded answer" + (f" of the set {set_name!r}; there are {sets or 'none'}" if set_name else " in it")
        )
    return sorted(chosen, key=lambda answer: answer.served_at)


def _packed(path: Path) -> Iterator[RecordedAnswer]:
    with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                name = f"{path}, line {number}"
                record = _json(line, name)
                if not isinstance(record, dict) or "answer" not in record:
                    raise BadRecordingError(f"{name}: not a recorded answer, expected an object with served_at and answer")
                served_at = _served_at(record.get("served_at"), name)
                yield RecordedAnswer(
                    name=name,
                    set_name=str(record.get("set", "")),
                    cities=tuple(city for city in str(record.get("city") or "").split(",") if city),
                    served_at=served_at,
                    model_domain=_domain(str(record.get("request") or "")),
                    elements=_elements(record["answer"], name),
                )
        except EOFError as error:
            raise BadRecordingError(f"{path}: the packed file is cut off") from error


def _single(file: Path) -> RecordedAnswer:
    answer = _json(file.read_bytes(), str(file))
    entry = _index_entry(file)
    if entry is None:
        served_at = datetime.fromtimestamp(int(file.stat().st_mtime), UTC)
        log.warning("no index: using the file's modification time as the answer's", file=str(file), served_at=served_at.isoformat())
        entry = {}
    else:
        served_at = _served_at(entry.get("served_at"), str(file))
    return RecordedAnswer(
        name=str(file),
        set_name=file.parent.name,
        cities=(str(entry["city"]),) if entry.get("city") else (),
        served_at=served_at,
        model_domain=_domain(urlsplit(str(entry.get("request") or "")).query),
        elements=_elements(answer, str(file)),
    )


def _index_entry(file: Path) -> dict[str, object] | None:
    """Find the answer's entry in the nearest index, where the entry's path ends with the file's path relative to the index."""
    for folder in list(file.resolve().parents)[:INDEX_ABOVE]:
        index = folder / INDEX
        if not index.is_file():
            continue
        wanted = file.resolve().relative_to(folder).as_posix()
        for number, line in enumerate(index.read_text(encoding="utf-8").split("\n"), start=1):
            if line.strip():
                entry = _json(line.encode(), f"{index}, line {number}")
                if isinstance(entry, dict) and f"/{entry.get('path', '')}".endswith(f"/{wanted}"):
                    return entry
        return None
    return None


def _place(city: str, latitude: float, longitude: float, known: Sequence[Location]) -> Location | None:
    by_name = next((place for place in known if place.location_key == city), None)
    if by_name:
        return by_name
    nearest = min(known, key=lambda place: degrees_apart(latitude, longitude, place), default=None)
    return nearest if nearest and is_near(latitude, longitude, nearest) else None


def _elements(answer: object, name: str) -> tuple[dict[str, object], ...]:
    try:
        return tuple(elements_of(answer))
    except BrokenAnswerError as error:
        raise BadRecordingError(f"{name}: {error}") from error


def _json(text: bytes, name: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadRecordingError(f"{name}: not JSON ({error})") from error


def _served_at(value: object, name: str) -> datetime:
    """Parse an ISO 8601 instant or an HTTP Date header."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            instant = read(str(value))
        except ValueError:
            continue
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    raise BadRecordingError(f"{name}: served_at is {value!r}, expected an instant with a time zone")


def _domain(query: str) -> str | None:
    return next(iter(parse_qs(query).get("domains", [])), None)
