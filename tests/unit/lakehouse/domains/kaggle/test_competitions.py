"""Are the figures of a year those of the file? Real competitions, from the CSV to gold, against sums that share nothing with weir."""

import csv
import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.domains.kaggle.competitions.contract import COMPETITION_TAGS, COMPETITIONS, ORGANIZATIONS
from lakehouse.domains.kaggle.competitions.tables import FACT_YEARLY
from lakehouse.domains.kaggle.domain import kaggle
from lakehouse.engine.on_duckdb import DuckEngine
from tests.kaggle.dumps import Dump, competition, competition_tag, kernel, messages, organization
from tests.kaggle.from_topics import records
from tests.kaggle.in_memory import assert_right, bronze_of, derive, rows
from tests.support.dumps import Home, day

KAGGLE = kaggle("names")
RULES = {source.contract.topic: source.rules for source in KAGGLE.sources}
DATA = Path(__file__).parents[4] / "data" / "kaggle"
# Beside the repository, where there is one.
WHOLE = Path(__file__).parents[6] / "shared" / "data" / "meta_kaggle" / "Competitions.csv.gz"
CONTRACTS = {"competitions": COMPETITIONS, "organizations": ORGANIZATIONS, "competition_tags": COMPETITION_TAGS}
COUNTS = ("teams", "competitors", "submissions")
ONE, TWO = date(2025, 3, 1), date(2025, 3, 8)
Row = dict[str, Any]


@dataclass(frozen=True)
class Published:
    """The tables that weir makes of a folder's files, and the competitions in them."""

    made: dict[str, pa.Table]
    bronze: dict[str, pa.Table]
    listed: Sequence[dict[str, str]]


def published(folder: Path, listed: Sequence[dict[str, str]], home: Path) -> Published:
    store = Home(home, rules_of=lambda contract: RULES[contract.topic])
    report = store.publish(folder, day(1), is_partial=True)
    assert report.tables["competitions"].output == len(listed)
    bronze = bronze_of(KAGGLE, records(store.topics, CONTRACTS))
    return Published(derive(KAGGLE, bronze, DuckEngine()), bronze, listed)


def read(text: Iterator[str]) -> list[dict[str, str]]:
    return list(csv.DictReader(text))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = DATA / "competitions"
    with (folder / "Competitions.csv").open(encoding="utf-8", newline="") as file:
        return published(folder, read(file), tmp_path_factory.mktemp("home"))


def by_hand(listed: Sequence[dict[str, str]]) -> dict[int, Row]:
    """Add up the rows of the file, in Python alone."""
    names = {"Featured": "featured", "Research": "research", "Getting Started": "getting_started", "Playground": "playground"}
    years: dict[int, list[dict[str, str]]] = {}
    for one in listed:
        years.setdefault(int(one["EnabledDate"][6:10]), []).append(one)
    found: dict[int, Row] = {}
    for year, these in years.items():
        kinds = Counter(names.get(one["HostSegmentTitle"], "other") for one in these)
        money: Counter[str] = Counter()
        for one in these:
            money[one["RewardType"]] += Decimal(one["RewardQuantity"] or 0)  # type: ignore[assignment]  # sums of decimals
        row: Row = {"total_competitions": len(these), **{name: kinds[name] for name in (*names.values(), "other")}}
        for name in COUNTS:
            total = sum(int(one[f"Total{name.title()}"]) for one in these)
            row |= {f"total_{name}": total, f"avg_{name}": total / len(these)}
        row |= {f"rewards_{code.lower()}": money[code] for code in ("USD", "EUR", "GBP", "AUD", "CAD")}
        row |= {"rewards_other_currencies": 0, "type_diversity": len(kinds)}
        before = len(years.get(year - 1, ()))
        row["growth_percent"] = (len(these) - before) * 100 / before if before else None
        found[year] = row
    return found


def years_of(made: dict[str, pa.Table]) -> dict[int, Row]:
    return {row.pop("year"): row for row in made[FACT_YEARLY.name].to_pylist()}


def test_years_of_the_sample_are_those_of_the_file(sample: Published) -> None:
    found = years_of(sample.made)
    assert found == by_hand(sample.listed)
    assert {2000, 2001, 2010, 2019} <= set(found), "years that follow none, and years in a row"
    assert sum(row["rewards_eur"] for row in found.values()) > 0
    assert_right(KAGGLE, sample.bronze, sample.made)


