"""How do histories become dimensions, facts and the report? Pure functions of rows; silver's are in `transforms.py`.

A day's figures are the state at the dump of that day. They are computed from what changed up to it: each version adds its values on the day
from which it holds and takes them away on the day on which it ends, so a history is read once, however many days there are.
"""

from lakehouse.domains.kaggle.contract import CountryProfile
from lakehouse.domains.kaggle.countries import UNKNOWN as UNKNOWN_COUNTRY
from lakehouse.domains.kaggle.transforms import END, FIRST_SEEN, POPULARITY, UNKNOWN_USER, country_code, ratio
from lakehouse.engine.functions import date_key, hash_63
from lakehouse.engine.relation import Relation

TOP_TAGS = 20
UNKNOWN_USER_ID = -1
FIRST_TS, END_TS = "timestamp_seconds(0)", "timestamp_seconds(253402214400)"  # 1970-01-01 and 9999-12-31, UTC
_SUMS = ("datasets_total", "datasets_private", "views", "downloads")


def to_dim_user(versions: Relation, profile: CountryProfile) -> Relation:
    """Fold the versions of each user into the spans in which name and country were the same (SCD type 2), and add the unknown user.

    Bounded input: all versions of the users, those that have gone too. A user who has gone has no current row. signup_ts is not tracked:
    all rows of a user have the newest one. One row per user and span.
    """
    named = versions.select(
        "user_id",
        "run_date",
        "run_ts",
        "coalesce(is_gone, false) AS _gone",
        "user_name",
        f"coalesce({country_code(profile)}, '{UNKNOWN_COUNTRY}') AS country_code",
        "first_value(signup_ts) OVER (PARTITION BY user_id ORDER BY coalesce(is_gone, false), run_date DESC) AS _signup_ts",
        f"{FIRST_SEEN} AS _first_ts",
    )
    order = "OVER (PARTITION BY user_id ORDER BY run_date)"
    compared = named.select(
        "*", *[f"lag({name}) {order} AS _before_{name}" for name in ("run_date", "_gone", "user_name", "country_code")]
    ).where(
        "_before_run_date IS NULL OR _gone <> _before__gone "
        "OR (NOT _gone AND (user_name <> _before_user_name OR country_code <> _before_country_code))"
    )
    spans = compared.select("*", f"lead(run_ts) {order} AS _next_ts").where("NOT _gone")
    identity = hash_63("CAST(user_id AS STRING)", "CAST(unix_millis(run_ts) AS STRING)")
    users = spans.select(
        f"{identity} AS user_sk",
        "user_id",
        "user_name",
        "country_code",
        "coalesce(_signup_ts, _first_ts) AS signup_ts",
        "run_ts AS effective_start_ts",
        f"coalesce(_next_ts, {END_TS}) AS effective_end_ts",
        "_next_ts IS NULL AS is_current",
    )
    unknown = versions.group((), "count(1) AS _versions").select(
        "CAST(0 AS BIGINT) AS user_sk",
        f"CAST({UNKNOWN_USER_ID} AS BIGINT) AS user_id",
        f"'{UNKNOWN_USER}' AS user_name",
        f"'{UNKNOWN_COUNTRY}' AS country_code",
        "CAST(NULL AS TIMESTAMP) AS signup_ts",
        f"{FIRST_TS} AS effective_start_ts",
        f"{END_TS} AS effective_end_ts",
        "true AS is_current",
    )
    return users.union(unknown)


def to_dim_dataset(datasets: Relation) -> Relation:
    """Take what describes a dataset. Row-wise. One row per dataset that is there."""
    return datasets.select(
        "dataset_id",
        "title",
        "subtitle",
        "slug",
        "owner_user_id",
        "owner_user_name",
        "dataset_type",
        "license_name",
        "is_private",
        "created_ts",
        f"{date_key('created_ts')} AS created_date_key",
        "updated_ts",
        "run_date",
    )


def to_dim_tag(tags: Relation) -> Relation:
    """Take what describes a tag. Row-wise. One row per tag that a dataset has or had, so that every fact finds its tag."""
    return tags.select("tag", "tag_id", "tag_name", "tag_path", "datasets", "popularity")


def to_bridge(dataset_tags: Relation) -> Relation:
    """Connect datasets and tags as they are now. Row-wise. One row per dataset and tag."""
    return dataset_tags.select("dataset_id", "tag")


