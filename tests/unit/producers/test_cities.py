import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.domains.air_quality.locations import KEY_PATTERN, SHIPPED, read_locations
from producers.sources.open_meteo.cities import CityTakenError, add_to_list, to_city, to_key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Hà Nội", "ha_noi"),
        ("Đà Lạt", "da_lat"),
        ("TP.HCM", "tp_hcm"),
        ("Łódź", "lodz"),
        ("İstanbul", "istanbul"),
        ("São Paulo", "sao_paulo"),
        ("'s-Hertogenbosch", "s_hertogenbosch"),
        ("Weißenfels", "weissenfels"),
        ("Ålesund", "alesund"),
        ("10 de Abril", "10_de_abril"),
        ("𝕬lma Ata", "alma_ata"),
        ("Ǿster", "oster"),
        ("Москва", "place_n557500_e376200"),
        ("北京", "place_n557500_e376200"),
        ("!", "place_n557500_e376200"),
    ],
)
def test_key_is_plain_and_always_the_same(name: str, key: str) -> None:
    assert to_key(name, 55.75, 37.62) == key


def test_every_letter_there_is_makes_a_key_that_a_list_takes() -> None:
    refused = [hex(code) for code in range(sys.maxunicode + 1) if not KEY_PATTERN.fullmatch(to_key(chr(code), 1.0, 1.0))]
    assert not refused


@given(st.text(), st.floats(-90, 90), st.floats(-180, 180))
def test_every_name_has_a_key_that_a_list_takes(name: str, latitude: float, longitude: float) -> None:
    assert KEY_PATTERN.fullmatch(to_key(name, latitude, longitude))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("Quito", 90.1, 0.0, "UTC"), "LAT is 90.1, expected degrees from -90 to 90"),
        (("Quito", 0.0, -181.0, "UTC"), "LON is -181"),
        (("Quito", float("nan"), 0.0, "UTC"), "LAT is nan"),
        (("Quito", 0.0, 0.0, "America/Quito"), "'America/Quito' is no time zone"),
        (("Quito", 0.0, 0.0, "America/Guayaqil"), "did you mean America/Guayaquil?"),
        ((" ", 0.0, 0.0, "UTC"), "the name is empty"),
        (("Quito", 0.0, 0.0, "UTC", "Quito!"), "--key 'Quito!'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[str, float, float, str], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        to_city(*arguments)


def test_list_starts_as_a_copy_and_grows_by_a_line(tmp_path: Path) -> None:
    quito = to_city("Quito", -0.18, -78.47, "UTC")
    path, is_new = add_to_list(quito, "", tmp_path / "home", same_zone=False)
    assert (path, is_new) == (tmp_path / "home" / "locations.jsonl", True)
    assert read_locations(path) == [*read_locations(SHIPPED / "locations.jsonl"), quito]
    before = path.read_bytes()
    assert before.endswith(b"\n")
    assert add_to_list(to_city("Quito", -0.18, -78.47, "America/Guayaquil"), "", tmp_path / "home", same_zone=False) == (path, False)
    assert path.read_bytes() == before


def test_configured_list_without_a_last_newline_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"location_key":"x","location_name":"X","latitude":1,"longitude":2,"timezone":"UTC","note":"kept"}')
    assert add_to_list(to_city("Đà Lạt", 11.94, 108.44, "Asia/Ho_Chi_Minh"), path.as_uri(), tmp_path, same_zone=True) == (path, True)
    first, second = path.read_text().splitlines()
    assert json.loads(first)["note"] == "kept"
    assert "Đà Lạt" in second
    assert not (tmp_path / "locations.jsonl").exists()


def test_key_of_another_place_is_refused(tmp_path: Path) -> None:
    for city, same_zone in [
        (to_city("Hanoi", 10.0, 20.0, "UTC"), False),
        (to_city("Hanoi", 21.0278, 105.8342, "UTC"), True),
    ]:
        with pytest.raises(
            CityTakenError, match=r"hanoi is Hà Nội at 21.0278, 105.8342, Asia/Ho_Chi_Minh .*Choose another --key for the new city"
        ):
            add_to_list(city, "", tmp_path, same_zone)
    assert not (tmp_path / "locations.jsonl").exists()
    assert add_to_list(to_city("Hanoi", 21.0278, 105.8342, "UTC"), "", tmp_path, same_zone=False)[1] is False


def test_city_already_shipped_says_so_without_a_copy(tmp_path: Path) -> None:
    path, is_new = add_to_list(to_city("Đà Nẵng", 16.0544, 108.2022, "Asia/Ho_Chi_Minh", "danang"), "", tmp_path, same_zone=True)
    assert (path, is_new) == (SHIPPED / "locations.jsonl", False)
