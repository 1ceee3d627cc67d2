"""Which tables has a dump, in which form, and what is said of one that lacks files or columns?"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lakehouse.domains.kaggle.contract import DATASET_TAGS, DATASETS, USERS
from producers.dumps.archive import Limits, open_files
from producers.dumps.errors import MissingColumnError, TableError, UnusableDumpError
from producers.dumps.finding import Lacking, Look, Readable, look, wanted_files
from producers.sources.kaggle.source import KAGGLE
from tests.support.dumps import Home, day, write_csv
from tests.support.kaggle_pair import read_head, write_pair
from tests.unit.producers.test_dumps import dataset, simple, user

# Source: the column lists of Meta Kaggle of 2022, which had no Country yet.
USERS_2022 = ("Id", "UserName", "DisplayName", "RegisterDate", "PerformanceTier")


def looked(folder: Path, is_partial: bool = False) -> Mapping[str, Look]:
    with open_files(folder, wanted_files(KAGGLE), folder, Limits(1, 1, 200)) as found:
        return look(KAGGLE, found, is_partial)


def forms(looks: Mapping[str, Look]) -> Iterator[str]:
    for one in looks.values():
        yield one.form.name if isinstance(one, Readable) else type(one).__name__


def test_both_forms_are_told_by_names_and_headers(tmp_path: Path) -> None:
    meta, _ = write_pair(tmp_path)
    assert list(forms(looked(meta))) == ["meta"] * 7
    dump = simple(tmp_path / "simple", [user(1)], [dataset(5)], [(5, "[]")])
    assert list(forms(looked(dump))) == ["simple", "simple", "simple"]
    for name in ("users", "datasets", "tags"):
        (dump / f"{name}.csv").rename(dump / f"{name.upper()}.CSV")
    assert list(forms(looked(dump))) == ["simple", "simple", "simple"]


def test_vocabulary_of_tags_is_not_taken_for_the_tags(tmp_path: Path) -> None:
    meta, _ = write_pair(tmp_path)
    (meta / "DatasetTags.csv").unlink()
    with pytest.raises(UnusableDumpError, match=r"the dump lacks dataset_tags \(DatasetTags.csv\); it has .*Tags.csv.*--partial"):
        looked(meta)
    assert looked(meta, is_partial=True)["dataset_tags"] == Lacking(("DatasetTags.csv",))


def test_both_kinds_of_tags_side_by_side_are_told_apart(tmp_path: Path) -> None:
    dump = simple(tmp_path / "simple", [user(1)], [dataset(5)], [(5, '["x"]')])
    write_csv(dump / "Tags.csv", *read_head("Tags.csv"))
    found = looked(dump)["dataset_tags"]
    assert isinstance(found, Readable)
    assert (found.form.name, [csv.name for csv in found.files.values()]) == ("simple", ["tags.csv"])


def test_dump_without_a_table_is_refused_and_names_it_and_partial_takes_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    dump = simple(tmp_path / "a", [user(1)], [dataset(5)], [(5, '["x"]')])
    home.publish(dump, day(1))
    (dump / "datasets.csv").unlink()
    (dump / "tags.csv").unlink()
    with pytest.raises(UnusableDumpError, match=r"lacks datasets \(.*\); dataset_tags \(.*\); it has users.csv. Get the missing files, or"):
        home.publish(dump, day(2))
    report = home.publish(dump, day(2), is_partial=True)
    assert {name: one.state for name, one in report.tables.items()} == {
        "users": "published",
        "datasets": "missing",
        "dataset_tags": "missing",
    }
    assert len(home.topics.rows(DATASETS.topic)) == len(home.topics.rows(DATASET_TAGS.topic)) == 1, "nothing of them counts as gone"
    with pytest.raises(UnusableDumpError, match="it has none of the files that are read"):
        home.publish(tmp_path, day(3), is_partial=True)


def test_form_that_has_no_such_table_does_not_need_it_and_one_that_has_it_does(tmp_path: Path) -> None:
    dump = simple(tmp_path / "simple", [user(1)], [dataset(5)], [(5, "[]")])
    assert set(looked(dump)) == {"users", "datasets", "dataset_tags"}
    meta, _ = write_pair(tmp_path)
    (meta / "Competitions.csv").unlink()
    with pytest.raises(UnusableDumpError, match=r"the dump lacks competitions \(Competitions.csv\); it has .*, or .* with --partial"):
        looked(meta)
    assert looked(meta, is_partial=True)["competitions"] == Lacking(("Competitions.csv",))
    for file in meta.iterdir():
        if file.name != "Organizations.csv":
            file.unlink()
    assert looked(meta, is_partial=True)["users"] == Lacking(("Users.csv",)), "named as in the form that is there"


def test_missing_required_column_is_named_beside_those_present(tmp_path: Path) -> None:
    dump = simple(tmp_path / "a", [user(1)], [dataset(5)], [(5, "[]")])
    write_csv(dump / "users.csv", ("Id", "RegisterDate", "Country"), [])
    write_csv(dump / "tags.csv", ("DatasetId", "Tag"), [])
    looks = looked(dump)
    assert "users.csv: no column UserName; it has Id, RegisterDate, Country." in str(looks["users"])
    assert "tags.csv: no column Tags; it has DatasetId, Tag." in str(looks["dataset_tags"])
    meta, _ = write_pair(tmp_path)
    write_csv(meta / "Users.csv", [name for name in read_head("Users.csv")[0] if name != "DisplayName"], [])
    found = looked(meta)["users"]
    assert isinstance(found, MissingColumnError)
    assert "Users.csv: no column DisplayName; it has Id, UserName, RegisterDate," in str(found)


def test_header_that_names_a_column_twice_or_is_missing_is_an_error(tmp_path: Path) -> None:
    dump = simple(tmp_path / "a", [user(1)], [dataset(5)], [(5, "[]")])
    write_csv(dump / "users.csv", ("Id", "id", "UserName", "RegisterDate", "Country"), [])
    (dump / "datasets.csv").write_bytes(b"")
    looks = looked(dump)
    assert isinstance(looks["users"], TableError)
    assert "the header names Id, id twice" in str(looks["users"])
    assert "datasets.csv is empty, expected a header" in str(looks["datasets"])


def test_dump_of_2022_in_another_order_reads_the_same(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    dump = tmp_path / "a"
    write_csv(dump / "users.csv", reversed(USERS_2022), [(5, "03/24/2011", "Ann", "ann", "1.0")])  # type: ignore[arg-type]  # read once
    report = home.publish(dump, day(1), is_partial=True)
    (row,) = home.topics.rows(USERS.topic)
    assert (row["user_id"], row["user_name"], row["performance_tier"], row.get("country")) == (1, "ann", 5, None)
    assert report.tables["users"].form == "meta"


def test_unknown_column_is_kept_and_reported_and_a_change_of_it_is_a_change(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for nth, karma in enumerate(("7", "7", "8"), start=1):
        dump = simple(tmp_path / str(nth), [], [dataset(5)], [(5, '["x"]')])
        write_csv(dump / "users.csv", ("Id", "Karma", "UserName", "RegisterDate", "Country", 'Od"d'), [(1, karma, "ann", "", "", "")])
        report = home.publish(dump, day(nth))
        assert report.tables["users"].unknown_columns == {"users.csv": ("Karma", 'Od"d')}
    assert [row["other_columns"] for row in home.topics.rows(USERS.topic)] == ['{"Karma":"7"}', '{"Karma":"8"}']


def test_partial_dump_without_versions_keeps_the_titles_that_are_known(tmp_path: Path) -> None:
    home = Home(tmp_path / "home", limit_percent=100)
    first, second = write_pair(tmp_path)
    home.publish(first, day(1))
    titles = {row["dataset_id"]: row["title"] for row in home.topics.drain(DATASETS.topic)}
    (first / "DatasetVersions.csv").unlink()
    with pytest.raises(UnusableDumpError, match=r"the dump lacks datasets \(DatasetVersions.csv\)"):
        home.publish(first, day(2))
    home.publish(first, day(2), is_partial=True)
    assert home.topics.drain(DATASETS.topic) == []
    (second / "DatasetVersions.csv").unlink()
    home.publish(second, day(3), is_partial=True)
    found = {row["dataset_id"]: row for row in home.topics.drain(DATASETS.topic) if not row["is_gone"]}
    assert {number: row.get("title") for number, row in found.items()} == {13: titles[13], 14: titles[14], 77: None}


def test_file_whose_name_is_a_pattern_is_read_as_itself(tmp_path: Path) -> None:
    home = Home(tmp_path / "it's [a] home*")
    home.publish(simple(tmp_path / "du?mp ['1*]", [user(1)]), day(1))
    assert [row["user_id"] for row in home.topics.rows(USERS.topic)] == [1]
