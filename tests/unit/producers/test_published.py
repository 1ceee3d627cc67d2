"""What does the memory of what was published leave out, and can it ever leave out too much?"""

import hashlib
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from lakehouse.contract import Contract, Field, Value
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.errors import Retryable
from producers.published import Published
from producers.state_file import StateFileError

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def memory(folder: Path, topic_id: str = "topic") -> Published:
    return Published(folder, "open-meteo", HOURLY, topic_id)


def reading(hour: int = 0, retrieved_ts: datetime = NOON, **values: Value) -> dict[str, Value]:
    base: dict[str, Value] = {"location_key": "hanoi", "ts_utc": NOON + hour * HOUR, "pm25": 12.5, "retrieved_ts": retrieved_ts}
    return base | values


def test_only_new_and_changed_hours_are_sent_again_and_the_time_of_retrieval_is_no_change(tmp_path: Path) -> None:
    known = memory(tmp_path)
    assert known.judge([]) == []
    first = [reading(-2), reading(-1), reading(0)]
    assert known.judge(first) == ["new"] * 3
    known.remember(first)
    later = NOON + HOUR / 4
    again = [reading(-2, later), reading(-1, later, pm25=12.6), reading(0, later, pm10=3.0), reading(1, later)]
    assert memory(tmp_path).judge(again) == ["unchanged", "changed", "changed", "new"]
    known.remember(again[1:])
    assert known.judge([reading(-1, later, pm25=12.6), reading(0, later), reading(0, later, location_key="hcmc")][:2]) == [
        "unchanged",
        "changed",
    ]
    assert known.judge([reading(0, later, pm10=3, location_key="hcmc")]) == ["new"]


def test_record_of_another_poll_is_found_by_its_identity_and_its_poll_is_no_value(tmp_path: Path) -> None:
    contract = Contract(
        topic="shelf.list.v1",
        entity=("toy",),
        key=("toy", "poll_ts"),
        version="seen_ts",
        fields=(Field("toy", "string"), Field("poll_ts", "timestamp"), Field("seen_ts", "timestamp"), Field("price", "long")),
    )

    def seen(toy: str, hour: int, price: int) -> dict[str, Value]:
        return {"toy": toy, "poll_ts": NOON + hour * HOUR, "seen_ts": NOON + hour * HOUR, "price": price}

    known = Published(tmp_path, "shelf", contract, "topic", identity=("toy",))
    known.remember([seen("bear", 0, 5), seen("car", 0, 7)])
    # Records of several entities are judged at once, in their order.
    assert known.judge([seen("car", 1, 7), seen("doll", 1, 9), seen("bear", 1, 6)]) == ["unchanged", "new", "changed"]
    by_key = Published(tmp_path / "by_key", "shelf", contract, "topic")
    by_key.remember([seen("bear", 0, 5)])
    assert by_key.judge([seen("bear", 1, 5), seen("bear", 0, 5)]) == ["new", "unchanged"]


def test_null_and_missing_and_1_and_1_0_are_the_same_value(tmp_path: Path) -> None:
    known = memory(tmp_path)
    known.remember([reading(pm25=1.0, o3=None)])
    assert known.judge([reading(pm25=1)]) == ["unchanged"]
    assert known.judge([reading(pm25=None)]) == ["changed"]


def test_forecast_is_sent_again_once_it_is_measured_though_its_values_are_the_same(tmp_path: Path) -> None:
    known = memory(tmp_path)
    known.remember([reading(1), reading(0), reading(2)])
    at_the_hour = NOON + HOUR
    assert known.judge([reading(0, at_the_hour), reading(1, at_the_hour), reading(2, at_the_hour)]) == [
        "unchanged",
        "measured",
        "unchanged",
    ]
    known.remember([reading(1, at_the_hour)])
    assert known.judge([reading(1, at_the_hour + HOUR)]) == ["unchanged"]


def test_hour_in_doubt_is_sent_again_whatever_its_values(tmp_path: Path) -> None:
    known = memory(tmp_path)
    known.remember([reading(0)])
    later = NOON + HOUR
    known.doubt([reading(0, later, pm25=99.0), reading(1, later)])
    # Killed here: Kafka may have the 99. The source goes back to the value before.
    assert memory(tmp_path).judge([reading(0, later + HOUR), reading(1, later + HOUR)]) == ["repeated", "repeated"]
    # A change that was seen before the kill is still one after it: upstream's age is told by it.
    assert known.judge([reading(0, later + HOUR, pm25=99.0)]) == ["changed"]
    known.remember([reading(0, later + HOUR), reading(1, later + HOUR)])
    assert known.judge([reading(0, later + HOUR), reading(1, later + HOUR)]) == ["unchanged", "unchanged"]


