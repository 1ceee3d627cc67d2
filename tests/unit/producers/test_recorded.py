import gzip
import json
import os
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from lakehouse.errors import Fatal
from producers.clock import Clock
from producers.sources.open_meteo.recorded import BadRecordingError, read_recorded
from producers.stopping import StoppedError
from tests.support.producers import HANOI, PACKED, PLACES, FakeKafka, FakeTime, Outcome, place, publish_recorded, writer_to

FIRST, SECOND = datetime(2025, 9, 20, 10, 9, 36, tzinfo=UTC), datetime(2025, 9, 23, 6, 42, 55, tzinfo=UTC)


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The revised answers as files in a folder, with an index above."""
    folder = tmp_path / "open_meteo" / "revised"
    folder.mkdir(parents=True)
    entries = []
    for line in gzip.decompress(PACKED.read_bytes()).decode().splitlines():
        record = json.loads(line)
        if record["set"] == "revised":
            name = f"hanoi_{record['start_date']}_{record['end_date']}.json"
            (folder / name).write_text(json.dumps(record["answer"]))
            served = datetime.fromisoformat(record["served_at"])
            entries.append(
                {
                    "path": f"open_meteo/revised/{name}",
                    "city": "hanoi",
                    "served_at": f"{served:%a, %d %b %Y %H:%M:%S GMT}",
                    "request": f"https://api/v1/air-quality?{record['request']}",
                }
            )
    (tmp_path / "open_meteo" / "index.jsonl").write_text("\n".join(json.dumps(entry) for entry in entries))
    return folder


def test_packed_file_holds_all_sets_in_the_order_served() -> None:
    answers = read_recorded(PACKED)
    assert len(answers) == 42
    assert answers == sorted(answers, key=lambda answer: answer.served_at)
    assert [answer.served_at for answer in read_recorded(PACKED, "revised")] == [FIRST, SECOND]
    (multi,) = read_recorded(PACKED, "multi")
    assert multi.cities == ("hanoi", "hcmc", "danang")


def test_folder_single_file_and_packed_file_say_the_same(unpacked: Path) -> None:
    packed = read_recorded(PACKED, "revised")
    for found in (read_recorded(unpacked), read_recorded(unpacked.parent, "revised")):
        assert [(one.served_at, one.cities, one.model_domain, one.elements) for one in found] == [
            (one.served_at, one.cities, one.model_domain, one.elements) for one in packed
        ]
    (single,) = read_recorded(unpacked / "hanoi_2025-09-12_2025-09-20.json")
    assert single.served_at == FIRST


def test_without_an_index_the_files_time_stands_in(unpacked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = Path(shutil.copy(unpacked / "hanoi_2025-09-12_2025-09-20.json", unpacked.parents[1] / "alone.json"))
    os.utime(alone, (1_700_000_000, 1_700_000_000))
    (answer,) = read_recorded(alone)
    assert answer.served_at == datetime.fromtimestamp(1_700_000_000, UTC)
    ((name, found),) = answer.places(PLACES)
    assert (name, found is not None) == ("hanoi", True)


def test_place_is_the_named_one_else_the_nearest_else_none() -> None:
    revised = read_recorded(PACKED, "revised")[0]
    renamed = place("ha_noi", 21.02, 105.83)
    assert [name for name, _ in revised.places([renamed, *PLACES])] == ["hanoi"]
    assert [name for name, _ in revised.places([renamed])] == ["ha_noi"]
    assert list(revised.places([PLACES[1]])) == [("hanoi at 21, 105.8", None)]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("missing.json", None, "cannot be read"),
        ("broken.json", b"{", "not JSON"),
        ("error.json", b'{"error":true,"reason":"no"}', "an error instead of data: no"),
        ("broken.jsonl", b'{"answer":{}}\n', "line 1: served_at is None"),
        ("other.jsonl", b'{"a":1}\n', "line 1: not a recorded answer"),
        ("cut.jsonl.gz", gzip.compress(b"x" * 1000, mtime=0)[:-12], "cut off"),
        ("none.jsonl.gz", b"plain", "cannot be read"),
        ("empty.jsonl", b"", "no recorded answer in it"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, text: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadRecordingError) as caught:
        read_recorded(path)
    assert isinstance(caught.value, Fatal)
    assert text in str(caught.value)


def test_unknown_set_names_those_there_are() -> None:
    with pytest.raises(BadRecordingError, match="no recorded answer of the set 'revisd'; there are chunk_edge, forecast, multi, responses"):
        read_recorded(PACKED, "revisd")


def test_replay_publishes_the_time_of_the_answer_and_names_unknown_places() -> None:
    client, outcome = FakeKafka(), Outcome()
    publish_recorded(read_recorded(PACKED), PLACES, writer_to(client), outcome, days=(date(2025, 9, 20), date(2026, 12, 31)))
    records = [json.loads(value or b"") for _, value in client.sent]
    midnight = [record for record in records if record["ts_utc"] == 1_758_326_400_000]
    assert [(record["pm25"], record["retrieved_ts"]) for record in midnight] == [
        (143.0, int(FIRST.timestamp()) * 1000),
        (130.9, int(SECOND.timestamp()) * 1000),
    ]
    assert outcome.unknown == {"lahore at 31.5, 74.4": 1}
    assert outcome.entities == {"hanoi"}
    assert len(records) == 24 + 4 * 24


def test_speed_publishes_hour_by_hour(time: FakeTime) -> None:
    client, outcome = FakeKafka(), Outcome()
    answers = read_recorded(PACKED, "responses_week")
    publish_recorded(answers, PLACES, writer_to(client), outcome, speed=60, clock=time.clock)
    assert time.sleeps == [60.0] * 167
    hours = [json.loads(value or b"")["ts_utc"] for _, value in client.sent]
    assert hours == sorted(hours)
    assert len(hours) == 3 * 168
    assert HANOI.location_key in outcome.entities


def test_stopped_replay_tells_what_it_published_and_no_more() -> None:
    def stop(_: float) -> None:
        raise StoppedError("stopped")

    client, outcome = FakeKafka(), Outcome()
    answers = read_recorded(PACKED, "responses_week")
    with pytest.raises(StoppedError):
        publish_recorded(answers, PLACES, writer_to(client), outcome, speed=1, clock=Clock(lambda: FIRST, stop))
    assert (outcome.records, outcome.last, len(client.sent)) == (3, datetime(2024, 1, 1, tzinfo=UTC), 3)
