"""A rebuild: beside the tables or in them, what is published is what today's rules make of all that arrived, and nothing else changes."""

from collections.abc import Collection
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from batch.prove.prove import prove
from batch.rebuild.compare_frames import compare_frames
from batch.rebuild.in_place import rebuild_dimensions, rebuild_in_place
from batch.rebuild.on_branches import NotPublished, Rebuild
from lakehouse import failpoints
from lakehouse.days import Days
from lakehouse.derive import to_gold, to_silver
from lakehouse.domain import Domain
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spark import iceberg_table
from lakehouse.tables.create import ensure_tables
from lakehouse.tables.editions import OtherEdition
from lakehouse.tables.properties import PUBLISHING_PROPERTY
from tests.support.backfills import MadeHistory, fill
from tests.support.pipeline import Pipeline, write_locations

PLACES = ("a", "b", "c")
LATE = pc.field("date_utc") > date(2024, 3, 1)
SILVER, REJECTS = "lh.silver.air_quality_hourly_clean", "lh.ops.rejects"
HOURLY, DAILY, EPISODES = (f"lh.gold.{name}" for name in ("fact_air_quality_hourly", "fact_city_daily", "fact_episode"))


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    write_locations(tmp_path, PLACES)
    return Settings(home=tmp_path)


@pytest.fixture
def filled(session: SparkSession, home: Settings) -> Settings:
    fill(session, home, MadeHistory(PLACES))
    return home


def domain_of(home: Settings) -> Domain:
    return build_domain("air_quality", home)


def assert_right(session: SparkSession, home: Settings) -> None:
    Pipeline(home, session, domain_of(home)).assert_gold_is_right()


def tables(session: SparkSession) -> dict[str, pa.Table]:
    keys = {gold.table.name: gold.table.key for gold in domain_of(Settings()).derived} | {SILVER: ("location_key", "ts_utc")}
    return {name: session.table(name).orderBy(*key).toArrow() for name, key in keys.items()}


def branches(session: SparkSession) -> set[str]:
    names = (SILVER, REJECTS, HOURLY, DAILY, EPISODES)
    return {row["name"] for name in names for row in session.sql(f"SELECT name FROM {name}.refs WHERE type = 'BRANCH'").collect()} - {
        "main"
    }


def rebuild(session: SparkSession, home: Settings, layer: str, days: Days = None, tables: Collection[str] = ()) -> Rebuild:
    return Rebuild(home, domain_of(home), session, layer == "silver", days, tables)


def places(session: SparkSession, name: str) -> set[str]:
    return {row[0] for row in session.sql(f"SELECT DISTINCT location_key FROM {name}").collect()}


def test_another_edition_of_the_index_is_compared_and_published(session: SparkSession, filled: Settings) -> None:
    other = filled.model_copy(update={"aqi_rule": "us-epa-2012"})
    with pytest.raises(OtherEdition, match="rebuild air_quality --layer gold"):
        ensure_tables(session, domain_of(other))
    with pytest.raises(NotPublished, match="name all of them"):
        rebuild(session, other, "gold", tables={DAILY})
    before = tables(session)
    with rebuild(session, other, "gold") as building:
        building.build()
        compared = {one.table: one for one in building.compare()}
        assert tables(session) == before, "readers see nothing of it"
        assert set(compared) == {HOURLY, DAILY, EPISODES}
        hourly = compared[HOURLY]
        assert (hourly.rows, hourly.expected, hourly.missing, hourly.extra, hourly.doubled) == (before[HOURLY].num_rows,) * 2 + (0, 0, 0)
        assert hourly.columns["aqi_rule"] == hourly.different == hourly.rows
        assert 0 < hourly.columns["aqi"] < hourly.rows
        assert hourly.first[0].columns["aqi_rule"] == ("us-epa-2024", "us-epa-2012")
        building.publish()
    assert set(session.table(DAILY).select("aqi_rule").toArrow()["aqi_rule"].to_pylist()) == {"us-epa-2012"}
    assert_right(session, other)
    assert not branches(session)
    with pytest.raises(OtherEdition):
        fill(session, filled, MadeHistory(PLACES, version=5), override=True)
    assert_right(session, other)
    fill(session, other, MadeHistory(PLACES, version=6), override=True)
    assert_right(session, other)


