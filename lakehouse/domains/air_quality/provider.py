"""How far is our AQI from the provider's own, `us_aqi` and its six sub-indices, where the source sent them?

The provider has editions of its own. An answer does not name its edition, but the time of retrieval tells which one it was. Hours of
another edition than ours are compared too, in groups of their own.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from lakehouse.domain import Check
from lakehouse.domains.air_quality.aqi import POLLUTANTS

# From when on the Open-Meteo API computes by which edition. Source: open-meteo/open-meteo, pull request 1987 (merged 2026-07-13): PM2.5's
# breakpoints of 2024. Its scales are joined without gaps and nothing is truncated in either, so ours of 2024 is up to some points apart.
PROVIDER_EDITIONS = (
    (datetime(2022, 1, 1, tzinfo=UTC), "us-epa-2012"),
    (datetime(2026, 7, 13, tzinfo=UTC), "us-epa-2024"),
)
NEAR, FAR = 1, 5
# A source that rounds otherwise, or a mean that lacks an hour, makes a few hours differ; more than this share is ours to explain.
FAR_SHARE = 0.05


def provider_checks(facts: str) -> Iterator[Check]:
    """Return a check for each index that the provider sends: hours more than FAR apart where both are of one edition.

    Its groups are cities and months with the share of hours within NEAR and FAR, and the hour that is farthest apart.
    """
    for ours, theirs in {"aqi": "us_aqi", **{f"aqi_{p}": f"us_aqi_{p}" for p in POLLUTANTS}}.items():
        compared = f"""(
  SELECT location_key, ts_utc, retrieved_ts, aqi_rule, {_edition()} AS provider_edition, {ours}, {theirs}, abs({ours} - {theirs}) AS apart
  FROM {facts} WHERE {ours} IS NOT NULL AND {theirs} IS NOT NULL
)"""
        yield Check(
            f"{ours} is within {FAR} of the provider's {theirs}, where both are of one edition",
            facts,
            f"SELECT location_key, ts_utc, {ours}, {theirs}, apart FROM {compared} WHERE aqi_rule = provider_edition AND apart > {FAR}",
            FAR_SHARE,
            of=f"SELECT count(*) FROM {compared} WHERE aqi_rule = provider_edition",
            groups=f"""SELECT location_key, strftime(ts_utc, '%Y-%m') AS month, aqi_rule, provider_edition, count(*) AS hours,
  round(100 * avg((apart <= {NEAR})::INT), 1) AS within_{NEAR}_percent, round(100 * avg((apart <= {FAR})::INT), 1) AS within_{FAR}_percent,
  round(max(apart), 1) AS farthest, arg_max(ts_utc, apart) AS farthest_ts,
  round(arg_max({ours}, apart), 1) AS ours, round(arg_max({theirs}, apart), 1) AS theirs
FROM {compared} GROUP BY ALL ORDER BY ALL""",
        )


def _edition() -> str:
    cases = "".join(f" WHEN retrieved_ts >= TIMESTAMPTZ '{since.isoformat()}' THEN '{name}'" for since, name in PROVIDER_EDITIONS[::-1])
    return f"CASE{cases} ELSE '{PROVIDER_EDITIONS[0][1]}' END"
