"""Dumps that a test makes up: rows that come, change, move to another owner, break a rule, go and come back; small, so that they meet."""

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from lakehouse.contract import Value
from tests.kaggle.dumps import KEYS, Dump, Record, competition, competition_tag, dataset, kernel, organization, tagged, user

FIRST = date(2025, 3, 1)
COUNTRIES = ("Viet Nam", "vn", "Turkey", "United States", None, "", "Atlantis", " Türkiye ")
NAMES = ("anna", "Bob", "o'neil", None, " ")
SEGMENTS = ("Featured", "FEATURED", "Getting Started", "getting_started", "GettingStarted", " research", "Playground", "InClass", "", None)
REWARDS = ("USD", "usd ", "EUR", "NZD", "Swag", "Knowledge", "U$D", "", None)
TAGS = ("Python", "python", " deep learning", "deep-learning", "c++", "***", "", "x" * 101, "image data")


def some_dumps(chance: random.Random, count: int = 5) -> list[Dump]:
    """Make up dumps in the order of their days; some of a day twice, some without all tables."""
    dumps, day = [], FIRST
    for number in range(count):
        day += timedelta(days=chance.choice((0, 1, 1, 7)))
        names = KEYS if chance.random() < 0.7 else [name for name in KEYS if chance.random() < 0.7]
        rows: dict[str, Sequence[Record]] = {
            "users": some_users(chance),
            "datasets": some_datasets(chance),
            "dataset_tags": some_tags(chance),
            "competitions": some_competitions(chance),
            "organizations": some_organizations(chance),
            "competition_tags": some_competition_tags(chance),
            "kernels": some_kernels(chance),
        }
        dumps.append(Dump(day, Dump.of(day, **{name: rows[name] for name in names}).tables, hour=number))
    return dumps


def some_users(chance: random.Random) -> list[dict[str, Value]]:
    """Make up users, each of whom is there most of the time and seldom changes."""
    return [
        user(
            number,
            chance.choice(NAMES) if chance.random() < 0.4 else f"user-{number}",
            country=chance.choice(COUNTRIES) if chance.random() < 0.4 else "Portugal",
            signup_ts=None if chance.random() < 0.3 else datetime(2020, 1, number, tzinfo=UTC),
            display_name=chance.choice(("A", "B")),
        )
        for number in range(1, 6)
        if chance.random() < 0.8
    ]


def some_datasets(chance: random.Random) -> list[dict[str, Value]]:
    """Make up datasets, of users who may not be there."""
    return [
        dataset(
            number,
            chance.choice((1, 2, 3, 8, None)) if chance.random() < 0.5 else 1,
            title=chance.choice(("Cats", "Dogs", "", None)) if chance.random() < 0.3 else "Cats",
            slug=chance.choice((f"data-{number}", "Cats", None)),
            owner_organization_id=chance.choice((1, 2, 9)) if chance.random() < 0.3 else None,
            is_private=chance.choice((True, False, None)),
            total_views=chance.choice((None, 0, 7, -1, 1_000_000)),
            total_downloads=chance.choice((None, 0, 3)),
            created_ts=chance.choice((None, datetime(2024, 2, 29, 23, 59, tzinfo=UTC))),
            updated_ts=chance.choice((None, datetime(2024, 3, 1, tzinfo=UTC), datetime(2023, 3, 1, tzinfo=UTC))),
        )
        for number in range(1, 8)
        if chance.random() < 0.8
    ]


def some_tags(chance: random.Random) -> list[Record]:
    """Make up tags, also of datasets that are not there; some are listed twice."""
    rows: list[Record] = []
    for number in range(1, 9):
        some = tagged(number, *chance.sample(TAGS, chance.randrange(4)))
        rows += [row | {"tag_id": chance.choice((None, 1, 2)), "occurrence": 2 if chance.random() < 0.05 else 1} for row in some]
    return rows


def some_competitions(chance: random.Random) -> list[Record]:
    """Make up competitions: their year changes, a year may have none, and some say nothing of what is counted."""
    return [
        competition(
            number,
            chance.choice((2010, 2012, 2013, 2014, None)) if chance.random() < 0.4 else 2012,
            title=chance.choice(("", None)) if chance.random() < 0.1 else f"Contest {number}",
            host_segment=chance.choice(SEGMENTS),
            organization_id=chance.choice((None, 1, 2, 3)),
            deadline_ts=chance.choice((None, datetime(2012, 12, 31, 23, 59, tzinfo=UTC), datetime(2009, 5, 1, tzinfo=UTC))),
            reward_type=chance.choice(REWARDS),
            reward_quantity=chance.choice((None, Decimal(0), Decimal("0.1"), Decimal("25000.5000"), Decimal(-1))),
            total_teams=chance.choice((None, 0, 7, 13)),
            total_competitors=chance.choice((None, 7, 13)) if chance.random() < 0.5 else 9,
            total_submissions=chance.choice((None, 100, -1, 10**12, 10**12 + 1)),
        )
        for number in range(1, 8)
        if chance.random() < 0.8
    ]


def some_organizations(chance: random.Random) -> list[Record]:
    """Make up organizations, one of which has no name at times."""
    return [
        organization(n, organization_name=chance.choice((f"Org {n}", "Other", None)), slug=chance.choice((f"org-{n}", "user-1", None)))
        for n in (1, 2)
        if chance.random() < 0.7
    ]


def some_competition_tags(chance: random.Random) -> list[Record]:
    """Make up tags of competitions, also of those that are not there."""
    return [
        competition_tag(number, tag, tag=chance.choice((None, f"tag-{tag}")), tag_name=chance.choice((None, "b", "Ä")))
        for number in (1, 2, 3, 99)
        for tag in (5, 6)
        if chance.random() < 0.6
    ]


def some_kernels(chance: random.Random) -> list[Record]:
    """Make up kernels, some of which were made public before they were made, or on that day."""
    return [
        kernel(
            number,
            chance.choice((1, None)) if chance.random() < 0.2 else 1,
            language=chance.choice((None, "R", "Python")),
            created_ts=chance.choice((None, datetime(2024, 2, 29, 12, tzinfo=UTC))),
            made_public_ts=chance.choice((None, datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 2, 29, 11, 59, tzinfo=UTC))),
            total_votes=chance.choice((None, 0, 5, -1)) if chance.random() < 0.3 else 5,
        )
        for number in range(1, 5)
        if chance.random() < 0.8
    ]


def shuffled(rows: Sequence[tuple[str, Record]], chance: random.Random, repeats: float = 0.2) -> list[tuple[str, Record]]:
    """Give messages in any order, some of them again."""
    again = [*rows, *(row for row in rows if chance.random() < repeats)]
    chance.shuffle(again)
    return again
