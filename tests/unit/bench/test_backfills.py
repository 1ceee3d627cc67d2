"""Are the benchmarks' answers such as the API's, and is what the programs say read rightly?"""

import json
from collections import defaultdict
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from bench import made_api, timed_backfill
from bench.backfills import said
from bench.beside_stream import months_before
from bench.chunk_jobs import UNTIL, months
from bench.duckdb_hours import hours_of
from bench.load import coordinates, place_key, write_places
from bench.proof_cost import proof_of
from lakehouse.contract import to_millis
from lakehouse.domains.air_quality.contract import HOURLY, VARIABLES
from lakehouse.domains.air_quality.locations import Location, read_locations
from producers.sources.open_meteo.answers import check_hours, check_places, decode, elements_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST, LAST = date(2025, 2, 1), date(2025, 2, 3)


def places(home: Path, count: int) -> list[Location]:
    write_places(home, count)
    return list(read_locations(home / "locations.jsonl"))


def path(asked: list[Location]) -> str:
    latitudes, longitudes = (",".join(str(getattr(one, name)) for one in asked) for name in ("latitude", "longitude"))
    days = "start_date=2025-01-31&end_date=2025-02-04"
    return (
        f"/v1/air-quality?latitude={latitudes}&longitude={longitudes}&hourly={','.join(VARIABLES)}&{days}&timeformat=unixtime&timezone=GMT"
    )


def test_each_place_is_found_by_its_coordinates() -> None:
    assert [made_api.place_at(*coordinates(n)) for n in range(1_000)] == list(range(1_000))
    assert len({coordinates(n) for n in range(1_000)}) == 1_000


@pytest.mark.parametrize("count", [1, 3])
def test_made_answers_are_right_ones(tmp_path: Path, count: int) -> None:
    asked = places(tmp_path, count)
    elements = elements_of(json.loads(made_api.answer_to(path(asked))))
    check_places(elements, asked)
    for element, place in zip(elements, asked, strict=True):
        hours = decode(element, place, NOW, "cams_global")
        check_hours(hours.hours, date(2025, 1, 31), date(2025, 2, 4))
        readings = list(hours.kept(FIRST, LAST).readings())
        assert len(readings) == 72
        assert [HOURLY.violations(reading) for reading in readings] == [[]] * 72
    airs = {json.dumps(element["hourly"]) for element in elements}
    assert len(airs) == count, "no two places have the same air at the same time"


def test_two_answers_tell_the_same_of_an_hour(tmp_path: Path) -> None:
    asked = places(tmp_path, 2)
    whole = json.loads(made_api.answer_to(path(asked)))[1]["hourly"]
    alone = json.loads(made_api.answer_to(path(asked[1:]).replace("2025-01-31", "2025-02-03")))["hourly"]
    assert {name: column[-48:] for name, column in whole.items()} == alone


def test_duckdb_reads_the_rows_that_a_backfill_brings(tmp_path: Path) -> None:
    asked = places(tmp_path, 3)
    folder = tmp_path / "answers"
    folder.mkdir()
    (folder / "0.json").write_bytes(made_api.answer_to(path(asked)))
    elements = elements_of(json.loads((folder / "0.json").read_bytes()))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.sql(f"SELECT latitude, longitude, epoch_ms(ts_utc), pm25, co FROM ({hours_of(folder)}) ORDER BY ALL").fetchall()
    wanted = [
        (element["latitude"], element["longitude"], to_millis(reading["ts_utc"]), reading["pm25"], reading["co"])  # type: ignore[arg-type]  # an instant
        for element, place in zip(elements, asked, strict=True)
        for reading in decode(element, place, NOW, None).kept(FIRST, LAST).readings()
    ]
    assert found == sorted(wanted)


def test_a_part_does_not_count_what_another_part_in_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 4.0, 10.0])
    monkeypatch.setattr(timed_backfill, "clock", lambda: next(times))
    monkeypatch.setattr(timed_backfill, "SECONDS", defaultdict(float))
    with timed_backfill.part("outer"), timed_backfill.part("inner"):
        pass
    assert timed_backfill.SECONDS == {"outer": 7.0, "inner": 3.0}


def test_the_range_is_24_months_of_731_days() -> None:
    parts = months(UNTIL)
    assert len(parts) == 24
    assert sum((last - first).days + 1 for first, last in parts) == 731


def test_backfills_beside_the_load_go_back_by_months() -> None:
    assert months_before(date(2023, 12, 31), 3) == date(2023, 10, 1)
    assert months_before(date(2023, 3, 31), 3) == date(2023, 1, 1)
    assert months_before(date(2023, 1, 31), 3) == date(2022, 11, 1)


def test_the_last_word_of_a_log_counts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text('{"backfill_id": 1}\nnoise [\n{"backfill_id": 2}\n')
    assert said(log, '{"backfill_id"') == {"backfill_id": 2}
    assert said(log, '{"parts"') == {}


def test_a_proof_is_found_between_lines_of_a_log() -> None:
    proofs = [json.dumps([{"domain": "d", "n": n, "compared": [{"a": []}]}], indent=1) for n in range(2)]
    assert proof_of(f'{{"event": "[x]"}}\n{proofs[0]}\nlog [1]\n{proofs[1]}\nend [2]\n')["n"] == 1
    assert proof_of(proofs[0])["n"] == 0
    assert place_key(1) == "p0001"
