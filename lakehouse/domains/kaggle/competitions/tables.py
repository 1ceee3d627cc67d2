"""Which tables do competitions have? Add a column here and in the transform that fills it; how they are connected is in `domain.py`."""

from lakehouse.domains.kaggle.competitions import transforms as t
from lakehouse.domains.kaggle.competitions.contract import COMPETITION_TAGS, COMPETITIONS, ORGANIZATIONS
from lakehouse.domains.kaggle.tables import RUN, RUN_ID, bronze_table
from lakehouse.tables.schema import Column, Table, contract_columns

_TYPE = Column("competition_type", "STRING", f"{', '.join(t.TYPES)}, or {t.OTHER}: every other host segment, and none")
_YEAR = Column("enabled_year", "INT", "UTC year of enabled_ts")
_DAYS = Column("duration_days", "INT", "days from the day of enabled_ts to that of deadline_ts; negative where the deadline comes first")
_CURRENCY = Column("reward_currency", "STRING", "reward_type where it is a currency: three letters, in capitals; else null")
_FLAGS = (
    Column("is_deadline_before_enabled", "BOOLEAN", "warning: the deadline lies before the start"),
    Column("is_reward_at_odds", "BOOLEAN", "warning: a currency without a quantity above 0, or a quantity above 0 of what is no currency"),
    Column("has_more_teams_than_competitors", "BOOLEAN", "warning: more teams than users in them"),
)
_FIRST = ("competition_id", "slug", "title", "subtitle", "host_segment")
_COUNTS = tuple(f"total_{name}" for name in t.COUNTS)

BRONZE_COMPETITIONS = bronze_table("competitions", COMPETITIONS)
BRONZE_ORGANIZATIONS = bronze_table("organizations", ORGANIZATIONS)
BRONZE_COMPETITION_TAGS = bronze_table("competition_tags", COMPETITION_TAGS)

COMPETITION_VERSIONS = Table(
    "lh.silver.kaggle_competitions_versions",
    "one row per competition and dump that changed the competition",
    COMPETITIONS.key,
    contract_columns(COMPETITIONS, t.COMPETITION_COLUMNS),
)
ORGANIZATION_VERSIONS = Table(
    "lh.silver.kaggle_organizations_versions",
    "one row per organization and dump that changed the organization",
    ORGANIZATIONS.key,
    contract_columns(ORGANIZATIONS, t.ORGANIZATION_COLUMNS),
)
COMPETITION_TAG_VERSIONS = Table(
    "lh.silver.kaggle_competition_tags_versions",
    "one row per competition, tag and dump that changed it",
    COMPETITION_TAGS.key,
    contract_columns(COMPETITION_TAGS, t.TAG_COLUMNS),
)

KAGGLE_COMPETITIONS = Table(
    "lh.silver.kaggle_competitions",
    "one row per competition that is there, the newest version",
    ("competition_id",),
    (
        *contract_columns(COMPETITIONS, _FIRST),
        _TYPE,
        *contract_columns(COMPETITIONS, ("host_name", "organization_id", "enabled_ts")),
        _YEAR,
        *contract_columns(COMPETITIONS, ("deadline_ts",)),
        _DAYS,
        *contract_columns(COMPETITIONS, ("reward_type", "reward_quantity")),
        _CURRENCY,
        *contract_columns(COMPETITIONS, ("num_prizes", "evaluation_metric", "only_kernel_submissions", "can_qualify_tiers", *_COUNTS)),
        Column("has_missing_dates", "BOOLEAN", "whether the dump lacks its start or its deadline"),
        Column("has_missing_counts", "BOOLEAN", "whether the dump lacks its teams, competitors or submissions"),
        *_FLAGS,
        *RUN,
    ),
)
KAGGLE_ORGANIZATIONS = Table(
    "lh.silver.kaggle_organizations",
    "one row per organization that is there, the newest version",
    ("organization_id",),
    (*contract_columns(ORGANIZATIONS, ("organization_id", "organization_name", "slug", "created_ts", "description")), *RUN),
)
KAGGLE_COMPETITION_TAGS = Table(
    "lh.silver.kaggle_competition_tags",
    "one row per competition and tag that the dump lists now, also where the competition is not there",
    ("competition_id", "tag_id"),
    (
        *contract_columns(COMPETITION_TAGS, ("competition_id", "tag_id", "tag", "tag_name", "tag_path")),
        Column("is_competition_known", "BOOLEAN", "whether the competition is there"),
        *RUN,
    ),
)

DIM_COMPETITION = Table(
    "lh.gold.dim_competition",
    "one row per competition that is there, the newest version",
    ("competition_id",),
    (
        *contract_columns(COMPETITIONS, _FIRST),
        _TYPE,
        *contract_columns(COMPETITIONS, ("host_name", "organization_id")),
        Column("organization_name", "STRING", "name of the organization; null where there is none, or no record of it has come"),
        Column("is_organization_known", "BOOLEAN", "whether a record of the organization has come; null where there is none"),
        *contract_columns(COMPETITIONS, ("enabled_ts",)),
        Column("enabled_date_key", "INT", "UTC day of enabled_ts as YYYYMMDD; dim_date"),
        _YEAR,
        *contract_columns(COMPETITIONS, ("deadline_ts",)),
        Column("deadline_date_key", "INT", "UTC day of deadline_ts as YYYYMMDD; dim_date"),
        _DAYS,
        *contract_columns(COMPETITIONS, ("reward_type", "reward_quantity")),
        _CURRENCY,
        Column("reward_usd", "DECIMAL(18, 4)", "reward_quantity where the currency is USD, else null"),
        *contract_columns(COMPETITIONS, ("num_prizes", "evaluation_metric", "only_kernel_submissions", "can_qualify_tiers", *_COUNTS)),
        Column("tag_count", "BIGINT", "tags that the dump lists for it"),
        Column("tags", "STRING", "these tags in the order of the alphabet, a comma and a space between two; null where none has a name"),
        *_FLAGS,
        *contract_columns(COMPETITIONS, ("run_date",)),
    ),
)
FACT_YEARLY = Table(
    "lh.gold.fact_competitions_yearly",
    "one row per year in which a competition began (enabled_ts, UTC), of the competitions that are there",
    ("year",),
    (
        Column("year", "INT", "UTC year of enabled_ts"),
        Column("total_competitions", "BIGINT", "competitions that began in it"),
        *[Column(name, "BIGINT", f"of these, those of type {kind}") for kind, name in t.type_columns().items()],
        *[Column(f"total_{name}", "BIGINT", f"{name} of these, where known; null where none is") for name in t.COUNTS],
        *[Column(name, t.MONEY, f"rewards of these in {code} [{code}]") for code, name in t.currency_columns().items()],
        Column("rewards_other_currencies", t.MONEY, "rewards of these in all other currencies, added up without conversion"),
        *[Column(f"avg_{name}", "DOUBLE", f"{name} per competition whose {name} are known; null where none is") for name in t.COUNTS],
        Column("type_diversity", "BIGINT", "number of different values of competition_type, 1 to 5"),
        Column("growth_percent", "DOUBLE", "total_competitions against the year before [%]; null where none began in the year before"),
        RUN_ID,
    ),
    run_column=RUN_ID.name,
)
