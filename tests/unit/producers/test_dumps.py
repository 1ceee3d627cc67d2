"""Does the topic say what a dump says, row by row, and is nothing lost or told twice? Without Kafka."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse import failpoints
from lakehouse.contract import Contract
from lakehouse.domains.kaggle.contract import DATASET_TAGS, DATASETS, DUMPS, USERS
from lakehouse.rules import Rule, contract_rules
from producers.dumps.errors import AnotherRunError, NoRoomError
from producers.kafka_writer import DeliveryError
from producers.stopping import StoppedError
from tests.support.dumps import Home, Row, day, write_csv

SIMPLE_USERS = ("Id", "UserName", "RegisterDate", "Country")
SIMPLE_DATASETS = (
    "Id",
    "Title",
    "Subtitle",
    "CreatorUserId",
    "TotalViews",
    "TotalDownloads",
    "CreationDate",
    "LastUpdatedDate",
    "Type",
    "IsPrivate",
)
SIMPLE_TAGS = ("DatasetId", "Tags")
Rows = Iterable[Sequence[object]]
STAMPS = {"run_date", "run_ts", "source_file", "source_system", "is_gone"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", limit_percent=100)


def simple(folder: Path, users: Rows = (), datasets: Rows = (), tags: Rows = ()) -> Path:
    """Write a dump of the simple form."""
    write_csv(folder / "users.csv", SIMPLE_USERS, users)
    write_csv(folder / "datasets.csv", SIMPLE_DATASETS, datasets)
    write_csv(folder / "tags.csv", SIMPLE_TAGS, tags)
    return folder


def user(number: int, name: str = "ann", country: str = "") -> tuple[object, ...]:
    return (number, name, "01/31/2010", country)


def dataset(number: int, title: str = "A title", views: object = 7) -> tuple[object, ...]:
    return (number, title, "", 1, views, 0, "01/31/2010 07:08:09", "2011-02-01", "Dataset", "False")


def values(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in STAMPS}


def applied(state: dict[Any, Row], messages: list[dict[str, Any]], *key: str) -> dict[Any, Row]:
    """Apply the messages of a dump to the rows before it."""
    after = dict(state)
    for message in messages:
        names = tuple(message.get(name) for name in key)
        if message["is_gone"]:
            del after[names]
        else:
            after[names] = values(message)
    return after


@pytest.mark.parametrize("name", ["a'b \\ c", "a?b[1]*", "a?b \\ [c] {d,e}'"])
def test_folders_may_have_any_name(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path / name / "home", limit_percent=100)
    for number, last in ((1, 2), (2, 3)):
        home.publish(simple(tmp_path / f"{name} {number}", [user(1), user(last)], [dataset(5)], [(5, '["x"]')]), day(number))
    assert [row["user_id"] for row in home.topics.drain(USERS.topic)] == [1, 2, 3, 2]


def test_first_dump_is_whole_and_the_next_brings_only_what_differs(home: Home, tmp_path: Path) -> None:
    home.publish(simple(tmp_path / "a", [user(1), user(2), user(3)], [dataset(5)], [(5, '["x","y"]')]), day(1))
    topics = home.topics
    assert [row["user_id"] for row in topics.drain(USERS.topic)] == [1, 2, 3]
    assert [row["tag"] for row in topics.drain(DATASET_TAGS.topic)] == ["x", "y"]
    (row,) = topics.drain(DATASETS.topic)
    assert row == {
        "dataset_id": 5,
        "title": "A title",
        "owner_user_id": 1,
        "creator_user_id": 1,
        "dataset_type": "Dataset",
        "is_private": False,
        "created_ts": 1264921689000,
        "updated_ts": 1296518400000,
        "total_views": 7,
        "total_downloads": 0,
        "run_date": "2025-08-01",
        "run_ts": 1754049600000,
        "source_file": "datasets.csv",
        "source_system": "kaggle_meta",
        "is_gone": False,
    }
    assert [(row["table_name"], row["rows"], row["added"]) for row in topics.drain(DUMPS.topic)] == [
        ("users", 3, 3),
        ("datasets", 1, 1),
        ("dataset_tags", 2, 2),
    ]

    report = home.publish(simple(tmp_path / "b", [user(4), user(2, "bob"), user(1)], [dataset(5)], [(5, '["y"]')]), day(2))
    assert [(row["user_id"], row["user_name"], row["is_gone"], row["run_date"]) for row in topics.drain(USERS.topic)] == [
        (4, "ann", False, "2025-08-02"),
        (2, "bob", False, "2025-08-02"),
        (3, "ann", True, "2025-08-02"),
    ]
    assert topics.drain(DATASETS.topic) == []
    assert [(row["dataset_id"], row["tag"], row["is_gone"]) for row in topics.drain(DATASET_TAGS.topic)] == [(5, "x", True)]
    users = report.tables["users"]
    assert (users.added, users.changed, users.gone, users.delivered, users.input) == (1, 1, 1, 3, 3)
    assert [(row["rows"], row["added"], row["changed"], row["gone"]) for row in topics.drain(DUMPS.topic)] == [
        (3, 1, 1, 1),
        (1, 0, 0, 0),
        (1, 0, 0, 1),
    ]

    home.publish(tmp_path / "b", day(3))
    assert set(topics.sent) == {DUMPS.topic}


CELLS = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6))
USERS_OF_A_DUMP = st.dictionaries(st.integers(1, 12), st.tuples(CELLS, st.sampled_from(["01/31/2010", "", "nonsense"]), CELLS), max_size=8)
TAGS_OF_A_DUMP = st.dictionaries(st.integers(1, 4), st.lists(st.sampled_from(["a", "b", "ü", ""]), max_size=4), max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dumps=st.lists(st.tuples(USERS_OF_A_DUMP, TAGS_OF_A_DUMP), min_size=2, max_size=3))
def test_events_applied_to_the_dump_before_give_the_dump(tmp_path_factory: pytest.TempPathFactory, dumps: list[Any]) -> None:

    folder = tmp_path_factory.mktemp("dumps")
    home = Home(folder / "home", limit_percent=100)
    users: dict[Any, Row] = {}
    tags: dict[Any, Row] = {}
    for nth, (people, listed) in enumerate(dumps, start=1):
        rows = [(number, name, at, country) for number, (name, at, country) in people.items()]
        dump = simple(folder / str(nth), rows, [], [(number, json.dumps(names)) for number, names in listed.items()])
        home.publish(dump, day(nth))
        users = applied(users, home.topics.drain(USERS.topic), "user_id")
        first = [row for row in home.topics.drain(DATASET_TAGS.topic) if row["occurrence"] == 1]
        tags = applied(tags, first, "dataset_id", "tag")
        whole = Home(folder / f"home that knows nothing {nth}", limit_percent=100)
        whole.publish(dump, day(nth))
        assert users == applied({}, whole.topics.drain(USERS.topic), "user_id")
        first = [row for row in whole.topics.drain(DATASET_TAGS.topic) if row["occurrence"] == 1]
        assert tags == applied({}, first, "dataset_id", "tag")
        assert set(tags) == {(number, name) for number, names in listed.items() for name in names}


def test_dirty_rows_reach_the_topic_as_they_stand(home: Home, tmp_path: Path) -> None:
    dump = simple(
        tmp_path / "a",
        [user(1), ("", "no id", "01/31/2010", ""), ("x7", "text for id", "31.01.2010", "Atlantis")],
        [dataset(5, title=""), dataset(6, views=-3), dataset(7, views="many"), dataset(8, views="1e3")],
        [(5, '["a", null, ""]'), (6, "python"), (7, ""), (8, "[]")],
    )
    report = home.publish(dump, day(1))
    users = home.topics.drain(USERS.topic)
    assert [values(row) for row in users[1:]] == [
        {"user_name": "no id", "signup_ts": 1264896000000},
        {"user_id": "x7", "user_name": "text for id", "signup_ts": "31.01.2010", "country": "Atlantis"},
    ]
    datasets = home.topics.rows(DATASETS.topic)
    assert [(row.get("title"), row["total_views"]) for row in datasets] == [
        (None, 7),
        ("A title", -3),
        ("A title", "many"),
        ("A title", "1e3"),
    ]
    assert [values(row) for row in home.topics.drain(DATASET_TAGS.topic)] == [
        {"dataset_id": 5, "tag": "a", "occurrence": 1},
        {"dataset_id": 5, "occurrence": 1},
        {"dataset_id": 5, "tag": "", "occurrence": 1},
        {"dataset_id": 6, "occurrence": 1, "other_columns": '{"Tags":"python"}'},
        {"dataset_id": 7, "occurrence": 1},
    ]
    assert report.tables["users"].reasons == {"no_key": 1, "wrong_type": 1}
    assert report.tables["datasets"].reasons == {"wrong_type": 2, "out_of_range": 1}
    assert report.tables["dataset_tags"].reasons == {"no_key": 3}
    assert report.tables["users"].without_key == 2
    assert [key for key, _ in home.topics.sent[DATASETS.topic]] == [b"5", b"6", b"7", b"8"]

    home.publish(dump, day(2))
    assert USERS.topic not in home.topics.sent, "a bad row that is as it was is not sent again"


def test_lines_that_are_no_rows_go_out_as_they_are(home: Home, tmp_path: Path) -> None:
    dump = simple(tmp_path / "a", [user(1)])
    with (dump / "users.csv").open("ab") as file:
        file.write(b"2,too few\n3,too,many,columns,here\n4,b\xffd,01/31/2010,\n5,fine,01/31/2010,\n")
    report = home.publish(dump, day(1)).tables["users"]
    assert [row["user_id"] for row in home.topics.rows(USERS.topic)] == [1, 5]
    assert [value for key, value in home.topics.sent[USERS.topic] if key is None] == [
        b"2,too few",
        b"3,too,many,columns,here",
        b"4,b?d,01/31/2010,",
    ]
    assert (report.input, report.rejects, report.broken_lines, report.reasons) == (5, 3, 3, {"unparsable": 3})


def test_quote_that_is_never_closed_stops_the_table_and_names_the_line(home: Home, tmp_path: Path) -> None:
    dump = simple(tmp_path / "a", [user(1)], [dataset(5)])
    with (dump / "users.csv").open("a") as file:
        file.write('2,"ann,01/31/2010,\n3,ann,01/31/2010,\n')
    report, said = home.report(dump, day(1))
    assert "users.csv, line 3: a quoted value begins here and does not end as one" in said
    assert (report.tables["users"].state, report.tables["datasets"].state) == ("failed", "published")
    assert USERS.topic not in home.topics.sent


def test_of_rows_with_one_id_the_last_wins_and_is_reported(home: Home, tmp_path: Path) -> None:
    report = home.publish(simple(tmp_path / "a", [user(1, "old"), user(2), user(1, "older"), user(1, "new")]), day(1)).tables["users"]
    assert [(row["user_id"], row["user_name"]) for row in home.topics.drain(USERS.topic)] == [(2, "ann"), (1, "new")]
    assert (report.input, report.output, report.repeated) == (4, 2, 2)


def test_tag_that_is_listed_twice_comes_with_its_occurrence_and_its_second_goes_silently(home: Home, tmp_path: Path) -> None:
    home.publish(simple(tmp_path / "a", tags=[(5, '["x","y","x"]')]), day(1))
    assert [(row["tag"], row["occurrence"]) for row in home.topics.drain(DATASET_TAGS.topic)] == [("x", 1), ("y", 1), ("x", 2)]
    home.publish(simple(tmp_path / "b", tags=[(5, '["x","y"]')]), day(2))
    assert home.topics.drain(DATASET_TAGS.topic) == []
    home.publish(simple(tmp_path / "c", tags=[(5, '["y"]')]), day(3))
    assert [(row["tag"], row["occurrence"], row["is_gone"]) for row in home.topics.drain(DATASET_TAGS.topic)] == [("x", 1, True)]


def test_table_with_too_many_bad_rows_stops_alone_and_goes_on_when_it_is_better(home: Home, tmp_path: Path) -> None:
    home.limit_percent = 10
    bad = simple(tmp_path / "a", [user(1)], [dataset(n, views="x" if n < 3 else 1) for n in range(1, 11)], [(5, '["x"]')])
    report, said = home.report(bad, day(1))
    assert "2 of 10 rows break a rule (wrong_type 2), more than 10 %, so nothing of the table was published" in said
    assert [report.tables[name].state for name in ("users", "datasets", "dataset_tags")] == ["published", "stopped", "published"]
    assert DATASETS.topic not in home.topics.sent
    assert [row["table_name"] for row in home.topics.drain(DUMPS.topic)] == ["users", "dataset_tags"]
    summary = report.as_dict()
    assert summary["tables"]["datasets"]["top_reasons"] == [{"reason": "wrong_type", "rows": 2}]
    assert {name: summary["summary"][name] for name in ("input", "output", "rejects", "rate")} == {
        "input": 12,
        "output": 10,
        "rejects": 2,
        "rate": 0.166667,
    }
    # One of ten is not more than 10 %.
    home.publish(simple(tmp_path / "b", [user(1)], [dataset(n, views="x" if n < 2 else 1) for n in range(1, 11)], [(5, '["x"]')]), day(2))
    assert len(home.topics.drain(DATASETS.topic)) == 10


def test_dump_without_most_rows_of_the_one_before_is_taken_for_cut(home: Home, tmp_path: Path) -> None:
    home.publish(simple(tmp_path / "a", [user(n) for n in range(120)], [dataset(n) for n in range(99)]), day(1))
    home.topics.sent.clear()
    cut = simple(tmp_path / "b", [user(n) for n in range(59)], [dataset(1)])
    report, said = home.report(cut, day(2))
    assert "61 of the 120 rows of the last delivered dump are not in this one, more than 50 %" in said
    assert (report.tables["users"].state, report.tables["users"].gone) == ("stopped", 61)
    assert report.tables["datasets"].gone == 98, "of few rows any share may go"
    assert USERS.topic not in home.topics.sent
    assert home.publish(simple(tmp_path / "c", [user(n) for n in range(60)], [dataset(1)]), day(3)).tables["users"].gone == 60
    home.gone_percent = 100
    assert home.publish(simple(tmp_path / "d", [user(1)], [dataset(1)]), day(4)).tables["users"].gone == 59


def test_domains_own_rules_judge_and_one_that_is_not_judged_stops_nothing(home: Home, tmp_path: Path) -> None:
    home.limit_percent = 10
    short = Rule("short_name", "reject", "is_gone IS NOT TRUE AND length(`user_name`) < 4 AND kafka_ts IS NULL", "'short'", is_judged=False)

    def rules(contract: Contract) -> list[Rule]:
        return [*contract_rules(contract), short] if contract is USERS else contract_rules(contract)

    home.rules_of = rules
    assert home.publish(simple(tmp_path / "a", [user(1), user(2, "benedict")]), day(1)).tables["users"].reasons == {"short_name": 1}


def test_late_dump_is_published_whole_and_does_not_undo_the_later_one(home: Home, tmp_path: Path) -> None:
    home.publish(simple(tmp_path / "a", [user(1, "x"), user(2)]), day(1))
    home.publish(simple(tmp_path / "c", [user(1, "x"), user(2)]), day(5))
    home.topics.sent.clear()
    report = home.publish(simple(tmp_path / "b", [user(1, "y"), user(2), user(3)]), day(3)).tables["users"]
    said = home.topics.drain(USERS.topic)
    assert [(row["user_id"], row["user_name"], row["run_date"], row["is_gone"]) for row in said] == [
        (1, "y", "2025-08-03", False),
        (2, "ann", "2025-08-03", False),
        (3, "ann", "2025-08-03", False),
        (1, "x", "2025-08-05", False),  # it was left out on the 5th, as unchanged since the 1st
        (3, "ann", "2025-08-05", True),
    ]
    assert report.late
    (notice,) = [row for row in home.topics.drain(DUMPS.topic) if row["table_name"] == "users"]
    assert ("added" in notice, notice["rows"]) == (False, 3)
    home.publish(tmp_path / "c", day(6))
    assert home.topics.drain(USERS.topic) == [], "the kept dump is still the later one"


def test_another_dump_of_the_same_moment_is_stamped_later(home: Home, tmp_path: Path) -> None:
    for nth, name in enumerate(("x", "y", "z")):
        home.publish(simple(tmp_path / name, [user(1, name)]), day(1))
        (row,) = home.topics.drain(USERS.topic)
        assert (row["user_name"], row["run_ts"]) == (name, 1754049600000 + nth)
    home.publish(tmp_path / "z", day(1))
    assert home.topics.drain(USERS.topic) == []


def test_another_topic_or_broker_has_nothing_yet(home: Home, tmp_path: Path) -> None:
    dump = simple(tmp_path / "a", [user(1)])
    home.publish(dump, day(1))
    home.topic_id = "another"
    home.publish(dump, day(2))
    assert [row["run_date"] for row in home.topics.drain(USERS.topic)] == ["2025-08-01", "2025-08-02"]


def test_damaged_memory_is_told_and_only_repeats(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump = simple(tmp_path / "a", [user(1)])
    home.publish(dump, day(1))
    (path,) = (home.folder / "state" / "kaggle.dumps").glob("users.*.parquet")
    path.write_bytes(b"no parquet at all")
    home.publish(dump, day(2))
    assert len(home.topics.drain(USERS.topic)) == 2
    assert "the last delivered dump was lost" in capsys.readouterr().out


def test_memory_of_another_release_of_duckdb_is_compared_by_values(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("duckdb.__version__", "1.0")
        patched.setattr("producers.dumps.staging.Stage._hash", lambda _: "CAST(7 AS UBIGINT) AS _hash")
        home.publish(simple(tmp_path / "a", [user(1), user(2)]), day(1))
    home.topics.sent.clear()
    home.publish(simple(tmp_path / "b", [user(1), user(2, "bob")]), day(2))
    assert [row["user_id"] for row in home.topics.drain(USERS.topic)] == [2]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("point", ["producer.sent", "producer.reported", "dump.noticed", "dump.kept"])
@pytest.mark.parametrize("nth", [1, 2])
def test_kill_anywhere_repeats_rows_and_loses_none(
    point: str, nth: int, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.publish(simple(tmp_path / "a", [user(1), user(2)], [dataset(5)]), day(1))
    after = simple(tmp_path / "b", [user(1, "new"), user(3)], [dataset(5, "Another")], [(5, '["x"]')])
    left = {point: nth}

    def reach(here: failpoints.Point) -> None:
        left[here] = left.get(here, 0) - 1
        if here == point and left[here] == 0:
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(failpoints, "reach", reach)
        home.publish(after, day(2))
    home.publish(after, day(2))
    state: dict[Any, Row] = {}
    for row in home.topics.rows(USERS.topic):
        state[row["user_id"]] = row
    assert {number: (row["user_name"], row["is_gone"]) for number, row in state.items()} == {
        1: ("new", False),
        2: ("ann", True),
        3: ("ann", False),
    }
    assert [row["title"] for row in home.topics.rows(DATASETS.topic)][-1] == "Another"
    assert [row["tag"] for row in home.topics.rows(DATASET_TAGS.topic)][-1] == "x"
    assert {(row["table_name"], row["run_date"]) for row in home.topics.rows(DUMPS.topic)} == {
        (name, f"2025-08-0{number}") for name in ("users", "datasets", "dataset_tags") for number in (1, 2)
    }
    # Versions of one key say the same however often they were sent.
    for topic in (USERS.topic, DATASETS.topic):
        found: dict[Any, Row] = {}
        for row in home.topics.rows(topic):
            key = (row.get("user_id"), row.get("dataset_id"), row["run_ts"])
            assert found.setdefault(key, row) == row
    assert not (home.folder / "state" / "kaggle.dumps" / "scratch").exists()


def test_what_kafka_did_not_take_is_sent_again(home: Home, tmp_path: Path) -> None:
    dump = simple(tmp_path / "a", [user(n) for n in range(1, 6)])
    for taken in (0, 3, 5):  # the fifth is the last row, the sixth the notice
        home.topics.fail_from = home.topics.count + taken
        with pytest.raises(DeliveryError):
            home.publish(dump, day(1))
        home.topics.sent.clear()
    home.topics.fail_from = None
    home.publish(dump, day(1))
    assert [row["user_id"] for row in home.topics.drain(USERS.topic)] == [1, 2, 3, 4, 5]


def test_two_runs_at_once_are_refused(home: Home, tmp_path: Path) -> None:
    with home.kept.held(), pytest.raises(AnotherRunError, match="another process publishes a dump of kaggle"):
        home.publish(simple(tmp_path / "a"), day(1))


def test_stopped_run_keeps_nothing_of_the_table_and_the_next_one_sends_it_all(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.dumps.difference.BATCH", 2)
    dump = simple(tmp_path / "a", [user(n) for n in range(1, 6)])

    def stop() -> None:
        if len(home.topics.sent.get(USERS.topic, [])) >= 2:
            raise StoppedError("stopped")

    home.check_stop = stop
    with pytest.raises(StoppedError):
        home.publish(dump, day(1))
    assert len(home.topics.drain(USERS.topic)) == 2
    home.check_stop = lambda: None
    home.publish(dump, day(1))
    assert [row["user_id"] for row in home.topics.drain(USERS.topic)] == [1, 2, 3, 4, 5]


def test_dump_that_does_not_fit_into_memory_says_what_to_set(home: Home, tmp_path: Path) -> None:
    home.memory = "1MB"
    with pytest.raises(NoRoomError, match="Raise WEIR_DUCKDB_MEMORY"):
        home.publish(simple(tmp_path / "a", [user(n) for n in range(1, 2_000)]), day(1))
