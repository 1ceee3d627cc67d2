"""Does polling the dataset list by Kaggle's own client, over HTTP, publish what changed and what is absent, whatever the server does?"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from deploy.local.services.kaggle_list_server import Fault, KaggleListServer, Row, read_snapshots
from lakehouse.domains.kaggle.listing.contract import DATASET_LIST, DATASET_LIST_POLLS
from lakehouse.settings import Settings
from producers.budget import Budget
from producers.call_errors import BrokenAnswerError, LimitError, RefusedError, UnavailableError
from producers.cursor import Cursors
from producers.intercepted import PortalError
from producers.kafka_writer import KafkaWriter
from producers.publish import Outcome, Publisher
from producers.published import Published
from producers.sources.kaggle import listing
from producers.sources.kaggle.listing import DatasetList, has_credentials, lacking
from producers.sources.kaggle.listing_polls import LIST_KEY, ListPolls, TheList, open_list_budget
from producers.sources.kaggle.listing_state import ListState
from producers.sources.kaggle.source import KAGGLE_LIST
from tests.support.producers import FakeKafka, FakeTime

ROOT = Path(__file__).parents[3]
RECORDED = ROOT / "tests" / "data" / "kaggle" / "dataset_list.jsonl.gz"
START = datetime(2025, 7, 4, 1, 16, 12, tzinfo=UTC)


def row(number: int, title: str = "") -> Row:
    return {
        "ref": f"owner-{number}/slug-{number}",
        "title": title or f"Title {number}",
        "url": f"https://www.kaggle.com/datasets/owner-{number}/slug-{number}",
    }


def refs(*numbers: int) -> list[str]:
    return [f"owner-{number}/slug-{number}" for number in numbers]


class Poller:
    """The publisher with Kaggle's client, a home of its own, a clock that sleeping moves on, and a Kafka client without Kafka."""

    def __init__(self, server: KaggleListServer, home: Path) -> None:
        self.server, self.home = server, home
        self.time = FakeTime(now=START)
        self.kafka, self.notices = FakeKafka(topic=DATASET_LIST.topic), FakeKafka(topic=DATASET_LIST_POLLS.topic)
        self.outcome = Outcome(KAGGLE_LIST)
        self.budget: Budget | None = None
        self.read_seconds = 5.0

    def poll(self, after: timedelta = timedelta(minutes=15)) -> list[dict[str, Any]]:
        """Poll once; give the rows that were sent."""
        self.time.now += after
        self.kafka.sent.clear()
        self.notices.sent.clear()
        state, clock = self.home / "state", self.time.clock
        with DatasetList(self.server.url, "hottest", clock, budget=self.budget, read_seconds=self.read_seconds) as api:
            publisher = Publisher(
                KAGGLE_LIST,
                ListPolls(api, ListState(state), clock),
                KafkaWriter(self.kafka, DATASET_LIST, "kaggle", "run"),
                Cursors(state, "kaggle"),
                Published(state, "kaggle", DATASET_LIST, "topic", KAGGLE_LIST.identity),
                clock,
                3,
            )
            publisher = replace(publisher, notices=KafkaWriter(self.notices, DATASET_LIST_POLLS, "kaggle", "run"))
            assert publisher.publish_latest([TheList("hottest")], self.outcome)
        return self.sent

    @property
    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(value) for _, value in self.kafka.sent if value is not None]

    @property
    def noticed(self) -> list[dict[str, Any]]:
        return [json.loads(value) for _, value in self.notices.sent if value is not None]


@pytest.fixture
def server() -> Iterator[KaggleListServer]:
    with KaggleListServer([row(n) for n in range(7)], page_rows=3) as server:
        yield server


@pytest.fixture
def poller(server: KaggleListServer, tmp_path: Path) -> Poller:
    return Poller(server, tmp_path)


def present(sent: Sequence[dict[str, Any]]) -> list[str]:
    return [one["ref"] for one in sent if not one["is_absent"]]


def absent(sent: Sequence[dict[str, Any]]) -> list[str]:
    return [one["ref"] for one in sent if one["is_absent"]]


