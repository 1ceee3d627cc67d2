"""Does bronze hold every message once, however micro-batches are cut and repeated, whether written from memory or by Spark?"""

import itertools
import json
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

import lakehouse.write.fenced_append
from lakehouse.codecs.parse import to_bronze
from lakehouse.domains.air_quality.contract import HOURLY, TOPIC
from lakehouse.domains.air_quality.tables import BRONZE
from lakehouse.settings import Settings
from lakehouse.tables.catalog import open_catalog
from lakehouse.tables.create import create_missing
from lakehouse.tables.schema import Table
from lakehouse.write.fenced_append import FencedAppend, TopicRecreated, newest_mark
from tests.support.pipeline import reading

ARRIVED = datetime(2024, 6, 30, 23, 0, tzinfo=UTC)  # some arrive on the next day
NAME = BRONZE.name.removeprefix("lh.")
Message = tuple[int, int]  # partition, offset


def value_of(message: Message) -> bytes:
    partition, offset = message
    return HOURLY.encode(reading(f"place-{partition}", offset, pm25=float(offset))) if offset % 7 else b"no reading"


def arrived(message: Message) -> datetime:
    return ARRIVED + timedelta(minutes=sum(message))


def micro_batch(session: SparkSession, messages: list[Message]) -> DataFrame:
    rows = pa.table(
        {
            "value": pa.array([value_of(m) for m in messages], pa.binary()),
            "topic": pa.array([TOPIC] * len(messages)),
            "partition": pa.array([p for p, _ in messages], pa.int32()),
            "offset": pa.array([o for _, o in messages], pa.int64()),
            "timestamp": pa.array([arrived(m) for m in messages], pa.timestamp("us", "UTC")),
        }
    )
    return to_bronze(session.createDataFrame(rows), HOURLY)


def held(home: Path) -> dict[Message, tuple[bytes, str | None, float | None, datetime]]:
    rows = open_catalog(Settings(home=home)).load_table(NAME).scan().to_arrow().to_pylist()
    found = {(r["partition"], r["kafka_offset"]): (r["value"], r["location_key"], r["pm25"], r["kafka_ts"]) for r in rows}
    assert len(found) == len(rows), "a message twice"
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_planned", [True, False], ids=["ends known", "ends asked"])
@pytest.mark.parametrize("small_rows", [0, 6, 5_000], ids=["by Spark", "both", "from memory"])
def test_every_message_is_there_once_however_often_a_part_is_repeated(
    session: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_rows: int, is_planned: bool, seed: int
) -> None:
    monkeypatch.setattr(lakehouse.write.fenced_append, "SMALL_ROWS", small_rows)
    create_missing(session, [BRONZE])
    chance = random.Random(seed)
    ends, sent = {0: 0, 1: 0}, set[Message]()
    append = FencedAppend(BRONZE, {TOPIC: "one"})
    for n in range(6):
        starts = {p: max(0, end - chance.randint(0, 8)) for p, end in ends.items()}  # what is behind `end` is there already
        ends = {p: end + chance.randint(0, 8) for p, end in ends.items()}
        messages = [(p, offset) for p in ends for offset in range(starts[p], ends[p])]
        chance.shuffle(messages)
        fresh = {*messages} - sent
        planned = {(TOPIC, p): end for p, end in ends.items()} if is_planned else None
        appended = append.append(micro_batch(session, messages), {"weir.batch-id": str(n)}, planned)
        assert appended == len(fresh)
        sent |= fresh
        if chance.random() < 0.3:  # another driver
            append = FencedAppend(BRONZE, {TOPIC: "one"})
        if chance.random() < 0.3:  # another writer, without a mark
            session.sql(f"CALL lh.system.rewrite_data_files(table => '{NAME}', options => map('min-input-files', '2'))")
    expected = {m: (value_of(m), *((f"place-{m[0]}", float(m[1])) if m[1] % 7 else (None, None)), arrived(m)) for m in sorted(sent)}
    assert held(tmp_path) == expected
    rows = session.table(BRONZE.name).where("kafka_ts < TIMESTAMP '2024-07-01 00:00:00'").count()
    assert rows == sum(arrived(m) < datetime(2024, 7, 1, tzinfo=UTC) for m in sent)
    mark = newest_mark(session, BRONZE)
    assert {place: end for place, end in mark.next_offsets.items() if end} == {(TOPIC, p): end for p, end in ends.items() if end}
    assert dict(mark.topic_ids) == {TOPIC: "one"}


