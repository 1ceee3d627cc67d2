"""How do versions of competitions, organizations and tags become what is there now, a dimension and the figures of years?

Pure functions of rows, whose texts are read by Spark and by DuckDB alike: see `lakehouse/engine/functions.py`.
"""

from string import ascii_lowercase, ascii_uppercase

from lakehouse.domains.kaggle.transforms import DUMP, only_newest
from lakehouse.engine.functions import date_key, days_between, double, slug, text
from lakehouse.engine.relation import Relation

# The types that have a column of their own in the figures of years; every other host segment is OTHER.
TYPES = ("Featured", "Research", "Getting Started", "Playground")
OTHER = "Other"
# The currencies that have a column of their own. A reward in any other one is counted in `rewards_other_currencies`, unconverted.
CURRENCIES = ("USD", "EUR", "GBP", "AUD", "CAD")
MONEY = "DECIMAL(28, 4)"

COMPETITION_COLUMNS = (
    "competition_id", "slug", "title", "subtitle", "host_segment", "host_name", "organization_id", "enabled_ts", "deadline_ts",
    "reward_type", "reward_quantity", "num_prizes", "evaluation_metric", "only_kernel_submissions", "can_qualify_tiers",
    "total_teams", "total_competitors", "total_submissions", *DUMP,
)  # fmt: skip
ORGANIZATION_COLUMNS = ("organization_id", "organization_name", "slug", "created_ts", "description", *DUMP)
TAG_COLUMNS = ("competition_id", "tag_id", "tag", "tag_name", "tag_path", *DUMP)
COUNTS = ("teams", "competitors", "submissions")

_CODE = f"translate(trim(reward_type), '{ascii_lowercase}', '{ascii_uppercase}')"
# Kaggle's other rewards (Swag, Jobs, Kudos, Knowledge) have more than three letters.
CURRENCY = f"CASE WHEN length({_CODE}) = 3 AND translate({_CODE}, '{ascii_uppercase}', '') = '' THEN {_CODE} END"
DEADLINE_BEFORE_ENABLED = "deadline_ts < enabled_ts"
REWARD_AT_ODDS = f"(({CURRENCY}) IS NOT NULL) <> (coalesce(reward_quantity, 0) > 0)"
MORE_TEAMS_THAN_COMPETITORS = "total_teams > total_competitors"
# Written with and without the space, in any case.
_KIND = f"replace({slug('host_segment')}, '-', '')"
_KINDS = {name.replace(" ", "").lower(): name for name in TYPES}
COMPETITION_TYPE = f"CASE {_KIND} {' '.join(f'WHEN {text(kind)} THEN {text(name)}' for kind, name in _KINDS.items())} ELSE '{OTHER}' END"


def to_competition_versions(rows: Relation) -> Relation:
    """Shape accepted competitions into silver's versions. Row-wise."""
    return rows.select(*COMPETITION_COLUMNS)


def to_organization_versions(rows: Relation) -> Relation:
    """Shape accepted organizations into silver's versions. Row-wise."""
    return rows.select(*ORGANIZATION_COLUMNS)


def to_competition_tag_versions(rows: Relation) -> Relation:
    """Shape accepted tags of competitions into silver's versions. Row-wise."""
    return rows.select(*TAG_COLUMNS)


def to_competitions(versions: Relation) -> Relation:
    """Take the newest version of each competition that is there, with its type and flags. One row per competition.

    Bounded input: all versions of the competitions, those that have gone too. A count that the dump lacks stays null.
    """
    return only_newest(versions, "competition_id").select(
        "competition_id",
        "slug",
        "title",
        "subtitle",
        "host_segment",
        f"{COMPETITION_TYPE} AS competition_type",
        "host_name",
        "organization_id",
        "enabled_ts",
        "CAST(year(enabled_ts) AS INT) AS enabled_year",
        "deadline_ts",
        f"{days_between('CAST(enabled_ts AS DATE)', 'CAST(deadline_ts AS DATE)')} AS duration_days",
        "reward_type",
        "reward_quantity",
        f"{CURRENCY} AS reward_currency",
        "num_prizes",
        "evaluation_metric",
        "only_kernel_submissions",
        "can_qualify_tiers",
        *[f"total_{name}" for name in COUNTS],
        "enabled_ts IS NULL OR deadline_ts IS NULL AS has_missing_dates",
        f"{' OR '.join(f'total_{name} IS NULL' for name in COUNTS)} AS has_missing_counts",
        f"coalesce({DEADLINE_BEFORE_ENABLED}, false) AS is_deadline_before_enabled",
        f"{REWARD_AT_ODDS} AS is_reward_at_odds",
        f"coalesce({MORE_TEAMS_THAN_COMPETITORS}, false) AS has_more_teams_than_competitors",
        "run_date",
        "run_ts",
    )


def to_organizations(versions: Relation) -> Relation:
    """Take the newest version of each organization that is there. One row per organization.

    Bounded input: all versions of the organizations, those that have gone too.
    """
    return only_newest(versions, "organization_id").select(
        "organization_id", "organization_name", "slug", "created_ts", "description", "run_date", "run_ts"
    )


