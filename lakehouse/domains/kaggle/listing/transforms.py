"""What do the messages of the polled dataset list say of each dataset? Pure functions of rows, read by Spark and by DuckDB alike.

A message tells what a poll saw first or changed, or that a complete poll did not find a dataset. The second absence after a dataset was
last seen makes it unlisted. So the set of a dataset's messages is all that counts: neither their order nor repeats.
"""

from lakehouse.engine.functions import lower_ascii
from lakehouse.engine.relation import Relation

VALUES = ("title", "subtitle", "url", "listed_id", "license_name", "updated_ts")
VERSION_COLUMNS = ("ref", "poll_ts", "seen_ts", "is_absent", "absent_polls", *VALUES)
POLL_COLUMNS = ("poll_ts", "ended_ts", "list_name", "is_complete", "`rows`", "absent", "pages")
DIM_COLUMNS = (
    "ref", "dataset_id", "status", "title", "subtitle", "owner_slug", "slug", "url", "license_name", "updated_ts", "first_seen_ts",
    "last_changed_ts", "absent_since_ts",
)  # fmt: skip


def to_list_versions(rows: Relation) -> Relation:
    """Shape accepted rows of the list into silver's versions, with the address in small letters. Row-wise."""
    return rows.select(*VERSION_COLUMNS, f"{lower_ascii('ref')} AS match_ref")


def to_polls(rows: Relation) -> Relation:
    """Shape the messages that name a poll into silver. Row-wise."""
    return rows.select(*POLL_COLUMNS)


def to_dataset_refs(datasets: Relation, organizations: Relation) -> Relation:
    """Give each dataset of the dumps its address, in small letters. One row per dataset whose slug and owner are known.

    Bounded input: organizations must hold the owners. An organization's dataset has the organization's slug in its address, not the name of
    the user who made it.
    """
    # Unique on the right: one row per organization.
    owners = organizations.select("organization_id AS owner_organization_id", "slug AS _organization")
    user = "CASE WHEN owner_organization_id IS NULL AND is_owner_known THEN owner_user_name END"
    owned = datasets.join(owners, on=("owner_organization_id",), how="left").select(
        "dataset_id", "owner_organization_id", "slug", f"coalesce(_organization, {user}) AS _owner"
    )
    address = f"concat({lower_ascii('_owner')}, '/', {lower_ascii('slug')})"
    known = owned.where("_owner IS NOT NULL AND slug IS NOT NULL")
    return known.select("dataset_id", "owner_organization_id", f"{address} AS match_ref")


def to_list(versions: Relation, refs: Relation) -> Relation:
    """Say of each dataset that a poll ever saw what the list says of it, and whether it still has it. One row per ref.

    Bounded input: all versions of the refs, and the datasets with their addresses. Of two datasets with one address the later id counts.
    """
    of_ref = "OVER (PARTITION BY ref)"
    alike = "OVER (PARTITION BY ref, coalesce(is_absent, false) ORDER BY poll_ts)"
    told = versions.select(
        "*",
        "coalesce(is_absent, false) AS _absent",
        f"max(CASE WHEN is_absent IS NOT TRUE THEN poll_ts END) {of_ref} AS _last_seen",
        "row_number() OVER (PARTITION BY ref, coalesce(is_absent, false) ORDER BY poll_ts DESC) AS _back",
        f"row_number() {alike} AS _nth",
        *[f"lag({name}) {alike} AS _before_{name}" for name in VALUES],
    )
    differs = " OR ".join(f"{name} IS DISTINCT FROM _before_{name}" for name in VALUES)
    # Sent again with the same values, as after a kill, it has not changed.
    changed = f"NOT _absent AND (_nth = 1 OR {differs})"
    is_missed = "_absent AND poll_ts > _last_seen"
    states = told.group(
        ("ref", "match_ref"),
        *[f"max(CASE WHEN NOT _absent AND _back = 1 THEN {name} END) AS {name}" for name in VALUES],
        "min(CASE WHEN NOT _absent THEN poll_ts END) AS first_seen_ts",
        f"max(CASE WHEN {changed} THEN poll_ts END) AS last_changed_ts",
        f"count(CASE WHEN {is_missed} THEN 1 END) AS _missed",
        f"min(CASE WHEN {is_missed} THEN poll_ts END) AS absent_since_ts",
    ).where("first_seen_ts IS NOT NULL")
    one_each = refs.group(("match_ref",), "max(dataset_id) AS dataset_id")
    return states.join(one_each, on=("match_ref",), how="left").select(
        "ref",
        "match_ref",
        "split_part(ref, '/', 1) AS owner_slug",
        "split_part(ref, '/', 2) AS slug",
        "dataset_id",
        "CASE WHEN _missed = 0 THEN 'listed' WHEN _missed = 1 THEN 'absent' ELSE 'unlisted' END AS status",
        *VALUES,
        "first_seen_ts",
        "last_changed_ts",
        "absent_since_ts",
    )


def to_dim_listed(datasets: Relation) -> Relation:
    """Take what describes a listed dataset. Row-wise. One row per ref."""
    return datasets.select(*DIM_COLUMNS)