def test_pages_are_followed_by_their_tokens_and_the_poll_is_noticed(server: KaggleListServer, poller: Poller) -> None:
    sent = poller.poll()
    assert present(sent) == refs(*range(7))
    assert [key for key, _ in poller.kafka.sent] == [ref.encode() for ref in refs(*range(7))]
    assert [("pageToken" in asked, asked.get("page")) for asked in server.asked] == [(False, 1), (True, None), (True, None)]
    (notice,) = poller.noticed
    assert {name: notice[name] for name in ("list_name", "is_complete", "rows", "absent", "pages")} == {
        "list_name": "datasets-hottest", "is_complete": True, "rows": 7, "absent": 0, "pages": 3,
    }  # fmt: skip
    assert Cursors(poller.home / "state", "kaggle").read() == {LIST_KEY: START + timedelta(minutes=15)}


def test_only_what_changed_is_sent_again(server: KaggleListServer, poller: Poller) -> None:
    poller.poll()
    assert poller.poll() == []
    assert len(poller.noticed) == 1
    server.rows[4] = row(4, "Another title")
    server.rows.append(row(9))
    assert present(poller.poll()) == refs(4, 9)
    assert poller.outcome.kinds["changed"] == 1


def test_absence_is_told_by_two_complete_polls_and_a_return_is_told(server: KaggleListServer, poller: Poller) -> None:
    poller.poll()
    gone = server.rows.pop(2)
    assert [(one["ref"], one["absent_polls"]) for one in poller.poll()] == [(gone["ref"], 1)]
    assert poller.noticed[0]["absent"] == 1
    assert [(one["ref"], one["absent_polls"]) for one in poller.poll()] == [(gone["ref"], 2)]
    assert poller.poll() == [], "a third absence says nothing new"
    server.rows.append(gone)
    assert present(poller.poll()) == [gone["ref"]]
    server.rows.pop()
    assert [one["absent_polls"] for one in poller.poll()] == [1], "it counts anew"


def test_recorded_lists_come_out_as_they_were_recorded(tmp_path: Path) -> None:
    first, *following = read_snapshots(RECORDED)
    with KaggleListServer(first, following, page_rows=50) as server:
        poller, state = Poller(server, tmp_path), {}
        for rows in (first, *following):
            for one in poller.poll(timedelta(days=9)):
                state[one["ref"]] = one
            there = {ref: one for ref, one in state.items() if not one["is_absent"]}
            assert {ref: (one["title"], one["url"]) for ref, one in there.items()} == {
                one["ref"]: (one["title"], one["url"]) for one in rows
            }
            server.next()
    assert set(server.credentials) == {"Basic d2Vpcjpub25l"}, "a server of this machine gets no credentials of Kaggle's"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(status=500), UnavailableError),
        (Fault(status=503, body=b"busy", headers={"Content-Type": "text/plain"}), UnavailableError),
        (Fault(keep_bytes=40), UnavailableError),
        (Fault(drop=True), UnavailableError),
        (Fault(body=b'{"datasets": ['), BrokenAnswerError),
        (Fault(body=b'"no object"'), BrokenAnswerError),
        (Fault(body=b'{"error": {"code": 500}}'), BrokenAnswerError),
        (Fault(body=b'{"datasets": [7]}'), BrokenAnswerError),
        (Fault(body=b'{"datasets": {"ref": 1}}'), BrokenAnswerError),
    ],
)
def test_one_fault_is_retried_and_one_that_stays_ends_the_poll_at_its_page(
    server: KaggleListServer, poller: Poller, fault: Fault, error: type[Exception]
) -> None:
    server.faults.extend([None, fault])
    assert len(poller.poll()) == 7
    gone = server.rows.pop(0)
    server.faults.extend([None, *[fault] * 5])
    with pytest.raises(error):
        poller.poll()
    assert poller.sent == []
    assert poller.noticed == [], "what was not read shows no absence"
    calls = len(server.asked)
    assert absent(poller.poll(timedelta(minutes=1))) == [gone["ref"]]
    assert len(server.asked) == calls + 1, "it went on at the second page, which is the last"


