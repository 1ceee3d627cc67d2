"""Which tables does Kaggle have? Add a column here and in the transform that fills it; how they are connected is in `domain.py`."""

from lakehouse.contract import Contract
from lakehouse.domains.kaggle import transforms as t
from lakehouse.domains.kaggle.contract import DATASET_TAGS, DATASETS, DUMPS, USERS
from lakehouse.tables.schema import SOURCE_COLUMNS, Column, Table, contract_columns

_FROM = Column("from_date", "DATE", "UTC day of the dump from which on it holds")
_UNTIL = Column("until_date", "DATE", "UTC day of the dump from which on it does not hold; 9999-12-31 where it still does")
_CURRENT = Column("is_current", "BOOLEAN", "whether it still holds")
_TAG = Column("tag", "STRING", "small letters, digits and hyphens")
_TAG_ABOUT = contract_columns(DATASET_TAGS, ("tag_id", "tag_name", "tag_path"))
_POPULARITY = Column(
    "popularity", "STRING", "popular: more than 10 % of all datasets; common: more than 1 %; regular: more than 10; else rare"
)
_DATE_KEY = Column("date_key", "INT", "UTC day of the dump as YYYYMMDD; dim_date")
RUN_ID = Column("pipeline_run_id", "STRING", "the run that wrote the row: query and batch in lh.ops.batches; no part of any comparison")
RUN = contract_columns(USERS, ("run_date", "run_ts"))
_PRIVATE = (
    Column("is_private", "BOOLEAN", "whether the owner alone sees it; false where the dump does not say"),
    Column("is_private_imputed", "BOOLEAN", "whether the dump does not say"),
)
_COUNTS = (
    Column("total_views", "BIGINT", "views so far; 0 where the dump lacks them"),
    Column("is_views_imputed", "BOOLEAN", "whether the dump lacks them"),
    Column("total_downloads", "BIGINT", "downloads so far; 0 where the dump lacks them"),
    Column("is_downloads_imputed", "BOOLEAN", "whether the dump lacks them"),
)
_VIEWS_PER_DOWNLOAD = Column("views_per_download", "DOUBLE", "views divided by downloads; null where there are no downloads")
_USER_NAME = Column("owner_user_name", "STRING", "name of the owner; Unknown while no record of the owner has come")


def bronze_table(name: str, contract: Contract) -> Table:
    """Specify the table of all messages of a source."""
    return Table(
        f"lh.bronze.kaggle_{name}",
        "one row per message that arrived",
        (),
        (*contract_columns(contract), *SOURCE_COLUMNS),
        partitioned_by=("days(kafka_ts)",),
        properties={"write.distribution-mode": "none", "write.spark.fanout.enabled": "true"},
    )


BRONZE_USERS, BRONZE_DATASETS = bronze_table("users", USERS), bronze_table("datasets", DATASETS)
BRONZE_TAGS, BRONZE_DUMPS = bronze_table("dataset_tags", DATASET_TAGS), bronze_table("dumps", DUMPS)

USER_VERSIONS = Table(
    "lh.silver.kaggle_users_versions", "one row per user and dump that changed the user", USERS.key, contract_columns(USERS, t.USER_COLUMNS)
)
DATASET_VERSIONS = Table(
    "lh.silver.kaggle_datasets_versions",
    "one row per dataset and dump that changed the dataset",
    DATASETS.key,
    contract_columns(DATASETS, t.DATASET_COLUMNS),
)
TAG_VERSIONS = Table(
    "lh.silver.kaggle_dataset_tags_versions",
    "one row per dataset, tag as the dump has it, and dump that changed it",
    DATASET_TAGS.key,
    contract_columns(DATASET_TAGS, t.TAG_COLUMNS),
)
KAGGLE_DUMPS = Table(
    "lh.silver.kaggle_dumps",
    "one row per dump's day and table that the dump has",
    DUMPS.key,
    (*contract_columns(DUMPS, t.DUMP_COLUMNS), _DATE_KEY),
)

