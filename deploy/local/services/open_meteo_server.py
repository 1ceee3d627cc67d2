"""What would Open-Meteo answer? A local HTTP server that implements its air quality API with recorded answers.

It is for demos and tests, and listens on the loopback only.

    python -m deploy.local.services.open_meteo_server [--port N] [--as-of 2025-09-21T00:00:00Z] [--filled]

Its answers, hour by hour:

- 2024: the recorded hours of the set `responses`. 2025-09: those of the set `revised`, which has two answers for the same days. The newest
  one served before `as_of` wins, or without `as_of` the newest of all. `POST /_recorded?as_of=2025-09-21T00:00:00Z` sets `as_of` at run
  time, and `POST /_recorded` removes it, which makes the revised answer visible in a demo.
- Hours that were not recorded: null, as the API does for hours without data; with `--filled`, like hours after the last recorded one.
- Hours after the last recorded one, 2025-09-23T23:00Z, including the forecast: **not real**. They are the hours of the same day of the
  year in 2024, so that polls get values (days after 2024-12-06, where the recordings end, use the day 30 days before).
- A place more than 0.4° from every recorded city: **not real**. It gets the nearest recorded city's hours, scaled by a factor between 0.6
  and 1.4 that depends on its cell, which is rounded to 0.1°. This is for trying `weir add-city`.
- The API's own errors for coordinates, dates, zones and variables that it would refuse.
"""

import argparse
import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from lakehouse.domains.air_quality.contract import VARIABLES
from producers.sources.open_meteo.recorded import read_recorded

PACKED = Path(__file__).parent / "recorded" / "open_meteo.jsonl.gz"
PATH = "/v1/air-quality"
FIRST_DAY = date(2013, 1, 1)
NEAR_DEGREES = 0.4
PAST_DAYS_MOST, FORECAST_DAYS_MOST, FORECAST_DAYS = 4_500, 7, 5
# Other variables that the API knows and weir does not request.
OTHER_VARIABLES = {"european_aqi", "uv_index_clear_sky", "ammonia", "methane", "formaldehyde"}
_HOUR = timedelta(hours=1)

Hours = dict[datetime, dict[str, object]]


class RefusedByApi(Exception):
    """The API answers this request with status 400 and this reason."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One faulty answer.

    Attributes:
        status: of the answer.
        body: sent instead of the correct one; None keeps the correct one.
        delay_seconds: the wait before the answer.
        keep_bytes: truncates the body to this many bytes, but not Content-Length.
        change: changes the decoded correct answer before it is sent.
        drop: closes the connection without an answer.
        headers: added to the usual headers or replacing them, such as another Content-Type or a Location.
    """

    status: int = 200
    body: bytes | None = None
    delay_seconds: float = 0
    keep_bytes: int | None = None
    change: Callable[[object], object] | None = None
    drop: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _City:
    latitude: float
    longitude: float
    elevation: object
    answers: list[tuple[str, datetime, Hours]] = field(default_factory=list)

    def hours(self, as_of: datetime | None) -> Hours:
        merged: Hours = {}
        for set_name, served_at, hours in self.answers:  # in the order in which they were served
            if set_name != "revised" or as_of is None or served_at < as_of:
                merged.update(hours)
        return merged