def test_proof_is_by_golds_own_edition_and_names_what_the_settings_would_change(session: SparkSession, filled: Settings) -> None:
    other = filled.model_copy(update={"aqi_rule": "us-epa-2012", "episode_hours": 3})
    proof = prove(other, domain_of(other), session)
    assert proof.is_equal
    assert proof.edition["aqi_rule"] == "us-epa-2024"
    assert proof.would_change == {"aqi_rule": ("us-epa-2024", "us-epa-2012"), "rule_code": ("AQI>=151_4h", "AQI>=151_3h")}
    assert prove(filled, domain_of(filled), session).would_change == {}


def test_gold_that_an_earlier_version_computed_otherwise_is_refused_until_it_is_rebuilt(session: SparkSession, filled: Settings) -> None:
    for name in (HOURLY, DAILY, EPISODES):  # as a version left them that knew of no formula
        session.sql(f"ALTER TABLE {name} UNSET TBLPROPERTIES ('weir.aqi_formula')")
    for refused in (lambda: ensure_tables(session, domain_of(filled)), lambda: prove(filled, domain_of(filled), session)):
        with pytest.raises(OtherEdition, match=r"aqi_formula 1, this version computes by 3.*weir rebuild air_quality --layer gold"):
            refused()
    with rebuild(session, filled, "gold") as building:
        building.build()
        building.compare()
        building.publish()
    ensure_tables(session, domain_of(filled))
    assert prove(filled, domain_of(filled), session).is_equal


def test_what_is_not_published_leaves_no_trace(session: SparkSession, filled: Settings) -> None:
    before = tables(session)
    write_locations(filled.home, PLACES[:2])
    with rebuild(session, filled, "silver") as building:
        building.build()
        compared = {one.table: one for one in building.compare()}
    assert compared[SILVER].extra == compared[REJECTS].missing > 0
    assert compared[DAILY].extra > 0
    assert tables(session) == before
    assert session.table(REJECTS).count() == 0
    assert not branches(session)


def test_rules_change_silver_rejects_and_gold_and_change_them_back(session: SparkSession, filled: Settings) -> None:
    before = tables(session)
    write_locations(filled.home, PLACES[:2])
    with rebuild(session, filled, "silver") as building:
        building.build()
        building.publish()
    for name in (SILVER, HOURLY, DAILY):
        assert places(session, name) == {"a", "b"}
    rejected = session.table(REJECTS).toArrow()
    assert set(rejected["rule"].to_pylist()) == {"unknown_location"}
    assert rejected.num_rows == before[SILVER].filter(pc.field("location_key") == "c").num_rows
    assert_right(session, filled)
    write_locations(filled.home, PLACES)
    with rebuild(session, filled, "silver") as building:
        building.build()
        building.publish()
    assert tables(session) == before
    assert session.table(REJECTS).count() == 0


@pytest.mark.parametrize("layer", ["silver", "gold"])
@pytest.mark.parametrize("days", [None, (date(2024, 2, 25), date(2024, 3, 2))])
def test_what_is_written_meanwhile_is_caught_up_with(session: SparkSession, filled: Settings, layer: str, days: Days) -> None:
    with rebuild(session, filled, layer, days=days) as building:
        building.build()
        fill(session, filled, MadeHistory(PLACES, version=1, changed=date(2024, 2, 28)))
        building.compare()
        fill(session, filled, MadeHistory(PLACES, version=2), since=date(2024, 3, 10), until=date(2024, 3, 12))
        before = tables(session)
        building.publish()
    assert tables(session) == before
    assert_right(session, filled)


@pytest.mark.parametrize("in_place", [False, True])
def test_days_are_made_anew_and_no_others(session: SparkSession, filled: Settings, in_place: bool) -> None:
    before = tables(session)
    for name in (SILVER, HOURLY):
        for day in ("2024-02-22", "2024-03-05"):
            session.sql(f"UPDATE {name} SET pm10 = 1.0 WHERE location_key = 'b' AND date_utc = DATE '{day}'")
            session.sql(f"DELETE FROM {name} WHERE location_key = 'c' AND date_utc = DATE '{day}'")
    days = date(2024, 3, 4), date(2024, 3, 6)
    if in_place:
        told: list[date] = []
        rebuild_in_place(filled, domain_of(filled), session, True, days, told.append)
        assert told == [days[1]]
    else:
        with rebuild(session, filled, "silver", days=days) as building:
            building.build()
            assert {one.table: one.differences for one in building.compare()}[SILVER] > 0
            building.publish()
    after = tables(session)
    for name in (SILVER, HOURLY):
        assert after[name].filter(LATE) == before[name].filter(LATE), "the days asked for, and those beside them"
        early = after[name].filter(pc.field("date_utc") == date(2024, 2, 22))
        assert early.filter(pc.field("location_key") == "c").num_rows == 0, "no other day"
    rebuild_in_place(filled, domain_of(filled), session, True, (date(2024, 2, 20), date(2024, 3, 9)), lambda _: None)
    assert tables(session) == before


