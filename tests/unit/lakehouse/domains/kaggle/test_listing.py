"""Is a dataset listed, absent or unlisted as its messages say, in any order, and as the independent SQL says? Without a JVM."""

import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contract import Value
from lakehouse.domains.kaggle.domain import kaggle
from lakehouse.domains.kaggle.listing.domain import LIST_DERIVED
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.rules import RULE
from tests.kaggle.dumps import Dump, dataset, messages, organization, user
from tests.kaggle.in_memory import assert_right, bronze_of, derive, judged, rows
from tests.kaggle.listings import BEGIN, MadeUpList, Said, listed, missed, seen, some_polls
from tests.kaggle.made_up import FIRST

# The list's tables and those that they are made of: the others have tests of their own, and take their time.
NEEDED = (
    "kaggle_users",
    "kaggle_datasets_history",
    "kaggle_datasets",
    "kaggle_organizations",
    *(one.table.name.rpartition(".")[2] for one in LIST_DERIVED),
)
WHOLE = kaggle("names")
KAGGLE = replace(WHOLE, derived=tuple(one for one in WHOLE.derived if one.table.name.rpartition(".")[2] in NEEDED))
ENGINE = DuckEngine()
DAYS = [BEGIN + timedelta(days=n) for n in range(8)]


def made_of(said: Sequence[Said]) -> dict[str, pa.Table]:
    """Derive the tables, and compare them with the independent SQL."""
    bronze = bronze_of(KAGGLE, said)
    made = derive(KAGGLE, bronze, ENGINE)
    assert_right(KAGGLE, bronze, made)
    return made


def statuses(made: Mapping[str, pa.Table]) -> dict[str, str]:
    return dict(rows(made, "gold.dim_listed_dataset", "ref", "status"))


def test_second_absence_unlists_and_a_return_lists_again() -> None:
    a, b = "ann/data", "bob/cats"
    said = [seen(a, DAYS[0]), seen(b, DAYS[0]), missed(a, DAYS[1]), missed(b, DAYS[1])]
    assert statuses(made_of(said)) == {a: "absent", b: "absent"}
    said += [missed(a, DAYS[2], 2), missed(b, DAYS[2], 2)]
    assert statuses(made_of(said)) == {a: "unlisted", b: "unlisted"}
    said += [seen(b, DAYS[3]), missed(b, DAYS[4])]
    made = made_of(said)
    assert statuses(made) == {a: "unlisted", b: "absent"}
    found = dict(rows(made, "gold.dim_listed_dataset", "ref", "absent_since_ts"))
    assert found == {a: DAYS[1], b: DAYS[4]}


def test_absence_between_two_that_was_seen_does_not_add_up() -> None:
    said = [seen("ann/data", DAYS[0]), missed("ann/data", DAYS[1]), seen("ann/data", DAYS[2]), missed("ann/data", DAYS[3])]
    assert statuses(made_of(said)) == {"ann/data": "absent"}


def test_repeated_row_has_not_changed_and_another_title_has() -> None:
    said = [seen("ann/data", DAYS[0]), seen("ann/data", DAYS[1]), seen("ann/data", DAYS[2], "New"), seen("ann/data", DAYS[3], "New")]
    made = made_of(said)
    assert rows(made, "silver.kaggle_dataset_list", "title", "first_seen_ts", "last_changed_ts") == [("New", DAYS[0], DAYS[2])]


def test_dataset_that_only_was_absent_has_no_row() -> None:
    assert statuses(made_of([missed("ann/data", DAYS[1]), missed("ann/data", DAYS[2], 2)])) == {}


def test_dataset_of_a_later_dump_is_found_by_owner_and_slug_in_any_case() -> None:
    dumped = list(messages([Dump.of(FIRST, users=[user(7, "Ann")], datasets=[dataset(40, 7, slug="Data"), dataset(41, 9, slug="cats")])]))
    said = [seen("ann/data", DAYS[0]), seen("ghost/cats", DAYS[0])]
    assert rows(made_of(said), "gold.dim_listed_dataset", "ref", "dataset_id") == [("ann/data", None), ("ghost/cats", None)]
    # The owner of the other one has not come, so nothing tells its address.
    assert rows(made_of([*said, *dumped]), "gold.dim_listed_dataset", "ref", "dataset_id") == [("ann/data", 40), ("ghost/cats", None)]