def test_a_snapshot_says_what_it_is_of_and_nothing_new_commits_nothing(session: SparkSession) -> None:
    create_missing(session, [BRONZE])
    append = FencedAppend(BRONZE, {TOPIC: "one"})
    messages = [(0, 0), (0, 1), (1, 0)]
    assert append.append(micro_batch(session, messages), {"weir.query": NAME}) == 3
    assert append.append(micro_batch(session, messages), {"weir.query": NAME}) == 0
    (snapshot,) = session.sql(f"SELECT operation, summary FROM {BRONZE.name}.snapshots").collect()
    said = snapshot["summary"]
    assert snapshot["operation"] == "append" and said["weir.query"] == NAME and said["added-records"] == "3"
    assert json.loads(said["weir.offsets"]) == {TOPIC: {"id": "one", "next": {"0": 2, "1": 1}}}


def test_a_topic_made_again_is_refused_and_nothing_is_written(session: SparkSession, tmp_path: Path) -> None:
    create_missing(session, [BRONZE])
    FencedAppend(BRONZE, {TOPIC: "one"}).append(micro_batch(session, [(0, 0)]), {})
    with pytest.raises(TopicRecreated):
        FencedAppend(BRONZE, {TOPIC: "two"}).append(micro_batch(session, [(0, 1)]), {})
    assert held(tmp_path).keys() == {(0, 0)}


def test_a_table_by_somebodys_own_partitions_is_written_by_spark(session: SparkSession, tmp_path: Path) -> None:
    own = Table(BRONZE.name, BRONZE.grain, BRONZE.key, BRONZE.columns, ("location_key",), BRONZE.properties)
    create_missing(session, [own])
    assert FencedAppend(BRONZE, {TOPIC: "one"}).append(micro_batch(session, [(0, 0), (0, 1), (1, 1)]), {}) == 3
    assert held(tmp_path).keys() == {(0, 0), (0, 1), (1, 1)}


class Checkpoint:
    """A query's checkpoint, in memory."""

    uri = "memory:"

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def names(self, sub: str = "") -> list[str]:
        return [] if sub else sorted(self.files)

    def text(self, name: str) -> str | None:
        return self.files.get(name)

    def write(self, name: str, text: str) -> None:
        self.files[name] = text

    def remove(self, name: str) -> bool:
        return self.files.pop(name, None) is not None

    def move_aside(self) -> str:
        self.files.clear()
        return self.uri


def said_of_commits(session: SparkSession) -> list[tuple[dict[str, int], str]]:
    """The mark and the added rows of each commit, oldest first."""
    rows = session.sql(f"SELECT summary FROM {BRONZE.name}.snapshots ORDER BY committed_at").collect()
    return [(json.loads(row[0]["weir.offsets"])[TOPIC]["next"], row[0].get("added-records", "0")) for row in rows]