def to_owner_days(history: Relation, dumps: Relation, users: Relation) -> Relation:
    """Add up what each owner had at each dump of datasets. One row per owner and dump day on which the owner had a dataset.

    Bounded input: all versions of the owners' datasets, all dumps, and all rows of the owners in dim_user.
    """
    versions = history.select(
        "owner_user_id",
        "from_date",
        "until_date",
        "CAST(1 AS BIGINT) AS datasets_total",
        "CAST(CASE WHEN is_private THEN 1 ELSE 0 END AS BIGINT) AS datasets_private",
        "total_views AS views",
        "total_downloads AS downloads",
    )
    none = [f"CAST(0 AS BIGINT) AS {name}" for name in _SUMS]
    begun = versions.select("owner_user_id", "from_date AS _day", "false AS _is_dump", *_SUMS)
    ended = versions.where(f"until_date < {END}").select(
        "owner_user_id", "until_date AS _day", "false AS _is_dump", *[f"-{name} AS {name}" for name in _SUMS]
    )
    days = dumps.where("table_name = 'datasets'").select("1 AS _one", "run_date AS _day")
    grid = versions.group(("owner_user_id",)).select("1 AS _one", "owner_user_id").join(days, on=("_one",))
    asked = grid.select("owner_user_id", "_day", "true AS _is_dump", *none)
    # Changes of the day itself are part of its state: the default frame takes the current row's peers in.
    sums = [f"CAST(sum({name}) OVER (PARTITION BY owner_user_id ORDER BY _day) AS BIGINT) AS {name}" for name in _SUMS]
    state = begun.union(ended).union(asked).select("owner_user_id", "_day", "_is_dump", *sums).where("_is_dump AND datasets_total > 0")
    spans = users.select(
        "user_id AS owner_user_id", "user_sk", "CAST(effective_start_ts AS DATE) AS _from", "CAST(effective_end_ts AS DATE) AS _until"
    )
    # Several rows of a user on the right; at most one of them is valid on a day, which the group finds.
    known = state.join(spans, on=("owner_user_id",), how="left").group(
        ("owner_user_id", "_day", *_SUMS), "max(CASE WHEN _from <= _day AND _day < _until THEN user_sk END) AS user_sk"
    )
    return known.select(
        "owner_user_id",
        "coalesce(user_sk, 0) AS user_sk",
        f"{date_key('_day')} AS date_key",
        "datasets_total",
        "datasets_private",
        "datasets_total - datasets_private AS datasets_public",
        "views",
        "downloads",
        f"{ratio('views', 'downloads')} AS views_per_download",
    )


def to_tag_days(tags: Relation, presence: Relation, dumps: Relation) -> Relation:
    """Count the datasets of each tag at each dump of tags. One row per tag and dump day on which a dataset had the tag.

    Bounded input: everything, since a tag's popularity is a share of all datasets that were there on the day.
    """
    days = dumps.where("table_name = 'dataset_tags'").select("1 AS _one", "run_date AS _day")
    grid = tags.group(("tag",)).select("1 AS _one", "tag").join(days, on=("_one",))
    used = _begun_and_ended(tags, "tag").union(grid.select("tag", "_day", "true AS _is_dump", "CAST(0 AS BIGINT) AS _change"))
    counted = used.select(
        "tag", "_day", "_is_dump", "CAST(sum(_change) OVER (PARTITION BY tag ORDER BY _day) AS BIGINT) AS datasets"
    ).where("_is_dump AND datasets > 0")
    there = _begun_and_ended(presence.select("*", "1 AS _one"), "_one").union(
        days.select("_one", "_day", "true AS _is_dump", "CAST(0 AS BIGINT) AS _change")
    )
    totals = there.select("_day", "_is_dump", "CAST(sum(_change) OVER (PARTITION BY _one ORDER BY _day) AS BIGINT) AS datasets_total")
    return counted.join(totals.where("_is_dump").select("_day", "datasets_total"), on=("_day",)).select(
        "tag", f"{date_key('_day')} AS date_key", "datasets", "datasets_total", f"{POPULARITY} AS popularity"
    )


def to_top_tags(tags: Relation) -> Relation:
    """Rank the tags that most datasets have now; those with equal counts by name. Bounded input: all tags. One row per place."""
    place = "row_number() OVER (ORDER BY datasets DESC, tag)"
    ranked = tags.where("datasets > 0").select("*", f"CAST({place} AS INT) AS place").where(f"place <= {TOP_TAGS}")
    return ranked.select("place", "tag", "tag_name", "datasets", "popularity")


def _begun_and_ended(spans: Relation, by: str) -> Relation:
    """Turn spans into changes of a count: one more on the day on which a span begins, one less on the day on which it ends."""
    begun = spans.select(by, "from_date AS _day", "false AS _is_dump", "CAST(1 AS BIGINT) AS _change")
    ended = spans.where(f"until_date < {END}").select(by, "until_date AS _day", "false AS _is_dump", "CAST(-1 AS BIGINT) AS _change")
    return begun.union(ended)
