"""Which tables does the polled dataset list have, and what is in them?"""

from lakehouse.domains.kaggle.contract import DATASETS
from lakehouse.domains.kaggle.listing import transforms as t
from lakehouse.domains.kaggle.listing.contract import DATASET_LIST, DATASET_LIST_POLLS
from lakehouse.domains.kaggle.tables import bronze_table
from lakehouse.tables.schema import Column, Table, contract_columns

_MATCH = Column("match_ref", "STRING", "address of the dataset with small letters A to Z: owner/slug")
_DATASET = Column("dataset_id", "BIGINT", "the dataset of the dumps with this address; dim_dataset; null while no dump has it")
_OWNER = Column("owner_slug", "STRING", "first part of ref")
_SLUG = Column("slug", "STRING", "second part of ref")
_STATUS = Column(
    "status", "STRING", "listed; absent: the last complete poll did not find it; unlisted: two complete polls in a row did not find it"
)
_SEEN = (
    Column("first_seen_ts", "TIMESTAMP", "the poll that saw it first"),
    Column("last_changed_ts", "TIMESTAMP", "the last poll that saw other values than the poll before"),
    Column("absent_since_ts", "TIMESTAMP", "the first complete poll that did not find it; null where it is listed"),
)


BRONZE_LIST, BRONZE_POLLS = bronze_table("dataset_list", DATASET_LIST), bronze_table("dataset_list_polls", DATASET_LIST_POLLS)
LIST_VERSIONS = Table(
    "lh.silver.kaggle_dataset_list_versions",
    "one row per ref and poll that told something of it",
    DATASET_LIST.key,
    (*contract_columns(DATASET_LIST, t.VERSION_COLUMNS), _MATCH),
)
LIST_POLLS = Table(
    "lh.silver.kaggle_dataset_list_polls",
    "one row per poll of the dataset list",
    DATASET_LIST_POLLS.key,
    contract_columns(DATASET_LIST_POLLS, tuple(name.strip("`") for name in t.POLL_COLUMNS)),
)
DATASET_REFS = Table(
    "lh.silver.kaggle_dataset_refs",
    "one row per dataset of the dumps that is there and whose slug and owner are known",
    ("dataset_id",),
    (Column("dataset_id", "BIGINT", "the dataset"), *contract_columns(DATASETS, ("owner_organization_id",)), _MATCH),
)
KAGGLE_LIST = Table(
    "lh.silver.kaggle_dataset_list",
    "one row per ref that a poll ever saw",
    ("ref",),
    (
        *contract_columns(DATASET_LIST, ("ref",)),
        _MATCH,
        _OWNER,
        _SLUG,
        _DATASET,
        _STATUS,
        *contract_columns(DATASET_LIST, t.VALUES),
        *_SEEN,
    ),
)
_DIM = {column.name: column for column in KAGGLE_LIST.columns}
DIM_LISTED = Table(
    "lh.gold.dim_listed_dataset",
    "one row per dataset that Kaggle's public list has or had",
    ("ref",),
    tuple(_DIM[name] for name in t.DIM_COLUMNS),
)
