"""Is every hour with its newest value in Kafka, whatever kills a producer and however many run? Real processes and a real broker."""

import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from deploy.local.services.open_meteo_server import Fault, OpenMeteoServer
from lakehouse.domains.air_quality.contract import HOURLY
from tests.support.services import Kafka
from tests.system.test_produce import DAY, ROOT, Weir

PLACES = ("danang", "hanoi", "hcmc")
POLLED = 3 * 7 * DAY
Hour = tuple[str, datetime]


@pytest.fixture
def api() -> Iterator[OpenMeteoServer]:
    with OpenMeteoServer() as server:
        yield server


@pytest.fixture
def weir(tmp_path: Path, kafka: Kafka, api: OpenMeteoServer) -> Weir:
    return Weir(tmp_path / "home", kafka, api)


class Topic:
    """What is in the topic since the test began."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._begins = dict(self._ends())

    def messages(self) -> list[Message]:
        consumer = self._consumer()
        try:
            ends = dict(self._ends())
            consumer.assign([TopicPartition(HOURLY.topic, p, self._begins.get(p, 0)) for p in ends])
            left = sum(end - self._begins.get(p, 0) for p, end in ends.items())
            found: list[Message] = []
            while left > len(found):
                batch = consumer.consume(min(left - len(found), 5_000), timeout=10)
                assert batch, f"{left - len(found)} messages are still to come"
                found += batch
            return found
        finally:
            consumer.close()

    def newest(self) -> dict[Hour, tuple[float | None, bool]]:
        """Give each hour's value and whether it is a forecast, of the newest retrieval, as silver does."""
        records = [json.loads(message.value() or b"") for message in self.messages()]
        return {
            (record["location_key"], datetime.fromtimestamp(record["ts_utc"] / 1000, UTC)): (
                record.get("pm25"),
                record["ts_utc"] > record["retrieved_ts"],
            )
            for record in sorted(records, key=lambda record: int(record["retrieved_ts"]))
        }

    def _ends(self) -> Iterator[tuple[int, int]]:
        consumer = self._consumer()
        try:
            known = consumer.list_topics(timeout=10).topics
            for p in known[HOURLY.topic].partitions if HOURLY.topic in known else ():
                yield p, consumer.get_watermark_offsets(TopicPartition(HOURLY.topic, p), timeout=10)[1]
        finally:
            consumer.close()

    def _consumer(self) -> Consumer:
        return Consumer({"bootstrap.servers": self._kafka.bootstrap, "group.id": "nobody", "enable.auto.commit": False})


@pytest.fixture
def topic(kafka: Kafka) -> Topic:
    return Topic(kafka)