@pytest.mark.parametrize("body", [b"{}", b'{"datasets": null, "nextPageToken": ""}', b'{"datasets": []}'])
def test_page_without_a_list_is_the_end_only_where_it_stays_so(server: KaggleListServer, poller: Poller, body: bytes) -> None:
    bare = Fault(body=body)
    if body != b'{"datasets": []}':
        server.faults.extend([bare, None, bare])
        assert len(poller.poll()) == 7
        server.faults.extend([bare] * 5)
        with pytest.raises(BrokenAnswerError):
            poller.poll()
    server.faults.extend([None, None, None, *[bare] * 5])
    server.rows += [row(n) for n in range(7, 12)]
    # Kaggle shows ten thousand datasets at most; pages behind them are empty.
    assert len(present(poller.poll())) + (7 if body != b'{"datasets": []}' else 0) == 9
    assert [one["is_complete"] for one in poller.noticed] == [True]


def test_error_at_the_first_of_all_pages_leaves_nothing_behind(server: KaggleListServer, poller: Poller) -> None:
    server.faults.extend([Fault(status=502)] * 5)
    with pytest.raises(UnavailableError):
        poller.poll()
    assert len(poller.poll()) == 7


def test_no_answer_in_time_is_an_outage(server: KaggleListServer, poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    poller.read_seconds = 0.05
    monkeypatch.setattr("producers.calls.ATTEMPTS", 1)
    server.faults.extend([Fault(delay_seconds=0.3)] * 5)
    with pytest.raises(UnavailableError, match="no answer in time"):
        poller.poll()


def test_empty_list_is_not_believed(server: KaggleListServer, poller: Poller) -> None:
    poller.poll()
    server.rows.clear()
    with pytest.raises(BrokenAnswerError, match="empty"):
        poller.poll()
    assert poller.sent == []


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_end_it_without_a_retry_or_a_secret(server: KaggleListServer, poller: Poller, status: int) -> None:
    server.faults.append(Fault(status=status))
    with pytest.raises(RefusedError, match=f"refuses the credentials.*HTTP {status}") as caught:
        poller.poll()
    assert len(server.asked) == 1
    assert caught.value.__cause__ is None


def test_limit_is_waited_for_as_long_as_retry_after_says(server: KaggleListServer, poller: Poller) -> None:
    server.faults.extend([None, Fault(status=429, headers={"Retry-After": "17"})])
    assert len(poller.poll()) == 7
    (slept,) = poller.time.sleeps
    assert 17 <= slept <= 20


def test_limit_of_hours_ends_the_poll_which_goes_on_later(server: KaggleListServer, poller: Poller) -> None:
    server.faults.extend([None, Fault(status=429, headers={"Retry-After": "7200"})])
    with pytest.raises(LimitError):
        poller.poll()
    assert present(poller.sent) == refs(0, 1, 2)
    assert not poller.time.sleeps
    assert present(poller.poll(timedelta(minutes=50))) == refs(3, 4, 5, 6)


def test_log_in_page_is_no_answer_of_kaggle(server: KaggleListServer, poller: Poller) -> None:
    server.faults.append(Fault(body=b"<html><title>Log in to the network</title></html>", headers={"Content-Type": "text/html"}))
    with pytest.raises(PortalError, match="Log in to the network"):
        poller.poll()


def test_page_that_repeats_a_row_counts_it_once(server: KaggleListServer, poller: Poller) -> None:
    server.rows[1:1] = [row(0, "Title 0")]
    server.rows[5:5] = [row(0)]
    assert present(poller.poll()) == refs(*range(7))
    assert poller.noticed[0]["rows"] == 7


def test_list_that_moves_between_pages_makes_no_dataset_unlisted(server: KaggleListServer, poller: Poller) -> None:
    poller.poll()

    def lose_the_first() -> None:
        server.rows.append(server.rows.pop(0))

    server.faults.extend([None, Fault(before=lose_the_first)])
    # The row at the edge of two pages slipped to the page that had been read.
    assert absent(poller.poll()) == refs(3)
    assert present(poller.poll()) == refs(3)


def test_poll_that_began_long_ago_is_given_up_and_shows_nothing_of_what_is_absent(server: KaggleListServer, poller: Poller) -> None:
    poller.poll()
    gone = server.rows.pop(0)
    server.faults.extend([None, *[Fault(status=500)] * 5])
    with pytest.raises(UnavailableError):
        poller.poll()
    server.rows.insert(0, gone)
    with capture_logs() as logs:
        assert poller.poll(timedelta(hours=2)) == []
    assert [(one["is_complete"], one["pages"], one["rows"], one.get("absent")) for one in poller.noticed] == [
        (False, 1, 3, None),
        (True, 3, 7, 0),
    ]
    assert any("given up" in one["event"] for one in logs)


def test_token_that_is_no_longer_taken_begins_the_poll_anew(server: KaggleListServer, poller: Poller) -> None:
    server.faults.extend([None, *[Fault(status=500)] * 5])
    with pytest.raises(UnavailableError):
        poller.poll()
    server.faults.append(Fault(status=400))
    assert present(poller.poll(timedelta(minutes=1))) == refs(3, 4, 5, 6), "what was delivered is not sent again"
    assert [one["is_complete"] for one in poller.noticed] == [False, True]


def test_api_without_tokens_is_read_by_numbers(server: KaggleListServer, poller: Poller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE_SIZE", 3)
    monkeypatch.setattr("deploy.local.services.kaggle_list_server._token_of", lambda offset: "")
    assert present(poller.poll()) == refs(*range(7))
    assert [asked["page"] for asked in server.asked] == [1, 2, 3]


def test_row_without_a_usable_ref_reaches_the_rejects_and_disturbs_nothing(server: KaggleListServer, poller: Poller) -> None:
    server.rows[0] = {"title": "Nobody's", "url": None}
    server.rows[1] = {"ref": "no-slash", "title": "t"}
    sent = poller.poll()
    assert present(sent)[:2] == ["", "no-slash"]
    assert poller.poll() == []


def test_lost_state_begins_anew_and_says_so(server: KaggleListServer, poller: Poller) -> None:
    poller.poll()
    (poller.home / "state" / "kaggle.list.db").write_bytes(b"no database, but as long as one" * 40)
    with capture_logs() as logs:
        assert poller.poll() == [], "what was published is known to another file"
    assert any("state of the polled list was lost" in one["event"] for one in logs)


def test_calls_are_counted_by_the_minute(server: KaggleListServer, poller: Poller, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kaggle_url=server.url, kaggle_calls_per_minute=2, budget_path=str(tmp_path / "budget.db"))
    poller.budget = open_list_budget(settings, "poll", "test")
    assert len(poller.poll()) == 7
    assert len(poller.time.sleeps) == 1, "the third page waited for the next minute"


@pytest.mark.parametrize(
    ("environment", "file", "expected"),
    [
        ({}, "", False),
        ({"KAGGLE_USERNAME": "ann"}, "", False),
        ({"KAGGLE_USERNAME": "ann", "KAGGLE_KEY": "k"}, "", True),
        ({"KAGGLE_API_TOKEN": "t"}, "", True),
        ({}, ".kaggle/kaggle.json", True),
        ({}, ".kaggle/access_token", True),
        ({}, ".config/kaggle/kaggle.json", True),
    ],
)
def test_credentials_are_found_where_the_client_finds_them(tmp_path: Path, environment: dict[str, str], file: str, expected: bool) -> None:
    if file:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    assert has_credentials(environment, tmp_path) is expected


def test_without_credentials_it_says_why_it_is_not_polled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "no credentials for Kaggle" in lacking(Settings(home=tmp_path))
    assert lacking(Settings(home=tmp_path, kaggle_url="http://127.0.0.1:1")) == ""


def test_client_of_a_loopback_address_does_not_import_the_package_that_logs_in(server: KaggleListServer) -> None:
    code = (
        "import sys; from datetime import datetime, UTC; from producers.clock import Clock; "
        "from producers.sources.kaggle.listing import DatasetList; "
        f"DatasetList({server.url!r}, 'hottest', Clock(lambda: datetime.now(UTC), print)).page('', 1); print('kaggle' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
