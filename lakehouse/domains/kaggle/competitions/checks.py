"""What must hold in the tables of competitions, and how many rows did each strategy affect? DuckDB's SQL; `*_HOLD` is for both engines."""

from collections.abc import Sequence

from lakehouse.domain import Check
from lakehouse.domains.kaggle.competitions import transforms as t
from lakehouse.domains.kaggle.reports import current_rows, gone_count, sum_check

_FIGURES = ("total_competitions", *t.type_columns().values(), *(f"total_{name}" for name in t.COUNTS))
_REWARDS = (*t.currency_columns().values(), "rewards_other_currencies")
# What the rules and transforms make sure of: asked of the rows before they are written.
YEARS_HOLD = {
    "the types add up to total_competitions": f"total_competitions <> {' + '.join(t.type_columns().values())}",
    "no figure is negative": " OR ".join(f"{name} < 0" for name in (*_FIGURES, *_REWARDS)),
    "a year has a competition and one to five types": "total_competitions < 1 OR type_diversity < 1 OR type_diversity > 5",
}
_YEARS, _DIM = "lh.gold.fact_competitions_yearly", "lh.gold.dim_competition"
_COMPETITIONS, _TAGS, _ORGANIZATIONS = (f"lh.silver.kaggle_{name}" for name in ("competitions", "competition_tags", "organizations"))


def competition_checks() -> Sequence[Check]:
    """Return the checks, those of the strategies first."""
    return [
        _competitions(),
        _organizations(),
        _tags(),
        *[Check(statement, _YEARS, f"SELECT * FROM {_YEARS} WHERE {broken}") for statement, broken in YEARS_HOLD.items()],
        # The source may break it, so it must not hold up the stream; each competition that does is flagged.
        Check(
            "on average a competition has at least as many competitors as teams, where both are known",
            _YEARS,
            f"SELECT enabled_year AS year, avg(total_teams) AS teams, avg(total_competitors) AS competitors FROM {_DIM} "
            "WHERE total_teams IS NOT NULL AND total_competitors IS NOT NULL AND enabled_year IS NOT NULL "
            "GROUP BY enabled_year HAVING sum(total_teams) > sum(total_competitors)",
        ),
        Check(
            "the years have every competition that has a start",
            _YEARS,
            f"SELECT expected, found FROM (SELECT (SELECT count(*) FROM {_DIM} WHERE enabled_ts IS NOT NULL) AS expected, "
            f"(SELECT coalesce(sum(total_competitions), 0) FROM {_YEARS}) AS found) WHERE expected <> found",
        ),
        Check(
            "every competition is in dim_competition",
            _DIM,
            f"SELECT competition_id FROM {_COMPETITIONS} ANTI JOIN {_DIM} USING (competition_id)",
        ),
    ]


def _competitions() -> Check:
    versions, rows = f"{_COMPETITIONS}_versions", f"FROM {_COMPETITIONS}"
    flags = ("is_deadline_before_enabled", "is_reward_at_odds", "has_more_teams_than_competitors")
    return sum_check(
        _COMPETITIONS,
        {
            "input": f"SELECT count(*) FROM {versions}",
            "duplicates_removed": f"SELECT count(*) - count(DISTINCT competition_id) FROM {versions}",
            "gone_removed": gone_count(versions, "competition_id"),
            "output": f"SELECT count(*) {rows}",
        },
        {
            "missing_dates_flagged": f"SELECT count(*) {rows} WHERE has_missing_dates",
            "missing_counts_flagged": f"SELECT count(*) {rows} WHERE has_missing_counts",
            "without_a_year": f"SELECT count(*) {rows} WHERE enabled_year IS NULL",
            **{f"{flag.partition('_')[2]}_flagged": f"SELECT count(*) {rows} WHERE {flag}" for flag in flags},
            "types_other": f"SELECT count(*) {rows} WHERE competition_type = '{t.OTHER}'",
            "unknown_organizations": f"SELECT count(*) {rows} ANTI JOIN {_ORGANIZATIONS} USING (organization_id) "
            "WHERE organization_id IS NOT NULL",
        },
    )


def _organizations() -> Check:
    versions = f"{_ORGANIZATIONS}_versions"
    return sum_check(
        _ORGANIZATIONS,
        {
            "input": f"SELECT count(*) FROM {versions}",
            "duplicates_removed": f"SELECT count(*) - count(DISTINCT organization_id) FROM {versions}",
            "gone_removed": gone_count(versions, "organization_id"),
            "output": f"SELECT count(*) FROM {_ORGANIZATIONS}",
        },
        {},
    )


def _tags() -> Check:
    versions, key = f"{_TAGS}_versions", "competition_id, tag_id"
    current = current_rows(versions, key)
    is_there = f"competition_id IN (SELECT competition_id FROM {_COMPETITIONS})"
    return sum_check(
        _TAGS,
        {
            "input": f"SELECT count(*) FROM {versions}",
            "duplicates_removed": f"SELECT count(*) - count(DISTINCT ({key})) FROM {versions}",
            "gone_removed": gone_count(versions, key),
            "output": f"SELECT count(*) FROM {_TAGS}",
        },
        {
            "unknown_competitions_flagged": f"SELECT count(*) {current} AND NOT {is_there}",
            "tags_without_a_name": f"SELECT count(*) {current} AND tag IS NULL",
        },
    )
