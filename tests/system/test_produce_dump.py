"""Dumps of Kaggle against a real broker: the command as it is typed, zips, kill -9, and what stands in the topics afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from lakehouse.domains.kaggle.competitions.contract import COMPETITION_TAGS, COMPETITIONS, ORGANIZATIONS
from lakehouse.domains.kaggle.contract import DATASET_TAGS, DATASETS, DUMPS, USERS
from lakehouse.domains.kaggle.kernels.contract import KERNELS
from tests.support.dumps import write_csv
from tests.support.kaggle_pair import EXPECTED, write_pair
from tests.support.services import Kafka

ROOT = Path(__file__).parents[2]
KEYS = {
    USERS.topic: ("user_id",),
    DATASETS.topic: ("dataset_id",),
    DATASET_TAGS.topic: ("dataset_id", "tag"),
    ORGANIZATIONS.topic: ("organization_id",),
    COMPETITIONS.topic: ("competition_id",),
    COMPETITION_TAGS.topic: ("competition_id", "tag_id"),
    KERNELS.topic: ("kernel_id",),
}
TOPICS = (*KEYS, DUMPS.topic)
ROWS = 60_000


@dataclass(frozen=True, slots=True)
class Weir:
    """The command, with a home of its own."""

    home: Path
    kafka: Kafka

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        base = {
            "PATH": "/usr/bin:/bin",
            "TERM": "dumb",
            "HOME": str(self.home),
            "WEIR_HOME": str(self.home),
            "WEIR_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "WEIR_LOG_FORMAT": "json",
            "WEIR_REJECT_LIMIT_PERCENT": "100",
        }
        command = [sys.executable, "-m", "weir", "produce", "kaggle", *arguments]
        return subprocess.Popen(command, cwd=ROOT, env=base | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: str, code: int = 0, **environment: str) -> tuple[str, str]:
        with self.start(*arguments, **environment) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == code, err
        return out, err

    def report(self, *arguments: str) -> dict[str, Any]:
        out, _ = self.run(*arguments, "--json")
        found: dict[str, Any] = json.loads(out)
        return found

    @property
    def left_over(self) -> list[str]:
        """What a run leaves in the state folder besides the kept dumps."""
        folder = self.home / "state" / "kaggle.dumps"
        return sorted(path.name for path in folder.iterdir() if path.suffix != ".parquet" and path.name != "lock")


class Topics:
    """What came into the topics since the test began; a module's tests share the broker."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._begins = {topic: self._ends(topic) for topic in TOPICS}

    def rows(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(value) for _, value in self.messages(topic)]

    def messages(self, topic: str) -> list[tuple[bytes | None, bytes]]:
        consumer = self._consumer()
        try:
            ends = self._ends(topic)
            begins = self._begins[topic]
            left = sum(end - begins.get(p, 0) for p, end in ends.items())
            if not left:
                return []
            consumer.assign([TopicPartition(topic, p, begins.get(p, 0)) for p in ends])
            found: list[tuple[bytes | None, bytes]] = []
            while len(found) < left:
                batch = consumer.consume(min(left - len(found), 10_000), timeout=10)
                assert batch, f"{left - len(found)} messages are still to come"
                found += [(message.key(), message.value() or b"") for message in batch]
            return found
        finally:
            consumer.close()

    def _ends(self, topic: str) -> dict[int, int]:
        consumer = self._consumer()
        try:
            known = consumer.list_topics(timeout=10).topics
            partitions = known[topic].partitions if topic in known else ()
            return {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer({"bootstrap.servers": self._kafka.bootstrap, "group.id": "nobody", "enable.auto.commit": False})


@pytest.fixture
def weir(tmp_path: Path, kafka: Kafka) -> Weir:
    return Weir(tmp_path / "home", kafka)


@pytest.fixture
def topics(kafka: Kafka) -> Iterator[Topics]:
    yield Topics(kafka)


def newest(rows: list[dict[str, Any]], *key: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Give the rows that are there by the newest dump, as silver does."""
    found = {tuple(row.get(name) for name in key): row for row in sorted(rows, key=lambda row: int(row["run_ts"]))}
    return {names: row for names, row in found.items() if not row["is_gone"]}


def without_stamps(rows: dict[tuple[Any, ...], dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Leave out what a row has of the dump that brought it."""
    return {key: {name: value for name, value in row.items() if name not in ("run_ts", "run_date")} for key, row in rows.items()}


def test_pair_of_real_dumps_as_folder_and_as_zip(weir: Weir, topics: Topics, tmp_path: Path) -> None:
    first, second = write_pair(tmp_path)
    out, err = weir.run("--dump", str(first), "--run-date", "2025-07-01")
    assert "users: 5 rows read, 5 good, 0 rejects (0.00%); 5 added, 0 changed, 0 gone; 5 messages delivered" in out
    assert "Traceback" not in err

    packed = tmp_path / "meta-kaggle.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(second.iterdir()):
            member = zipfile.ZipInfo(file.name, (2025, 8, 1, 6, 30, 0))
            archive.writestr(member, file.read_bytes())
    report = weir.report("--dump", str(packed))
    assert (report["run_ts"], report["run_date"]) == ("2025-08-01T06:30:00.000Z", "2025-08-01")
    for name, figures in EXPECTED.items():
        assert {key: report["tables"][name][key] for key in figures} == figures, name
    stored = json.loads((weir.home / "reports" / "kaggle" / f"{report['run_id']}.json").read_text())
    assert stored == report
    assert weir.left_over == []

    # What stands in the topics, by the newest dump, is what a home that knows nothing reads from the second dump alone.
    found = {topic: topics.rows(topic) for topic in TOPICS}
    after = Topics(weir.kafka)
    Weir(tmp_path / "home that knows nothing", weir.kafka).run("--dump", str(packed))
    for topic, key in KEYS.items():
        whole = newest([row for row in after.rows(topic) if row.get("occurrence", 1) == 1], *key)
        assert without_stamps(newest([row for row in found[topic] if row.get("occurrence", 1) == 1], *key)) == without_stamps(whole)
    assert {(row["table_name"], row["run_date"]) for row in found[DUMPS.topic]} == {
        (name, at) for at in ("2025-07-01", "2025-08-01") for name in EXPECTED
    }


def many_users(folder: Path, change: int, at: datetime) -> Path:
    """Write a dump of many users, of which every tenth differs by the change and the last `change` have gone."""
    header = ("Id", "UserName", "RegisterDate", "Country")
    rows = ((n, f"name {n} {change if n % 10 == 0 else 0}", "01/31/2010", "") for n in range(1, ROWS + 1 - change))
    write_csv(folder / "users.csv", header, rows, at)
    return folder


def kill_at(weir: Weir, dump: Path, failpoint: str) -> None:
    with weir.start("--dump", str(dump), "--partial", WEIR_FAILPOINT=failpoint) as killed:
        _, said = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, said


def assert_users(topics: Topics, change: int) -> None:
    rows = newest(topics.rows(USERS.topic), "user_id")
    assert len(rows) == ROWS - change
    assert all(row["user_name"] == f"name {number} {change if number % 10 == 0 else 0}" for (number,), row in rows.items())


def test_killed_at_every_point_it_repeats_and_loses_nothing(weir: Weir, topics: Topics, tmp_path: Path) -> None:
    first = many_users(tmp_path / "first", 0, datetime(2025, 7, 1, tzinfo=UTC))
    # In the middle of sending, after the third batch.
    kill_at(weir, first, "producer.sent:3")
    for point in ("producer.reported", "dump.noticed"):
        kill_at(weir, first, point)
    weir.run("--dump", str(first), "--partial")
    assert_users(topics, 0)
    for change, point in enumerate(("producer.sent", "producer.reported", "dump.noticed", "dump.kept"), start=1):
        dump = many_users(tmp_path / point, change, datetime(2025, 7, 1 + change, tzinfo=UTC))
        kill_at(weir, dump, point)
        report = weir.report("--dump", str(dump), "--partial")["tables"]["users"]
        again = (ROWS - change) // 10 + 1
        assert (report["changed"] + report["gone"], report["added"]) == ((0, 0) if point == "dump.kept" else (again, 0))
        assert_users(topics, change)
    assert weir.left_over == []


def test_killed_from_outside_while_it_reads_or_sends(weir: Weir, topics: Topics, tmp_path: Path) -> None:
    dump = many_users(tmp_path / "dump", 0, datetime(2025, 7, 1, tzinfo=UTC))
    for seconds in (0.8, 1.2, 1.6):
        with weir.start("--dump", str(dump), "--partial") as process:
            time.sleep(seconds)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)
    weir.run("--dump", str(dump), "--partial")
    assert_users(topics, 0)
    assert weir.left_over == []


def test_one_bad_table_ends_with_1_after_the_others_are_published(weir: Weir, topics: Topics, tmp_path: Path) -> None:
    first, _ = write_pair(tmp_path)
    (first / "Users.csv").write_text("Id,UserName,DisplayName,RegisterDate,PerformanceTier\nx,,,never,y\n1,ann,Ann,03/24/2011,1\n")
    out, err = weir.run("--dump", str(first), "--json", code=1, WEIR_REJECT_LIMIT_PERCENT="10")
    report = json.loads(out)
    assert report["tables"]["users"]["state"] == "stopped"
    assert "users: 1 of 2 rows break a rule (wrong_type 1), more than 10 %, so nothing of the table was published" in err
    assert topics.rows(USERS.topic) == []
    assert "Traceback" not in err
