"""Kaggle's histories, dimensions and facts by DuckDB alone: whatever the order of the versions, and whatever is repeated."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.domains.kaggle.contract import CountryProfile
from lakehouse.domains.kaggle.domain import kaggle
from lakehouse.engine.on_duckdb import DuckEngine
from tests.kaggle.dumps import Dump, dataset, messages, tagged, user
from tests.kaggle.in_memory import assert_right, bronze_of, derive, rows
from tests.kaggle.made_up import shuffled, some_dumps

KAGGLE = kaggle("names")
ONE, TWO, THREE = (date(2025, 3, day) for day in (1, 8, 15))
OPEN = datetime(9999, 12, 31, tzinfo=UTC)


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckEngine]:
    engine = DuckEngine()
    yield engine
    engine.close()


@given(seed=st.integers(0, 2**32), profile=st.sampled_from(["names", "strict"]))
@settings(max_examples=20)
def test_any_order_and_repetition_of_the_messages_gives_the_same_rows_and_those_of_the_independent_sql(
    engine: DuckEngine, seed: int, profile: CountryProfile
) -> None:
    chance, domain = random.Random(seed), kaggle(profile)
    said = list(messages(some_dumps(chance)))
    in_order = derive(domain, bronze_of(domain, said), engine)
    bronze = bronze_of(domain, shuffled(said, chance))
    made = derive(domain, bronze, engine)
    for name, table in made.items():
        assert sorted(map(repr, table.to_pylist())) == sorted(map(repr, in_order[name].to_pylist())), name
    assert_right(domain, bronze, made)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=25)
def test_spans_of_a_user_do_not_overlap_have_no_gap_while_the_user_is_there_and_one_is_current(engine: DuckEngine, seed: int) -> None:
    chance = random.Random(seed)
    said = [(name, record) for name, record in messages(some_dumps(chance)) if name == "users"]
    made = derive(KAGGLE, bronze_of(KAGGLE, shuffled(said, chance)), engine)
    versions: dict[int, list[dict[str, Any]]] = {}
    for row in made["lh.silver.kaggle_users_versions"].to_pylist():
        versions.setdefault(row["user_id"], []).append(row)
    spans: dict[int, list[dict[str, Any]]] = {}
    for row in made["lh.gold.dim_user"].to_pylist():
        spans.setdefault(row["user_id"], []).append(row)
    assert len({row["user_sk"] for known in spans.values() for row in known}) == sum(map(len, spans.values()))
    assert spans.pop(-1)[0]["user_sk"] == 0
    for number, known in versions.items():
        known.sort(key=lambda row: row["run_date"])
        found = sorted(spans.pop(number, []), key=lambda row: row["effective_start_ts"])
        for one, other in pairwise(found):
            assert one["effective_end_ts"] <= other["effective_start_ts"], "no overlap"
        present = [row for row in known if not row["is_gone"]]
        for row in present:  # each version lies in exactly one span, which has its name
            within = [span for span in found if span["effective_start_ts"] <= row["run_ts"] < span["effective_end_ts"]]
            assert [span["user_name"] for span in within] == [row["user_name"]]
        for row in known:
            if row["is_gone"]:
                assert not any(span["effective_start_ts"] <= row["run_ts"] < span["effective_end_ts"] for span in found)
        assert sum(span["is_current"] for span in found) == (0 if known[-1]["is_gone"] else 1)
        assert all(span["is_current"] == (span["effective_end_ts"] == OPEN) for span in found)
        ends = {span["effective_end_ts"] for span in found} - {OPEN}
        assert ends <= {row["run_ts"] for row in known}, "a span ends where another version begins"
        # No gap: a span ends where the next begins, or where the user has gone.
        gone = {row["run_ts"] for row in known if row["is_gone"]}
        assert ends <= gone | {span["effective_start_ts"] for span in found}
    assert not spans


def test_an_owner_is_unknown_until_the_user_comes_and_a_fact_has_the_name_of_its_day(engine: DuckEngine) -> None:
    dumps = [
        Dump.of(ONE, datasets=[dataset(1, 7)]),
        Dump.of(TWO, users=[user(7, "early")], datasets=[dataset(1, 7)]),
        Dump.of(THREE, users=[user(7, "late")], datasets=[dataset(1, 7), dataset(2, 7, is_private=True)]),
    ]
    made = derive(KAGGLE, bronze_of(KAGGLE, messages(dumps)), engine)
    names = dict(rows(made, "gold.dim_user", "user_sk", "user_name"))
    days = rows(made, "gold.fact_dataset_owner_daily", "date_key", "user_sk", "datasets_total", "datasets_private", "datasets_public")
    assert [(day, names[sk], *counts) for day, sk, *counts in days] == [
        (20250301, "Unknown", 1, 0, 1),
        (20250308, "early", 1, 0, 1),
        (20250315, "late", 2, 1, 1),
    ]
    first = derive(KAGGLE, bronze_of(KAGGLE, messages(dumps[:1])), engine)
    assert rows(first, "silver.kaggle_datasets", "owner_user_name", "owner_country_code", "is_owner_known") == [("Unknown", "XX", False)]
    assert rows(made, "silver.kaggle_datasets", "owner_user_name", "owner_country_code") == [("late", "VN"), ("late", "VN")]


def test_a_dataset_that_moves_leaves_its_owner_and_one_that_goes_leaves_its_tags(engine: DuckEngine) -> None:
    dumps = [
        Dump.of(ONE, datasets=[dataset(1, 1), dataset(2, 1)], dataset_tags=[*tagged(1, "Python"), *tagged(2, "python ", "Java")]),
        Dump.of(TWO, datasets=[dataset(1, 2), dataset(2, 1)], dataset_tags=[*tagged(1, "Python"), *tagged(2, "python ", "Java")]),
        Dump.of(THREE, datasets=[dataset(1, 2)], dataset_tags=[*tagged(1, "Python"), *tagged(2, "Java")]),
    ]
    made = derive(KAGGLE, bronze_of(KAGGLE, messages(dumps)), engine)
    assert rows(made, "gold.fact_dataset_owner_daily", "owner_user_id", "date_key", "datasets_total") == [
        (1, 20250301, 2),
        (1, 20250308, 1),
        (2, 20250308, 1),
        (2, 20250315, 1),
    ]
    assert rows(made, "gold.fact_tag_usage_daily", "tag", "date_key", "datasets", "datasets_total") == [
        ("java", 20250301, 1, 2),
        ("java", 20250308, 1, 2),
        ("python", 20250301, 2, 2),
        ("python", 20250308, 2, 2),
        ("python", 20250315, 1, 1),
    ]
    assert rows(made, "gold.bridge_dataset_tag", "dataset_id", "tag") == [(1, "python")], "the tag of a dataset that has gone has gone"
    assert rows(made, "gold.report_top_tags", "place", "tag", "datasets") == [(1, "python", 1)]
    assert rows(made, "gold.dim_tag", "tag", "datasets") == [("java", 0), ("python", 1)], "facts of earlier days find it"


def test_classes_of_popularity_lie_above_their_bounds(engine: DuckEngine) -> None:
    # Of 1,200 datasets: 10 % are 120, 1 % are 12.
    counts = {"popular": 121, "common-high": 120, "common": 13, "regular": 12, "regular-low": 11, "rare": 10}
    tags = [row for tag, count in counts.items() for number in range(count) for row in tagged(number, tag)]
    dump = Dump.of(ONE, datasets=[dataset(number, 1) for number in range(1200)], dataset_tags=tags)
    made = derive(KAGGLE, bronze_of(KAGGLE, messages([dump])), engine)
    expected = [
        ("common", "common"),
        ("common-high", "common"),
        ("popular", "popular"),
        ("rare", "rare"),
        ("regular", "regular"),
        ("regular-low", "regular"),
    ]
    for name in ("silver.kaggle_tags", "gold.dim_tag", "gold.fact_tag_usage_daily"):
        assert rows(made, name, "tag", "popularity") == expected, name


def test_days_are_counted_to_the_dump_and_what_is_missing_is_flagged(engine: DuckEngine) -> None:
    made_ts = datetime(2024, 12, 31, 23, 59, tzinfo=UTC)
    dump = Dump.of(
        ONE,
        users=[user(1, signup_ts=None, country=None)],
        datasets=[
            dataset(1, 1, created_ts=made_ts, updated_ts=made_ts + timedelta(minutes=1), total_views=30, total_downloads=4),
            dataset(2, 1, created_ts=None, is_private=None, total_views=None, total_downloads=None),
        ],
    )
    made = derive(KAGGLE, bronze_of(KAGGLE, messages([dump])), engine)
    columns = ("dataset_age_days", "last_update_days", "has_missing_dates", "views_per_download", "total_views", "is_views_imputed")
    assert rows(made, "silver.kaggle_datasets", "dataset_id", "is_private", "is_private_imputed", *columns) == [
        (1, False, False, 60, 59, False, 7.5, 30, False),
        (2, False, True, None, 413, True, None, 0, True),
    ]
    assert rows(made, "silver.kaggle_users", "country_code", "is_country_missing", "signup_ts", "is_signup_imputed") == [
        (None, True, datetime(2025, 3, 1, 6, tzinfo=UTC), True)
    ]
