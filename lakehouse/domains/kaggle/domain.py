"""How is Kaggle put together? Sources of dumps and their histories, the polled list (`listing/`), what is there now, and gold.

A table that is read by another column than its key (datasets of an owner, datasets of a tag) is a history: each of its rows says by itself
from when until when it held. Rows of versions do not, and the versions of one owner alone would not tell that a dataset has left the owner.
"""

from collections.abc import Mapping
from hashlib import md5
from pathlib import Path
from typing import cast

from lakehouse.domain import ByKey, Derived, Domain, Fresh, Source, Whole, all_of, by_key, looked_up
from lakehouse.domains.dates.tables import DIM_DATE, date_rows
from lakehouse.domains.kaggle import tables as tb
from lakehouse.domains.kaggle import transforms as silver
from lakehouse.domains.kaggle import transforms_gold as gold
from lakehouse.domains.kaggle.alerts import runs
from lakehouse.domains.kaggle.checks import OWNER_DAYS_HOLD, TAG_DAYS_HOLD, USERS_HOLD, quality_checks
from lakehouse.domains.kaggle.competitions import domain as competitions
from lakehouse.domains.kaggle.contract import DATASET_TAGS, DATASETS, DUMPS, USERS, CountryProfile
from lakehouse.domains.kaggle.countries import codes
from lakehouse.domains.kaggle.kernels import domain as kernels
from lakehouse.domains.kaggle.listing.domain import LIST_DERIVED, LIST_SOURCES, list_checks
from lakehouse.domains.kaggle.listing.domain import ORACLE as LIST_ORACLE
from lakehouse.domains.kaggle.rules import dataset_rules, dump_rules, tag_rules, user_rules
from lakehouse.settings import Settings

ORACLE = "\n".join([(Path(__file__).parent / "oracle.sql").read_text(encoding="utf-8"), competitions.ORACLE, kernels.ORACLE, LIST_ORACLE])
_USER, _DATASET, _TAG = {"user_id": "user_id"}, {"dataset_id": "dataset_id"}, {"tag": "tag"}
_OWNER = {"owner_user_id": "owner_user_id"}


def build(settings: Settings) -> Domain:
    """Put the domain together."""
    return kaggle(settings.kaggle_country)


def kaggle(profile: CountryProfile) -> Domain:
    """Put the domain together for one way to read a user's country."""
    return Domain(
        name="kaggle",
        sources=(
            # A dump may lack each of the tables, and a home may do without dumps and only poll the list.
            Source(USERS, tb.BRONZE_USERS, tb.USER_VERSIONS, user_rules(profile), silver.to_user_versions, may_be_empty=True),
            Source(DATASETS, tb.BRONZE_DATASETS, tb.DATASET_VERSIONS, dataset_rules(), silver.to_dataset_versions, may_be_empty=True),
            Source(DATASET_TAGS, tb.BRONZE_TAGS, tb.TAG_VERSIONS, tag_rules(), silver.to_tag_versions, may_be_empty=True),
            Source(DUMPS, tb.BRONZE_DUMPS, tb.KAGGLE_DUMPS, dump_rules(), silver.to_dumps, may_be_empty=True),
            *competitions.sources(),
            *kernels.sources(),
            *LIST_SOURCES,
        ),
        derived=(*_in_silver(profile), *_in_gold(profile), *competitions.derived(), *kernels.derived(), *LIST_DERIVED),
        dimensions=((tb.DIM_COUNTRY, list(codes().items())), (DIM_DATE, date_rows())),
        exact=(tb.DIM_COUNTRY.name,),
        edition={"kaggle_country": profile, "kaggle_country_names": names_edition()},
        edition_before={"kaggle_country_names": ""},  # no setting: the version's own
        by_edition=_by_edition,
        checks=lambda _: [*quality_checks(), *list_checks()],
        oracle=ORACLE,
        runs=runs(),
        fresh=(Fresh(tb.KAGGLE_DUMPS, "table_name", "run_ts"),),
        entities=("users", "datasets", "dataset_tags"),
    )


def names_edition() -> str:
    """Return a short digest of the names of countries; another release of the library may change it."""
    return md5(repr(list(codes().items())).encode(), usedforsecurity=False).hexdigest()[:12]


