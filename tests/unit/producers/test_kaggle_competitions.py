"""Do competitions, organizations, competitions' tags and kernels of Meta Kaggle reach their topics as they stand? Without Kafka."""

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lakehouse.domains.kaggle.competitions.contract import COMPETITION_TAGS, COMPETITIONS
from lakehouse.domains.kaggle.domain import kaggle
from lakehouse.domains.kaggle.kernels.contract import KERNELS
from producers.dumps.errors import UnusableDumpError
from tests.support.dumps import Home, day, write_csv
from tests.support.kaggle_pair import EXPECTED, competitions, kernels, read_head, write_pair

RULES = {source.contract.topic: source.rules for source in kaggle("names").sources}
SAMPLE = Path(__file__).parents[2] / "data" / "kaggle" / "competitions" / "Competitions.csv"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home", limit_percent=100, rules_of=lambda contract: RULES[contract.topic])


def listed() -> tuple[list[str], list[list[str]]]:
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def without(rows: Sequence[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """Leave out what tells of the dump, and some columns."""
    stamps = ("run_date", "run_ts", "source_file", *names)
    return [{name: value for name, value in row.items() if name not in stamps} for row in rows]


def test_pair_of_dumps_brings_what_differs(home: Home, tmp_path: Path) -> None:
    first, second = write_pair(tmp_path)
    report = home.publish(first, day(1))
    assert {(one.state, one.rejects) for one in report.tables.values()} == {("published", 0)}
    home.topics.sent.clear()
    found = home.publish(second, day(2)).as_dict()["tables"]
    for name, figures in EXPECTED.items():
        assert {key: found[name][key] for key in figures} == figures, name
    said = home.topics.rows(COMPETITIONS.topic)
    assert [(row["competition_id"], row["is_gone"], row.get("other_columns")) for row in said] == [
        (2408, False, '{"Theme":"music"}'),
        (2435, False, None),
        (9999, False, None),
        (2438, True, None),
    ]


def test_competition_is_read_with_its_types(home: Home) -> None:
    home.publish(SAMPLE.parent, day(1), is_partial=True)
    row = home.topics.rows(COMPETITIONS.topic)[0]
    assert without([row]) == [
        {
            "competition_id": 2408,
            "slug": "Eurovision2010",
            "title": "Forecast Eurovision Voting",
            "subtitle": "This competition requires contestants to forecast the voting for this year's Eurovision Song Contest in Norway on "
            "May 25th, 27th and 29th.",
            "host_segment": "Featured",
            "enabled_ts": 1270627063000,
            "deadline_ts": 1274810400000,
            "reward_type": "USD",
            "reward_quantity": "1000.0000",
            "num_prizes": 1,
            "evaluation_metric": "AE",
            "only_kernel_submissions": False,
            "can_qualify_tiers": False,
            "total_teams": 22,
            "total_competitors": 25,
            "total_submissions": 22,
            "source_system": "kaggle_meta",
            "is_gone": False,
        }
    ]


def test_other_order_name_and_packing_read_the_same_and_what_is_optional_may_lack(home: Home, tmp_path: Path) -> None:
    home.publish(SAMPLE.parent, day(1), is_partial=True)
    first = without(home.topics.drain(COMPETITIONS.topic), "deadline_ts", "slug", "evaluation_metric")
    header, rows = listed()
    kept = [n for n, name in enumerate(header) if name not in ("DeadlineDate", "Slug", "EvaluationAlgorithmAbbreviation", "ForumId")][::-1]
    path = write_csv(tmp_path / "a" / "plain", [header[n] for n in kept], [[row[n] for n in kept] for row in rows])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "COMPETITIONS.CSV.GZ").write_bytes(gzip.compress(path.read_bytes()))
    other = Home(tmp_path / "other", limit_percent=100, rules_of=home.rules_of)
    report = other.publish(tmp_path / "b", day(1), is_partial=True).tables["competitions"]
    assert (report.form, report.files, report.rejects) == ("meta", ("COMPETITIONS.CSV",), 0)
    assert without(other.topics.rows(COMPETITIONS.topic)) == first


def test_column_without_which_the_figures_would_be_wrong_is_named(home: Home, tmp_path: Path) -> None:
    header, rows = listed()
    n = header.index("RewardQuantity")
    write_csv(tmp_path / "a" / "Competitions.csv", [*header[:n], *header[n + 1 :]], [[*row[:n], *row[n + 1 :]] for row in rows])
    _, said = home.report(tmp_path / "a", day(1), is_partial=True)
    assert "Competitions.csv: no column RewardQuantity; it has Id, Slug, Title, " in said
    assert COMPETITIONS.topic not in home.topics.sent


def test_header_of_2025_has_no_unknown_column(home: Home, tmp_path: Path) -> None:
    rows = competitions()
    write_csv(tmp_path / "a" / "Competitions.csv", list(rows[0]), [list(row.values()) for row in rows])
    report = home.publish(tmp_path / "a", day(1), is_partial=True).tables["competitions"]
    assert (report.input, report.rejects, report.unknown_columns) == (5, 0, {})


@pytest.mark.parametrize(("given", "found"), [("1e3", "1e3"), ("1.00001", "1.00001"), ("$5", "$5"), (" 5 ", "5.0000"), ("-5", "-5.0000")])
def test_reward_that_is_no_amount_is_rejected_and_kept_as_it_stands(home: Home, tmp_path: Path, given: str, found: str) -> None:
    rows = [competitions()[0] | {"RewardQuantity": given}]
    write_csv(tmp_path / "a" / "Competitions.csv", list(rows[0]), [list(row.values()) for row in rows])
    report = home.publish(tmp_path / "a", day(1), is_partial=True).tables["competitions"]
    assert report.reasons == ({} if given == " 5 " else {"out_of_range": 1} if given == "-5" else {"wrong_type": 1})
    assert [row["reward_quantity"] for row in home.topics.rows(COMPETITIONS.topic)] == [found]


def test_tags_without_the_vocabulary_are_known_by_number_and_keep_the_names_they_had(home: Home, tmp_path: Path) -> None:
    first, _ = write_pair(tmp_path)
    bare = tmp_path / "bare"
    write_csv(bare / "CompetitionTags.csv", ["Id", "CompetitionId", "TagId"], [(1, 2408, 1219), (7, 77, 1219)])
    # The tags of the simple form have the name of the vocabulary.
    write_csv(bare / "tags.csv", ["DatasetId", "Tags"], [(1, "[]")])
    other = Home(tmp_path / "other", limit_percent=100)
    other.publish(bare, day(1), is_partial=True)
    assert [(row["competition_id"], row["tag_id"], row.get("tag")) for row in other.topics.rows(COMPETITION_TAGS.topic)] == [
        (2408, 1219, None),
        (77, 1219, None),
    ]
    home.publish(first, day(1))
    home.topics.sent.clear()
    home.publish(bare, day(2), is_partial=True)
    said = home.topics.rows(COMPETITION_TAGS.topic)
    assert [(row["competition_id"], row["tag_id"], row.get("tag"), row["is_gone"]) for row in said] == [
        (77, 1219, None, False),
        (2435, 99999, None, True),
    ]


def test_kernel_has_title_and_language_of_its_current_version_and_keeps_them_where_a_partial_dump_lacks_those(
    home: Home, tmp_path: Path
) -> None:
    first, _ = write_pair(tmp_path)
    names = ("kernel_id", "title", "language", "language_name", "is_notebook")

    def languages(one: Home) -> list[tuple[Any, ...]]:
        return [tuple(row.get(name) for name in names) for row in one.topics.drain(KERNELS.topic)]

    home.publish(first, day(1))
    known = languages(home)
    assert known == [
        (1, "Title 205", "R", "R", False),
        (2, "Title 1748", "Python", "Python", False),
        (4, "Title 41", "R", "RMarkdown", False),
        (5, "Title 19", "Python", "IPython Notebook", True),
        (6, "Title 21", None, None, None),
    ]
    for number, name in enumerate(("KernelLanguages.csv", "KernelVersions.csv"), start=2):
        (first / name).unlink()
        with pytest.raises(UnusableDumpError, match=rf"the dump lacks kernels \(.*{name}"):
            home.publish(first, day(number))
        home.publish(first, day(number), is_partial=True)
        assert languages(home) == [], "nothing has changed"
        other = Home(tmp_path / name, limit_percent=100)
        other.publish(first, day(1), is_partial=True)
        is_titled = name == "KernelLanguages.csv"
        assert languages(other) == [(number, title if is_titled else None, None, None, None) for number, title, *_ in known]


def test_version_is_found_by_a_number_with_a_point_and_of_two_the_last_counts(home: Home, tmp_path: Path) -> None:
    listed, versions = kernels()
    versions += [versions[-5] | {"Id": "205.0", "Title": "again", "ScriptLanguageId": "9.0"}]
    header, languages = read_head("KernelLanguages.csv")
    for name, rows in (("Kernels", listed[:1]), ("KernelVersions", versions)):
        write_csv(tmp_path / "a" / f"{name}.csv", list(rows[0]), [list(row.values()) for row in rows])
    write_csv(tmp_path / "a" / "KernelLanguages.csv", header, languages)
    home.publish(tmp_path / "a", day(1), is_partial=True)
    (row,) = home.topics.rows(KERNELS.topic)
    assert (row["title"], row["language_name"]) == ("again", "IPython Notebook HTML")
