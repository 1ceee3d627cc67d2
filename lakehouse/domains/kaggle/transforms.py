"""How do versions of rows become histories, and what is there now? Pure functions of rows; gold's are in `transforms_gold.py`.

Their texts are read by Spark and by DuckDB alike: see `lakehouse/engine/functions.py`.

A version holds from the day of its dump (`from_date`) until the day of the next dump with another one (`until_date`, excluded; END where
there is none). A version that says that its row has gone ends the one before, and is no row of a history.
"""

from collections.abc import Sequence

from lakehouse.domains.kaggle.contract import CountryProfile
from lakehouse.domains.kaggle.countries import UNKNOWN as UNKNOWN_COUNTRY
from lakehouse.domains.kaggle.countries import code_of
from lakehouse.engine.functions import date_key, days_between, double, lower_ascii, slug
from lakehouse.engine.relation import Relation

END = "DATE '9999-12-31'"
UNKNOWN_USER = "Unknown"
POPULARITY = (
    "CASE WHEN datasets * 10 > datasets_total THEN 'popular' WHEN datasets * 100 > datasets_total THEN 'common' "
    "WHEN datasets > 10 THEN 'regular' ELSE 'rare' END"
)
DUMP = ("run_date", "run_ts", "source_file", "source_system", "other_columns", "is_gone")
USER_COLUMNS = (
    "user_id", "user_name", "display_name", "signup_ts", "country", "performance_tier", "location_sharing_opt_out", *DUMP,
)  # fmt: skip
# updated_ts right behind the key: of two versions of one dump the later update wins.
DATASET_COLUMNS = (
    "dataset_id", "updated_ts", "title", "subtitle", "slug", "owner_user_id", "creator_user_id", "owner_organization_id",
    "dataset_type", "is_private", "license_name", "created_ts", "last_activity_ts", "total_views", "total_downloads",
    "total_votes", "total_kernels", *DUMP,
)  # fmt: skip
TAG_COLUMNS = ("dataset_id", "tag", "tag_id", "tag_name", "tag_path", "occurrence", *DUMP)
DUMP_COLUMNS = ("table_name", "run_date", "run_ts", "rows", "added", "changed", "gone", "form", "source_file", "source_system")


def to_user_versions(rows: Relation) -> Relation:
    """Shape accepted users into silver's versions. Row-wise."""
    return rows.select(*USER_COLUMNS)


def to_dataset_versions(rows: Relation) -> Relation:
    """Shape accepted datasets into silver's versions. Row-wise."""
    return rows.select(*DATASET_COLUMNS)


def to_tag_versions(rows: Relation) -> Relation:
    """Shape accepted tags of datasets into silver's versions. Row-wise."""
    return rows.select(*TAG_COLUMNS)


def to_dumps(rows: Relation) -> Relation:
    """Shape the messages that name a dump into silver, with its day as YYYYMMDD. Row-wise."""
    return rows.select(*[f"`{name}`" for name in DUMP_COLUMNS], f"{date_key('run_date')} AS date_key")


def country_code(profile: CountryProfile) -> str:
    """Return the SQL of a user's country as a code of two capital letters; null where the user gives none."""
    small, capital = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return f"translate({lower_ascii('trim(country)')}, '{small}', '{capital}')" if profile == "strict" else code_of("country")


def to_users(versions: Relation, profile: CountryProfile) -> Relation:
    """Take the newest version of each user that is there. Bounded input: all versions of the users, those that have gone too.

    A signup that the dump lacks is taken from the first dump that had the user, and flagged. One row per user.
    """
    ranked = versions.select(
        "*",
        "row_number() OVER (PARTITION BY user_id ORDER BY run_date DESC) AS _rank",
        f"{FIRST_SEEN} AS _first_ts",
    ).where("_rank = 1 AND is_gone IS NOT TRUE")
    return ranked.select(
        "user_id",
        "user_name",
        "display_name",
        "country",
        f"{country_code(profile)} AS country_code",
        "country IS NULL OR trim(country) = '' AS is_country_missing",
        "coalesce(signup_ts, _first_ts) AS signup_ts",
        "signup_ts IS NULL AS is_signup_imputed",
        "performance_tier",
        "location_sharing_opt_out",
        "run_date",
        "run_ts",
    )


