"""Do Kaggle's checks pass on what the transforms make, and does each fail on what it is about? In DuckDB, over tables made up."""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime

import duckdb
import pyarrow as pa
import pytest

from batch.check import specification_checks
from lakehouse.domain import Check
from lakehouse.domains.kaggle.domain import kaggle
from lakehouse.domains.kaggle.listing.domain import LIST_SOURCES
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.rules import RULE
from lakehouse.write.plain_rows import in_arrow
from tests.kaggle.dumps import Dump, competition, competition_tag, dataset, kernel, messages, organization, tagged, user
from tests.kaggle.in_memory import Message, bronze_of, derive, judged
from tests.kaggle.made_up import some_dumps

KAGGLE = kaggle("names")
CHECKS = {(check.table, check.name): check for check in KAGGLE.checks(None)}
YEARS, COMPETITIONS = "lh.gold.fact_competitions_yearly", "lh.gold.dim_competition"
# What a dump may break, whatever the transforms do.
OF_THE_SOURCE = (YEARS, "on average a competition has at least as many competitors as teams, where both are known")
OWNER_DAYS, USERS, BRIDGE = "lh.gold.fact_dataset_owner_daily", "lh.gold.dim_user", "lh.gold.bridge_dataset_tag"


@pytest.fixture
def lake() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; ATTACH ':memory:' AS lh")
        for schema in ("bronze", "silver", "gold", "ops"):
            connection.execute(f"CREATE SCHEMA lh.{schema}")
        yield connection


def fill(lake: duckdb.DuckDBPyConnection, said: list[Message]) -> None:
    """Put the tables of some messages into the lake."""
    engine = DuckEngine()
    bronze = bronze_of(KAGGLE, said)
    tables: dict[str, pa.Table] = {source.bronze.name: bronze[source.name] for source in KAGGLE.sources}
    tables |= derive(KAGGLE, bronze, engine)
    tables |= {table.name: in_arrow(table, rows) for table, rows in KAGGLE.dimensions}
    rejected = [
        {"domain": "kaggle", "topic": row["topic"], "partition": 0, "kafka_offset": row["kafka_offset"], "rule": row[RULE], "reason": ""}
        for verdicts in judged(KAGGLE, bronze, engine).values()
        for row in verdicts.to_pylist()
        if row[RULE]
    ]
    kinds = pa.schema([(name, pa.int64() if name in ("partition", "kafka_offset") else pa.string()) for name in (*REJECT,)])
    tables["lh.ops.rejects"] = pa.Table.from_pylist(rejected, kinds)
    for name, rows in tables.items():
        lake.register("rows_of_it", rows)
        lake.execute(f"CREATE TABLE {name} AS FROM rows_of_it")
    engine.close()


REJECT = ("domain", "topic", "partition", "kafka_offset", "rule", "reason")


def bad(lake: duckdb.DuckDBPyConnection, check: Check) -> int:
    rows: pa.Table = lake.sql(check.bad).to_arrow_table()
    return int(rows.num_rows)


def figures(lake: duckdb.DuckDBPyConnection, table: str) -> Mapping[str, int]:
    check = next(check for check in CHECKS.values() if check.table == table and check.groups)
    return dict(lake.execute(check.groups).fetchall())


@pytest.mark.parametrize("seed", range(5))
def test_all_checks_pass_on_what_the_transforms_make(lake: duckdb.DuckDBPyConnection, seed: int) -> None:
    fill(lake, list(messages(some_dumps(random.Random(seed)))))
    specified = [check for check in specification_checks(KAGGLE) if check.name != "there are rows"]
    checks = [check for name, check in CHECKS.items() if name != OF_THE_SOURCE]
    found = {(check.table, check.name): bad(lake, check) for check in (*checks, *specified) if not check.share}
    assert {one: count for one, count in found.items() if count} == {}


