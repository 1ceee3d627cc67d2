"""Are the offsets those of the package, for every zone and instant, and is what is no place refused?"""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from lakehouse.domains.dates.zones import FIRST_YEAR, LAST_YEAR, Offset, is_zone, offsets, zone, zone_names

# Odd ones: half and quarter hours, four changes a year, a day that was left out, changes of 2025 and 2026.
ODD = (
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Gaza",
    "Pacific/Apia",
    "America/Vancouver",
    "America/Coyhaique",
    "Asia/Ho_Chi_Minh",
    "Europe/Madrid",
    "UTC",
)


def at(name: str, instant: datetime) -> int:
    return [one for one in offsets(name) if one.since <= instant][-1].seconds


@pytest.mark.parametrize("name", ODD)
def test_offsets_are_those_of_the_database_at_every_hour_around_their_changes_and_at_random(name: str) -> None:
    here, chance = zone(name), random.Random(name)
    begin, hours = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), (LAST_YEAR + 1 - FIRST_YEAR) * 8766
    instants = [begin + timedelta(hours=chance.randrange(hours), seconds=chance.randrange(3600)) for _ in range(2000)]
    instants += [one.since + timedelta(seconds=s) for one in offsets(name) for s in (-3600, -1, 0, 1, 3600) if one.since > begin]
    for instant in instants:
        expected = here.utcoffset(instant.astimezone(here))
        assert expected is not None
        assert at(name, instant) == expected.total_seconds(), instant


def test_each_change_changes_something_and_the_first_row_holds_from_the_first_year() -> None:
    for name in ODD:
        known = offsets(name)
        assert known[0].since == datetime(FIRST_YEAR, 1, 1, tzinfo=UTC)
        assert all(one.seconds != other.seconds and one.since < other.since for one, other in pairwise(known))
    assert offsets("Asia/Ho_Chi_Minh") == (Offset(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC), 7 * 3600),)


def test_vancouver_keeps_its_summer_time_since_2026() -> None:
    assert at("America/Vancouver", datetime(2025, 12, 1, tzinfo=UTC)) == -8 * 3600
    assert at("America/Vancouver", datetime(2026, 12, 1, tzinfo=UTC)) == -7 * 3600


@pytest.mark.parametrize(
    "name", ["localtime", "Factory", "posix/Europe/Madrid", "right/UTC", "posixrules", "Europe", "europe/madrid", "", "Mars/Phobos", "../x"]
)
def test_what_is_no_zone_of_a_place_is_refused(name: str) -> None:
    assert not is_zone(name)
    with pytest.raises(KeyError):
        zone(name)


def test_zones_that_other_databases_lack_are_known() -> None:
    assert {"America/Coyhaique", "Europe/Kyiv", "America/Ciudad_Juarez"} <= zone_names()