FIRST_SEEN = "min(CASE WHEN is_gone IS NOT TRUE THEN run_ts END) OVER (PARTITION BY user_id)"


def to_dataset_history(versions: Relation) -> Relation:
    """Say from when until when each version of a dataset held. Bounded input: all versions of the datasets, those that have gone too.

    A count that the dump lacks is 0 and flagged; so is privacy, which is then public. One row per dataset and version that is there.
    """
    held = _held(versions, ("dataset_id",))
    return held.select(
        "dataset_id",
        "run_date AS from_date",
        "until_date",
        f"until_date = {END} AS is_current",
        "title",
        "subtitle",
        "slug",
        "owner_user_id",
        "creator_user_id",
        "owner_organization_id",
        "dataset_type",
        "coalesce(is_private, false) AS is_private",
        "is_private IS NULL AS is_private_imputed",
        "license_name",
        "created_ts",
        "updated_ts",
        "last_activity_ts",
        "coalesce(total_views, 0) AS total_views",
        "total_views IS NULL AS is_views_imputed",
        "coalesce(total_downloads, 0) AS total_downloads",
        "total_downloads IS NULL AS is_downloads_imputed",
        "total_votes",
        "total_kernels",
        "run_ts",
    )


def to_dataset_presence(history: Relation) -> Relation:
    """Say from when until when each dataset was there, whatever its values. One row per dataset and stay.

    Bounded input: whole histories.
    """
    islands = with_islands(history.select("dataset_id", "from_date", "until_date"), ("dataset_id",))
    stays = islands.group(("dataset_id", "_island"), "min(from_date) AS from_date", "max(until_date) AS until_date")
    return stays.select("dataset_id", "from_date", "until_date")


def to_datasets(history: Relation, users: Relation) -> Relation:
    """Take the current version of each dataset, with its owner; an owner who is not known is (Unknown, XX). One row per dataset.

    Bounded input: users must hold the owners. Days are counted to the row's dump, never to a clock.
    """
    current = history.where("is_current")
    # Unique on the right: one row per user.
    owners = users.select("user_id AS owner_user_id", "user_name AS _owner_name", "country_code AS _owner_country")
    return current.join(owners, on=("owner_user_id",), how="left").select(
        "dataset_id",
        "title",
        "subtitle",
        "slug",
        "owner_user_id",
        f"coalesce(_owner_name, '{UNKNOWN_USER}') AS owner_user_name",
        f"coalesce(_owner_country, '{UNKNOWN_COUNTRY}') AS owner_country_code",
        "_owner_name IS NOT NULL AS is_owner_known",
        "creator_user_id",
        "owner_organization_id",
        "dataset_type",
        "is_private",
        "is_private_imputed",
        "license_name",
        "created_ts",
        "updated_ts",
        "last_activity_ts",
        "created_ts IS NULL OR updated_ts IS NULL AS has_missing_dates",
        "total_views",
        "is_views_imputed",
        "total_downloads",
        "is_downloads_imputed",
        f"{ratio('total_views', 'total_downloads')} AS views_per_download",
        "total_votes",
        "total_kernels",
        f"{days_between('CAST(created_ts AS DATE)', 'from_date')} AS dataset_age_days",
        f"{days_between('CAST(updated_ts AS DATE)', 'from_date')} AS last_update_days",
        "from_date AS run_date",
        "run_ts",
    )


def to_tag_history(versions: Relation, presence: Relation) -> Relation:
    """Say from when until when each dataset had each tag, while the dataset was there. One row per dataset, tag and stay.

    Bounded input: all versions of the datasets' tags, those that have gone too, and the datasets' stays. A tag is cleaned to small letters,
    digits and hyphens; two tags that are then the same are one. id, name and path are those of the last version of the stay.
    """
    named = _held(versions, ("dataset_id", "tag")).select(
        "dataset_id", f"{slug('tag')} AS _slug", "run_date AS _from", "until_date AS _until", "tag AS _source_tag",
        "tag_id", "tag_name", "tag_path",
    )  # fmt: skip
    cleaned = named.where("_slug <> ''")
    both = cleaned.join(presence.select("dataset_id", "from_date", "until_date"), on=("dataset_id",))
    there = both.select(
        "dataset_id",
        "_slug AS tag",
        "greatest(_from, from_date) AS from_date",
        "least(_until, until_date) AS until_date",
        "_source_tag",
        "tag_id",
        "tag_name",
        "tag_path",
    ).where("from_date < until_date")
    islands = with_islands(there, ("dataset_id", "tag"))
    last = (
        "row_number() OVER (PARTITION BY dataset_id, tag, _island "
        "ORDER BY until_date DESC, from_date DESC, _source_tag DESC, tag_id DESC NULLS LAST) AS _rank"
    )
    stays = islands.select("*", last).group(
        ("dataset_id", "tag", "_island"),
        "min(from_date) AS from_date",
        "max(until_date) AS until_date",
        *[f"max(CASE WHEN _rank = 1 THEN {name} END) AS {name}" for name in ("tag_id", "tag_name", "tag_path")],
    )
    return stays.select(
        "dataset_id", "tag", "from_date", "until_date", f"until_date = {END} AS is_current", "tag_id", "tag_name", "tag_path"
    )