BREAKS = [
    ((OWNER_DAYS, "datasets_total is datasets_private and datasets_public"), f"UPDATE {OWNER_DAYS} SET datasets_public = 9"),
    ((OWNER_DAYS, "no figure is negative"), f"UPDATE {OWNER_DAYS} SET views = -1"),
    ((OWNER_DAYS, "every owner's day has a user_sk"), f"UPDATE {OWNER_DAYS} SET user_sk = NULL"),
    ((OWNER_DAYS, "the user is valid on the day"), f"UPDATE {OWNER_DAYS} SET user_sk = 0"),
    ((OWNER_DAYS, "every day is in dim_date"), f"UPDATE {OWNER_DAYS} SET date_key = 19990101"),
    ((USERS, "user_sk is one row's"), f"UPDATE {USERS} SET user_sk = 5"),
    ((USERS, "the unknown user is there"), f"DELETE FROM {USERS} WHERE user_sk = 0"),
    ((USERS, "spans of a user do not overlap"), f"UPDATE {USERS} SET effective_end_ts = '9999-01-01'"),
    ((USERS, "a span ends after it begins"), f"UPDATE {USERS} SET effective_end_ts = effective_start_ts"),
    ((USERS, "a user who is there has one current row, and one who has gone has none"), f"UPDATE {USERS} SET is_current = false"),
    ((USERS, "every user has a name, a country and a user_sk"), f"UPDATE {USERS} SET country_code = NULL"),
    ((BRIDGE, "every tag is in dim_tag"), "DELETE FROM lh.gold.dim_tag"),
    ((BRIDGE, "every dataset is in dim_dataset"), "DELETE FROM lh.gold.dim_dataset"),
    (("lh.gold.fact_tag_usage_daily", "every tag is in dim_tag"), "DELETE FROM lh.gold.dim_tag"),
    (("lh.silver.kaggle_users", "what its strategies leave of the versions, and nothing else"), "DELETE FROM lh.silver.kaggle_users"),
    (("lh.bronze.kaggle_users", "there are rows, if a dump had some"), "DELETE FROM lh.bronze.kaggle_users"),
    (("lh.bronze.kaggle_kernels", "there are rows, if a dump had some"), "DELETE FROM lh.bronze.kaggle_kernels"),
    ((YEARS, "the types add up to total_competitions"), f"UPDATE {YEARS} SET other = 1"),
    ((YEARS, "no figure is negative"), f"UPDATE {YEARS} SET rewards_other_currencies = -1"),
    ((YEARS, "no figure is negative"), f"UPDATE {YEARS} SET total_teams = -1"),
    ((YEARS, "a year has a competition and one to five types"), f"UPDATE {YEARS} SET type_diversity = 6"),
    ((YEARS, "the years have every competition that has a start"), f"DELETE FROM {YEARS}"),
    (OF_THE_SOURCE, f"UPDATE {COMPETITIONS} SET total_competitors = 9"),
    ((COMPETITIONS, "every competition is in dim_competition"), f"DELETE FROM {COMPETITIONS}"),
    *[
        (
            (f"lh.silver.kaggle_{name}", "what its strategies leave of the versions, and nothing else"),
            f"DELETE FROM lh.silver.kaggle_{name}",
        )
        for name in ("competitions", "organizations", "competition_tags", "kernels")
    ],
]


@pytest.mark.parametrize(("name", "damage"), BREAKS, ids=[f"{table} {name} {n}" for n, ((table, name), _) in enumerate(BREAKS)])
def test_each_check_fails_on_what_it_is_about(lake: duckdb.DuckDBPyConnection, name: tuple[str, str], damage: str) -> None:
    days = (date(2025, 3, 1), date(2025, 3, 8))
    dumps = [
        Dump.of(
            day,
            users=[user(1, str(day)), user(2)],
            datasets=[dataset(1, 1), dataset(2, 1)],
            dataset_tags=tagged(1, "a"),
            competitions=[competition(1), competition(2, 2025)],
            organizations=[organization(1)],
            competition_tags=[competition_tag(1, 5)],
            kernels=[kernel(1)],
        )
        for day in days
    ]
    fill(lake, list(messages(dumps)))
    assert bad(lake, CHECKS[name]) == 0
    lake.execute(damage)
    assert bad(lake, CHECKS[name]) > 0