def test_dataset_of_an_organization_is_found_by_the_organizations_slug_and_not_by_the_user_who_made_it() -> None:
    owned = dataset(40, 7, slug="data", owner_organization_id=3)
    first = Dump.of(FIRST, users=[user(7, "Ann")], datasets=[owned], organizations=[organization(4, slug="others")])
    second = Dump.of(FIRST + timedelta(days=1), organizations=[organization(3, slug="The-Org")])
    third = Dump.of(FIRST + timedelta(days=2), organizations=[organization(3, slug="renamed")])
    said = [seen("ann/data", DAYS[0]), seen("the-org/data", DAYS[0]), seen("Renamed/data", DAYS[0])]

    def found(*dumps: Dump) -> list[int | None]:
        ids = dict(rows(made_of([*said, *messages(dumps)]), "gold.dim_listed_dataset", "ref", "dataset_id"))
        return [ids[ref] for ref in ("ann/data", "the-org/data", "Renamed/data")]

    # The organization has not come yet.
    assert found(first) == [None, None, None]
    assert found(first, second) == [None, 40, None]
    assert found(first, second, third) == [None, None, 40]


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (seen("no-slash", DAYS[0]), "wrong_ref"),
        (seen("a/b/c", DAYS[0]), "wrong_ref"),
        (seen("", DAYS[0]), "wrong_ref"),
        (seen("a b/c", DAYS[0]), "wrong_ref"),
        (seen("/c", DAYS[0]), "wrong_ref"),
        (seen("ann/data", DAYS[0], ""), "no_title"),
        (seen("ann/data", DAYS[0], None), "no_title"),
        (seen("ann/data", DAYS[0], " "), "no_title"),
        (seen("ann/data", DAYS[0], seen_ts=DAYS[0] - timedelta(seconds=1)), "seen_before_the_poll"),
        (("dataset_list", {**missed("ann/data", DAYS[0])[1], "absent_polls": 0}), "out_of_range"),
        (missed("no-slash", DAYS[0]), "wrong_ref"),
        (missed("ann/data", DAYS[0]), None),
        (seen("ann/data", DAYS[0], url="https://elsewhere"), None),
        (seen("ann/data", DAYS[0]), None),
    ],
)
def test_row_is_rejected_with_its_rule(said: Said, rule: str | None) -> None:
    table = judged(KAGGLE, bronze_of(KAGGLE, [said]), ENGINE)["kaggle_dataset_list"]
    assert table[RULE].to_pylist() == [rule]


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
def test_any_order_and_repeats_give_what_the_independent_sql_gives(seed: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        said = some_polls(chance, Path(folder)).said
    made = made_of(said)
    mixed = [*said, *chance.sample(said, len(said) // 3)]
    chance.shuffle(mixed)
    again = derive(KAGGLE, bronze_of(KAGGLE, mixed), ENGINE)
    for name in ("silver.kaggle_dataset_list", "silver.kaggle_dataset_list_polls", "gold.dim_listed_dataset"):
        columns = made[f"lh.{name}"].column_names
        assert rows(again, name, *columns) == rows(made, name, *columns)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32))
def test_after_errors_and_kills_two_whole_polls_tell_the_truth(seed: int) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        polled = some_polls(chance, Path(folder), trouble=0.25)
        settle(polled, [listed("ann/data"), listed("o-2/cats-v2", "Quiet")])
        found = statuses(derive(KAGGLE, bronze_of(KAGGLE, polled.said), ENGINE))
        assert {ref for ref, status in found.items() if status == "listed"} == {"ann/data", "o-2/cats-v2"}
        assert set(found.values()) <= {"listed", "unlisted"}, "two complete polls did not find the others"
        polled.rows = polled.rows[:1]
        assert polled.poll()
        assert statuses(derive(KAGGLE, bronze_of(KAGGLE, polled.said), ENGINE))["o-2/cats-v2"] == "absent"
        polled.rows.append(listed("o-2/cats-v2", "Quiet"))
        assert polled.poll()
        assert statuses(made_of(polled.said))["o-2/cats-v2"] == "listed"


def settle(polled: MadeUpList, rows: list[dict[str, Value]]) -> None:
    """Let whole polls see one list."""
    polled.trouble, polled.move, polled.rows = 0.0, lambda: None, rows
    # The first may go on with an interrupted one, which saw what is no longer there.
    for _ in range(3):
        assert polled.poll()
