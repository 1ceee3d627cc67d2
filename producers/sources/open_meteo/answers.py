"""How does an answer of Open-Meteo's air quality API become records of the contract? By pure functions of the decoded JSON.

They use no network and no clock, so they read live and recorded answers alike.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from lakehouse.contract import Value
from lakehouse.domains.air_quality.contract import MEASURES, VARIABLES
from lakehouse.domains.air_quality.locations import Location
from producers.call_errors import BrokenAnswerError
from producers.clock import midnight
from producers.history import Records

Reading = dict[str, Value]

# The model's cells are 0.4° wide and the API prefers a neighbour over land: a correct answer's cell is nearer than this.
CELL_TOLERANCE = 0.5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class PlaceHours:
    """The hours of one place in one answer.

    Attributes:
        location: the requested place.
        retrieved_ts: when the source answered, in whole milliseconds.
        hours: event times, ascending, UTC; one per position of the columns.
        columns: by the contract's field; a column is as long as `hours`, or missing where the answer lacks the variable.
        constants: fields with the same value for every hour of the answer.
    """

    location: Location
    retrieved_ts: datetime
    hours: tuple[datetime, ...]
    columns: dict[str, Sequence[Value]]
    constants: Reading

    def kept(self, first: date, last: date) -> "PlaceHours":
        """Keep the hours of these UTC days, both included."""
        start, end = midnight(first), midnight(last + timedelta(days=1))
        inside = [i for i, ts in enumerate(self.hours) if start <= ts < end]
        return PlaceHours(
            self.location,
            self.retrieved_ts,
            tuple(self.hours[i] for i in inside),
            {name: [column[i] for i in inside] for name, column in self.columns.items()},
            self.constants,
        )

    def readings(self) -> Iterator[Reading]:
        """Yield one record per hour with data, which has at least one of the ten measures."""
        for i, ts in enumerate(self.hours):
            if self._has_data(i):
                yield {
                    "location_key": self.location.location_key,
                    "ts_utc": ts,
                    **self.constants,
                    **{name: column[i] for name, column in self.columns.items()},
                    "retrieved_ts": self.retrieved_ts,
                }

    def hours_without_data(self) -> tuple[datetime, ...]:
        """Return the hours that had begun when the source answered and have none of the ten measures.

        Later hours without data are not missing; the forecast does not extend that far.
        """
        return tuple(ts for i, ts in enumerate(self.hours) if ts <= self.retrieved_ts and not self._has_data(i))

    def last_measured_hour(self) -> datetime | None:
        """Return the newest hour with data that had begun when the source answered."""
        return next((ts for i, ts in reversed(list(enumerate(self.hours))) if ts <= self.retrieved_ts and self._has_data(i)), None)

    def _has_data(self, i: int) -> bool:
        return any(name in self.columns and self.columns[name][i] is not None for name in MEASURES.values())


def to_records(hours: PlaceHours) -> Records:
    """Return a place's hours in the poller's form; the cursor is the newest measured hour, since forecasts are requested again."""
    return Records(hours.location.location_key, list(hours.readings()), hours.last_measured_hour(), hours.hours_without_data())


def whole_milliseconds(instant: datetime) -> datetime:
    """Truncate an instant to milliseconds, the precision of messages."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def elements_of(answer: object) -> list[dict[str, object]]:
    """Return an answer's places; the API sends an object for one place and a list for several.

    Raises:
        BrokenAnswerError: the answer is anything else, or an error with a status of success.
    """
    elements = answer if isinstance(answer, list) else [answer]
    places: list[dict[str, object]] = []
    for element in elements:
        if not isinstance(element, dict):
            raise BrokenAnswerError(f"a JSON {type(element).__name__} where a place's hours were expected")
        if element.get("error"):
            raise BrokenAnswerError(f"an error instead of data: {element.get('reason', 'without a reason')}")
        if not isinstance(element.get("hourly"), dict):
            raise BrokenAnswerError(f"no `hourly` in the answer, which has {', '.join(map(str, element)) or 'nothing'}")
        places.append(element)
    return places


def check_places(elements: Sequence[dict[str, object]], places: Sequence[Location]) -> None:
    """Check that the answer has the requested places in the requested order.

    Raises:
        BrokenAnswerError: the list has another length or order, or a cell is farther away than `CELL_TOLERANCE`.
    """
    if len(elements) != len(places):
        raise BrokenAnswerError(f"{len(elements)} place(s) in the answer, {len(places)} were requested")
    for index, (element, place) in enumerate(zip(elements, places, strict=True)):
        location_id = element.get("location_id", 0)  # the API omits a zero
        if location_id != index:
            raise BrokenAnswerError(f"element {index} ({place.location_key}) has location_id {location_id!r}: not in the requested order")
        latitude, longitude = cell_of(element)
        if not is_near(latitude, longitude, place):
            raise BrokenAnswerError(
                f"element {index} has the cell {latitude:g}, {longitude:g}, more than {CELL_TOLERANCE}° from "
                f"{place.location_key} at {place.latitude:g}, {place.longitude:g}"
            )