@pytest.mark.parametrize("small_rows", [0, 5_000], ids=["by Spark", "from memory"])
def test_offsets_without_a_message_are_passed_with_the_next_rows_or_by_one_commit_a_minute(
    session: SparkSession, monkeypatch: pytest.MonkeyPatch, small_rows: int
) -> None:
    monkeypatch.setattr(lakehouse.write.fenced_append, "SMALL_ROWS", small_rows)
    create_missing(session, [BRONZE])
    later = [0.0]
    checkpoint = Checkpoint()

    def driver() -> FencedAppend:
        return FencedAppend(BRONZE, {TOPIC: "one"}, checkpoint, lambda: time.time() + later[0])

    def up_to(end: int) -> dict[tuple[str, int], int]:
        return {(TOPIC, 0): end, (TOPIC, 1): 0}

    append = driver()
    # The last two offsets are of no message; the other partition brought no row at all.
    assert append.append(micro_batch(session, [(0, 0), (0, 1)]), {"weir.query": NAME}, up_to(4)) == 2
    assert said_of_commits(session) == [({"0": 4, "1": 0}, "2")]
    for end in (5, 6, 7):  # micro-batches of control records alone
        assert append.append(micro_batch(session, []), {"weir.query": NAME}, up_to(end)) == 0
    assert said_of_commits(session)[1:] == [({"0": 5, "1": 0}, "0")]
    assert not append.settle(session), "its minute is not over"
    assert append.append(micro_batch(session, [(1, 0)]), {"weir.query": NAME}, {(TOPIC, 0): 7, (TOPIC, 1): 1}) == 1
    assert said_of_commits(session)[2:] == [({"0": 7, "1": 1}, "1")], "rows bring along what was pending"
    assert not append.settle(session, at_once=True)

    for end in (8, 9):  # a minute is a minute, also with rows in between
        append.append(micro_batch(session, []), {}, {(TOPIC, 0): end, (TOPIC, 1): 1})
    append = driver()  # the one before was killed
    assert not append.settle(session)
    assert len(said_of_commits(session)) == 3
    later[0] = 61
    assert append.settle(session)
    assert not append.settle(session)
    assert said_of_commits(session)[3:] == [({"0": 9, "1": 1}, "0")]
    append.append(micro_batch(session, []), {}, {(TOPIC, 0): 10, (TOPIC, 1): 1})
    assert len(said_of_commits(session)) == 4
    assert append.settle(session, at_once=True)
    assert said_of_commits(session)[4:] == [({"0": 10, "1": 1}, "0")]


def test_what_was_owed_to_a_table_that_was_set_back_since_is_forgotten(session: SparkSession) -> None:
    create_missing(session, [BRONZE])
    checkpoint = Checkpoint()
    append = FencedAppend(BRONZE, {TOPIC: "one"}, checkpoint)
    append.append(micro_batch(session, [(0, 0)]), {}, {(TOPIC, 0): 1})
    first = session.sql(f"SELECT snapshot_id FROM {BRONZE.name}.snapshots").collect()[0][0]
    append.append(micro_batch(session, []), {}, {(TOPIC, 0): 2})
    append.append(micro_batch(session, []), {}, {(TOPIC, 0): 3})
    session.sql(f"CALL lh.system.rollback_to_snapshot('{NAME}', {first})")
    for one in (append, FencedAppend(BRONZE, {TOPIC: "one"}, checkpoint)):
        assert not one.settle(session, at_once=True)
    assert newest_mark(session, BRONZE).next_offsets == {(TOPIC, 0): 1}


def test_a_settling_thread_never_commits_beside_an_append(session: SparkSession) -> None:
    create_missing(session, [BRONZE])
    looks = itertools.count(int(time.time()), 31)  # a minute is over at every other look, whoever looks
    append = FencedAppend(BRONZE, {TOPIC: "one"}, None, lambda: float(next(looks)))
    ended, failed = threading.Event(), list[BaseException]()

    def settle() -> None:
        while not ended.is_set():
            try:
                append.settle(session)
            except BaseException as error:
                failed.append(error)

    beside = threading.Thread(target=settle)
    beside.start()
    try:
        for n in range(12):
            append.append(micro_batch(session, [(0, 2 * n)]), {}, {(TOPIC, 0): 2 * n + 1})
            append.append(micro_batch(session, []), {}, {(TOPIC, 0): 2 * n + 2})
    finally:
        ended.set()
        beside.join()
    assert failed == []
    append.settle(session, at_once=True)
    marks = [int(mark["0"]) for mark, _ in said_of_commits(session)]
    assert marks == sorted(marks) and marks[-1] == 24
    assert session.table(BRONZE.name).count() == 12
