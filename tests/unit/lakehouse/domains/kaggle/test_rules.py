"""Which rows of a dump are rejected, and which country does a text name? By DuckDB; the same texts are judged by Spark in tests/spark."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from lakehouse.domains.kaggle.contract import CountryProfile
from lakehouse.domains.kaggle.countries import COMMON_NAMES, codes
from lakehouse.domains.kaggle.domain import kaggle, names_edition
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.rules import RULE, WARNINGS
from tests.kaggle.dumps import CREATED, Dump, competition, competition_tag, dataset, kernel, organization, tagged, user
from tests.kaggle.in_memory import bronze_of, derive, judged, rows

RUN = Dump.of(date(2025, 3, 1)).run


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckEngine]:
    engine = DuckEngine()
    yield engine
    engine.close()


def verdict(engine: DuckEngine, table: str, record: dict[str, Any], profile: CountryProfile = "names") -> str | None:
    domain = kaggle(profile)
    found = judged(domain, bronze_of(domain, [(table, {**record, **RUN, **record})]), engine)[f"kaggle_{table}"]
    rule: str | None = found[RULE].to_pylist()[0]
    return rule


EARLY = datetime(2024, 1, 10, 8, 29, 59, tzinfo=UTC)
CASES = [
    ("users", user(1), None),
    ("users", user(1, None), "no_user_name"),
    ("users", user(1, "  "), "no_user_name"),
    ("users", user(1) | {"user_name": ""}, "no_user_name"),
    ("users", user(1) | {"user_id": None}, "no_key"),
    ("users", user(1, country=None), None),
    ("users", user(1, country=""), None),
    ("users", user(1, country="Atlantis"), "unknown_country"),
    ("users", user(1, country=" VIET nam "), None),
    ("users", {"user_id": 1, "is_gone": True}, None),
    ("users", user(1, run_ts=datetime(2025, 3, 2, tzinfo=UTC)), "wrong_run_date"),
    ("datasets", dataset(1, 1), None),
    ("datasets", dataset(1, 1, title=None), "no_title"),
    ("datasets", dataset(1, 1, title=""), "no_title"),
    ("datasets", dataset(1, None), "no_owner"),
    ("datasets", dataset(1, 1) | {"dataset_id": None}, "no_key"),
    ("datasets", dataset(1, 1, updated_ts=EARLY), "updated_before_created"),
    ("datasets", dataset(1, 1, updated_ts=CREATED), None),
    ("datasets", dataset(1, 1, updated_ts=None), None),
    ("datasets", dataset(1, 1, total_views=-1), "out_of_range"),
    ("datasets", dataset(1, 1, total_downloads=-1), "out_of_range"),
    ("datasets", dataset(1, 1, total_views=0, total_downloads=None), None),
    ("datasets", {"dataset_id": 1, "is_gone": True}, None),
    ("dataset_tags", tagged(1, "python")[0], None),
    ("dataset_tags", tagged(1, "")[0], "blank_tag"),
    ("dataset_tags", tagged(1, "python")[0] | {"tag": None}, "no_key"),
    ("dataset_tags", tagged(1, "x" * 100)[0], None),
    ("dataset_tags", tagged(1, "x" * 101)[0], "long_tag"),
    ("dataset_tags", tagged(1, "python")[0] | {"occurrence": 2}, "repeated_tag"),
    ("dataset_tags", tagged(1, "python")[0] | {"occurrence": 2, "is_gone": True}, "repeated_tag"),
    ("competitions", competition(1), None),
    ("competitions", competition(1) | {"competition_id": None}, "no_key"),
    ("competitions", competition(1, title=" "), "no_title"),
    ("competitions", competition(1, slug=None, enabled_ts=None, host_segment=None), None),
    ("competitions", competition(1, total_teams=-1), "out_of_range"),
    ("competitions", competition(1, total_competitors=-1), "out_of_range"),
    ("competitions", competition(1, total_submissions=-1), "out_of_range"),
    ("competitions", competition(1, reward_quantity=Decimal("-0.0001")), "out_of_range"),
    ("competitions", competition(1, total_teams=None, reward_quantity=None), None),
    ("competitions", {"competition_id": 1, "is_gone": True}, None),
    ("organizations", organization(1), None),
    ("organizations", organization(1, organization_name=""), "no_organization_name"),
    ("organizations", organization(1) | {"organization_id": None}, "no_key"),
    ("competition_tags", competition_tag(1, 5, tag=None, tag_name=None), None),
    ("competition_tags", competition_tag(1, 5) | {"tag_id": None}, "no_key"),
    ("kernels", kernel(1), None),
    ("kernels", kernel(1) | {"kernel_id": None}, "no_key"),
    ("kernels", kernel(1, None), "no_author"),
    ("kernels", kernel(1, made_public_ts=datetime(2024, 1, 9, tzinfo=UTC)), "public_before_created"),
    ("kernels", kernel(1, made_public_ts=EARLY), "public_before_created"),
    ("kernels", kernel(1, made_public_ts=CREATED), None),
    ("kernels", kernel(1, made_public_ts=None), None),
    ("kernels", kernel(1, total_votes=-1), "out_of_range"),
    ("kernels", {"kernel_id": 1, "is_gone": True}, None),
    ("dumps", {"table_name": "users"}, None),
    ("dumps", {"table_name": None}, "no_key"),
]


@pytest.mark.parametrize(("table", "record", "rule"), CASES)
def test_each_rule_rejects_what_breaks_it_and_nothing_beside_it(
    engine: DuckEngine, table: str, record: dict[str, Any], rule: str | None
) -> None:
    assert verdict(engine, table, record) == rule


ODD = "deadline_before_enabled", "reward_at_odds", "more_teams_than_competitors"
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("record", "warnings"),
    [
        (competition(1), []),
        (competition(1, deadline_ts=START - timedelta(seconds=1)), ["deadline_before_enabled"]),
        (competition(1, deadline_ts=START), []),
        (competition(1, deadline_ts=None), []),
        (competition(1, reward_quantity=None), ["reward_at_odds"]),
        (competition(1, reward_quantity=Decimal(0)), ["reward_at_odds"]),
        (competition(1, reward_type="Knowledge"), ["reward_at_odds"]),
        (competition(1, reward_type=None), ["reward_at_odds"]),
        (competition(1, reward_type=" eur "), []),
        (competition(1, reward_type="Knowledge", reward_quantity=Decimal(0)), []),
        (competition(1, reward_type=None, reward_quantity=None), []),
        (competition(1, total_teams=13), ["more_teams_than_competitors"]),
        (competition(1, total_teams=None), []),
        (competition(1, deadline_ts=CREATED - timedelta(days=99), reward_type="", total_teams=99), list(ODD)),
        (competition(1, deadline_ts=CREATED - timedelta(days=99), is_gone=True), []),
    ],
)
def test_what_is_odd_in_a_competition_is_let_in_and_flagged(engine: DuckEngine, record: dict[str, Any], warnings: list[str]) -> None:
    domain = kaggle("names")
    bronze = bronze_of(domain, [("competitions", {**record, **RUN})])
    found = judged(domain, bronze, engine)["kaggle_competitions"]
    assert (found[RULE].to_pylist(), found[WARNINGS].to_pylist()) == ([None], [warnings])
    if not record.get("is_gone"):
        flags = [f"{'has' if name.startswith('more') else 'is'}_{name}" for name in ODD]
        ((_, *flagged),) = rows(derive(domain, bronze, engine), "silver.kaggle_competitions", "competition_id", *flags)
        assert [name for name, flag in zip(ODD, flagged, strict=True) if flag] == warnings


@pytest.mark.parametrize(("country", "rule"), [("VN", None), ("vn", None), (None, "unknown_country"), ("Viet Nam", "unknown_country")])
def test_the_strict_profile_takes_two_letters_and_nothing_else(engine: DuckEngine, country: str | None, rule: str | None) -> None:
    assert verdict(engine, "users", user(1, country=country), "strict") == rule


@pytest.mark.parametrize(
    ("written", "code"),
    {
        "Viet Nam": "VN",
        "Vietnam": "VN",
        "United States": "US",
        "usa": "US",
        "South Korea": "KR",
        "Republic of Korea": "KR",
        "Turkey": "TR",
        "Türkiye": "TR",
        "Russia": "RU",
        "United Kingdom": "GB",
        "Côte d'Ivoire": "CI",
        "Cote d'Ivoire": "CI",
        "Iran, Islamic Republic of": "IR",
        "Hong Kong": "HK",
        "Taiwan": "TW",
        "Czech Republic": "CZ",
        "Bosnia and Herzegovina": "BA",
        "The Netherlands": "NL",
        "de": "DE",
        "DEU": "DE",
    }.items(),
)
def test_a_country_is_known_by_its_names_and_codes(engine: DuckEngine, written: str, code: str) -> None:
    domain = kaggle("names")
    record = user(1, country=written) | RUN
    made = derive(domain, bronze_of(domain, [("users", record)]), engine)
    assert rows(made, "silver.kaggle_users", "country", "country_code") == [(written, code)]
    assert ("VN" in codes().values()) and code in codes().values()


def test_common_names_are_no_other_countrys_name_by_the_library() -> None:
    from pycountry import countries

    for code, names in COMMON_NAMES.items():
        for name in names:
            found = countries.get(name=name)
            assert found is None or found.alpha_2 == code, name


def test_the_profile_and_the_names_are_the_edition() -> None:
    assert dict(kaggle("strict").edition) == {"kaggle_country": "strict", "kaggle_country_names": names_edition()}
    by_edition = kaggle("names").by_edition
    assert by_edition is not None and by_edition(kaggle("strict").edition).edition == kaggle("strict").edition