def check_hours(hours: Sequence[datetime], first: date, last: date) -> None:
    """Check that the answer has every hour of these UTC days.

    Raises:
        BrokenAnswerError: hours are missing; the message has the first one.
    """
    expected = ((last - first).days + 1) * 24
    present = set(hours)
    missing = [ts for i in range(expected) if (ts := midnight(first) + i * _HOUR) not in present]
    if missing:
        raise BrokenAnswerError(f"{len(missing)} of {expected} requested hours are missing, the first is {missing[0]:%Y-%m-%dT%H:%MZ}")


def cell_of(element: dict[str, object]) -> tuple[float, float]:
    """Return latitude and longitude of the model's cell from which the values are.

    Raises:
        BrokenAnswerError: they are not numbers.
    """
    latitude, longitude = element.get("latitude"), element.get("longitude")
    if not _is_number(latitude) or not _is_number(longitude):
        raise BrokenAnswerError(f"the cell is at {latitude!r}, {longitude!r}, expected two numbers")
    return float(str(latitude)), float(str(longitude))


def is_near(latitude: float, longitude: float, place: Location) -> bool:
    """Return whether a cell lies within `CELL_TOLERANCE` of a place, also across the date line."""
    return degrees_apart(latitude, longitude, place) <= CELL_TOLERANCE


def degrees_apart(latitude: float, longitude: float, place: Location) -> float:
    """Return the larger of the differences in latitude and in longitude, in degrees."""
    around = abs((longitude - place.longitude + 180) % 360 - 180)
    return max(abs(latitude - place.latitude), around)


def decode(element: dict[str, object], location: Location, retrieved_ts: datetime, model_domain: str | None) -> PlaceHours:
    """Read one place's hours.

    Args:
        element: one place of an answer; missing variables, and those that the contract does not have, are ignored.
        location: the place.
        retrieved_ts: when the source answered.
        model_domain: the requested model; None where it is not known.

    Raises:
        BrokenAnswerError: columns have different lengths, or times cannot be read or do not ascend.
    """
    hourly = element["hourly"]
    if not isinstance(hourly, dict) or not isinstance(hourly.get("time"), list):
        raise BrokenAnswerError(f"no list `hourly.time` for {location.location_key}")
    hours = _hours(hourly["time"], element.get("utc_offset_seconds", 0))
    columns: dict[str, Sequence[Value]] = {}
    for variable, name in VARIABLES.items():
        column = hourly.get(variable)
        if column is None:
            continue
        if not isinstance(column, list) or len(column) != len(hours):
            length = len(column) if isinstance(column, list) else "no list"
            raise BrokenAnswerError(f"`{variable}` of {location.location_key} has {length} values for {len(hours)} hours")
        columns[name] = column
    latitude, longitude = cell_of(element)
    timezone = element.get("timezone")
    constants: Reading = {
        "latitude": latitude,
        "longitude": longitude,
        "model_domain": model_domain,
        "request_timezone": timezone if isinstance(timezone, str) else None,
    }
    return PlaceHours(location, whole_milliseconds(retrieved_ts), hours, columns, constants)


def _hours(times: list[object], offset_seconds: object) -> tuple[datetime, ...]:
    if not isinstance(offset_seconds, int) or isinstance(offset_seconds, bool):
        raise BrokenAnswerError(f"utc_offset_seconds is {offset_seconds!r}, expected a whole number")
    hours = tuple(_instant(one, timedelta(seconds=offset_seconds)) for one in times)
    for before, after in pairwise(hours):
        if after <= before:
            raise BrokenAnswerError(f"the hour {after:%Y-%m-%dT%H:%MZ} follows {before:%Y-%m-%dT%H:%MZ}: not ascending")
    return hours


def _instant(value: object, offset: timedelta) -> datetime:
    # As unixtime the API returns UTC whatever zone was requested; as text, the zone's local time at one fixed offset.
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return _EPOCH + timedelta(seconds=value)
        if isinstance(value, str):
            read = datetime.fromisoformat(value)
            return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC) - offset
    except (ValueError, OverflowError) as error:
        raise BrokenAnswerError(f"the time {value!r} cannot be read: {error}") from error
    raise BrokenAnswerError(f"the time {value!r} is neither unixtime nor ISO 8601")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
