"""The producer against a real broker and a real socket: what stands in the topic afterwards."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from deploy.local.services.open_meteo_server import Fault, OpenMeteoServer
from lakehouse.domains.air_quality.contract import HOURLY
from tests.support.services import Kafka

ROOT = Path(__file__).parents[2]
PACKED = ROOT / "deploy/local/services/recorded/open_meteo.jsonl.gz"
DAY = 24
THREE_DAYS = ("--since", "2024-01-01", "--until", "2024-01-03")


@dataclass(frozen=True, slots=True)
class Weir:
    """The command, with a home, a broker and an API of its own."""

    home: Path
    kafka: Kafka
    api: OpenMeteoServer

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "TERM": "dumb",
            "WEIR_HOME": str(self.home),
            "WEIR_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "WEIR_OPEN_METEO_URL": self.api.url,
            "WEIR_LOG_FORMAT": "json",
            "WEIR_POLL_MINUTES": "0.01",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "weir", *arguments]

    def published(self, *arguments: str) -> dict[str, Any]:
        done = self.run("produce", "open-meteo", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def cursors(self) -> dict[str, str]:
        path = self.home / "state" / "open-meteo.cursor.json"
        return json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture(scope="module")
def api() -> Iterator[OpenMeteoServer]:
    with OpenMeteoServer() as server:
        yield server


@pytest.fixture
def weir(tmp_path: Path, kafka: Kafka, api: OpenMeteoServer) -> Iterator[Weir]:
    yield Weir(tmp_path / "home", kafka, api)
    api.always(None)


def messages_of(kafka: Kafka, run_id: str) -> list[Message]:
    """Everything that one run put into the topic; other tests share it."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": "nobody", "enable.auto.commit": False, "enable.partition.eof": False}
    )
    try:
        partitions = [
            TopicPartition(HOURLY.topic, p, 0) for p in consumer.list_topics(HOURLY.topic, timeout=10).topics[HOURLY.topic].partitions
        ]
        left = sum(consumer.get_watermark_offsets(partition, timeout=10)[1] for partition in partitions)
        consumer.assign(partitions)
        found: list[Message] = []
        while left:
            batch = consumer.consume(min(left, 5_000), timeout=10)
            assert batch, f"{left} messages are still to come"
            left -= len(batch)
            found += [message for message in batch if ("run_id", run_id.encode()) in (message.headers() or [])]
        return found
    finally:
        consumer.close()


def test_range_of_three_cities_is_in_the_topic_once_keyed_and_with_headers(weir: Weir) -> None:
    said = weir.published(*THREE_DAYS)
    assert (said["hours"], said["places"]) == (3 * 3 * DAY, ["danang", "hanoi", "hcmc"])
    assert (said["first_ts"], said["last_ts"], said["failed"]) == ("2024-01-01T00:00:00Z", "2024-01-03T23:00:00Z", {})

    messages = messages_of(weir.kafka, said["run_id"])
    assert len(messages) == 3 * 3 * DAY
    assert {message.partition() for message in messages} <= {0, 1}
    by_key: dict[bytes, list[Message]] = {}
    for message in messages:
        by_key.setdefault(message.key() or b"", []).append(message)
        own = [("source", b"open-meteo"), ("contract_version", b"v1"), ("run_id", said["run_id"].encode())]
        assert message.headers() == [*own, ("weir-wire-version", b"1")]
        assert message.error() is None
    assert {key: len(found) for key, found in by_key.items()} == {b"hanoi": 72, b"hcmc": 72, b"danang": 72}
    for found in by_key.values():
        assert len({message.partition() for message in found}) == 1
        in_order = sorted(found, key=lambda message: message.offset() or 0)
        hours = [json.loads(message.value() or b"")["ts_utc"] for message in in_order]
        assert hours == [1_704_067_200_000 + i * 3_600_000 for i in range(72)]
    offsets = sorted((message.partition(), message.offset()) for message in messages)
    assert len(set(offsets)) == len(offsets)
    record = json.loads(by_key[b"hanoi"][0].value() or b"")
    assert (record["pm25"], record["request_timezone"], record["model_domain"]) == (52.7, "GMT", "cams_global")
    assert weir.cursors() == {}


def test_replay_carries_the_time_of_the_recorded_answer(weir: Weir) -> None:
    said = weir.published("--replay", str(PACKED), "--set", "revised")
    assert (said["hours"], said["places"]) == (528, ["hanoi"])
    records = [json.loads(message.value() or b"") for message in messages_of(weir.kafka, said["run_id"])]
    assert [record["pm25"] for record in records if record["ts_utc"] == 1_758_326_400_000] == [143.0, 130.9]
    assert {record["retrieved_ts"] for record in records} == {1_758_362_976_000, 1_758_609_775_000}
    assert weir.cursors() == {}


