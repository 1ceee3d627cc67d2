"""Which competitions, organizations and tags of competitions may enter silver, and which are unusual? See also `kaggle/rules.py`.

A warning lets a row in. The report of a dump and the metric weir_warnings_total count it, and silver has a flag for it (`tables.py`).
"""

from lakehouse.domains.kaggle.competitions import transforms as t
from lakehouse.domains.kaggle.competitions.contract import COMPETITION_TAGS, COMPETITIONS, ORGANIZATIONS
from lakehouse.domains.kaggle.rules import is_blank, of_dump, unless_gone
from lakehouse.rules import Rule


def competition_rules() -> list[Rule]:
    """Return the rules of competitions, in the order they are tried; negative counts are out of the contract's ranges."""
    deadline = "concat('deadline_ts is ', deadline_ts, ', before enabled_ts ', enabled_ts)"
    reward = (
        "concat('reward_type is ', coalesce(reward_type, 'null'), ', reward_quantity ', coalesce(CAST(reward_quantity AS STRING), 'null'))"
    )
    teams = "concat('total_teams is ', total_teams, ', total_competitors ', total_competitors)"
    return [
        *of_dump(COMPETITIONS),
        unless_gone("no_title", is_blank("title"), "'title is null or blank'"),
        unless_gone("deadline_before_enabled", t.DEADLINE_BEFORE_ENABLED, deadline, "warn"),
        unless_gone("reward_at_odds", t.REWARD_AT_ODDS, reward, "warn"),
        unless_gone("more_teams_than_competitors", t.MORE_TEAMS_THAN_COMPETITORS, teams, "warn"),
    ]


def organization_rules() -> list[Rule]:
    """Return the rules of organizations, in the order they are tried."""
    return [
        *of_dump(ORGANIZATIONS),
        unless_gone("no_organization_name", is_blank("organization_name"), "'organization_name is null or blank'"),
    ]


def competition_tag_rules() -> list[Rule]:
    """Return the rules of competitions' tags. One whose competition or name is not known is kept, and marked in silver."""
    return of_dump(COMPETITION_TAGS)
