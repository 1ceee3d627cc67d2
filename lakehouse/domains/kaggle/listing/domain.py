"""How is the polled dataset list put together? Two sources, what follows from their messages, and what must hold."""

from collections.abc import Sequence
from pathlib import Path

from lakehouse.domain import ByKey, Check, Derived, Source, by_key, looked_up
from lakehouse.domains.kaggle.competitions.tables import KAGGLE_ORGANIZATIONS
from lakehouse.domains.kaggle.listing import tables as tb
from lakehouse.domains.kaggle.listing import transforms as t
from lakehouse.domains.kaggle.listing.contract import DATASET_LIST, DATASET_LIST_POLLS
from lakehouse.domains.kaggle.listing.rules import list_rules, poll_rules
from lakehouse.domains.kaggle.tables import DIM_DATASET, KAGGLE_DATASETS

ORACLE = (Path(__file__).parent / "oracle.sql").read_text(encoding="utf-8")
_REF, _MATCH, _DATASET = {"ref": "ref"}, {"match_ref": "match_ref"}, {"dataset_id": "dataset_id"}
_OF_OWNER, _ORGANIZATION = {"owner_organization_id": "owner_organization_id"}, {"owner_organization_id": "organization_id"}
LISTED_HOLD = {
    "status is listed, absent or unlisted": "status NOT IN ('listed', 'absent', 'unlisted')",
    "absent_since_ts is there where it is not listed, and later than it was seen first": (
        "(status = 'listed') <> (absent_since_ts IS NULL) OR absent_since_ts <= first_seen_ts"
    ),
    "it changed no earlier than it was seen": "last_changed_ts < first_seen_ts OR last_changed_ts IS NULL",
}

# Optional: a home without credentials for Kaggle has no list.
LIST_SOURCES = (
    Source(DATASET_LIST, tb.BRONZE_LIST, tb.LIST_VERSIONS, list_rules(), t.to_list_versions, may_be_empty=True),
    Source(DATASET_LIST_POLLS, tb.BRONZE_POLLS, tb.LIST_POLLS, poll_rules(), t.to_polls, may_be_empty=True),
)
LIST_DERIVED = (
    Derived(
        tb.DATASET_REFS,
        ByKey(),
        reads=(
            by_key(KAGGLE_DATASETS, reach=_DATASET, needs=_DATASET | _OF_OWNER),
            looked_up(KAGGLE_ORGANIZATIONS, reach=_ORGANIZATION, of=KAGGLE_DATASETS, names=_ORGANIZATION),
        ),
        to_rows=t.to_dataset_refs,
    ),
    Derived(
        tb.KAGGLE_LIST,
        ByKey(),
        reads=(
            by_key(tb.LIST_VERSIONS, reach=_REF, needs=_REF | _MATCH),
            looked_up(tb.DATASET_REFS, reach=_MATCH, of=tb.LIST_VERSIONS, names=_MATCH),
        ),
        to_rows=t.to_list,
        must_hold=LISTED_HOLD,
    ),
    Derived(tb.DIM_LISTED, ByKey(), reads=(by_key(tb.KAGGLE_LIST, reach=_REF),), to_rows=t.to_dim_listed),
)


def list_checks() -> Sequence[Check]:
    """Return what must hold in the list's tables, in DuckDB's SQL."""
    listed, versions, polls = tb.DIM_LISTED.name, tb.LIST_VERSIONS.name, tb.LIST_POLLS.name
    return [
        *[
            Check(statement, tb.KAGGLE_LIST.name, f"SELECT * FROM {tb.KAGGLE_LIST.name} WHERE {broken}")
            for statement, broken in LISTED_HOLD.items()
        ],
        Check(
            "every dataset_id is in dim_dataset",
            listed,
            f"SELECT ref, dataset_id FROM {listed} f ANTI JOIN {DIM_DATASET.name} d USING (dataset_id) WHERE f.dataset_id IS NOT NULL",
        ),
        Check(
            "what two complete polls did not find is unlisted, and nothing else is",
            listed,
            f"""SELECT ref, status, absences FROM (SELECT d.ref, status, count(*) FILTER (WHERE is_absent AND poll_ts > seen) AS absences
FROM {listed} d JOIN {versions} v ON v.ref = d.ref
JOIN (SELECT ref, max(poll_ts) AS seen FROM {versions} WHERE is_absent IS NOT TRUE GROUP BY ref) s ON s.ref = d.ref GROUP BY ALL)
WHERE (status = 'unlisted') <> (absences >= 2) OR (status = 'listed') <> (absences = 0)""",
        ),
        Check(
            "only a complete poll tells what is absent",
            versions,
            f"SELECT v.ref, v.poll_ts FROM {versions} v JOIN {polls} p ON p.poll_ts = v.poll_ts WHERE v.is_absent AND NOT p.is_complete",
        ),
        Check(
            "the id that the list tells is that of the dump's dataset",
            tb.KAGGLE_LIST.name,
            f"SELECT ref, listed_id, dataset_id FROM {tb.KAGGLE_LIST.name} WHERE listed_id <> dataset_id",
            share=0.01,
        ),
    ]
