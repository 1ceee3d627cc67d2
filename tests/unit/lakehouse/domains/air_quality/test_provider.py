"""Is our AQI compared with the provider's where it sent one, by city, month and the provider's edition of the time?"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from lakehouse.domain import Check
from lakehouse.domains.air_quality.aqi import POLLUTANTS
from lakehouse.domains.air_quality.provider import PROVIDER_EDITIONS, provider_checks

FACTS = "lh.gold.fact_air_quality_hourly"
JULY = datetime(2026, 7, 12, 12, tzinfo=UTC)


def row(city: str, ts: datetime, ours: int | None, theirs: float | None, rule: str, retrieved: datetime) -> dict[str, Any]:
    sub_indices: dict[str, Any] = {name: None for p in POLLUTANTS for name in (f"aqi_{p}", f"us_aqi_{p}")}
    return {"location_key": city, "ts_utc": ts, "retrieved_ts": retrieved, "aqi_rule": rule, "aqi": ours, "us_aqi": theirs, **sub_indices}


@contextmanager
def made() -> Iterator[duckdb.DuckDBPyConnection]:
    after = PROVIDER_EDITIONS[1][0] + timedelta(hours=3)
    rows = [
        *(row("hanoi", JULY + timedelta(hours=n), 100 + n % 2, 100.0, "us-epa-2012", JULY + timedelta(hours=n)) for n in range(10)),
        row("hanoi", JULY - timedelta(days=20), 150, 110.0, "us-epa-2012", JULY),  # June, far apart
        row("lahore", JULY, 180, 150.0, "us-epa-2012", after),  # the provider's is of 2024 by then
        row("lahore", JULY + timedelta(hours=1), None, 150.0, "us-epa-2012", JULY),
        row("lahore", JULY + timedelta(hours=2), 50, None, "us-epa-2012", JULY),
    ]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; ATTACH ':memory:' AS lh; CREATE SCHEMA lh.gold")
        columns = {name: [one[name] for one in rows] for name in rows[0]}
        given = pa.table({n: pa.array(v, pa.float64()) if all(x is None for x in v) else pa.array(v) for n, v in columns.items()})
        connection.register("given", given)
        connection.execute(f"CREATE TABLE {FACTS} AS FROM given")
        connection.unregister("given")
        yield connection


def asked(facts: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = facts.sql(sql).to_arrow_table().to_pylist()
    return rows


def the(name: str) -> Check:
    return next(one for one in provider_checks(FACTS) if one.name.startswith(f"{name} is within 5"))


def test_hours_far_apart_are_bad_where_both_are_of_one_edition() -> None:
    with made() as facts:
        check = the("aqi")
        (bad,) = asked(facts, check.bad)
        assert (bad["location_key"], bad["aqi"], bad["us_aqi"], bad["apart"]) == ("hanoi", 150, 110.0, 40.0)
        assert facts.sql(check.of).fetchall() == [(11,)]


def test_cities_and_months_have_their_shares_and_their_worst_hour_also_of_another_edition() -> None:
    with made() as facts:
        groups = {(one["location_key"], one["month"]): one for one in asked(facts, the("aqi").groups)}
        assert set(groups) == {("hanoi", "2026-06"), ("hanoi", "2026-07"), ("lahore", "2026-07")}
        july = groups["hanoi", "2026-07"]
        assert (july["hours"], july["within_1_percent"], july["within_5_percent"], july["farthest"]) == (10, 100.0, 100.0, 1)
        june = groups["hanoi", "2026-06"]
        assert (june["within_5_percent"], june["farthest_ts"], june["ours"], june["theirs"]) == (0.0, JULY - timedelta(days=20), 150, 110.0)
        assert (groups["lahore", "2026-07"]["aqi_rule"], groups["lahore", "2026-07"]["provider_edition"]) == ("us-epa-2012", "us-epa-2024")


def test_indices_that_the_provider_did_not_send_have_no_groups() -> None:
    with made() as facts:
        for pollutant in POLLUTANTS:
            check = the(f"aqi_{pollutant}")
            assert asked(facts, check.bad) == asked(facts, check.groups) == []
            assert facts.sql(check.of).fetchall() == [(0,)]
