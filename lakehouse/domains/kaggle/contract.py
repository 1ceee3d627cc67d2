"""What are the messages of Kaggle's topics? Each is one row of one table of a dump, as it is from the dump of `run_ts` on.

A dump is published as changes against the dump before it: a row that is new or changed comes with its values, a row that has gone comes
with `is_gone`. So every version of a row has a key of its own, and a table as of a date is the newest version of each row up to then.
`kaggle.dumps.v1` says which tables a dump had; it follows the rows of the dump, so who sees it has seen them.
"""

from typing import Literal

from lakehouse.contract import Contract, Field

SOURCE_SYSTEM = "kaggle_meta"
# How a user's country is read. names: a country's name or code, or nothing; strict: two letters, and nothing is a reject.
CountryProfile = Literal["names", "strict"]

# The fields of every message: of the dump, and of a row of it.
DUMP_FIELDS = (
    Field("run_date", "date", required=True, about="UTC day of the dump"),
    Field("run_ts", "timestamp", required=True, about="when the dump was made; of two dumps of a day the later wins"),
)
ROW_FIELDS = (
    *DUMP_FIELDS,
    Field("source_file", "string", about="the file of the dump that the row was read from"),
    Field("source_system", "string", about="always kaggle_meta"),
    Field("other_columns", "string", about="JSON object of columns that weir does not know, as text; null where there are none"),
    Field("is_gone", "boolean", about="whether the row has left the dump"),
)

USERS = Contract(
    topic="kaggle.users.v1",
    entity=("user_id",),
    key=("user_id", "run_date"),
    version="run_ts",
    deleted="is_gone",
    fields=(
        Field("user_id", "long", required=True, about="Kaggle's id of the user"),
        Field("user_name", "string", about="name in addresses"),
        Field("display_name", "string", about="name on pages; null in the simple form of a dump"),
        Field("signup_ts", "timestamp", about="registration; midnight where the dump has the day only"),
        Field("country", "string", about="as the dump has it: a country's name or its code; null for most users"),
        Field("performance_tier", "long", about="0 novice to 5 staff; null in the simple form of a dump"),
        Field("location_sharing_opt_out", "boolean", about="null in the simple form of a dump"),
        *ROW_FIELDS,
    ),
)

DATASETS = Contract(
    topic="kaggle.datasets.v1",
    entity=("dataset_id",),
    key=("dataset_id", "run_date"),
    version="run_ts",
    deleted="is_gone",
    fields=(
        Field("dataset_id", "long", required=True, about="Kaggle's id of the dataset"),
        Field("title", "string", about="of its current version"),
        Field("subtitle", "string", about="of its current version"),
        Field("slug", "string", about="its name in addresses; null in the simple form of a dump"),
        Field("owner_user_id", "long", about="the user who owns it: OwnerUserId, else CreatorUserId"),
        Field("creator_user_id", "long", about="the user who made it"),
        Field("owner_organization_id", "long", about="the organization that owns it; null for a user's"),
        Field("dataset_type", "string", about="as the dump has it"),
        Field("is_private", "boolean", about="null where the dump does not say"),
        Field("license_name", "string", about="of its current version; null in the simple form of a dump"),
        Field("created_ts", "timestamp", about="when it was made"),
        Field("updated_ts", "timestamp", about="LastUpdatedDate, or when its current version was made"),
        Field("last_activity_ts", "timestamp", about="last activity; null in the simple form of a dump"),
        Field("total_views", "long", about="views so far", low=0),
        Field("total_downloads", "long", about="downloads so far", low=0),
        Field("total_votes", "long", about="votes so far; null in the simple form of a dump"),
        Field("total_kernels", "long", about="notebooks that use it; null in the simple form of a dump"),
        *ROW_FIELDS,
    ),
)

DATASET_TAGS = Contract(
    topic="kaggle.dataset-tags.v1",
    entity=("dataset_id",),
    key=("dataset_id", "tag", "run_date"),
    version="run_ts",
    deleted="is_gone",
    fields=(
        Field("dataset_id", "long", required=True, about="the dataset; it may not be known yet"),
        Field("tag", "string", required=True, about="the tag as the dump has it: its slug, else its name"),
        Field("tag_id", "long", about="Kaggle's id of the tag; null in the simple form of a dump"),
        Field("tag_name", "string", about="the tag for people; null in the simple form of a dump"),
        Field("tag_path", "string", about="the tag with those above it; null in the simple form of a dump"),
        Field("occurrence", "long", about="1, or more where the dump lists the tag again for the same dataset"),
        *ROW_FIELDS,
    ),
)

DUMPS = Contract(
    topic="kaggle.dumps.v1",
    entity=("table_name",),
    key=("table_name", "run_date"),
    version="run_ts",
    fields=(
        Field("table_name", "string", required=True, about="name of the table, such as users or dataset_tags"),
        *DUMP_FIELDS,
        Field("rows", "long", about="rows of the table in the dump", low=0),
        Field("added", "long", about="of these, rows that the dump before did not have", low=0),
        Field("changed", "long", about="of these, rows with other values than in the dump before", low=0),
        Field("gone", "long", about="rows of the dump before that this one does not have", low=0),
        Field("form", "string", about="meta or simple: the form of the dump"),
        Field("source_file", "string", about="the files of the dump that the table was read from"),
        Field("source_system", "string", about="always kaggle_meta"),
    ),
)