def _by_edition(edition: Mapping[str, str]) -> Domain:
    return kaggle(cast(CountryProfile, edition["kaggle_country"]))


def _in_silver(profile: CountryProfile) -> tuple[Derived, ...]:
    return (
        Derived(
            tb.KAGGLE_USERS,
            ByKey(),
            reads=(by_key(tb.USER_VERSIONS, reach=_USER, with_deleted=True),),
            to_rows=lambda versions: silver.to_users(versions, profile),
        ),
        Derived(
            tb.DATASET_HISTORY,
            ByKey(),
            reads=(by_key(tb.DATASET_VERSIONS, reach=_DATASET, with_deleted=True),),
            to_rows=silver.to_dataset_history,
        ),
        Derived(tb.DATASET_PRESENCE, ByKey(), reads=(by_key(tb.DATASET_HISTORY, reach=_DATASET),), to_rows=silver.to_dataset_presence),
        Derived(
            tb.KAGGLE_DATASETS,
            ByKey(),
            reads=(
                by_key(tb.DATASET_HISTORY, reach=_DATASET, needs=_DATASET | _OWNER),
                looked_up(tb.KAGGLE_USERS, reach={"owner_user_id": "user_id"}, of=tb.DATASET_HISTORY, names={"owner_user_id": "user_id"}),
            ),
            to_rows=silver.to_datasets,
        ),
        Derived(
            tb.TAG_HISTORY,
            ByKey(),
            reads=(by_key(tb.TAG_VERSIONS, reach=_DATASET, with_deleted=True), by_key(tb.DATASET_PRESENCE, reach=_DATASET)),
            to_rows=silver.to_tag_history,
        ),
        Derived(tb.KAGGLE_TAGS, Whole(), reads=(all_of(tb.TAG_HISTORY), all_of(tb.DATASET_PRESENCE)), to_rows=silver.to_tags),
        Derived(
            tb.KAGGLE_DATASET_TAGS,
            ByKey(),
            reads=(
                by_key(tb.TAG_HISTORY, reach=_DATASET, needs=_DATASET | _TAG),
                looked_up(tb.KAGGLE_TAGS, reach=_TAG, of=tb.TAG_HISTORY, names=_TAG),
            ),
            to_rows=silver.to_dataset_tags,
        ),
    )


def _in_gold(profile: CountryProfile) -> tuple[Derived, ...]:
    return (
        Derived(
            tb.DIM_USER,
            ByKey(),
            reads=(by_key(tb.USER_VERSIONS, reach=_USER, with_deleted=True),),
            to_rows=lambda versions: gold.to_dim_user(versions, profile),
            has_fixed_rows=True,
            must_hold=USERS_HOLD,
        ),
        Derived(tb.DIM_DATASET, ByKey(), reads=(by_key(tb.KAGGLE_DATASETS, reach=_DATASET),), to_rows=gold.to_dim_dataset),
        Derived(tb.DIM_TAG, ByKey(), reads=(by_key(tb.KAGGLE_TAGS, reach=_TAG),), to_rows=gold.to_dim_tag),
        Derived(tb.BRIDGE, ByKey(), reads=(by_key(tb.KAGGLE_DATASET_TAGS, reach=_DATASET),), to_rows=gold.to_bridge),
        Derived(
            tb.FACT_OWNER_DAILY,
            ByKey(),
            reads=(
                by_key(tb.DATASET_HISTORY, reach=_OWNER),
                by_key(tb.KAGGLE_DUMPS, reach={"date_key": "date_key"}, needs={}),
                looked_up(tb.DIM_USER, reach={"owner_user_id": "user_id"}, of=tb.DATASET_HISTORY, names={"owner_user_id": "user_id"}),
            ),
            to_rows=gold.to_owner_days,
            must_hold=OWNER_DAYS_HOLD,
        ),
        Derived(
            tb.FACT_TAG_DAILY,
            Whole(),
            reads=(all_of(tb.TAG_HISTORY), all_of(tb.DATASET_PRESENCE), all_of(tb.KAGGLE_DUMPS)),
            to_rows=gold.to_tag_days,
            must_hold=TAG_DAYS_HOLD,
        ),
        Derived(tb.TOP_TAGS, Whole(), reads=(all_of(tb.DIM_TAG),), to_rows=gold.to_top_tags),
    )