def start(weir: Weir, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        weir.command("produce", "open-meteo", *arguments, "--json"),
        cwd=ROOT,
        env=weir.environment | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_at(weir: Weir, failpoint: str) -> None:
    with start(weir, "--once", WEIR_FAILPOINT=failpoint) as killed:
        _, said = killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL, said


def revised(amount: float) -> Fault:
    """Let the source answer other PM2.5 for every third hour."""

    def change(answer: object) -> object:
        elements = answer if isinstance(answer, list) else [answer]
        for element in elements:
            assert isinstance(element, dict)
            hourly = element["hourly"]
            hourly["pm2_5"] = [
                value + amount if value is not None and ts % 10_800 == 0 else value
                for ts, value in zip(hourly["time"], hourly["pm2_5"], strict=True)
            ]
        return answer

    return Fault(change=change)


def assert_topic_holds_what_the_source_says(weir: Weir, topic: Topic, kafka: Kafka) -> None:
    """Compare what the polls left in the topic with what a home that remembers nothing gets."""
    for nth in count():
        hour, found, before = datetime.now(UTC).hour, topic.newest(), Topic(kafka)
        assert replace(weir, home=weir.home / f"that remembers nothing {nth}").published("--once")["hours"] == POLLED
        expected = before.newest()
        if datetime.now(UTC).hour == hour:
            break
        weir.published("--once")  # an hour passed meanwhile, and a forecast became measured
    assert found == expected


@pytest.mark.parametrize("point", ["producer.sent", "producer.reported"])
def test_producer_killed_on_its_first_poll_and_over_a_revision_loses_nothing(point: str, weir: Weir, topic: Topic, kafka: Kafka) -> None:
    kill_at(weir, point)
    assert weir.cursors() == {}
    assert weir.published("--once")["hours"] == POLLED
    # What was reported, though nothing remembers it, is in the topic, and now twice.
    assert point == "producer.sent" or len(topic.messages()) == 2 * POLLED
    assert weir.published("--once")["hours"] <= len(PLACES)  # an hour may have passed

    weir.api.always(revised(1))
    kill_at(weir, point)
    weir.api.always(revised(0))  # the source takes it back: the value before must be sent again
    assert weir.published("--once")["hours"] >= POLLED / 3 * 0.9
    assert_topic_holds_what_the_source_says(weir, topic, kafka)


def test_producer_killed_while_it_polls_again_and_again_loses_nothing(weir: Weir, topic: Topic, kafka: Kafka) -> None:
    for nth in range(1, 5):
        weir.api.always(revised(nth))
        with start(weir, WEIR_FAILPOINT=f"producer.{'sent' if nth % 2 else 'reported'}:{(nth + 1) // 2}") as killed:
            killed.communicate(timeout=60)
        assert killed.returncode == -signal.SIGKILL
    weir.published("--once")
    assert_topic_holds_what_the_source_says(weir, topic, kafka)


def test_two_producers_at_once_repeat_at_worst(weir: Weir, topic: Topic, kafka: Kafka) -> None:
    producers = [start(weir), start(weir)]
    try:
        for amount in range(1, 4):
            weir.api.always(revised(amount))
            for producer in producers:
                assert producer.stderr is not None
                for line in map(json.loads, producer.stderr):
                    assert line["event"] != "poll failed", line
                    if line["event"] == "polled":
                        break
    finally:
        for producer in producers:
            producer.send_signal(signal.SIGTERM)
        ended = [(producer.communicate(timeout=60), producer.returncode) for producer in producers]
    assert [code for _, code in ended] == [0, 0]
    weir.published("--once")
    assert_topic_holds_what_the_source_says(weir, topic, kafka)
    assert weir.published("--once")["hours"] <= len(PLACES)


def test_damaged_memory_is_told_and_only_repeats(weir: Weir, topic: Topic, kafka: Kafka) -> None:
    weir.published("--once")
    (weir.home / "state" / "open-meteo.published.db").write_bytes(b"no database at all" * 1_000)
    done = weir.run("produce", "open-meteo", "--once", "--json")
    assert (done.returncode, json.loads(done.stdout)["hours"]) == (0, POLLED)
    assert "the memory of published records was lost: the next poll publishes everything it fetches; no record is lost" in done.stderr
    assert_topic_holds_what_the_source_says(weir, topic, kafka)


def test_backfill_waits_for_the_budget_and_a_used_up_day_ends_it_with_75(weir: Weir, topic: Topic, tmp_path: Path) -> None:
    limits = {"WEIR_BUDGET_PATH": str(tmp_path / "budget.db"), "WEIR_BUDGET_PER_DAY": "12"}
    # 3 places and up to 5 days weigh 5.1: two requests fit into the day, from whatever home.
    homes = [weir, replace(weir, home=tmp_path / "another home"), weir]
    codes = []
    for one in homes:
        with start(one, "--since", "2024-01-01", "--until", "2024-01-03", **limits) as running:
            _, said = running.communicate(timeout=60)
        codes.append(running.returncode)
    assert codes == [0, 0, 75]
    assert "limit of Open-Meteo for the day is used up (weir's own count: 10.2 of 12 used, 5.1 requested)" in said
    assert "Run it again after" in said
    assert len(weir.api.requests) == 2
    assert len(topic.messages()) == 2 * 3 * 3 * DAY