def test_gold_tables_by_name(session: SparkSession, filled: Settings) -> None:
    before = tables(session)
    session.sql(f"UPDATE {HOURLY} SET aqi = 1 WHERE location_key = 'b'")
    session.sql(f"UPDATE {DAILY} SET max_aqi = 1 WHERE location_key = 'b'")
    with rebuild(session, filled, "gold", tables={DAILY}) as building:
        building.build()
        assert [one.table for one in building.compare()] == [DAILY]
        building.publish()
    after = tables(session)
    assert after[DAILY] == before[DAILY]
    assert after[HOURLY] != before[HOURLY]
    assert not branches(session)
    domain = domain_of(filled)
    session.sql("DELETE FROM lh.gold.dim_pollutant WHERE pollutant_code = 'pm25'")
    only = {"lh.gold.dim_pollutant"}
    assert [one.missing for one in rebuild_dimensions(filled, domain, session, only, writing=False)] == [1]
    assert [one.missing for one in rebuild_dimensions(filled, domain, session, only, writing=True)] == [1]
    assert [one.differences for one in rebuild_dimensions(filled, domain, session, only, writing=True)] == [0]


class _Cut(Exception):
    pass


@pytest.mark.parametrize(("point", "times"), [("publishing.noted", 1), ("publishing.table", 1), ("publishing.table", 3)])
def test_whoever_writes_next_ends_a_publishing_that_was_cut_off(
    session: SparkSession, filled: Settings, monkeypatch: pytest.MonkeyPatch, point: str, times: int
) -> None:
    write_locations(filled.home, PLACES[:2])
    building = rebuild(session, filled, "silver").__enter__()
    building.build()
    reached: list[str] = []

    def reach(name: str) -> None:
        reached.append(name)
        if reached.count(point) == times:
            raise _Cut

    with monkeypatch.context() as patched:
        patched.setattr(failpoints, "reach", reach)
        with pytest.raises(_Cut):
            building.publish()
    assert PUBLISHING_PROPERTY in iceberg_table(session, SILVER).properties()
    fill(session, filled, MadeHistory(PLACES[:2], version=3), override=True, since=date(2024, 3, 8))
    assert PUBLISHING_PROPERTY not in iceberg_table(session, SILVER).properties()
    for name in (SILVER, HOURLY, DAILY):
        assert places(session, name) == {"a", "b"}
    assert_right(session, filled)
    with rebuild(session, filled, "gold"):
        pass
    building.__exit__()
    assert not branches(session)


def test_on_a_catalog_of_files_alone(spark: SparkSession, home: Settings) -> None:
    """A hadoop catalog has no database: neither a lease nor turns between machines; PyIceberg cannot read it."""
    session = spark.newSession()
    of_files = {"": "org.apache.iceberg.spark.SparkCatalog", ".type": "hadoop", ".cache-enabled": "false"}
    for name, value in {**of_files, ".warehouse": (home.home / "files").as_uri()}.items():
        session.conf.set(f"spark.sql.catalog.lh{name}", value)
    settings = home.model_copy(update={"catalog_uri": "hdfs://nowhere/lakehouse"})
    fill(session, settings, MadeHistory(PLACES))
    before = tables(session)
    write_locations(home.home, PLACES[:2])
    for layer in ("silver", "gold"):
        with rebuild(session, settings, layer) as building:
            building.build()
            fill(session, settings, MadeHistory(PLACES, version=1), since=date(2024, 3, 10), until=date(2024, 3, 12))
            assert {one.table: one.extra for one in building.compare()}[DAILY] == (0 if layer == "gold" else before[DAILY].num_rows // 3)
            building.publish()
        assert places(session, SILVER) == places(session, DAILY) == {"a", "b"}
    domain = domain_of(settings)
    silver = to_silver(session.table("lh.bronze.open_meteo_hourly"), domain.sources[0])
    expected = to_gold(domain, {SILVER: silver})
    for gold in domain.derived:
        assert compare_frames(gold.table, session.table(gold.table.name), expected[gold.table.name]).differences == 0