@pytest.mark.skipif(not WHOLE.exists(), reason="the whole file is not in the repository")
def test_years_of_the_whole_file_are_those_of_the_file(tmp_path: Path) -> None:
    with gzip.open(WHOLE, "rt", encoding="utf-8", newline="") as file:
        listed = read(file)
    (tmp_path / "dump").mkdir()
    (tmp_path / "dump" / WHOLE.name).write_bytes(WHOLE.read_bytes())
    found = published(tmp_path / "dump", listed, tmp_path / "home")
    assert years_of(found.made) == by_hand(listed)
    flags = Counter(row for row in rows(found.made, "gold.dim_competition", "is_deadline_before_enabled", "is_reward_at_odds"))
    assert {name: sum(n for row, n in flags.items() if row[place]) for place, name in enumerate(("deadline", "reward"))} == {
        "deadline": 47,
        "reward": 43,
    }


def test_organizations_with_line_breaks_are_whole_and_tags_without_a_competition_are_kept(sample: Published) -> None:
    with (DATA / "competitions" / "Organizations.csv").open(encoding="utf-8", newline="") as file:
        organizations = {int(one["Id"]): one for one in read(file)}
    found = rows(sample.made, "silver.kaggle_organizations", "organization_id", "organization_name", "description")
    assert {number: (name, text) for number, name, text in found} == {
        number: (one["Name"], one["Description"] or None) for number, one in organizations.items()
    }
    assert sum("\n" in (text or "") for _, _, text in found) > 5
    with (DATA / "competitions" / "CompetitionTags.csv").open(newline="") as file:
        tags = {(int(one["CompetitionId"]), int(one["TagId"])) for one in read(file)}
    ids = {int(one["Id"]) for one in sample.listed}
    marked = rows(sample.made, "silver.kaggle_competition_tags", "competition_id", "tag_id", "is_competition_known")
    assert {(one, tag): known for one, tag, known in marked} == {(one, tag): one in ids for one, tag in tags}
    assert {known for _, _, known in marked} == {True, False}
    counted = Counter(one for one, _ in tags)
    columns = ("organization_id", "organization_name", "is_organization_known", "tag_count")
    dim = {number: row for number, *row in rows(sample.made, "gold.dim_competition", "competition_id", *columns)}
    assert len(dim) == len(ids)
    for one in sample.listed:
        organization_id = int(one["OrganizationId"]) if one["OrganizationId"] else None
        known = organizations.get(organization_id or 0)
        expected = [organization_id, known and known["Name"], None if organization_id is None else known is not None]
        assert dim[int(one["Id"])] == [*expected, counted[int(one["Id"])]]
    assert any(row[2] is False for row in dim.values()), "an organization that is not there"


@pytest.mark.parametrize(
    ("segment", "kind"),
    [
        ("Featured", "Featured"),
        (" featured ", "Featured"),
        ("RESEARCH", "Research"),
        ("Getting Started", "Getting Started"),
        ("GettingStarted", "Getting Started"),
        ("getting_started", "Getting Started"),
        ("Playground", "Playground"),
        *((one, "Other") for one in ("InClass", "Community", "Recruitment", "Masters", "Analytics", "Featured Code", "", None)),
    ],
)
def test_type_is_known_in_any_spelling(segment: str | None, kind: str) -> None:
    made = derive(KAGGLE, bronze_of(KAGGLE, [("competitions", competition(1, host_segment=segment) | Dump(ONE).run)]), DuckEngine())
    assert rows(made, "gold.dim_competition", "host_segment", "competition_type") == [(segment, kind)]
    column = kind.lower().replace(" ", "_")
    assert rows(made, "gold.fact_competitions_yearly", "year", column, "total_competitions", "type_diversity") == [(2024, 1, 1, 1)]


def test_competition_that_changes_its_year_leaves_the_old_one_and_growth_is_of_the_year_before() -> None:
    begun = {1: 2022, 2: 2023, 3: 2023, 4: 2025, 5: None}
    first = Dump.of(ONE, competitions=[competition(number, year) for number, year in begun.items()])
    begun = {1: 2023, 2: 2023, 3: 2024, 4: 2025}
    second = Dump.of(TWO, competitions=[competition(number, year) for number, year in begun.items()])
    years = ("year", "total_competitions", "growth_percent")
    engine = DuckEngine()
    one = derive(KAGGLE, bronze_of(KAGGLE, messages([first])), engine)
    # 2025 follows a year without any; a competition without a start is in none.
    assert rows(one, "gold.fact_competitions_yearly", *years) == [(2022, 1, None), (2023, 2, 100.0), (2025, 1, None)]
    assert len(one["lh.gold.dim_competition"]) == 5
    both = derive(KAGGLE, bronze_of(KAGGLE, messages([first, second])), engine)
    assert rows(both, "gold.fact_competitions_yearly", *years) == [(2023, 2, None), (2024, 1, -50.0), (2025, 1, 0.0)]


