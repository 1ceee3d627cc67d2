"""Which tables do kernels have? Add a column here and in the transform that fills it; how they are connected is in `domain.py`."""

from lakehouse.domains.kaggle.kernels import transforms as t
from lakehouse.domains.kaggle.kernels.contract import KERNELS
from lakehouse.domains.kaggle.tables import RUN, bronze_table
from lakehouse.tables.schema import Column, Table, contract_columns

BRONZE_KERNELS = bronze_table("kernels", KERNELS)
KERNEL_VERSIONS = Table(
    "lh.silver.kaggle_kernels_versions",
    "one row per kernel and dump that changed the kernel",
    KERNELS.key,
    contract_columns(KERNELS, t.KERNEL_COLUMNS),
)
KAGGLE_KERNELS = Table(
    "lh.silver.kaggle_kernels",
    "one row per kernel that is there, the newest version",
    ("kernel_id",),
    (
        *contract_columns(
            KERNELS, ("kernel_id", "author_user_id", "title", "slug", "current_version_id", "language", "language_name", "is_notebook")
        ),
        Column("is_language_missing", "BOOLEAN", "whether the dump lacks the language"),
        *contract_columns(KERNELS, ("forked_from_version_id", "created_ts", "made_public_ts")),
        Column("kernel_age_days", "INT", "days from the day on which it was made to run_date"),
        *contract_columns(KERNELS, ("medal", "total_views", "total_comments", "total_votes")),
        *RUN,
    ),
)
