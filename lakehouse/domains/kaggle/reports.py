"""How many rows did each rule and each strategy of silver affect? Shown by `weir check kaggle`, each with the sum that must come out.

Figures are counted from the tables as they are, by DuckDB's SQL that shares nothing with the transforms: they hold whoever wrote the rows,
and however often.
"""

from collections.abc import Mapping, Sequence

from lakehouse.domain import Check
from lakehouse.domains.kaggle.competitions.contract import COMPETITION_TAGS, COMPETITIONS, ORGANIZATIONS
from lakehouse.domains.kaggle.contract import DATASET_TAGS, DATASETS, DUMPS, USERS
from lakehouse.domains.kaggle.kernels.contract import KERNELS

# Above this share of rejects a source stops (the breaker); here of everything that arrived.
REJECTED_SHARE = 0.1
_TOPICS = {
    "users": USERS.topic,
    "datasets": DATASETS.topic,
    "dataset_tags": DATASET_TAGS.topic,
    "dumps": DUMPS.topic,
    "competitions": COMPETITIONS.topic,
    "organizations": ORGANIZATIONS.topic,
    "competition_tags": COMPETITION_TAGS.topic,
    "kernels": KERNELS.topic,
}
_UPPER, _LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"


def strategy_checks() -> Sequence[Check]:
    """Return the checks: of bronze what was rejected and why, of silver what each strategy left."""
    arrived = [_arrived(table) for table in _TOPICS if table != "dumps"]
    return [*arrived, *(rejected_check(table, topic) for table, topic in _TOPICS.items()), _users(), _datasets(), _tags()]


def _arrived(table: str) -> Check:
    """Return the check that rows of a table have arrived, if a dump said that it has some: not every dump has every table."""
    bronze = f"lh.bronze.kaggle_{table}"
    said = f"SELECT table_name, run_date, rows FROM lh.silver.kaggle_dumps WHERE table_name = '{table}' AND rows > 0"
    return Check("there are rows, if a dump had some", bronze, f"{said} AND NOT EXISTS (SELECT 1 FROM {bronze})")


def rejected_check(table: str, topic: str) -> Check:
    """Return the check of the rows that a source's rules reject, with its figures."""
    rejects = f"FROM lh.ops.rejects WHERE domain = 'kaggle' AND topic = '{topic}'"
    reasons = f"SELECT rule, count(*) AS n {rejects} GROUP BY rule ORDER BY n DESC, rule LIMIT 5"
    arrived = f"SELECT count(*) FROM lh.bronze.kaggle_{table} WHERE value IS NOT NULL"
    return Check(
        f"at most {REJECTED_SHARE:.0%} of what arrived is rejected",
        f"lh.bronze.kaggle_{table}",
        f"SELECT topic, partition, kafka_offset, rule, reason {rejects}",
        share=REJECTED_SHARE,
        of=arrived,
        groups=f"""SELECT '{table}' AS "table", input, input - rejects AS output, rejects,
round(CASE WHEN input > 0 THEN rejects / input ELSE 0 END, 6) AS rate,
coalesce((SELECT string_agg(rule || ' ' || n, ', ' ORDER BY n DESC, rule) FROM ({reasons})), '') AS top_reasons
FROM (SELECT ({arrived}) AS input, (SELECT count(*) {rejects}) AS rejects)""",
    )


def _users() -> Check:
    versions = "lh.silver.kaggle_users_versions"
    rows = "FROM lh.silver.kaggle_users"
    return sum_check(
        "lh.silver.kaggle_users",
        {
            "input": f"SELECT count(*) FROM {versions}",
            "duplicates_removed": f"SELECT count(*) - count(DISTINCT user_id) FROM {versions}",
            "gone_removed": gone_count(versions, "user_id"),
            "output": f"SELECT count(*) {rows}",
        },
        {
            "country_missing_flagged": f"SELECT count(*) {rows} WHERE is_country_missing",
            "country_coded": f"SELECT count(*) {rows} WHERE country_code IS NOT NULL",
            "signup_imputed": f"SELECT count(*) {rows} WHERE is_signup_imputed",
        },
    )