def to_competition_tags(versions: Relation, competitions: Relation) -> Relation:
    """Take the tags that competitions have now, and mark those whose competition is not there. One row per competition and tag.

    Bounded input: all versions of the competitions' tags, those that have gone too; competitions must hold those of the rows.
    """
    # Unique on the right: one row per competition.
    there = competitions.select("competition_id", "true AS _is_there")
    return (
        only_newest(versions, "competition_id", "tag_id")
        .join(there, on=("competition_id",), how="left")
        .select(
            "competition_id",
            "tag_id",
            "tag",
            "tag_name",
            "tag_path",
            "coalesce(_is_there, false) AS is_competition_known",
            "run_date",
            "run_ts",
        )
    )


def to_dim_competition(competitions: Relation, organizations: Relation, tags: Relation) -> Relation:
    """Take what describes a competition, with the name of its organization and its tags. One row per competition that is there.

    Bounded input: organizations and tags must hold those of the rows.
    """
    # Unique on the right: one row per organization, and one per competition.
    hosts = organizations.select("organization_id", "organization_name")
    names = "nullif(array_join(array_sort(collect_list(coalesce(tag, tag_name))), ', '), '')"
    named = tags.group(("competition_id",), "count(1) AS _tags", f"{names} AS _names")
    return (
        competitions.join(hosts, on=("organization_id",), how="left")
        .join(named, on=("competition_id",), how="left")
        .select(
            "competition_id",
            "slug",
            "title",
            "subtitle",
            "host_segment",
            "competition_type",
            "host_name",
            "organization_id",
            "organization_name",
            "CASE WHEN organization_id IS NOT NULL THEN organization_name IS NOT NULL END AS is_organization_known",
            "enabled_ts",
            f"{date_key('enabled_ts')} AS enabled_date_key",
            "enabled_year",
            "deadline_ts",
            f"{date_key('deadline_ts')} AS deadline_date_key",
            "duration_days",
            "reward_type",
            "reward_quantity",
            "reward_currency",
            "CASE WHEN reward_currency = 'USD' THEN reward_quantity END AS reward_usd",
            "num_prizes",
            "evaluation_metric",
            "only_kernel_submissions",
            "can_qualify_tiers",
            *[f"total_{name}" for name in COUNTS],
            "CAST(coalesce(_tags, 0) AS BIGINT) AS tag_count",
            "_names AS tags",
            "is_deadline_before_enabled",
            "is_reward_at_odds",
            "has_more_teams_than_competitors",
            "run_date",
        )
    )


def to_competition_years(competitions: Relation) -> Relation:
    """Add up the competitions that began in each year (UTC), as they are now. One row per year in which one began.

    Bounded input: all competitions, since growth looks at the year before. One without a start belongs to no year.

    Totals and means are of those whose count is known; both are null where none is. Growth is in percent of the year before, and null
    where no competition began in that one.
    """
    begun = competitions.where("enabled_year IS NOT NULL")
    listed = ", ".join(f"'{name}'" for name in CURRENCIES)
    kinds = [f"count(CASE WHEN competition_type = '{kind}' THEN 1 END) AS {column}" for kind, column in type_columns().items()]
    rewards = [_reward(f"reward_currency = '{code}'", column) for code, column in currency_columns().items()]
    years = begun.group(
        ("enabled_year",),
        "count(1) AS total_competitions",
        *kinds,
        *[f"CAST(sum(total_{name}) AS BIGINT) AS total_{name}" for name in COUNTS],
        *rewards,
        _reward(f"reward_currency NOT IN ({listed})", "rewards_other_currencies"),
        *[
            f"CASE WHEN count(total_{name}) > 0 THEN CAST(sum(total_{name}) AS DOUBLE) / count(total_{name}) END AS avg_{name}"
            for name in COUNTS
        ],
        "count(DISTINCT competition_type) AS type_diversity",
    )
    before = [f"lag({name}) OVER (ORDER BY enabled_year) AS _before_{name}" for name in ("enabled_year", "total_competitions")]
    growth = f"(total_competitions - _before_total_competitions) * {double(100)} / _before_total_competitions"
    return years.select("*", *before).select(
        "enabled_year AS year",
        "total_competitions",
        *type_columns().values(),
        *[f"total_{name}" for name in COUNTS],
        *currency_columns().values(),
        "rewards_other_currencies",
        *[f"avg_{name}" for name in COUNTS],
        "type_diversity",
        f"CASE WHEN _before_enabled_year = enabled_year - 1 THEN {growth} END AS growth_percent",
    )


def type_columns() -> dict[str, str]:
    """Return the column of the figures of years by type."""
    return {name: name.lower().replace(" ", "_") for name in (*TYPES, OTHER)}


def currency_columns() -> dict[str, str]:
    """Return the column of the figures of years by currency."""
    return {code: f"rewards_{code.lower()}" for code in CURRENCIES}


def _reward(condition: str, column: str) -> str:
    return f"CAST(coalesce(sum(CASE WHEN {condition} THEN reward_quantity END), 0) AS {MONEY}) AS {column}"
