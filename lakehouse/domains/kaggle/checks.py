"""What must hold in Kaggle's tables? Before rows are written (`*_HOLD`, for both engines), and afterwards (DuckDB's SQL)."""

from collections.abc import Sequence

from lakehouse.domain import Check
from lakehouse.domains.kaggle.competitions.checks import competition_checks
from lakehouse.domains.kaggle.kernels.checks import kernel_checks
from lakehouse.domains.kaggle.reports import strategy_checks

OWNER_DAYS_HOLD = {
    "datasets_total is datasets_private and datasets_public": "datasets_total <> datasets_private + datasets_public",
    "no figure is negative": "datasets_private < 0 OR datasets_public < 0 OR views < 0 OR downloads < 0",
    "every owner's day has a user_sk": "user_sk IS NULL",
}
TAG_DAYS_HOLD = {"a tag has some datasets, and no more than there are": "datasets < 1 OR datasets > datasets_total"}
USERS_HOLD = {
    "a span ends after it begins": "effective_end_ts <= effective_start_ts",
    "every user has a name, a country and a user_sk": "user_name IS NULL OR country_code IS NULL OR user_sk IS NULL",
}
_USERS, _OWNER_DAYS, _TAG_DAYS = "lh.gold.dim_user", "lh.gold.fact_dataset_owner_daily", "lh.gold.fact_tag_usage_daily"
_VERSIONS, _BRIDGE = "lh.silver.kaggle_users_versions", "lh.gold.bridge_dataset_tag"


def quality_checks() -> Sequence[Check]:
    """Return the checks."""
    held = {_OWNER_DAYS: OWNER_DAYS_HOLD, _TAG_DAYS: TAG_DAYS_HOLD, _USERS: USERS_HOLD}
    return [
        *strategy_checks(),
        *competition_checks(),
        *kernel_checks(),
        *[
            Check(statement, table, f"SELECT * FROM {table} WHERE {broken}")
            for table, statements in held.items()
            for statement, broken in statements.items()
        ],
        Check("user_sk is one row's", _USERS, f"SELECT user_sk, count(*) AS rows FROM {_USERS} GROUP BY ALL HAVING count(*) > 1"),
        Check("the unknown user is there", _USERS, f"SELECT 0 AS user_sk WHERE 0 NOT IN (SELECT user_sk FROM {_USERS})"),
        Check(
            "spans of a user do not overlap",
            _USERS,
            "SELECT user_id, effective_start_ts, _before FROM (SELECT *, lag(effective_end_ts) OVER "
            f"(PARTITION BY user_id ORDER BY effective_start_ts) AS _before FROM {_USERS}) WHERE effective_start_ts < _before",
        ),
        Check(
            "a user who is there has one current row, and one who has gone has none",
            _USERS,
            "SELECT user_id, is_there, current FROM (SELECT user_id, arg_max(is_gone IS NOT TRUE, run_date) AS is_there "
            f"FROM {_VERSIONS} GROUP BY ALL) LEFT JOIN (SELECT user_id, count(*) FILTER (WHERE is_current) AS current FROM {_USERS} "
            "GROUP BY ALL) USING (user_id) WHERE coalesce(current, 0) <> is_there::INT",
        ),
        Check("the user is valid on the day", _OWNER_DAYS, _WRONG_USER),
        _found("every day is in dim_date", _OWNER_DAYS, "date_key", "lh.gold.dim_date", "date_key"),
        _found("every day is in dim_date", _TAG_DAYS, "date_key", "lh.gold.dim_date", "date_key"),
        _found("every tag is in dim_tag", _TAG_DAYS, "tag", "lh.gold.dim_tag", "tag"),
        _found("every tag is in dim_tag", _BRIDGE, "tag", "lh.gold.dim_tag", "tag"),
        _found("every dataset is in dim_dataset", _BRIDGE, "dataset_id", "lh.gold.dim_dataset", "dataset_id"),
    ]


# The row of dim_user that user_sk names is the owner's and holds on the day; 0 stands where no row of the owner does.
_WRONG_USER = f"""SELECT f.owner_user_id, f.date_key, f.user_sk, u.user_sk AS valid
FROM (SELECT *, strptime(date_key::VARCHAR, '%Y%m%d')::DATE AS _day FROM {_OWNER_DAYS}) f LEFT JOIN {_USERS} u
ON u.user_id = f.owner_user_id AND u.effective_start_ts::DATE <= f._day AND f._day < u.effective_end_ts::DATE
WHERE coalesce(u.user_sk, 0) <> f.user_sk"""


def _found(name: str, table: str, column: str, other: str, key: str) -> Check:
    return Check(
        name, table, f"SELECT DISTINCT f.{column} FROM {table} f ANTI JOIN {other} d ON d.{key} = f.{column} WHERE f.{column} IS NOT NULL"
    )
