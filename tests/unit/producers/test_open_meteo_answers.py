import json
from datetime import UTC, date, datetime, timedelta

import pytest

from deploy.local.services.open_meteo_server import OpenMeteoServer
from lakehouse.contract import to_millis
from lakehouse.domains.air_quality.contract import HOURLY, MEASURES, VARIABLES
from producers.call_errors import BrokenAnswerError
from producers.sources.open_meteo.answers import PlaceHours, check_places, decode, elements_of, is_near, whole_milliseconds
from producers.sources.open_meteo.client import Failure, OpenMeteo
from producers.sources.open_meteo.recorded import read_recorded
from producers.sources.open_meteo.splitting import Days
from tests.support.producers import HANOI, PACKED, PLACES, FakeTime, place

LAHORE = place("lahore", 31.5204, 74.3587)
SERVED = datetime(2026, 10, 8, 3, 4, 5, 678_901, tzinfo=UTC)


def element(**changes: object) -> dict[str, object]:
    hourly: dict[str, object] = {"time": [1_704_067_200, 1_704_070_800], "pm2_5": [12.5, None], "us_aqi": [52, 60]}
    return {"latitude": 21.0, "longitude": 105.8, "utc_offset_seconds": 0, "timezone": "GMT", "hourly": hourly} | changes


def test_every_recorded_answer_decodes_to_valid_records() -> None:
    hours: dict[str, int] = {}
    for answer in read_recorded(PACKED):
        for _, found in answer.places([*PLACES, LAHORE]):
            assert found is not None
            readings = list(found.readings())
            assert found.hours_without_data() == ()
            assert [violation for reading in readings for violation in HOURLY.violations(reading)] == []
            hours[answer.set_name] = hours.get(answer.set_name, 0) + len(readings)
    assert hours == {"responses": 24_552, "responses_week": 504, "revised": 528, "chunk_edge": 1_488, "multi": 504, "forecast": 120}


def test_record_carries_the_contract_fields_and_the_time_of_the_answer() -> None:
    (answer,) = [one for one in read_recorded(PACKED, "revised") if one.served_at.day == 20]
    ((_, found),) = answer.places(PLACES)
    assert found is not None
    record = next(reading for reading in found.readings() if reading["ts_utc"] == datetime(2025, 9, 20, tzinfo=UTC))
    assert record["location_key"] == "hanoi"
    assert record["pm25"] == 143.0
    assert (record["latitude"], record["longitude"]) == (21.0, 105.80002)
    assert (record["model_domain"], record["request_timezone"]) == ("cams_global", "GMT")
    assert record["retrieved_ts"] == datetime(2025, 9, 20, 10, 9, 36, tzinfo=UTC)
    assert "us_aqi" not in record
    wire = json.loads(HOURLY.encode(record))
    assert wire["ts_utc"] == to_millis(datetime(2025, 9, 20, tzinfo=UTC))
    assert wire["pm25"] == 143.0
    assert HOURLY.encode_key(record) == b"hanoi"


def test_local_time_becomes_utc_and_missing_variables_stay_out() -> None:
    (answer,) = read_recorded(PACKED, "forecast")
    found = decode(answer.elements[0], LAHORE, SERVED, None)
    first = next(found.readings())
    assert first["ts_utc"] == datetime(2026, 10, 7, 19, tzinfo=UTC)
    assert (first["pm25"], first["pm10"], first["us_aqi"]) == (72.9, 97.8, 142)
    assert (first.get("o3"), first["model_domain"], first["request_timezone"]) == (None, None, "Asia/Karachi")
    assert first["retrieved_ts"] == datetime(2026, 10, 8, 3, 4, 5, 678_000, tzinfo=UTC)
    assert found.hours[-1] == datetime(2026, 10, 12, 18, tzinfo=UTC)


def test_unixtime_is_utc_whatever_the_zone() -> None:
    east = element(utc_offset_seconds=25_200, timezone="Asia/Ho_Chi_Minh")
    assert decode(east, HANOI, SERVED, None).hours[0] == datetime(2024, 1, 1, tzinfo=UTC)
    text = element(hourly={"time": ["2024-01-01T07:00"], "pm2_5": [1.0]}, utc_offset_seconds=25_200)
    assert decode(text, HANOI, SERVED, None).hours[0] == datetime(2024, 1, 1, tzinfo=UTC)
    zoned = element(hourly={"time": ["2024-01-01T07:00+07:00"], "pm2_5": [1.0]}, utc_offset_seconds=0)
    assert decode(zoned, HANOI, SERVED, None).hours[0] == datetime(2024, 1, 1, tzinfo=UTC)


