import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from deploy.local.services.open_meteo_server import OpenMeteoServer

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
REVISED = {"latitude": 21.03, "longitude": 105.83, "hourly": "pm2_5", "start_date": "2025-09-20", "end_date": "2025-09-20"}


@pytest.fixture(scope="module")
def server() -> Iterator[OpenMeteoServer]:
    with OpenMeteoServer(now=lambda: NOW) as running:
        yield running


def ask(server: OpenMeteoServer, **query: object) -> Any:  # noqa: ANN401 - JSON
    with requests.get(f"{server.url}/v1/air-quality", params={k: str(v) for k, v in query.items()}, timeout=5) as answer:
        return answer.json() | {"status": answer.status_code} if answer.content[:1] == b"{" else answer.json()


def test_recorded_hours_come_back_as_recorded(server: OpenMeteoServer) -> None:
    answer = ask(server, **REVISED | {"hourly": "pm2_5,carbon_dioxide", "start_date": "2024-01-01", "end_date": "2024-01-02"})
    assert (answer["latitude"], answer["longitude"], answer["timezone"]) == (21.0, 105.80002, "GMT")
    assert answer["hourly"]["time"][:2] == ["2024-01-01T00:00", "2024-01-01T01:00"]
    assert answer["hourly"]["pm2_5"][:3] == [52.7, 57.5, 48.8]
    assert answer["hourly"]["carbon_dioxide"] == [None] * 48
    assert "location_id" not in answer


def test_revised_answer_is_let_in_at_run_time(server: OpenMeteoServer) -> None:
    assert ask(server, **REVISED)["hourly"]["pm2_5"][:2] == [130.9, 77.8]
    with requests.post(f"{server.url}/_recorded", params={"as_of": "2025-09-21T00:00:00Z"}, timeout=5) as answer:
        assert answer.json() == {"as_of": "2025-09-21T00:00:00+00:00"}
    assert ask(server, **REVISED)["hourly"]["pm2_5"][:2] == [143.0, 103.1]
    server.as_of = datetime(2025, 9, 20, tzinfo=UTC)
    assert ask(server, **REVISED)["hourly"]["pm2_5"][:2] == [None, None]
    with requests.post(f"{server.url}/_recorded", timeout=5) as answer:
        assert answer.json() == {"as_of": None}
    assert ask(server, **REVISED)["hourly"]["pm2_5"][0] == 130.9


def test_several_places_are_a_list_with_location_id(server: OpenMeteoServer) -> None:
    answer = ask(server, **REVISED | {"latitude": "21.03,10.82", "longitude": "105.83,106.63", "timeformat": "unixtime"})
    assert [(place["latitude"], place.get("location_id")) for place in answer] == [(21.0, None), (10.800003, 1)]
    assert answer[0]["hourly"]["time"][0] == 1_758_326_400
    with requests.get(
        f"{server.url}/v1/air-quality?latitude=21&latitude=16&longitude=105.8&longitude=108.2&hourly=dust", timeout=5
    ) as repeated:
        assert [len(place["hourly"]["dust"]) for place in repeated.json()] == [120, 120]


def test_present_is_made_of_the_same_days_of_2024(server: OpenMeteoServer) -> None:
    now = ask(server, latitude=21.03, longitude=105.83, hourly="pm2_5", past_days=1, forecast_days=2)
    then = ask(server, **REVISED | {"start_date": "2024-11-20", "end_date": "2024-11-22"})
    assert now["hourly"]["pm2_5"] == then["hourly"]["pm2_5"]
    assert None not in now["hourly"]["pm2_5"]
    assert now["hourly"]["time"][0] == "2026-11-20T00:00"


def test_place_without_recordings_gets_its_own_steady_values(server: OpenMeteoServer) -> None:
    quito = {"latitude": -0.18, "longitude": -78.47, "hourly": "pm2_5", "start_date": "2024-01-01", "end_date": "2024-01-01"}
    first, second = ask(server, **quito), ask(server, **quito)
    assert first["hourly"] == second["hourly"]
    assert (first["latitude"], first["longitude"]) == (-0.2, -78.5)
    assert all(value > 0 for value in first["hourly"]["pm2_5"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"latitude": 95.0}, "Latitude must be in range of -90 to 90°. Given: 95.0."),
        ({"longitude": 181.0}, "Longitude must be in range of -180 to 180°. Given: 181.0."),
        ({"latitude": "21,22"}, "Parameter 'latitude' and 'longitude' must have the same number of elements"),
        ({"latitude": "", "longitude": ""}, "Parameter 'latitude' and 'longitude' must not be empty"),
        ({"hourly": "tempeture_2m"}, "Cannot initialize WeatherVariable from invalid String value tempeture_2m for key hourly"),
        ({"end_date": "2025-09-19"}, "End-date must be larger or equals than start-date"),
        ({"end_date": ""}, "Both 'start_date' and 'end_date' must be set in the url"),
        ({"start_date": "20250920"}, "Invalid date format. Make sure to use 'YYYY-MM-DD'"),
        ({"start_date": "2012-12-31"}, "Parameter 'start_date' is out of allowed range from 2013-01-01 to 2026-11-27"),
        ({"past_days": "1"}, "Parameter 'past_days' is mutually exclusive with 'start_date' and 'end_date'"),
        ({"start_date": "", "end_date": "", "past_days": 5000}, "Past days is invalid. Allowed range 0 to 4500. Given 5000."),
        ({"timezone": "Mars/Olympus"}, "Invalid timezone"),
    ],
)
def test_refusals_are_the_apis_own(server: OpenMeteoServer, changes: dict[str, object], reason: str) -> None:
    assert ask(server, **REVISED | changes) == {"error": True, "reason": reason, "status": 400}


def test_other_paths_are_not_found(server: OpenMeteoServer) -> None:
    for method in ("GET", "POST"):
        with requests.request(method, f"{server.url}/elsewhere", timeout=5) as answer:
            assert (answer.status_code, json.loads(answer.content)["error"]) == (404, True)


def test_filled_makes_up_what_was_not_recorded_and_nothing_else() -> None:
    wanted = {"latitude": 21.03, "longitude": 105.83, "hourly": "pm2_5"}
    with OpenMeteoServer(now=lambda: NOW, filled=True) as filled:
        recorded = ask(filled, **wanted | {"start_date": "2024-02-29", "end_date": "2024-03-01"})["hourly"]["pm2_5"]
        made = ask(filled, **wanted | {"start_date": "2025-02-28", "end_date": "2025-03-01"})["hourly"]["pm2_5"]
        assert ask(filled, **REVISED)["hourly"]["pm2_5"][:2] == [130.9, 77.8], "a recorded hour is as it was"
        assert None not in ask(filled, **wanted | {"start_date": "2024-12-01", "end_date": "2024-12-31"})["hourly"]["pm2_5"]
    assert made[24:] == recorded[24:]