def test_of_two_producers_the_later_retrieval_is_remembered_in_whatever_order(tmp_path: Path) -> None:
    one, other = memory(tmp_path), memory(tmp_path)
    earlier, later = reading(pm25=1.0), reading(0, NOON + HOUR, pm25=2.0)
    other.remember([later])
    one.remember([earlier])
    assert one.judge([later]) == ["unchanged"]
    assert one.judge([reading(0, NOON + 2 * HOUR, pm25=1.0)]) == ["changed"]
    # Two values of one millisecond: which of them silver keeps is not ours to say.
    one.remember([reading(0, NOON + HOUR, pm25=3.0)])
    assert "unchanged" not in one.judge([later, reading(0, NOON + HOUR, pm25=3.0)])


def test_another_topic_has_nothing_of_it_and_the_first_keeps_its_own(tmp_path: Path) -> None:
    memory(tmp_path, "one").remember([reading()])
    assert memory(tmp_path, "two").judge([reading()]) == ["new"]
    assert memory(tmp_path, "one").judge([reading()]) == ["unchanged"]


def test_file_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    columns = (
        "topic_id TEXT NOT NULL, location_key TEXT NOT NULL, ts_ms INTEGER NOT NULL, digest BLOB NOT NULL, "
        "retrieved_ms INTEGER NOT NULL, in_doubt INTEGER NOT NULL, PRIMARY KEY (topic_id, location_key, ts_ms)"
    )
    path = tmp_path / "open-meteo.published.db"
    digest = hashlib.blake2b(b"[('pm25', 12.5)]", digest_size=16).digest()
    with closing(sqlite3.connect(path)) as state, state:
        state.execute(f"CREATE TABLE hours ({columns})")
        row = ("topic", "hanoi", int(NOON.timestamp()) * 1000, digest, int(NOON.timestamp()) * 1000, 0)
        state.execute("INSERT INTO hours VALUES (?, ?, ?, ?, ?, ?)", row)
    with capture_logs() as logs:
        assert memory(tmp_path).judge([reading(0), reading(1)]) == ["unchanged", "new"]
    assert logs == []


OWNED = Contract(
    topic="owned.v1",
    entity=("owner", "city"),
    key=("owner", "city", "toy", "bought_ts"),
    version="step",
    event_time="bought_ts",
    fields=(
        Field("owner", "string", required=True),
        Field("city", "string", required=True),
        Field("toy", "string", required=True),
        Field("bought_ts", "timestamp", required=True),
        Field("price", "double"),
        Field("step", "double", required=True),
    ),
)


def toy(name: str, step: float = 1, **values: Value) -> dict[str, Value]:
    base: dict[str, Value] = {"owner": "ann", "city": "x", "toy": name, "bought_ts": NOON, "price": 1.0, "step": step}
    return base | values


def test_key_that_is_more_than_an_event_time_is_remembered_whole(tmp_path: Path) -> None:
    known = Published(tmp_path, "toys", OWNED, "topic")
    known.remember([toy("ball"), toy("k\u0000ite"), toy("ball", city="y", price=2.0)])
    same = [toy("ball", 2), toy("k\u0000ite", 2), toy("zebra", 2), toy("ball", 2, bought_ts=NOON + HOUR), toy("ball", 2, price=3)]
    assert known.judge(same) == ["unchanged", "unchanged", "new", "new", "changed"]
    assert known.judge([toy("ball", 2, city="y", price=2)]) == ["unchanged"]
    known.doubt([toy("ball", 2)])
    assert known.judge([toy("ball", 3)]) == ["repeated"]
    known.remember([toy("ball", 3)])
    known.remember([toy("ball", 2, price=9.0)])  # another producer's, and older
    assert known.judge([toy("ball", 4)]) == ["unchanged"]
    known.forget(NOON + 2 * HOUR)
    assert known.judge([toy("ball", 4)]) == ["unchanged"]


def test_hours_that_no_poll_asks_for_are_forgotten(tmp_path: Path) -> None:
    known = memory(tmp_path)
    known.remember([reading(-1), reading(0)])
    known.forget(NOON)
    assert known.judge([reading(-1), reading(0)]) == ["new", "unchanged"]


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096] + os.urandom(4096) + path.read_bytes()[8192:])


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(b"not a database" * 500), "file is not a database"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "malformed"),
        (damage, "it is damaged"),
        (lambda path: (path.unlink(), __import__("sqlite3").connect(path).execute("CREATE TABLE hours (a)")), "of another version"),
    ],
    ids=["empty", "no database", "cut short", "overwritten", "other tables"],
)
def test_lost_memory_is_told_and_costs_repeats_only(tmp_path: Path, broken: object, reason: str) -> None:
    known = memory(tmp_path)
    known.remember([reading(hour) for hour in range(200)])
    assert callable(broken)
    broken(known.path)
    content = known.path.read_bytes()
    with capture_logs() as logs:
        anew = memory(tmp_path)
    (line,) = logs
    assert line["log_level"] == "warning"
    assert line["event"].startswith("the memory of published records was lost: the next poll publishes everything it fetches")
    assert reason in line["reason"]
    assert (tmp_path / line["kept_as"]).read_bytes() == content
    assert anew.judge([reading()]) == ["new"]
    anew.remember([reading()])
    with capture_logs() as logs:
        assert memory(tmp_path).judge([reading()]) == ["unchanged"]
    assert logs == []


