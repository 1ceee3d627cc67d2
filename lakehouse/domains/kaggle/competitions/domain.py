"""How are competitions put together? Three sources, what is there now, and gold; `kaggle/domain.py` joins them to the others."""

from pathlib import Path

from lakehouse.domain import ByKey, Derived, Source, Whole, all_of, by_key, looked_up
from lakehouse.domains.kaggle.competitions import rules, tables
from lakehouse.domains.kaggle.competitions import transforms as t
from lakehouse.domains.kaggle.competitions.checks import YEARS_HOLD
from lakehouse.domains.kaggle.competitions.contract import COMPETITION_TAGS, COMPETITIONS, ORGANIZATIONS

ORACLE = (Path(__file__).parent / "oracle.sql").read_text(encoding="utf-8")
_COMPETITION, _ORGANIZATION = {"competition_id": "competition_id"}, {"organization_id": "organization_id"}


def sources() -> tuple[Source, ...]:
    """Return the sources."""
    return (
        Source(
            COMPETITIONS,
            tables.BRONZE_COMPETITIONS,
            tables.COMPETITION_VERSIONS,
            rules.competition_rules(),
            t.to_competition_versions,
            may_be_empty=True,
        ),
        Source(
            ORGANIZATIONS,
            tables.BRONZE_ORGANIZATIONS,
            tables.ORGANIZATION_VERSIONS,
            rules.organization_rules(),
            t.to_organization_versions,
            may_be_empty=True,
        ),
        Source(
            COMPETITION_TAGS,
            tables.BRONZE_COMPETITION_TAGS,
            tables.COMPETITION_TAG_VERSIONS,
            rules.competition_tag_rules(),
            t.to_competition_tag_versions,
            may_be_empty=True,
        ),
    )


def derived() -> tuple[Derived, ...]:
    """Return the derived tables, each after its inputs."""
    return (
        Derived(
            tables.KAGGLE_COMPETITIONS,
            ByKey(),
            reads=(by_key(tables.COMPETITION_VERSIONS, reach=_COMPETITION, with_deleted=True),),
            to_rows=t.to_competitions,
        ),
        Derived(
            tables.KAGGLE_ORGANIZATIONS,
            ByKey(),
            reads=(by_key(tables.ORGANIZATION_VERSIONS, reach=_ORGANIZATION, with_deleted=True),),
            to_rows=t.to_organizations,
        ),
        Derived(
            tables.KAGGLE_COMPETITION_TAGS,
            ByKey(),
            reads=(
                by_key(tables.COMPETITION_TAG_VERSIONS, reach=_COMPETITION, with_deleted=True),
                by_key(tables.KAGGLE_COMPETITIONS, reach=_COMPETITION),
            ),
            to_rows=t.to_competition_tags,
        ),
        Derived(
            tables.DIM_COMPETITION,
            ByKey(),
            reads=(
                by_key(tables.KAGGLE_COMPETITIONS, reach=_COMPETITION, needs=_COMPETITION | _ORGANIZATION),
                looked_up(tables.KAGGLE_ORGANIZATIONS, reach=_ORGANIZATION, of=tables.KAGGLE_COMPETITIONS, names=_ORGANIZATION),
                looked_up(tables.KAGGLE_COMPETITION_TAGS, reach=_COMPETITION, of=tables.KAGGLE_COMPETITIONS, names=_COMPETITION),
            ),
            to_rows=t.to_dim_competition,
        ),
        # Growth needs the year before, so a change reaches two years. All of them are some ten thousand rows to read.
        Derived(
            tables.FACT_YEARLY,
            Whole(),
            reads=(all_of(tables.KAGGLE_COMPETITIONS),),
            to_rows=t.to_competition_years,
            must_hold=YEARS_HOLD,
        ),
    )