KAGGLE_USERS = Table(
    "lh.silver.kaggle_users",
    "one row per user that is there, the newest version",
    ("user_id",),
    (
        *contract_columns(USERS, ("user_id", "user_name", "display_name", "country")),
        Column("country_code", "STRING", "country as ISO 3166 code of two capital letters; null where the user gives none"),
        Column("is_country_missing", "BOOLEAN", "whether the user gives no country"),
        Column("signup_ts", "TIMESTAMP", "registration; the time of the first dump with the user where the dump lacks it"),
        Column("is_signup_imputed", "BOOLEAN", "whether the dump lacks the registration"),
        *contract_columns(USERS, ("performance_tier", "location_sharing_opt_out")),
        *RUN,
    ),
)
DATASET_HISTORY = Table(
    "lh.silver.kaggle_datasets_history",
    "one row per version of a dataset while it is there",
    ("dataset_id", "from_date"),
    (
        *contract_columns(DATASETS, ("dataset_id",)),
        _FROM,
        _UNTIL,
        _CURRENT,
        *contract_columns(
            DATASETS, ("title", "subtitle", "slug", "owner_user_id", "creator_user_id", "owner_organization_id", "dataset_type")
        ),
        *_PRIVATE,
        *contract_columns(DATASETS, ("license_name", "created_ts", "updated_ts", "last_activity_ts")),
        *_COUNTS,
        *contract_columns(DATASETS, ("total_votes", "total_kernels", "run_ts")),
    ),
)
DATASET_PRESENCE = Table(
    "lh.silver.kaggle_datasets_presence",
    "one row per dataset and stay: the days on which it was there without a break",
    ("dataset_id", "from_date"),
    (*contract_columns(DATASETS, ("dataset_id",)), _FROM, _UNTIL),
)
KAGGLE_DATASETS = Table(
    "lh.silver.kaggle_datasets",
    "one row per dataset that is there, the newest version",
    ("dataset_id",),
    (
        *contract_columns(DATASETS, ("dataset_id", "title", "subtitle", "slug", "owner_user_id")),
        _USER_NAME,
        Column("owner_country_code", "STRING", "country of the owner; XX where it is not known"),
        Column("is_owner_known", "BOOLEAN", "whether a record of the owner has come"),
        *contract_columns(DATASETS, ("creator_user_id", "owner_organization_id", "dataset_type")),
        *_PRIVATE,
        *contract_columns(DATASETS, ("license_name", "created_ts", "updated_ts", "last_activity_ts")),
        Column("has_missing_dates", "BOOLEAN", "whether the dump lacks the day on which it was made or updated"),
        *_COUNTS,
        _VIEWS_PER_DOWNLOAD,
        *contract_columns(DATASETS, ("total_votes", "total_kernels")),
        Column("dataset_age_days", "INT", "days from the day on which it was made to run_date"),
        Column("last_update_days", "INT", "days from the day on which it was updated to run_date"),
        *RUN,
    ),
)
TAG_HISTORY = Table(
    "lh.silver.kaggle_dataset_tags_history",
    "one row per dataset, tag and stay, while the dataset was there",
    ("dataset_id", "tag", "from_date"),
    (*contract_columns(DATASET_TAGS, ("dataset_id",)), _TAG, _FROM, _UNTIL, _CURRENT, *_TAG_ABOUT),
)
KAGGLE_TAGS = Table(
    "lh.silver.kaggle_tags",
    "one row per tag that a dataset has or had",
    ("tag",),
    (
        _TAG,
        *_TAG_ABOUT,
        Column("datasets", "BIGINT", "datasets that have it now"),
        Column("datasets_total", "BIGINT", "datasets that are there now"),
        _POPULARITY,
    ),
)
KAGGLE_DATASET_TAGS = Table(
    "lh.silver.kaggle_dataset_tags",
    "one row per dataset that is there and tag that it has",
    ("dataset_id", "tag"),
    (
        *contract_columns(DATASET_TAGS, ("dataset_id",)),
        _TAG,
        *_TAG_ABOUT,
        _POPULARITY,
        Column("since_date", "DATE", "UTC day of the dump since which the dataset has it"),
    ),
)