def test_memory_that_cannot_be_written_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateFileError, match=r"file/state/open-meteo.published.db: .*WEIR_HOME") as caught:
        memory(tmp_path / "file" / "state")
    assert isinstance(caught.value, Retryable)
    known = memory(tmp_path)
    known.path.unlink()
    with pytest.raises(StateFileError):
        known.remember([reading()])


@dataclass
class Producer:
    """One that takes a step at a time: ask, compare, send, remember; a kill between two of them forgets what it was at."""

    folder: Path
    rows: list[dict[str, Value]] = field(default_factory=list)
    next_step: int = 0

    def advance(self, source: dict[int, float], kafka: list[dict[str, Value]], now: datetime) -> None:
        known = memory(self.folder)
        if self.next_step == 0:
            self.rows = [reading(hour, now, pm25=pm25) for hour, pm25 in source.items()]
        elif self.next_step == 1:
            self.rows = [row for row, kind in zip(self.rows, known.judge(self.rows), strict=True) if kind != "unchanged"]
            known.doubt(self.rows)
        elif self.next_step == 2:
            kafka += self.rows
        else:
            known.remember(self.rows)
        self.next_step = (self.next_step + 1) % 4

    def kill(self) -> None:
        self.next_step = 0


Move = tuple[str, int, int, float]
MOVES = st.tuples(
    st.sampled_from(["advance", "advance", "advance", "change", "kill"]), st.integers(0, 1), st.integers(0, 1), st.sampled_from([0.0, 1.0])
)


def advance(who: int, steps: int) -> list[Move]:
    return [("advance", who, 0, 0.0)] * steps


# What is hard to come by at random: a value that goes and comes back over a kill; of two producers the slower one writes last; the
# faster one dies meanwhile.
KILLED_UNREPORTED: list[Move] = [*advance(0, 4), ("change", 0, 0, 1.0), *advance(0, 3), ("kill", 0, 0, 0.0), ("change", 0, 0, 0.0)]
SLOWER_WRITES_LAST: list[Move] = [*advance(0, 1), ("change", 0, 0, 1.0), *advance(1, 4), *advance(0, 3), ("change", 0, 0, 0.0)]
FASTER_DIES: list[Move] = [
    *advance(0, 4),
    ("change", 0, 0, 1.0),
    *advance(1, 2),
    ("change", 0, 0, 0.0),
    *advance(0, 3),
    ("kill", 0, 0, 0.0),
    *advance(1, 2),
    ("change", 0, 0, 1.0),
]


@settings(max_examples=60, deadline=None)
@example(KILLED_UNREPORTED)
@example(SLOWER_WRITES_LAST)
@example(FASTER_DIES)
@given(st.lists(MOVES, max_size=40))
def test_however_producers_mix_and_die_the_next_poll_leaves_what_the_source_says(moves: list[Move]) -> None:
    with TemporaryDirectory() as folder:
        source, kafka, now = {0: 0.0, 1: 0.0}, list[dict[str, Value]](), NOON
        producers = [Producer(Path(folder)), Producer(Path(folder))]
        for what, who, hour, value in moves:
            now += timedelta(minutes=5)
            if what == "advance":
                producers[who].advance(source, kafka, now)
            elif what == "kill":
                producers[who].kill()
            else:
                source[hour] = value
        now += timedelta(minutes=5)
        producers[0].kill()
        for _ in range(4):
            producers[0].advance(source, kafka, now)
        # Silver keeps the later retrieval, and takes for a forecast what was retrieved before its hour.
        newest = {row["ts_utc"]: row for row in sorted(kafka, key=lambda row: str(row["retrieved_ts"]))}
        for hour, pm25 in source.items():
            ts = NOON + hour * HOUR
            retrieved_ts = newest[ts]["retrieved_ts"]
            assert isinstance(retrieved_ts, datetime)
            assert (newest[ts]["pm25"], ts > retrieved_ts) == (pm25, ts > now)
