"""How do versions of kernels become what is there now? Pure functions of rows; see `lakehouse/domains/kaggle/transforms.py`."""

from lakehouse.domains.kaggle.transforms import DUMP, only_newest
from lakehouse.engine.functions import days_between
from lakehouse.engine.relation import Relation

KERNEL_COLUMNS = (
    "kernel_id", "author_user_id", "title", "slug", "current_version_id", "language", "language_name", "is_notebook",
    "forked_from_version_id", "created_ts", "made_public_ts", "medal", "total_views", "total_comments", "total_votes", *DUMP,
)  # fmt: skip


def to_kernel_versions(rows: Relation) -> Relation:
    """Shape accepted kernels into silver's versions. Row-wise."""
    return rows.select(*KERNEL_COLUMNS)


def to_kernels(versions: Relation) -> Relation:
    """Take the newest version of each kernel that is there. One row per kernel.

    Bounded input: all versions of the kernels, those that have gone too. Days are counted to the row's dump, never to a clock.
    """
    return only_newest(versions, "kernel_id").select(
        "kernel_id",
        "author_user_id",
        "title",
        "slug",
        "current_version_id",
        "language",
        "language_name",
        "is_notebook",
        "language IS NULL AS is_language_missing",
        "forked_from_version_id",
        "created_ts",
        "made_public_ts",
        f"{days_between('CAST(created_ts AS DATE)', 'run_date')} AS kernel_age_days",
        "medal",
        "total_views",
        "total_comments",
        "total_votes",
        "run_date",
        "run_ts",
    )