def test_rewards_stand_by_currency_and_what_is_no_money_in_none() -> None:
    given: list[tuple[str | None, str]] = [("USD", "100.5"), ("usd", "0.0001"), (" EUR", "7"), ("GBP", "1"), ("AUD", "2"), ("CAD", "3")]
    given += [("JPY", "1000"), ("NZD", "5"), ("Jobs", "9"), (None, "9")]
    said = [competition(n, reward_type=kind, reward_quantity=Decimal(quantity)) for n, (kind, quantity) in enumerate(given)]
    made = derive(KAGGLE, bronze_of(KAGGLE, messages([Dump.of(ONE, competitions=said)])), DuckEngine())
    codes = ("usd", "eur", "gbp", "aud", "cad", "other_currencies")
    assert rows(made, "gold.fact_competitions_yearly", *(f"rewards_{code}" for code in codes)) == [
        tuple(map(Decimal, ("100.5001", "7", "1", "2", "3", "1005")))
    ]
    in_usd = [usd for _, usd in rows(made, "gold.dim_competition", "competition_id", "reward_usd") if usd]
    assert in_usd == [Decimal("100.5"), Decimal("0.0001")]


def test_counts_that_are_not_known_are_left_out_of_the_means() -> None:
    said = [competition(n, total_teams=teams, total_submissions=None) for n, teams in ((1, None), (2, 10), (3, 4))]
    made = derive(KAGGLE, bronze_of(KAGGLE, messages([Dump.of(ONE, competitions=said)])), DuckEngine())
    columns = ("total_teams", "avg_teams", "total_competitors", "avg_competitors", "total_submissions", "avg_submissions")
    assert rows(made, "gold.fact_competitions_yearly", *columns) == [(14, 7.0, 36, 12.0, None, None)]


def test_what_comes_late_heals_organization_and_tags_and_what_has_gone_leaves() -> None:
    first = Dump.of(ONE, competitions=[competition(1, organization_id=7)], competition_tags=[competition_tag(2, 5)])
    second = Dump.of(
        TWO,
        competitions=[competition(1, organization_id=7), competition(2)],
        organizations=[organization(7)],
        competition_tags=[competition_tag(2, 5), competition_tag(2, 4), competition_tag(2, 6, tag=None, tag_name=None)],
    )
    third = Dump.of(date(2025, 3, 9), competitions=[competition(1, organization_id=7)], organizations=[])
    columns = ("competition_id", "organization_name", "is_organization_known", "tag_count", "tags")
    engine, dumps = DuckEngine(), [first, second, third]
    made = [derive(KAGGLE, bronze_of(KAGGLE, messages(dumps[:n])), engine) for n in (1, 2, 3)]
    assert [rows(one, "gold.dim_competition", *columns) for one in made] == [
        [(1, None, False, 0, None)],
        [(1, "Org 7", True, 0, None), (2, None, None, 3, "tag-4, tag-5")],
        [(1, None, False, 0, None)],
    ]
    marks = [rows(one, "silver.kaggle_competition_tags", "tag_id", "is_competition_known") for one in made]
    assert marks == [[(5, False)], [(4, True), (5, True), (6, True)], [(4, False), (5, False), (6, False)]]


def test_age_of_a_kernel_is_counted_to_its_dump() -> None:
    at = datetime(2024, 12, 31, 23, 59, tzinfo=UTC)
    said = [kernel(1, created_ts=at, made_public_ts=None), kernel(2, created_ts=None, language=None)]
    made = derive(KAGGLE, bronze_of(KAGGLE, messages([Dump.of(ONE, kernels=said)])), DuckEngine())
    columns = ("kernel_age_days", "language", "is_language_missing", "total_votes")
    assert rows(made, "silver.kaggle_kernels", "kernel_id", *columns) == [(1, 60, "Python", False, 3), (2, None, None, True, 3)]
