"""Which rows of a dump may enter silver? The rules of the domain, beside those that follow from its contracts.

A message that a row has gone has no other values to judge; the rules of its key alone hold for it.
"""

from typing import Literal

from lakehouse.contract import Contract
from lakehouse.domains.kaggle.contract import DATASET_TAGS, DATASETS, DUMPS, USERS, CountryProfile
from lakehouse.domains.kaggle.countries import code_of
from lakehouse.rules import Rule, contract_rules

LONGEST_TAG = 100


def user_rules(profile: CountryProfile) -> list[Rule]:
    """Return the rules of users, in the order they are tried."""
    return [
        *of_dump(USERS),
        unless_gone("no_user_name", is_blank("user_name"), "'user_name is null or blank'"),
        unless_gone("unknown_country", *_country(profile)),
    ]


def dataset_rules() -> list[Rule]:
    """Return the rules of datasets, in the order they are tried; negative counts are out of the contract's ranges."""
    return [
        *of_dump(DATASETS),
        unless_gone("no_title", is_blank("title"), "'title is null or blank'"),
        unless_gone("no_owner", "owner_user_id IS NULL", "'owner_user_id is null'"),
        unless_gone(
            "updated_before_created",
            "updated_ts < created_ts",
            "concat('updated_ts is ', updated_ts, ', before created_ts ', created_ts)",
        ),
    ]


def tag_rules() -> list[Rule]:
    """Return the rules of datasets' tags, in the order they are tried."""
    return [
        *of_dump(DATASET_TAGS),
        # Of a tag that was listed twice and is now listed once, the second goes: that must not take the first along.
        Rule(
            "repeated_tag", "reject", "occurrence > 1", "concat('occurrence ', occurrence, ' of tag ', left(tag, 100), ' of one dataset')"
        ),
        unless_gone("blank_tag", is_blank("tag"), "'tag is blank'"),
        unless_gone(
            "long_tag",
            f"length(tag) > {LONGEST_TAG}",
            f"concat('tag has ', length(tag), ' characters, allowed are {LONGEST_TAG}')",
        ),
    ]


def dump_rules() -> list[Rule]:
    """Return the rules of the messages that name a dump."""
    return of_dump(DUMPS)


def of_dump(contract: Contract) -> list[Rule]:
    """Return the rules that follow from a contract, and that a message is of the day of its dump."""
    # Versions are ordered by run_date, histories begin at run_ts: both must be of one day.
    reason = "concat('run_date is ', run_date, ', but run_ts is ', run_ts)"
    return [*contract_rules(contract), Rule("wrong_run_date", "reject", "run_date <> CAST(run_ts AS DATE)", reason)]


def _country(profile: CountryProfile) -> tuple[str, str]:
    if profile == "strict":
        return "coalesce(length(trim(country)) <> 2, true)", "concat('country is ', coalesce(country, 'null'), ', expected two letters')"
    return f"NOT ({is_blank('country')}) AND {code_of('country')} IS NULL", "concat('country is ', country, ', which is no known country')"


def is_blank(column: str) -> str:
    """Return the SQL condition that a text is null or has spaces alone."""
    return f"{column} IS NULL OR trim({column}) = ''"


def unless_gone(name: str, broken: str, reason: str, level: Literal["reject", "warn"] = "reject") -> Rule:
    """Return a rule that a message that a row has gone does not break."""
    return Rule(name, level, f"is_gone IS NOT TRUE AND ({broken})", reason)
