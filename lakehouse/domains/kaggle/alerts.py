"""What are Kaggle's runs, whose sizes and repeats are watched? Dumps of each table, and complete polls of the dataset list."""

from collections.abc import Sequence

from lakehouse.alerts import Runs
from lakehouse.domains.kaggle.listing.contract import DATASET_LIST

_TABLES = {"users": ("user_id",), "datasets": ("dataset_id",), "dataset_tags": ("dataset_id", "tag", "occurrence")}


def runs() -> Sequence[Runs]:
    """Return them: records are the rows of the whole table or list, duplicates the messages of a run that came more than once."""
    return [*(_dumps(table, key) for table, key in _TABLES.items()), _polls()]


def _dumps(table: str, key: tuple[str, ...]) -> Runs:
    bronze = f"lh.bronze.kaggle_{table}"
    return Runs(
        f"dumps_{table}",
        bronze,
        f"""SELECT run_ts, rows AS records, coalesce(repeats, 0) AS duplicates FROM lh.silver.kaggle_dumps
LEFT JOIN ({_repeats(bronze, "run_date", key)}) USING (run_date) WHERE table_name = '{table}' AND rows IS NOT NULL""",
    )


def _polls() -> Runs:
    bronze = "lh.bronze.kaggle_dataset_list"
    return Runs(
        "list_polls",
        bronze,
        f"""SELECT poll_ts AS run_ts, rows AS records, coalesce(repeats, 0) AS duplicates FROM lh.silver.kaggle_dataset_list_polls
LEFT JOIN ({_repeats(bronze, "poll_ts", DATASET_LIST.entity)}) USING (poll_ts) WHERE is_complete AND rows IS NOT NULL""",
    )


def _repeats(bronze: str, run: str, key: tuple[str, ...]) -> str:
    return f"SELECT {run}, count(*) - count(DISTINCT ({', '.join(key)})) AS repeats FROM {bronze} WHERE {run} IS NOT NULL GROUP BY {run}"
