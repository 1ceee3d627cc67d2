"""Kaggle's tables on Spark and Iceberg: stream = batch = DuckDB's own SQL, whatever the order, repetition, cutting and crashes."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from functools import reduce
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lakehouse.counts import Applied
from lakehouse.domain import Derived, Source
from lakehouse.domains.kaggle.domain import kaggle
from lakehouse.spark import iceberg_table
from streaming.errors import RejectRateExceeded
from streaming.refine import SOURCE, refine_body
from tests.kaggle.dumps import Dump, competition, competition_tag, dataset, kernel, messages, organization, tagged, user
from tests.kaggle.home import SOURCES, KaggleHome, some_batches
from tests.kaggle.listings import BEGIN, Said, missed, seen
from tests.support.law import Crash, assert_law, crash_at

Make = Callable[..., KaggleHome]
WAYS = pytest.mark.parametrize("from_memory", [True, False], ids=["from memory", "by MERGE"])
ONE, TWO, THREE = (date(2025, 3, day) for day in (1, 8, 15))
FIRST = Dump.of(
    ONE,
    users=[user(1), user(2)],
    datasets=[dataset(1, 1), dataset(2, 1, is_private=True), dataset(3, 9)],
    dataset_tags=[*tagged(1, "Python", "image data"), *tagged(2, "python")],
)


@pytest.fixture
def make(session: SparkSession, tmp_path: Path) -> Make:
    return lambda **how: KaggleHome(session, tmp_path, **how)


def test_stream_equals_batch_and_duckdb_in_any_order_with_repeats_and_crashes(make: Make) -> None:
    chance = random.Random(1)
    assert_law(make(), some_batches(chance, 14), chance, batches=14)


def test_a_dataset_that_changes_its_owner_leaves_the_old_one_and_a_late_owner_is_named(make: Make) -> None:
    home = make()
    second = Dump.of(TWO, users=[user(1, "renamed"), user(2), user(9, "late")], datasets=[dataset(1, 2), dataset(3, 9)], dataset_tags=[])
    home.dump(FIRST)
    assert home.rows("silver.kaggle_datasets", "dataset_id", "owner_user_name") == [(1, "user-1"), (2, "user-1"), (3, "Unknown")]
    home.publish(list(messages([FIRST, second]))[len(list(messages([FIRST]))) :])
    assert home.rows("silver.kaggle_datasets", "dataset_id", "owner_user_name") == [(1, "user-2"), (3, "late")]
    assert home.rows("gold.fact_dataset_owner_daily", "owner_user_id", "date_key", "datasets_total", "datasets_private") == [
        (1, 20250301, 2, 1),
        (2, 20250308, 1, 0),
        (9, 20250301, 1, 0),
        (9, 20250308, 1, 0),
    ]
    assert home.rows("gold.bridge_dataset_tag") == []
    assert home.rows("gold.dim_user", "user_id", "user_name", "is_current") == [
        (-1, "Unknown", True),
        (1, "renamed", True),
        (1, "user-1", False),
        (2, "user-2", True),
        (9, "late", True),
    ]
    home.assert_right()


@WAYS
def test_a_process_killed_between_silver_and_gold_forgets_no_old_owner(
    make: Make, monkeypatch: pytest.MonkeyPatch, from_memory: bool
) -> None:
    home = make(from_memory=from_memory)
    home.dump(FIRST)
    source = home.domain.sources[1]
    moved = home.land(source, [dataset(1, 2) | Dump(TWO).run, {"dataset_id": 2, **Dump(TWO).run, "is_gone": True}])
    crash_at(monkeypatch, "silver.merged")
    with pytest.raises(Crash):
        home.take(moved, source)
    monkeypatch.undo()
    home.restart()
    home.publish([("dumps", {"table_name": "datasets", **Dump(TWO).run})])
    assert home.rows("gold.fact_dataset_owner_daily", "owner_user_id", "date_key", "datasets_total") == [
        (1, 20250301, 2),
        (2, 20250308, 1),
        (9, 20250301, 1),
        (9, 20250308, 1),
    ]
    home.assert_right()


def test_a_listed_dataset_is_unlisted_by_two_polls_and_finds_its_late_dump(make: Make) -> None:
    home = make()
    polls = [BEGIN + timedelta(hours=n) for n in range(4)]
    home.publish([seen("User-1/data-1", polls[0]), seen("ghost/data-2", polls[0]), missed("ghost/data-2", polls[1])])
    assert home.rows("gold.dim_listed_dataset", "ref", "dataset_id", "status") == [
        ("User-1/data-1", None, "listed"),
        ("ghost/data-2", None, "absent"),
    ]
    home.dump(Dump.of(ONE, users=[user(1)], datasets=[dataset(1, 1, slug="data-1"), dataset(2, 5, slug="data-2")], dataset_tags=[]))
    home.publish([missed("ghost/data-2", polls[2], 2)])
    expected = [("User-1/data-1", 1, "listed"), ("ghost/data-2", None, "unlisted")]
    assert home.rows("gold.dim_listed_dataset", "ref", "dataset_id", "status") == expected
    # The owner comes under a name that the list has, and the other dataset goes to another owner.
    home.publish([("users", user(5, "ghost") | Dump(TWO).run), ("datasets", dataset(1, 5, slug="data-1") | Dump(TWO).run)])
    home.publish([seen("ghost/data-2", polls[3], "Back")])
    assert home.rows("gold.dim_listed_dataset", "ref", "dataset_id", "status") == [
        ("User-1/data-1", None, "listed"),
        ("ghost/data-2", 2, "listed"),
    ]


@WAYS
def test_a_fact_keeps_the_run_that_wrote_it_until_its_figures_change(make: Make, from_memory: bool) -> None:
    home = make(from_memory=from_memory)
    home.query = "first"
    home.dump(FIRST)
    home.query = "second"
    # All days of the owner are computed again, and only the new one differs.
    home.publish([("datasets", dataset(2, 1, total_views=7) | Dump(TWO).run), ("dumps", {"table_name": "datasets", **Dump(TWO).run})])
    assert home.rows("gold.fact_dataset_owner_daily", "owner_user_id", "date_key", "views", "pipeline_run_id") == [
        (1, 20250301, 300, "first"),
        (1, 20250308, 107, "second"),
        (9, 20250301, 300, "first"),
        (9, 20250308, 300, "second"),
    ]
    home.query = "third"
    home.publish([("datasets", dataset(2, 1, total_views=8) | Dump(ONE, hour=7).run)])
    runs = home.rows("gold.fact_dataset_owner_daily", "owner_user_id", "date_key", "views", "pipeline_run_id")
    assert runs[:2] == [(1, 20250301, 108, "third"), (1, 20250308, 107, "second")]
    home.assert_right()


def test_a_competition_that_changes_its_year_leaves_the_old_one_and_a_late_organization_is_named(make: Make) -> None:
    home = make()
    home.query = "first"
    home.dump(
        Dump.of(
            ONE,
            competitions=[competition(1, 2022, organization_id=7), competition(2, 2023), competition(3, 2023)],
            competition_tags=[competition_tag(1, 6), competition_tag(1, 5), competition_tag(9, 5)],
            kernels=[kernel(1), kernel(2, None)],
        )
    )
    home.query = "second"
    home.publish(
        [
            ("organizations", organization(7) | Dump(TWO).run),
            ("competitions", competition(3, 2024, reward_type="InKind") | Dump(TWO).run),
            ("competitions", competition(9, 2020, total_teams=None) | Dump(TWO).run),
        ]
    )
    years = ("year", "total_competitions", "growth_percent", "rewards_usd", "pipeline_run_id")
    assert home.rows("gold.fact_competitions_yearly", *years) == [
        (2020, 1, None, Decimal(1000), "second"),
        (2022, 1, None, Decimal(1000), "first"),
        (2023, 1, 0.0, Decimal(1000), "second"),
        (2024, 1, 0.0, Decimal(0), "second"),
    ]
    assert home.rows("gold.dim_competition", "competition_id", "organization_name", "tags", "is_reward_at_odds")[0] == (
        1,
        "Org 7",
        "tag-5, tag-6",
        False,
    )
    assert home.rows("silver.kaggle_competition_tags", "competition_id", "is_competition_known") == [(1, True), (1, True), (9, True)]
    assert home.rows("silver.kaggle_kernels", "kernel_id", "kernel_age_days") == [(1, 416)]
    home.assert_right()


def test_a_home_of_the_version_before_gets_the_new_tables_and_goes_on(make: Make) -> None:
    now = kaggle("names")
    known = now.sources[:4]
    names = {source.silver.name for source in known}
    derived: list[Derived] = []
    for one in now.derived:
        if all(reads.table.name in names for reads in one.reads):
            derived.append(one)
            names.add(one.table.name)
    home = make(domain=replace(now, sources=known, derived=tuple(derived)))
    assert len(names) < len(list(now.merged))
    home.dump(FIRST)
    heads = {name: iceberg_table(home.session, name).currentSnapshot().snapshotId() for name in names}
    home.restart(now)
    home.dump(Dump.of(TWO, competitions=[competition(1)], kernels=[kernel(1)]))
    assert home.rows("gold.fact_competitions_yearly", "year", "total_competitions") == [(2024, 1)]
    noted = {name for name in names if iceberg_table(home.session, name).currentSnapshot().snapshotId() != heads[name]}
    # Dumps of the other tables are days of no owner and no tag.
    assert noted <= {"lh.silver.kaggle_dumps"}
    home.assert_right()


def test_a_late_dump_comes_between_those_that_are_there(make: Make) -> None:
    home = make()
    between = Dump.of(TWO, users=[user(1, "between"), user(2)])
    home.dump(FIRST)
    home.publish([("users", user(1, "last") | Dump(THREE).run), ("dumps", {"table_name": "users", **Dump(THREE).run})])
    home.publish([("users", {**row, **between.run}) for row in between.tables["users"].values()])
    spans = home.session.table("lh.gold.dim_user").where("user_id = 1").orderBy("effective_start_ts").collect()
    assert [(row["user_name"], row["is_current"]) for row in spans] == [("user-1", False), ("between", False), ("last", True)]
    assert [one["effective_end_ts"] for one in spans[:2]] == [other["effective_start_ts"] for other in spans[1:]]
    home.assert_right()


def test_a_message_again_under_another_offset_changes_no_table(make: Make) -> None:
    home = make()
    others = Dump.of(
        ONE,
        competitions=[competition(1)],
        organizations=[organization(1)],
        competition_tags=[competition_tag(1, 5)],
        kernels=[kernel(1)],
    )
    listed = [seen("user-1/data", BEGIN), missed("user-1/data", BEGIN + timedelta(hours=1))]
    poll: Said = ("dataset_list_polls", {"list_name": "datasets-hottest", "poll_ts": BEGIN, "ended_ts": BEGIN, "is_complete": True})
    home.dump(FIRST, others)
    home.publish([*listed, poll])
    # No dataset of the dump has a slug, so none has an address.
    tables = [table.name for table in home.domain.merged if table.name != "lh.silver.kaggle_dataset_refs"]
    before = {name: iceberg_table(home.session, name).currentSnapshot().snapshotId() for name in tables}
    home.restart()
    home.dump(FIRST, others)
    home.publish([*listed, poll])
    assert {name: iceberg_table(home.session, name).currentSnapshot().snapshotId() for name in tables} == before
    assert json.loads(iceberg_table(home.session, "lh.gold.dim_user").currentSnapshot().summary()["weir.made-of"])


def test_a_table_that_the_breaker_refuses_holds_no_other_back(make: Make) -> None:
    home = make()
    frames = []
    for number, source in enumerate(home.domain.sources):
        records = [record for name, record in messages([FIRST]) if name == SOURCES[number]]
        frames.append(home.land(source, records).selectExpr(f"{number} AS {SOURCE}", f"struct(*) AS _rows_{number}"))
    rows = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)

    def judge(source: Source, _: int, met: Applied) -> None:
        if source.name == "kaggle_users":
            raise RejectRateExceeded("kaggle", source.name, 2, 2, 10, met.rejected)

    with pytest.raises(RejectRateExceeded, match="kaggle_users"):
        refine_body(lambda: home.domain, lambda _: None, judge)(rows, 0)
    assert home.rows("silver.kaggle_users_versions") == []
    assert home.rows("silver.kaggle_datasets", "dataset_id", "owner_user_name") == [(1, "Unknown"), (2, "Unknown"), (3, "Unknown")]
    refine_body(lambda: home.domain, lambda _: None)(rows, 0)
    assert home.rows("silver.kaggle_datasets", "owner_user_name") == [("Unknown",), ("user-1",), ("user-1",)]
    home.assert_right()
