"""Does a folder and one line give a source all that the poller can do, and is what it cannot do refused?"""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from lakehouse.errors import WeirError
from lakehouse.settings import Settings
from producers import cli
from producers.history import History
from producers.kafka_writer import DeliveryError
from producers.polls import Polls
from producers.publish import EntitiesFailedError, NoRangeError
from producers.source import Ranges
from producers.sources import registry
from producers.sources.registry import histories, load_source
from producers.stopping import Stop
from tests.support import toy_sources as toys
from tests.support.producers import FakeKafka
from tests.support.toy_sources import MORNING, TOYS, ClosedError, Shop

MINUTE = timedelta(minutes=1)
app = typer.Typer(rich_markup_mode=None, add_completion=False)
app.command()(cli.produce)


@pytest.fixture(autouse=True)
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop, registered by one line."""
    monkeypatch.setitem(registry.SOURCES, "toys", "tests.support.toy_sources:TOYS")
    monkeypatch.setattr(toys, "SHOP", Shop())
    return toys.SHOP


class Weir:
    """The command, with a home of its own and a Kafka client without Kafka."""

    def __init__(self, home: Path, kafka: FakeKafka) -> None:
        self.settings = Settings(home=home, kafka_bootstrap="127.0.0.1:1", poll_minutes=0.0001)
        self.kafka = kafka

    def produce(self, *arguments: str) -> Result:
        self.kafka.sent.clear()
        return CliRunner().invoke(app, ["toys", *arguments], obj=self.settings)

    def published(self, *arguments: str) -> dict[str, Any]:
        done = self.produce(*arguments, "--json")
        assert done.exit_code == 0, done.exception or done.output
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    @property
    def sent(self) -> list[tuple[str, str, float]]:
        records = [json.loads(value or b"") for _, value in self.kafka.sent]
        return [(record["owner"], record["toy"], record["price"]) for record in records]

    def cursors(self) -> dict[str, str]:
        path = self.settings.home / "state" / "toys.cursor.json"
        return json.loads(path.read_text()) if path.exists() else {}


@pytest.fixture
def weir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weir]:
    kafka = FakeKafka(topic=TOYS.contract.topic)
    monkeypatch.setattr("producers.kafka_writer.connect", lambda bootstrap, run_id: kafka)
    monkeypatch.setattr("lakehouse.broker.topics.ensure_topic", lambda bootstrap, contract, partitions: f"id of {contract.topic}")
    with capture_logs():  # and the command leaves structlog as it is
        yield Weir(tmp_path, kafka)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"source": "toys", **labels}) or 0.0


def test_one_poll_publishes_every_record_keyed_and_tells_it_in_the_sources_words(weir: Weir) -> None:
    said = weir.published("--once")
    assert weir.sent == [("ann", "ball", 3.0), ("ann", "kite", 7.5), ("bob", "ball", 4.0)]
    assert [key for key, _ in weir.kafka.sent] == [b"ann", b"ann", b"bob"]
    assert ("source", b"toys") in weir.kafka.headers
    del said["run_id"]
    assert said == {
        "source": "toys",
        "topic": "toys.owned.v1",
        "toys": 3,
        "owners": ["ann", "bob"],
        "first_ts": None,
        "last_ts": None,
        "toys_without_data": {},
        "out_of_range": 0,
        "invalid": 0,
        "failed": {},
        "unknown_owners": {},
    }
    assert weir.produce("--once", "--only", "bob").stdout == "0 toys of 1 owner(s) published to toys.owned.v1\n"


def test_later_poll_sends_only_news_and_is_told_the_cursors(weir: Weir, shop: Shop) -> None:
    weir.published("--once")
    assert shop.asked == [{}]
    assert weir.cursors() == {"ann": "2024-01-20T08:01:00Z", "bob": "2024-01-20T08:01:00Z"}
    assert weir.published("--once")["toys"] == 0
    assert shop.asked[1] == {"ann": MORNING + MINUTE, "bob": MORNING + MINUTE}
    shop.prices["bob"]["ball"] = 5.0
    shop.prices["ann"]["doll"] = 1.0
    weir.published("--once", "--locations", "ann")
    assert weir.sent == [("ann", "doll", 1.0)]
    weir.published("--once")
    assert weir.sent == [("bob", "ball", 5.0)]
    assert sorted(path.name for path in (weir.settings.home / "state").glob("toys.*.*")) == [
        "toys.cursor.json",
        "toys.cursor.lock",
        "toys.polls.json",
        "toys.polls.lock",
        "toys.published.db",
        "toys.published.db.lock",
    ]


def test_what_was_not_reported_moves_no_cursor_and_is_sent_again(weir: Weir, shop: Shop) -> None:
    weir.published("--once")
    shop.prices["ann"]["kite"] = 8.0
    weir.kafka.fail_from = 3
    failed = weir.produce("--once")
    assert isinstance(failed.exception, DeliveryError)
    assert weir.cursors() == {"ann": "2024-01-20T08:01:00Z", "bob": "2024-01-20T08:01:00Z"}
    weir.kafka.fail_from = None
    shop.prices["ann"]["kite"] = 7.5  # the source takes it back: Kafka may have the 8 all the same
    weir.published("--once")
    assert weir.sent == [("ann", "kite", 7.5)]
    assert weir.published("--once")["toys"] == 0


def test_owner_that_fails_does_not_stop_the_others_and_is_caught_up(weir: Weir, shop: Shop) -> None:
    shop.closed_for = {"ann"}
    with capture_logs() as logs:
        done = weir.produce("--once", "--json")
    assert isinstance(done.exception, EntitiesFailedError)
    assert str(done.exception) == "1 owner(s) of toys failed, their cursors were not advanced:\n  ann: closed for ann"
    assert json.loads(done.stdout)["failed"] == {"ann": "closed for ann"}
    assert (weir.sent, list(weir.cursors())) == ([("bob", "ball", 4.0)], ["bob"])
    assert next(line for line in logs if line["event"] == "owner failed")["owner"] == "ann"
    assert list(Polls(weir.settings.home / "state", "toys").read().failing) == ["ann"]
    assert sample("weir_producer_failing_places") == 1
    shop.closed_for = set()
    weir.published("--once")
    assert weir.sent == [("ann", "ball", 3.0), ("ann", "kite", 7.5)]
    assert sample("weir_producer_failing_places") == 0


def test_all_owners_failing_is_no_success(weir: Weir, shop: Shop) -> None:
    shop.closed_for = {"ann", "bob"}
    weir.produce("--once")
    facts = Polls(weir.settings.home / "state", "toys").read()
    assert (facts.problem, facts.last_success) == ("no owner could be fetched", None)


def test_loop_polls_until_told_to_stop_and_outlives_a_failed_poll_and_a_torn_list(weir: Weir, shop: Shop) -> None:
    shop.stop_at, shop.list_breaks_after = 4, 2
    with capture_logs() as logs:
        said = weir.published()
    assert (said["toys"], len(shop.asked)) == (3, 4)
    polled = [line for line in logs if line["event"] == "polled"]
    assert [(line["toys"], line["owners"], line["new"], line["unchanged"]) for line in polled] == [(3, 2, 3, 0)] + [(0, 2, 0, 3)] * 3
    torn = "the list of owners cannot be read: continuing with the owners of the last poll"
    assert [line["reason"] for line in logs if line["event"] == torn] == ["the list is torn"] * 2

    shop.is_closed, shop.list_breaks_after = True, 1_000
    shop.asked.clear()

    def reopen() -> None:  # the writer flushes at the end of the poll that failed
        shop.is_closed, shop.stop_at = False, 2

    weir.kafka.on_flush = reopen
    with capture_logs() as logs:
        assert weir.published()["toys"] == 0
    failed = next(line for line in logs if line["event"] == "poll failed")
    assert (failed["source"], failed["reason"]) == ("toys", "the shop is closed")


def test_change_upstream_is_dated_without_a_timetable(weir: Weir, shop: Shop) -> None:
    weir.published("--once")
    before = Polls(weir.settings.home / "state", "toys").read()
    shop.prices["bob"]["ball"] = 5.0
    with capture_logs() as logs:
        weir.published("--once")
    (line,) = [line for line in logs if line["event"] == "polled"]
    assert (line["changed"], line["upstream"]) == (1, "new upstream")
    assert Polls(weir.settings.home / "state", "toys").read().upstream_changed == before.last_success


def test_call_that_gets_no_answer_is_repeated_and_counted(weir: Weir, shop: Shop) -> None:
    def counted() -> list[float]:
        outcomes = [sample("weir_producer_calls_total", outcome=outcome) for outcome in ("ok", "unavailable")]
        return [*outcomes, sample("weir_producer_retries_total")]

    before = counted()
    shop.stumbles = 2
    weir.published("--once")
    assert [there - here for here, there in zip(before, counted(), strict=True)] == [2, 2, 2]


def test_metrics_carry_the_sources_name(weir: Weir, shop: Shop) -> None:
    names = ["weir_producer_messages_total", "weir_producer_delivery_failures_total"]
    kinds = ["new", "unchanged", "changed"]
    before = [sample(name) for name in names] + [sample("weir_producer_readings_total", kind=kind) for kind in kinds]
    weir.published("--once")
    shop.prices["ann"]["ball"] = 2.0
    weir.published("--once")
    after = [sample(name) for name in names] + [sample("weir_producer_readings_total", kind=kind) for kind in kinds]
    assert [there - here for here, there in zip(before, after, strict=True)] == [4, 0, 3, 2, 1]
    assert sample("weir_producer_last_success_timestamp_seconds") > 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("toys", "--since", "2024-01-01"), "toys provides current records only: leave out --since"),
        (("toys", "--replay", "letters"), "toys does not support recorded answers: leave out --replay"),
        (("toys", "--once", "--only", "eve"), "--locations eve: no such owner in the shop's book; it has ann, bob"),
        (("written-toys", "--replay", "letters", "--since", "2024-01-01"), "records of written-toys have no event time: leave out --since"),
        (("written-toys", "--replay", "letters", "--speed", "60x"), "records of written-toys have no event time: leave out --since"),
        (("dolls",), "'dolls' is not a source; expected one of "),
    ],
)
def test_what_a_source_cannot_do_is_refused_in_a_sentence(
    arguments: tuple[str, ...], text: str, weir: Weir, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.SOURCES, "written-toys", "tests.support.toy_sources:WRITTEN_TOYS")
    done = CliRunner().invoke(app, [*arguments], obj=weir.settings)
    assert (done.exit_code, text in done.stderr) == (2, True), done.stderr
    assert (weir.kafka.sent, shop.asked, (weir.settings.home / "state").exists()) == ([], [], False)


def test_recorded_answers_are_published_and_leave_memory_and_cursors_alone(
    weir: Weir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.SOURCES, "written-toys", "tests.support.toy_sources:WRITTEN_TOYS")
    letters = tmp_path / "letters"
    letters.write_text("bob\neve\nbob\n")
    done = CliRunner().invoke(app, ["written-toys", "--replay", str(letters)], obj=weir.settings)
    assert done.exit_code == 0, done.exception
    assert done.stdout == "2 toys of 1 owner(s) published to toys.owned.v1; 1 answer(s) skipped, no known owner: eve\n"
    assert weir.sent == [("bob", "ball", 4.0)] * 2
    assert not (tmp_path / "state").exists()


def test_record_that_promises_a_past_its_client_lacks_is_an_error_and_publishes_nothing(
    weir: Weir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toys, "TOYS", replace(TOYS, ranges=Ranges("all days", lambda owners, since, until, today: len(owners))))
    done = weir.produce("--since", "2024-01-01", "--until", "2024-01-02")
    assert isinstance(done.exception, NoRangeError)
    assert str(done.exception) == "toys provides current records only, not those of 2024-01-01 to 2024-01-02"
    assert (weir.sent, weir.cursors()) == ([], {})


def test_domain_can_be_filled_from_its_source_when_that_has_a_history(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(histories()) == ["air_quality"]

    def open_past(settings: Settings, stop: Stop) -> History:
        raise AssertionError("nobody asks for it")

    monkeypatch.setattr(toys, "WRITTEN_TOYS", replace(TOYS, history=open_past))
    monkeypatch.setitem(registry.SOURCES, "toys", "tests.support.toy_sources:WRITTEN_TOYS")
    assert list(histories()) == ["air_quality", "toys"]
    assert histories()["toys"] is open_past


def test_registered_name_is_the_sources_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.SOURCES, "dolls", "tests.support.toy_sources:TOYS")
    with pytest.raises(AssertionError, match="has the name 'toys', but is registered as 'dolls'"):
        load_source("dolls")


def test_refusal_of_everything_ends_the_command_with_its_error(weir: Weir, shop: Shop) -> None:
    shop.is_closed = True
    done = weir.produce("--once")
    assert isinstance(done.exception, ClosedError)
    assert isinstance(done.exception, WeirError)