DIM_USER = Table(
    "lh.gold.dim_user",
    "one row per user and span of time in which name and country were the same (SCD type 2), and the unknown user",
    ("user_id", "effective_start_ts"),
    (
        Column("user_sk", "BIGINT", "63-bit hash of user_id and effective_start_ts; 0 for the unknown user"),
        Column("user_id", "BIGINT", "Kaggle's id of the user; -1 for the unknown one"),
        Column("user_name", "STRING", "name in addresses (tracked)"),
        Column("country_code", "STRING", "country as ISO 3166 code (tracked); XX where the user gives none"),
        Column("signup_ts", "TIMESTAMP", "registration by the newest version (not tracked), as in silver; null for the unknown user"),
        Column("effective_start_ts", "TIMESTAMP", "time of the dump from which on it holds"),
        Column("effective_end_ts", "TIMESTAMP", "time of the dump from which on it does not hold; 9999-12-31 where it still does"),
        Column("is_current", "BOOLEAN", "whether it still holds; a user who has gone has no such row"),
    ),
)
DIM_DATASET = Table(
    "lh.gold.dim_dataset",
    "one row per dataset that is there, the newest version",
    ("dataset_id",),
    (
        *contract_columns(DATASETS, ("dataset_id", "title", "subtitle", "slug", "owner_user_id")),
        _USER_NAME,
        *contract_columns(DATASETS, ("dataset_type", "license_name")),
        _PRIVATE[0],
        *contract_columns(DATASETS, ("created_ts",)),
        Column("created_date_key", "INT", "UTC day of created_ts as YYYYMMDD; dim_date"),
        *contract_columns(DATASETS, ("updated_ts", "run_date")),
    ),
)
DIM_TAG = Table(
    "lh.gold.dim_tag",
    "one row per tag that a dataset has or had",
    ("tag",),
    (_TAG, *_TAG_ABOUT, Column("datasets", "BIGINT", "datasets that have it now"), _POPULARITY),
)
BRIDGE = Table(
    "lh.gold.bridge_dataset_tag",
    "one row per dataset that is there and tag that it has",
    ("dataset_id", "tag"),
    (Column("dataset_id", "BIGINT", "the dataset; dim_dataset"), Column("tag", "STRING", "the tag; dim_tag")),
)
FACT_OWNER_DAILY = Table(
    "lh.gold.fact_dataset_owner_daily",
    "one row per owner and dump of datasets at which the owner had one",
    ("owner_user_id", "date_key"),
    (
        Column("owner_user_id", "BIGINT", "Kaggle's id of the owner"),
        Column("user_sk", "BIGINT", "the owner's row of dim_user that is valid on the day; 0 where the owner was not known"),
        _DATE_KEY,
        Column("datasets_total", "BIGINT", "datasets of the owner"),
        Column("datasets_private", "BIGINT", "of these, private ones"),
        Column("datasets_public", "BIGINT", "of these, public ones"),
        Column("views", "BIGINT", "views of these so far"),
        Column("downloads", "BIGINT", "downloads of these so far"),
        _VIEWS_PER_DOWNLOAD,
        RUN_ID,
    ),
    run_column=RUN_ID.name,
)
FACT_TAG_DAILY = Table(
    "lh.gold.fact_tag_usage_daily",
    "one row per tag and dump of tags at which a dataset had it",
    ("tag", "date_key"),
    (
        Column("tag", "STRING", "the tag; dim_tag"),
        _DATE_KEY,
        Column("datasets", "BIGINT", "datasets that had it"),
        Column("datasets_total", "BIGINT", "datasets that were there"),
        _POPULARITY,
        RUN_ID,
    ),
    run_column=RUN_ID.name,
)
TOP_TAGS = Table(
    "lh.gold.report_top_tags",
    "one row per place among the tags that most datasets have",
    ("place",),
    (
        Column("place", "INT", "1-20; tags with equal counts in the order of their names"),
        Column("tag", "STRING", "the tag; dim_tag"),
        *contract_columns(DATASET_TAGS, ("tag_name",)),
        Column("datasets", "BIGINT", "datasets that have it now"),
        _POPULARITY,
    ),
)
DIM_COUNTRY = Table(
    "lh.gold.dim_country",
    "one row per name or code of a country",
    ("country",),
    (
        Column("country", "STRING", "name or code with small letters A to Z"),
        Column("country_code", "STRING", "ISO 3166 code of two capital letters"),
    ),
)