def _datasets() -> Check:
    versions, rows = "lh.silver.kaggle_datasets_versions", "FROM lh.silver.kaggle_datasets"
    return sum_check(
        "lh.silver.kaggle_datasets",
        {
            "input": f"SELECT count(*) FROM {versions}",
            "duplicates_removed": f"SELECT count(*) - count(DISTINCT dataset_id) FROM {versions}",
            "gone_removed": gone_count(versions, "dataset_id"),
            "output": f"SELECT count(*) {rows}",
        },
        {
            "matched_owners": f"SELECT count(*) {rows} WHERE is_owner_known",
            "unknown_owners": f"SELECT count(*) {rows} WHERE NOT is_owner_known",
            "is_private_defaulted": f"SELECT count(*) {rows} WHERE is_private_imputed",
            "missing_dates_flagged": f"SELECT count(*) {rows} WHERE has_missing_dates",
            "views_imputed": f"SELECT count(*) {rows} WHERE is_views_imputed",
            "downloads_imputed": f"SELECT count(*) {rows} WHERE is_downloads_imputed",
        },
    )


def _tags() -> Check:
    versions, rows = "lh.silver.kaggle_dataset_tags_versions", "FROM lh.silver.kaggle_dataset_tags"
    cleaned = f"trim(regexp_replace(translate(tag, '{_UPPER}', '{_LOWER}'), '[^a-z0-9]+', '-', 'g'), '-')"
    current = current_rows(versions, "dataset_id, tag", f"*, {cleaned} AS clean")
    is_there = "dataset_id IN (SELECT dataset_id FROM lh.silver.kaggle_datasets)"
    return sum_check(
        "lh.silver.kaggle_dataset_tags",
        {
            "input": f"SELECT count(*) FROM {versions}",
            "duplicates_removed": f"SELECT count(*) - count(DISTINCT (dataset_id, tag)) FROM {versions}",
            "gone_removed": gone_count(versions, "dataset_id, tag"),
            "unusable_tags_removed": f"SELECT count(*) {current} AND clean = ''",
            "invalid_dataset_tags_removed": f"SELECT count(*) {current} AND clean <> '' AND NOT {is_there}",
            "merged_tags_removed": f"SELECT count(*) - count(DISTINCT (dataset_id, clean)) {current} AND clean <> '' AND {is_there}",
            "output": f"SELECT count(*) {rows}",
        },
        {
            "tags_cleaned": f"SELECT count(*) {current} AND clean <> '' AND clean <> tag",
            **{
                f"tag_categories_{name}": f"SELECT count(*) FROM lh.silver.kaggle_tags WHERE datasets > 0 AND popularity = '{name}'"
                for name in ("popular", "common", "regular", "rare")
            },
        },
    )


def sum_check(table: str, removed: Mapping[str, str], others: Mapping[str, str]) -> Check:
    """Return the check that the input without what each strategy removes is the output, with the rows that every strategy affected.

    Args:
        table: the output.
        removed: SQL that counts rows, by name: the input, what each strategy removed, the output.
        others: the same of strategies that remove nothing.
    """
    counts = {name: f"({sql})" for name, sql in removed.items()}
    left = " - ".join(count for name, count in counts.items() if name != "output")
    figures = " UNION ALL ".join(
        f"SELECT {n} AS _n, '{name}' AS strategy, ({sql}) AS rows" for n, (name, sql) in enumerate({**removed, **others}.items())
    )
    return Check(
        "what its strategies leave of the versions, and nothing else",
        table,
        f"SELECT expected, found FROM (SELECT {left} AS expected, {counts['output']} AS found) WHERE expected <> found",
        groups=f"SELECT strategy, rows FROM ({figures}) ORDER BY _n",
    )


def current_rows(versions: str, key: str, columns: str = "*") -> str:
    """Return the SQL, from FROM on, of the newest version of each row that is there; a further condition may follow it."""
    newest = f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY run_date DESC) = 1"
    return f"FROM (SELECT {columns} FROM {versions} {newest}) WHERE is_gone IS NOT TRUE"


def gone_count(versions: str, key: str) -> str:
    """Return the SQL that counts the rows whose newest version says that they have gone."""
    return (
        f"SELECT count(*) FROM (SELECT is_gone FROM {versions} QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY run_date DESC) = 1) "
        "WHERE is_gone"
    )