def test_the_report_counts_the_rows_that_each_strategy_affected(lake: duckdb.DuckDBPyConnection) -> None:
    first = Dump.of(
        date(2025, 3, 1),
        users=[user(1, country=None, signup_ts=None), user(2), user(3, None)],
        datasets=[dataset(1, 1, is_private=None), dataset(2, 9, total_views=None, created_ts=None), dataset(3, 2)],
        dataset_tags=[*tagged(1, "Python", "python", "***", "ai"), *tagged(2, "python"), *tagged(77, "lost")],
    )
    second = Dump.of(
        date(2025, 3, 8), users=[user(1, "new", country=None, signup_ts=None)], datasets=list(first.tables["datasets"].values())[:2]
    )
    fill(lake, list(messages([first, second])))
    assert figures(lake, "lh.silver.kaggle_users") == {
        "input": 5,
        "duplicates_removed": 2,
        "gone_removed": 2,
        "output": 1,
        "country_missing_flagged": 1,
        "country_coded": 0,
        "signup_imputed": 1,
    }
    assert figures(lake, "lh.silver.kaggle_datasets") == {
        "input": 4,
        "duplicates_removed": 1,
        "gone_removed": 1,
        "output": 2,
        "matched_owners": 1,
        "unknown_owners": 1,
        "is_private_defaulted": 1,
        "missing_dates_flagged": 1,
        "views_imputed": 1,
        "downloads_imputed": 0,
    }
    assert figures(lake, "lh.silver.kaggle_dataset_tags") == {
        "input": 6,
        "duplicates_removed": 0,
        "gone_removed": 0,
        "unusable_tags_removed": 1,
        "invalid_dataset_tags_removed": 1,
        "merged_tags_removed": 1,
        "output": 3,
        "tags_cleaned": 1,
        "tag_categories_popular": 2,
        "tag_categories_common": 0,
        "tag_categories_regular": 0,
        "tag_categories_rare": 0,
    }
    rejected = CHECKS["lh.bronze.kaggle_users", "at most 10% of what arrived is rejected"]
    assert lake.execute(rejected.groups).fetchall() == [("users", 6, 5, 1, 0.166667, "no_user_name 1")]


def test_rows_are_expected_of_what_a_dump_says_that_it_has(lake: duckdb.DuckDBPyConnection) -> None:
    expected = {check.table for check in specification_checks(KAGGLE) if check.name == "there are rows"}
    assert {table for table in expected if not table.startswith("lh.gold.dim_")} == set(), "the list may be polled without a dump"
    fill(lake, list(messages([Dump.of(date(2025, 3, 1), competitions=[competition(1)], kernels=[])])))
    conditional = [check for (_, name), check in CHECKS.items() if name == "there are rows, if a dump had some"]
    assert len(conditional) == len([source for source in KAGGLE.sources if source not in LIST_SOURCES]) - 1
    assert [check.table for check in conditional if bad(lake, check)] == []


def test_a_competition_of_no_organization_has_no_unknown_one_even_if_none_has_come(lake: duckdb.DuckDBPyConnection) -> None:
    fill(lake, list(messages([Dump.of(date(2025, 3, 1), competitions=[competition(1), competition(2, organization_id=7)])])))
    assert figures(lake, "lh.silver.kaggle_competitions")["unknown_organizations"] == 1


def test_the_report_counts_what_is_odd_in_competitions_and_kernels(lake: duckdb.DuckDBPyConnection) -> None:
    dump = Dump.of(
        date(2025, 3, 1),
        competitions=[
            competition(1, deadline_ts=None, total_teams=None, organization_id=7),
            competition(2, deadline_ts=datetime(2020, 1, 1, tzinfo=UTC), host_segment="InClass", organization_id=1),
            competition(3, None, reward_type="Swag", total_teams=99),
            competition(4, title=" "),
        ],
        organizations=[organization(1), organization(2, organization_name=None)],
        competition_tags=[competition_tag(1, 5, tag=None), competition_tag(4, 5)],
        kernels=[kernel(1, language=None), kernel(2, created_ts=None), kernel(3, None)],
    )
    fill(lake, list(messages([dump])))
    assert figures(lake, "lh.silver.kaggle_competitions") == {
        "input": 3,
        "duplicates_removed": 0,
        "gone_removed": 0,
        "output": 3,
        "missing_dates_flagged": 2,
        "missing_counts_flagged": 1,
        "without_a_year": 1,
        "deadline_before_enabled_flagged": 1,
        "reward_at_odds_flagged": 1,
        "more_teams_than_competitors_flagged": 1,
        "types_other": 1,
        "unknown_organizations": 1,
    }
    assert figures(lake, "lh.silver.kaggle_organizations")["output"] == 1
    tags = figures(lake, "lh.silver.kaggle_competition_tags")
    assert {name: tags[name] for name in ("output", "unknown_competitions_flagged", "tags_without_a_name")} == {
        "output": 2,
        "unknown_competitions_flagged": 1,
        "tags_without_a_name": 1,
    }
    kernels = figures(lake, "lh.silver.kaggle_kernels")
    assert (kernels["output"], kernels["language_missing_flagged"], kernels["age_unknown"]) == (2, 1, 1)
    for table, expected in {
        "competitions": (4, 3, 1, 0.25, "no_title 1"),
        "organizations": (2, 1, 1, 0.5, "no_organization_name 1"),
        "kernels": (3, 2, 1, 0.333333, "no_author 1"),
    }.items():
        rejected = CHECKS[f"lh.bronze.kaggle_{table}", "at most 10% of what arrived is rejected"]
        assert lake.execute(rejected.groups).fetchall() == [(table, *expected)]