class OpenMeteoServer:
    """The server. It answers from `start`, or from entering its `with` block, until `stop`.

    Attributes:
        requests: the query of every request, in order of arrival, each value as it was sent.
        as_of: see the module; may be set while it runs.
        now: its clock, used for `Date`; may be set while it runs.
    """

    def __init__(
        self,
        port: int = 0,
        packed: Path = PACKED,
        as_of: datetime | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        filled: bool = False,
    ) -> None:
        self.requests: list[dict[str, str]] = []
        self.as_of = as_of
        self._filled = filled
        self.now = now
        self._faults: deque[Fault] = deque()
        self._always: Fault | None = None
        self._lock = threading.Lock()
        self._cities = _cities(packed)
        self._end_of_recordings = max(ts for city in self._cities for _, _, hours in city.answers for ts in hours)
        handler = type("Handler", (_Handler,), {"api": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Scheme, host and port, as in WEIR_OPEN_METEO_URL."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> "OpenMeteoServer":
        """Start answering."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering and release the port."""
        if self._thread.is_alive():  # `shutdown` of a server that never started would wait for ever
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()

    def __enter__(self) -> "OpenMeteoServer":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def queue(self, *faults: Fault) -> None:
        """Answer the next requests with these faults, one each, in order."""
        with self._lock:
            self._faults.extend(faults)

    def always(self, fault: Fault | None) -> None:
        """Answer every request with this fault unless one is queued; None answers correctly again."""
        self._always = fault

    def next_fault(self, query: dict[str, str]) -> Fault:
        """Record a request and return its fault, which changes nothing by default."""
        with self._lock:
            self.requests.append(query)
            return self._faults.popleft() if self._faults else self._always or Fault()

    def answer(self, query: dict[str, list[str]]) -> object:
        """Answer as the API does: one object for one place, a list for several.

        Raises:
            RefusedByApi: with the API's reason.
        """
        latitudes, longitudes = _numbers(query, "latitude"), _numbers(query, "longitude")
        if not latitudes and not longitudes:
            raise RefusedByApi("Parameter 'latitude' and 'longitude' must not be empty")
        if len(latitudes) != len(longitudes):
            raise RefusedByApi("Parameter 'latitude' and 'longitude' must have the same number of elements")
        for latitude, longitude in zip(latitudes, longitudes, strict=True):
            if not -90 <= latitude <= 90:
                raise RefusedByApi(f"Latitude must be in range of -90 to 90°. Given: {latitude}.")
            if not -180 <= longitude <= 180:
                raise RefusedByApi(f"Longitude must be in range of -180 to 180°. Given: {longitude}.")
        variables = _list(query, "hourly")
        for variable in variables:
            if variable not in VARIABLES and variable not in OTHER_VARIABLES:
                raise RefusedByApi(f"Cannot initialize WeatherVariable from invalid String value {variable} for key hourly")
        zone_name = _one(query, "timezone") or "GMT"
        offset = _offset(zone_name, self.now())
        first, last = self._days(query)
        start = datetime(first.year, first.month, first.day, tzinfo=UTC) - offset
        hours = [start + i * _HOUR for i in range(((last - first).days + 1) * 24)]
        as_unixtime = _one(query, "timeformat") == "unixtime"
        places = [
            self._place(index, latitude, longitude, variables, hours, zone_name, offset, as_unixtime)
            for index, (latitude, longitude) in enumerate(zip(latitudes, longitudes, strict=True))
        ]
        return places if len(places) > 1 else places[0]

    def _days(self, query: dict[str, list[str]]) -> tuple[date, date]:
        today = self.now().astimezone(UTC).date()
        given = {name: _one(query, name) for name in ("start_date", "end_date", "past_days", "forecast_days")}
        if given["start_date"] or given["end_date"]:
            if given["past_days"]:
                raise RefusedByApi("Parameter 'past_days' is mutually exclusive with 'start_date' and 'end_date'")
            if not (given["start_date"] and given["end_date"]):
                raise RefusedByApi("Both 'start_date' and 'end_date' must be set in the url")
            first, last = _day(given["start_date"]), _day(given["end_date"])
            if last < first:
                raise RefusedByApi("End-date must be larger or equals than start-date")
            end = today + timedelta(days=6)
            for name, day in (("start_date", first), ("end_date", last)):
                if not FIRST_DAY <= day <= end:
                    raise RefusedByApi(f"Parameter '{name}' is out of allowed range from {FIRST_DAY} to {end}")
            return first, last
        past = _count(given["past_days"], "Past days", 0, PAST_DAYS_MOST)
        ahead = _count(given["forecast_days"], "Forecast days", FORECAST_DAYS, FORECAST_DAYS_MOST)
        return today - timedelta(days=past), today + timedelta(days=max(ahead, 1) - 1)

    def _place(
        self,
        index: int,
        latitude: float,
        longitude: float,
        variables: Iterable[str],
        hours: list[datetime],
        zone_name: str,
        offset: timedelta,
        as_unixtime: bool,
    ) -> dict[str, object]:
        city = min(self._cities, key=lambda one: _apart(one, latitude, longitude))
        cell, factor = (city.latitude, city.longitude), 1.0
        if _apart(city, latitude, longitude) > NEAR_DEGREES:
            cell = (round(latitude, 1), round(longitude, 1))
            factor = 0.6 + 0.8 * hashlib.sha256(f"{cell}".encode()).digest()[0] / 255
        recorded = city.hours(self.as_of)
        rows = [recorded.get(ts if ts in recorded else self._recorded_hour(ts), {}) for ts in hours]
        local = [ts + offset for ts in hours]
        times = [int(ts.timestamp()) for ts in hours] if as_unixtime else [f"{ts:%Y-%m-%dT%H:%M}" for ts in local]
        answer: dict[str, object] = {
            "latitude": cell[0],
            "longitude": cell[1],
            "generationtime_ms": 0.5,
            "utc_offset_seconds": int(offset.total_seconds()),
            "timezone": zone_name,
            "timezone_abbreviation": zone_name,
            "elevation": city.elevation,
        }
        if index:
            answer["location_id"] = index
        answer["hourly_units"] = {"time": "unixtime" if as_unixtime else "iso8601"} | {name: _unit(name) for name in variables}
        answer["hourly"] = {"time": times} | {name: [_scaled(row.get(name), factor) for row in rows] for name in variables}
        return answer

    def _recorded_hour(self, ts: datetime) -> datetime:
        if ts <= self._end_of_recordings and not self._filled:
            return ts
        same_day = ts.replace(year=2024)
        return same_day if same_day < datetime(2024, 12, 7, tzinfo=UTC) else same_day - timedelta(days=30)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    api: OpenMeteoServer
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes: without this the second waits 40 ms for the client's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path != PATH:
            self._send(404, _error("Not Found"))
            return
        query = parse_qs(parts.query, keep_blank_values=True)
        fault = self.api.next_fault({name: ",".join(values) for name, values in query.items()})
        time.sleep(fault.delay_seconds)
        if fault.drop:
            self.close_connection = True
            return
        if fault.body is not None:
            self._send(fault.status, fault.body, fault.keep_bytes, fault.headers)
            return
        try:
            answer = self.api.answer(query)
        except RefusedByApi as refused:
            self._send(400, _error(str(refused)))
            return
        changed = fault.change(answer) if fault.change else answer
        self._send(fault.status, json.dumps(changed, ensure_ascii=False).encode(), fault.keep_bytes, fault.headers)

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        if parts.path != "/_recorded":
            self._send(404, _error("Not Found"))
            return
        try:
            self.api.as_of = to_as_of(parse_qs(parts.query).get("as_of", [""])[0])
        except ValueError as error:
            self._send(400, _error(str(error)))
            return
        self._send(200, json.dumps({"as_of": self.api.as_of.isoformat() if self.api.as_of else None}).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, so that stderr has errors only."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Format `Date` by this server's clock."""
        return super().date_time_string(self.api.now().timestamp() if timestamp is None else timestamp)

    def _send(self, status: int, body: bytes, keep_bytes: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        # A client that stopped waiting is not a server error.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            for name, value in {"Content-Type": "application/json; charset=utf-8", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body if keep_bytes is None else body[:keep_bytes])
            if keep_bytes is not None:
                self.close_connection = True


def to_as_of(text: str) -> datetime | None:
    """Parse an instant such as 2025-09-21T00:00:00Z; return None for an empty text.

    Raises:
        ValueError: the text is anything else.
    """
    if not text:
        return None
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone, expected an instant such as 2025-09-21T00:00:00Z")
    return instant.astimezone(UTC)


@lru_cache(maxsize=1)
def _cities(packed: Path) -> list[_City]:
    cities: dict[str, _City] = {}
    for answer in read_recorded(packed):
        if answer.set_name not in ("responses", "revised"):
            continue
        element = answer.elements[0]
        city = cities.setdefault(
            answer.cities[0], _City(float(str(element["latitude"])), float(str(element["longitude"])), element.get("elevation"))
        )
        hourly = element["hourly"]
        assert isinstance(hourly, dict)
        names = [name for name in hourly if name != "time"]
        hours = {
            datetime.fromisoformat(text).replace(tzinfo=UTC): {name: hourly[name][i] for name in names}
            for i, text in enumerate(hourly["time"])
        }
        city.answers.append((answer.set_name, answer.served_at, hours))
    return list(cities.values())


def _error(reason: str) -> bytes:
    return json.dumps({"error": True, "reason": reason}, ensure_ascii=False).encode()


def _list(query: dict[str, list[str]], name: str) -> list[str]:
    """Return a parameter's values, sent as repeated parameters, separated by commas, or both."""
    return [part for value in query.get(name, []) for part in value.split(",") if part]


def _one(query: dict[str, list[str]], name: str) -> str:
    return query.get(name, [""])[0]


def _numbers(query: dict[str, list[str]], name: str) -> list[float]:
    try:
        return [float(value) for value in _list(query, name)]
    except ValueError as error:
        raise RefusedByApi(f"Data corrupted at path ''. Parameter '{name}' is no number") from error


def _day(text: str) -> date:
    try:
        if len(text) != 10:
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError as error:
        raise RefusedByApi("Invalid date format. Make sure to use 'YYYY-MM-DD'") from error


def _count(text: str, what: str, default: int, most: int) -> int:
    count = int(text) if text.lstrip("-").isdigit() else default
    if not 0 <= count <= most:
        raise RefusedByApi(f"{what} is invalid. Allowed range 0 to {most}. Given {count}.")
    return count


def _offset(zone_name: str, now: datetime) -> timedelta:
    try:
        return ZoneInfo(zone_name).utcoffset(now.astimezone(UTC)) or timedelta(0)
    except (KeyError, ValueError, OSError) as error:
        raise RefusedByApi("Invalid timezone") from error


def _apart(city: _City, latitude: float, longitude: float) -> float:
    return max(abs(city.latitude - latitude), abs((city.longitude - longitude + 180) % 360 - 180))


def _unit(variable: str) -> str:
    return "" if variable in ("uv_index", "aerosol_optical_depth", "uv_index_clear_sky") else "μg/m³"


def _scaled(value: object, factor: float) -> object:
    return round(value * factor, 2) if isinstance(value, float) and factor != 1.0 else value


def main() -> None:
    """Serve until interrupted; the first line on stdout is the URL."""
    arguments = argparse.ArgumentParser(description="Serve Open-Meteo's air quality API with recorded answers")
    arguments.add_argument("--port", type=int, default=0, help="port on the loopback (default: a free one)")
    arguments.add_argument("--as-of", type=to_as_of, default=None, help="answer as of this instant, such as 2025-09-21T00:00:00Z")
    arguments.add_argument("--filled", action="store_true", help="invent the hours that were not recorded")
    given = arguments.parse_args()
    with OpenMeteoServer(given.port, as_of=given.as_of, filled=given.filled) as server:
        print(server.url, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
