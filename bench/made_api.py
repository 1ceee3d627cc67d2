"""Where do 8.8 million hours come from, faster than anybody can take them? Open-Meteo's answers of places that are made up.

    python -m bench.made_api

A program of its own: its first line on stdout is its URL, then a line for each request's path. A place has the air of a recorded city,
times a factor, an hour's odd multiple apart from its neighbours (as `bench/load.py` has it). Every value is written as text once, at the
start; an answer joins slices of these texts. It takes only what `weir` asks: days by `start_date` and `end_date`, unixtime, GMT.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from bench.load import DEGREES_APART, FIRST_HOUR, PLACES_A_ROW, coordinates, recorded_hours
from lakehouse.domains.air_quality.contract import VARIABLES

FACTORS = (0.7, 0.9, 1.0, 1.2)
HOURS_APART = 37


@dataclass(frozen=True, slots=True)
class Voice:
    """One city's air times a factor: by variable the text of each recorded hour, twice in a row, so that no slice has to wrap."""

    hours: int
    texts: Mapping[str, list[str]]


def place_at(latitude: float, longitude: float) -> int:
    """Find the place of some coordinates."""
    south, west = coordinates(0)
    return round((latitude - south) / DEGREES_APART) * PLACES_A_ROW + round((longitude - west) / DEGREES_APART)


@cache
def voices() -> list[Voice]:
    """Write all values as text."""
    made = []
    for hours in recorded_hours():
        for factor in FACTORS:
            texts = {theirs: [_text(hour.get(ours), factor) for hour in hours] * 2 for theirs, ours in VARIABLES.items()}
            made.append(Voice(len(hours), texts))
    return made


def answer(places: list[int], first: date, last: date, variables: list[str]) -> Iterator[str]:
    """Give the pieces of an answer: one object for one place, a list for several."""
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    count = ((last - first).days + 1) * 24
    times = ",".join(str(int(start.timestamp()) + 3600 * n) for n in range(count))
    since = (start - FIRST_HOUR) // timedelta(hours=1)
    units = json.dumps({"time": "unixtime"} | dict.fromkeys(variables, "μg/m³"), ensure_ascii=False)
    if len(places) > 1:
        yield "["
    for index, place in enumerate(places):
        voice = voices()[place % len(voices())]
        at = (since + HOURS_APART * place) % voice.hours
        latitude, longitude = coordinates(place)
        number = f'"location_id":{index},' if index else ""
        yield (
            f'{"," if index else ""}{{"latitude":{latitude},"longitude":{longitude},"generationtime_ms":0.5,"utc_offset_seconds":0,'
            f'"timezone":"GMT","timezone_abbreviation":"GMT","elevation":10.0,{number}"hourly_units":{units},"hourly":{{"time":[{times}]'
        )
        for name in variables:
            yield f',"{name}":[{",".join(voice.texts[name][at : at + count])}]'
        yield "}}"
    if len(places) > 1:
        yield "]"


def answer_to(path: str) -> bytes:
    """Answer a request by its path and query."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
    cells = zip(map(float, query["latitude"].split(",")), map(float, query["longitude"].split(",")), strict=True)
    first, last = date.fromisoformat(query["start_date"]), date.fromisoformat(query["end_date"])
    return "".join(answer([place_at(*cell) for cell in cells], first, last, query["hourly"].split(","))).encode()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        print(self.path, flush=True)
        body = answer_to(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Its paths are its log."""


def _text(value: object, factor: float) -> str:
    if not isinstance(value, (int, float)):
        return "null"
    # A provider's index is a whole number.
    return json.dumps(round(value * factor, 2) if isinstance(value, float) else round(value * factor))


def main() -> None:
    """Serve until it is ended."""
    voices()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