def to_tags(history: Relation, presence: Relation) -> Relation:
    """Count the datasets that each tag has now. One row per tag that a dataset has or had.

    Bounded input: everything, since a tag's popularity is a share of all datasets. id, name and path are those of the last stay.
    """
    ranked = history.select(
        "*", "row_number() OVER (PARTITION BY tag ORDER BY until_date DESC, from_date DESC, dataset_id DESC) AS _rank", "1 AS _one"
    )
    counted = ranked.group(
        ("tag", "_one"),
        "count(CASE WHEN is_current THEN 1 END) AS datasets",
        *[f"max(CASE WHEN _rank = 1 THEN {name} END) AS {name}" for name in ("tag_id", "tag_name", "tag_path")],
    )
    total = presence.where(f"until_date = {END}").group((), "count(1) AS datasets_total").select("1 AS _one", "datasets_total")
    return counted.join(total, on=("_one",)).select(
        "tag", "tag_id", "tag_name", "tag_path", "datasets", "datasets_total", f"{POPULARITY} AS popularity"
    )


def to_dataset_tags(history: Relation, tags: Relation) -> Relation:
    """Take the tags that datasets have now, with their popularity. One row per dataset and tag.

    Bounded input: tags must hold those of the rows.
    """
    # Unique on the right: one row per tag.
    known = history.where("is_current").select("dataset_id", "tag", "from_date")
    return known.join(tags.select("tag", "tag_id", "tag_name", "tag_path", "popularity"), on=("tag",)).select(
        "dataset_id", "tag", "tag_id", "tag_name", "tag_path", "popularity", "from_date AS since_date"
    )


def only_newest(versions: Relation, *key: str) -> Relation:
    """Keep the newest version of each row that is there. Bounded input: all versions of the rows, those that have gone too."""
    rank = f"row_number() OVER (PARTITION BY {', '.join(key)} ORDER BY run_date DESC) AS _rank"
    return versions.select("*", rank).where("_rank = 1 AND is_gone IS NOT TRUE")


def ratio(one: str, other: str) -> str:
    """Return the SQL of a ratio as a DOUBLE; null where the divisor is 0."""
    return f"CASE WHEN {other} <> 0 THEN {one} * {double(1)} / {other} END"


def with_islands(rows: Relation, by: Sequence[str]) -> Relation:
    """Number spans of days of each group, so that those that overlap or touch have one number (`_island`). Bounded input: whole groups.

    Args:
        rows: with from_date and until_date (excluded).
        by: the columns of a group.
    """
    order = f"PARTITION BY {', '.join(by)} ORDER BY from_date, until_date ROWS BETWEEN UNBOUNDED PRECEDING AND"
    reached = rows.select("*", f"max(until_date) OVER ({order} 1 PRECEDING) AS _reached")
    begins = "CASE WHEN _reached >= from_date THEN 0 ELSE 1 END"
    return reached.select("*", f"CAST(sum({begins}) OVER ({order} CURRENT ROW) AS BIGINT) AS _island")


def _held(versions: Relation, by: Sequence[str]) -> Relation:
    """Add until_date, when the next version of a row began, and leave out what has gone by its own word."""
    following = f"lead(run_date) OVER (PARTITION BY {', '.join(by)} ORDER BY run_date)"
    return versions.select("*", f"coalesce({following}, {END}) AS until_date").where("is_gone IS NOT TRUE")