def test_outage_fails_with_75_moves_no_cursor_and_the_next_run_closes_it(weir: Weir) -> None:
    first = weir.published("--once", "--locations", "hanoi")
    cursor = weir.cursors()
    assert (first["hours"], set(cursor)) == (7 * DAY, {"hanoi"})

    weir.api.always(Fault(503, b'{"reason":"The service is overloaded","error":true}'))
    failed = weir.run("produce", "open-meteo", "--once", "--json")
    assert failed.returncode == 75
    assert "The service is overloaded" in failed.stderr
    assert json.loads(failed.stdout)["hours"] == 0
    assert set(json.loads(failed.stdout)["failed"]) == {"hanoi", "hcmc", "danang"}
    assert weir.cursors() == cursor
    (source,) = json.loads(weir.run("status", "--json").stdout)["sources"]
    assert (source["problem"], [one["location"] for one in source["failing"]]) == ("no place could be fetched", ["danang", "hanoi", "hcmc"])
    assert "The service is overloaded" in source["failing"][0]["reason"]

    weir.api.always(Fault(401, b'{"reason":"API key required. Please add &apikey= to the URL.","error":true}'))
    before = len(weir.api.requests)
    refused = weir.run("produce", "open-meteo", "--once")
    assert (refused.returncode, len(weir.api.requests) - before) == (1, 1)
    assert "API key required" in refused.stderr

    weir.api.always(None)
    (weir.home / "state" / "open-meteo.cursor.json").write_text('{"hanoi": "2024-11-01T05:00:00Z"}')
    weir.api.always(Fault(status=429, body=b'{"reason":"Daily API request limit exceeded. Please try again tomorrow.","error":true}'))
    limited = weir.run("produce", "open-meteo", "--once", "--locations", "hanoi")
    assert (limited.returncode, "Run it again after" in limited.stderr) == (75, True)
    assert weir.cursors() == {"hanoi": "2024-11-01T05:00:00Z"}
    weir.api.always(None)
    closed = weir.published("--once", "--locations", "hanoi")
    assert closed["first_ts"] == "2024-10-29T00:00:00Z"
    assert weir.cursors() == cursor | {"hanoi": weir.cursors()["hanoi"]}
    assert weir.cursors()["hanoi"] >= cursor["hanoi"]


def test_polling_picks_up_a_new_city_and_ends_cleanly_on_sigterm(weir: Weir) -> None:
    with subprocess.Popen(
        weir.command("produce", "open-meteo", "--json"),
        cwd=ROOT,
        env=weir.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stderr is not None
            polls = (line for line in map(json.loads, running.stderr) if line["event"] == "polled")
            first, second = next(polls), next(polls)
            assert (first["hours"], first["new"], first["unchanged"]) == (3 * 7 * DAY, 3 * 7 * DAY, 0)
            # An hour may pass meanwhile: its forecast is then published once more.
            assert (second["new"], second["changed"], second["hours"]) == (0, 0, second["measured"])
            assert second["upstream"].startswith("upstream's age is not known yet")
            assert weir.run("add-city", "Quito", "-0.18", "-78.47").returncode == 0
            assert next(poll for poll in polls if poll["places"] == 4)["new"] == 7 * DAY
            running.send_signal(signal.SIGTERM)
            out, _ = running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == 0
    said = json.loads(out)
    assert said["places"] == ["danang", "hanoi", "hcmc", "quito"]
    assert len(messages_of(weir.kafka, said["run_id"])) == said["hours"]
    assert set(weir.cursors()) == {"danang", "hanoi", "hcmc", "quito"}


def test_poll_that_fails_makes_us_late_and_says_so_until_one_succeeds(weir: Weir) -> None:
    with subprocess.Popen(
        weir.command("produce", "open-meteo"), cwd=ROOT, env=weir.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stderr is not None
            lines = map(json.loads, running.stderr)
            assert next(line for line in lines if line["event"] == "polled")["hours"] == 3 * 7 * DAY
            weir.api.always(Fault(429, b'{"reason":"Daily API request limit exceeded. Please try again tomorrow.","error":true}'))
            assert "Run it again after" in next(line for line in lines if line["event"] == "poll failed")["reason"]
            late = next(line for line in lines if line["event"].startswith("we are late: last successful poll "))
            assert (late["level"], late["event"].endswith("ago, expected every 1 s")) == ("warning", True)
            (source,) = json.loads(weir.run("status", "--json").stdout)["sources"]
            assert source["is_late"] and source["says"].startswith("we are late")
            assert "limit of Open-Meteo for the day is used up" in source["problem"]
            weir.api.always(None)
            assert next(line for line in lines if line["event"] == "polled")["failed"] == 0
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == 0


def test_no_broker_is_a_clear_error(weir: Weir) -> None:
    done = subprocess.run(
        weir.command("produce", "open-meteo", "--once"),
        cwd=ROOT,
        env=weir.environment | {"WEIR_KAFKA_BOOTSTRAP": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (75, "")
    assert "no Kafka broker answers at 127.0.0.1:1" in done.stderr
