"""Do our counts equal those of a real answer of Kaggle? The dataset search of August 2024 says owner, counts and tags of each dataset."""

from collections import Counter

import pyarrow as pa
import pytest

from lakehouse.domains.kaggle.domain import kaggle
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.rules import RULE
from tests.kaggle import august
from tests.kaggle.dumps import messages
from tests.kaggle.in_memory import assert_right, bronze_of, derive, judged, rows

KAGGLE = kaggle("names")
BRONZE = bronze_of(KAGGLE, messages([august.dump()]))


@pytest.fixture(scope="module")
def made() -> dict[str, pa.Table]:
    return derive(KAGGLE, BRONZE, DuckEngine())


def test_what_it_lists_twice_is_rejected_and_nothing_else() -> None:
    found = judged(KAGGLE, BRONZE, DuckEngine())
    rejected = {name: Counter(rule for rule in table[RULE].to_pylist() if rule) for name, table in found.items()}
    assert rejected == {name: Counter() for name in found} | {"kaggle_dataset_tags": Counter(repeated_tag=10)}
    assert found["kaggle_dataset_tags"].num_rows == 210


def test_tags_are_counted_as_in_the_answer(made: dict[str, pa.Table]) -> None:
    # One slug of Kaggle has more than letters, digits and hyphens.
    counted = Counter(tag["slug"].replace(" > ", "-") for one in august.answer() for tag in one["tags"])
    assert dict(rows(made, "gold.dim_tag", "tag", "datasets")) == counted
    assert {tag: count for tag, _, count in rows(made, "gold.fact_tag_usage_daily", "tag", "date_key", "datasets")} == counted
    top = sorted(counted.items(), key=lambda one: (-one[1], one[0]))[:20]
    assert sorted(rows(made, "gold.report_top_tags", "place", "tag", "datasets"), key=lambda row: row[0]) == [
        (place, tag, count) for place, (tag, count) in enumerate(top, 1)
    ]
    # Of 38 datasets, popular is from 4 on, and no tag is used by as few as 1 %.
    assert {popularity for count, popularity in rows(made, "gold.dim_tag", "datasets", "popularity") if count > 3} == {"popular"}
    assert {popularity for count, popularity in rows(made, "gold.dim_tag", "datasets", "popularity") if count <= 3} == {"common"}


def test_owners_have_the_datasets_views_and_downloads_of_the_answer(made: dict[str, pa.Table]) -> None:
    expected: dict[int, list[int]] = {}
    for one in august.answer():
        sums = expected.setdefault(one["owner_user_id"], [0, 0, 0])
        for n, value in enumerate((1, one["views"], one["downloads"])):
            sums[n] += value
    found = rows(made, "gold.fact_dataset_owner_daily", "owner_user_id", "datasets_total", "views", "downloads")
    assert {owner: sums for owner, *sums in found} == expected
    assert 0 not in {sk for (sk,) in rows(made, "gold.fact_dataset_owner_daily", "user_sk")}, "every owner is a user of the dump"


def test_the_independent_sql_agrees(made: dict[str, pa.Table]) -> None:
    assert_right(KAGGLE, BRONZE, made)