def test_hour_whose_measures_are_all_null_is_no_data_and_no_record() -> None:
    found = decode(element(), HANOI, SERVED, None)
    assert [reading["pm25"] for reading in found.readings()] == [12.5]
    assert found.hours_without_data() == (datetime(2024, 1, 1, 1, tzinfo=UTC),)
    assert found.last_measured_hour() == datetime(2024, 1, 1, tzinfo=UTC)
    before = decode(element(), HANOI, datetime(2024, 1, 1, 0, 30, tzinfo=UTC), None)
    assert before.hours_without_data() == ()


def test_kept_days_are_both_included() -> None:
    (answer,) = [one for one in read_recorded(PACKED, "responses_week") if one.cities == ("hanoi",)]
    ((_, found),) = answer.places(PLACES)
    assert found is not None
    kept = found.kept(date(2024, 1, 2), date(2024, 1, 3))
    assert (len(kept.hours), kept.hours[0], kept.hours[-1]) == (48, datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 3, 23, tzinfo=UTC))
    assert all(len(column) == 48 for column in kept.columns.values())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"hourly": {"time": [1, 0]}}, "not ascending"),
        ({"hourly": {"time": [0, 0]}}, "not ascending"),
        ({"hourly": {"time": ["yesterday"]}}, "the time 'yesterday' cannot be read"),
        ({"hourly": {"time": [None]}}, "neither unixtime nor ISO 8601"),
        ({"hourly": {"time": [10**18]}}, "cannot be read"),
        ({"hourly": {}}, "no list `hourly.time`"),
        ({"hourly": {"time": [0], "pm10": 3}}, "`pm10` of hanoi has no list values"),
        ({"utc_offset_seconds": None}, "utc_offset_seconds is None"),
        ({"latitude": None}, "the cell is at None"),
    ],
)
def test_what_is_no_answer_is_named(changes: dict[str, object], text: str) -> None:
    with pytest.raises(BrokenAnswerError) as caught:
        decode(element(**changes), HANOI, SERVED, None)
    assert text in str(caught.value)


def test_cell_may_be_half_a_degree_off_and_beyond_the_date_line() -> None:
    fiji = place("fiji", -17.0, 179.9)
    assert is_near(-17.3, -179.7, fiji)
    assert not is_near(-17.3, -179.5, fiji)
    check_places([element()], [place("near", 21.5, 105.8)])
    with pytest.raises(BrokenAnswerError):
        check_places([element()], [place("off", 21.6, 105.8)])
    assert elements_of([element(), element()]) == [element(), element()]


def test_milliseconds_are_cut_not_rounded() -> None:
    assert whole_milliseconds(SERVED).microsecond == 678_000


def test_live_answer_of_several_places_is_asked_for_as_the_api_wants_it(api: OpenMeteoServer, source: OpenMeteo, time: FakeTime) -> None:
    day = date(2024, 1, 5)
    found = source.fetch(PLACES, Days(day, day, day - timedelta(days=1), day + timedelta(days=1)))
    assert [one.location.location_key for one in found] == ["hanoi", "hcmc", "danang"]
    assert [len(one.hours) for one in found] == [24, 24, 24]
    assert found[0].retrieved_ts == whole_milliseconds(time.now)
    (query,) = api.requests
    assert query == {
        "latitude": "21.0278,10.8231,16.0544",
        "longitude": "105.8342,106.6297,108.2022",
        "hourly": ",".join(VARIABLES),
        "domains": "cams_global",
        "timeformat": "unixtime",
        "timezone": "GMT",
        "start_date": "2024-01-04",
        "end_date": "2024-01-06",
    }
    assert len(VARIABLES) == 17
    for reading in found[2].readings():
        assert HOURLY.violations(reading) == []
        assert sum(reading.get(name) is not None for name in MEASURES.values()) == 9


def test_poll_stops_asking_for_a_place_after_its_failure(source: OpenMeteo, api: OpenMeteoServer, time: FakeTime) -> None:
    from deploy.local.services.open_meteo_server import Fault

    api.always(Fault(503, b"down"))
    found = list(source.poll([HANOI], date(2023, 6, 1), date(2024, 1, 10)))
    assert [type(one) for one in found] == [Failure]
    api.always(None)
    kept = [one for one in source.poll([HANOI], date(2023, 6, 1), date(2024, 1, 10)) if isinstance(one, PlaceHours)]
    assert [len(one.hours) for one in kept] == [88 * 24, 88 * 24, 48 * 24]
