from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lakehouse.domains.air_quality.contract import MEASURES
from lakehouse.domains.air_quality.locations import (
    SHIPPED,
    BadListError,
    Location,
    PlacesLeftOut,
    describe_places,
    locations_file,
    pollutants_file,
    read_locations,
    read_pollutants,
)

HANOI = '{"location_key":"hanoi","location_name":"Hà Nội","latitude":21.0278,"longitude":105.8342,"timezone":"Asia/Ho_Chi_Minh"}'


def test_shipped_lists_are_read_to_the_last_line() -> None:
    places = read_locations(SHIPPED / "locations.jsonl")
    assert [place.location_key for place in places] == ["hanoi", "hcmc", "danang"]
    assert places[2] == Location("danang", "Đà Nẵng", 16.0544, 108.2022, "Asia/Ho_Chi_Minh")
    pollutants = read_pollutants(pollutants_file(""))
    assert {pollutant.pollutant_code for pollutant in pollutants} == set(MEASURES.values())
    assert [pollutant.aqi_timespan for pollutant in pollutants].count(None) == 4


def test_missing_final_newline_blank_lines_and_byte_order_mark_are_read(tmp_path: Path) -> None:
    (tmp_path / "places.jsonl").write_text("\ufeff" + HANOI + "\n\n" + HANOI.replace("hanoi", "x"))
    assert [place.location_key for place in read_locations((tmp_path / "places.jsonl").as_uri())] == ["hanoi", "x"]


def test_configured_list_wins_over_home_and_home_over_shipped(tmp_path: Path) -> None:
    assert locations_file("", tmp_path) == SHIPPED / "locations.jsonl"
    (tmp_path / "locations.jsonl").write_text(HANOI)
    assert locations_file("", tmp_path) == tmp_path / "locations.jsonl"
    assert locations_file("file:///srv/my%20places.jsonl", tmp_path) == Path("/srv/my places.jsonl")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: a JSON list, expected an object"),
        (HANOI, "line 2: 'hanoi' stands in line 1 already"),
        (HANOI.replace('"hanoi"', '"Hà Nội"'), "line 2: location_key is 'Hà Nội', expected lower-case letters"),
        (HANOI.replace("21.0278", "121"), "line 2: latitude is 121, expected degrees from -90 to 90"),
        (HANOI.replace("21.0278", "NaN"), "line 2: latitude is nan"),
        (HANOI.replace("105.8342", "true"), "line 2: longitude is True"),
        ('{"location_key":"x"}', "line 2: location_name is missing (found location_key), expected a text"),
    ],
)
def test_wrong_line_is_named_with_what_was_expected(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "places.jsonl"
    path.write_text(HANOI + "\n" + line + "\n")
    with pytest.raises(BadListError) as caught:
        read_locations(path)
    assert str(caught.value).startswith(f"{path}, {problem}")


def test_unreadable_or_empty_list_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    for path, problem in [
        (str(tmp_path / "nowhere"), "cannot be read: No such file"),
        (str(tmp_path / "empty"), "no place in it"),
        ("s3://bucket/places.jsonl", "expected a path, a file: URI"),
    ]:
        with pytest.raises(BadListError, match=problem):
            read_locations(path)


@pytest.mark.parametrize("zone", ["Asia/Hanoi", "Asia", "localtime", "Factory", "posix/Asia/Ho_Chi_Minh"])
def test_place_of_an_unknown_zone_is_left_out_and_the_others_go_on(tmp_path: Path, zone: str) -> None:
    path = tmp_path / "places.jsonl"
    bad = HANOI.replace('"hanoi"', '"elsewhere"').replace("Asia/Ho_Chi_Minh", zone)
    path.write_text(f"{bad}\n{HANOI}\n")
    with capture_logs() as logs:
        assert [place.location_key for place in read_locations(path)] == ["hanoi"]
        read_locations(path)
    assert [(one["event"], one["log_level"]) for one in logs] == [("place left out", "warning")], "said once"
    with pytest.raises(PlacesLeftOut) as left_out:
        describe_places(path)
    reason = f"{path}, line 1: {zone!r} is no time zone of a place (tzdata 20"
    assert str(left_out.value).startswith(f"1 place(s) are left out, the others go on: {reason}")
    path.write_text(bad)
    with pytest.raises(BadListError, match="is no time zone of a place"):
        read_locations(path)
