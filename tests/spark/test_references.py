"""Is gold that an older zone database computed named, by place and hour, and is it right again after the rebuild that is asked for?"""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyspark.sql import SparkSession
from structlog.testing import capture_logs

from batch.check import check
from batch.prove.prove import prove
from batch.rebuild.on_branches import Rebuild
from lakehouse.apply import ApplyOptions, apply
from lakehouse.codecs.parse import to_bronze
from lakehouse.days import days_of
from lakehouse.domain import Domain
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.domains.dates.zones import VERSION
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.storage.folders import LocalFolder
from lakehouse.tables.create import ensure_tables
from lakehouse.tables.references import Outdated, look_at_references, settle_references
from lakehouse.write.dimensions import write_dimensions
from streaming.breaker import Breaker, Limit
from tests.support.backfills import MadeHistory, fill
from tests.support.pipeline import RETRIEVED, reading, write_locations

PLACES = ("a", "b", "c")
FACTS, OFFSETS = "lh.gold.fact_air_quality_hourly", "lh.gold.dim_zone_offset"


def note(session: SparkSession) -> str:
    return str({row["key"]: row["value"] for row in session.sql(f"SHOW TBLPROPERTIES {FACTS}").collect()}.get("weir.tzdata"))


def start(session: SparkSession, home: Settings, domain: Domain) -> list[str]:
    """Do what a driver does at its start; give what it warned of."""
    with capture_logs() as logs:
        ensure_tables(session, domain)
        write_dimensions(session, domain)
        settle_references(session, home, domain)
    return [str(one["advice"]) for one in logs if one["event"] == "gold is of older reference data"]


def test_hours_of_an_older_zone_database_are_named_and_rebuilt(session: SparkSession, tmp_path: Path) -> None:
    write_locations(tmp_path, PLACES)
    home = Settings(home=tmp_path)
    domain = build_domain("air_quality", home)
    fill(session, home, MadeHistory(PLACES))
    assert note(session) == VERSION, "a table that is made now is of the release in force"
    assert look_at_references(home, domain).outdated == ()

    # As a version left it that computed b's hours of a day by an older database, and had a change of c's zone that was taken back since.
    changed = f"{FACTS} SET local_time_key = (local_time_key + 1) % 24 WHERE location_key = 'b' AND date_key = 20240302"
    session.sql(f"UPDATE {changed}")
    rows = session.table(FACTS).where("location_key = 'b' AND date_key = 20240302").count()
    assert rows
    session.sql(f"INSERT INTO {OFFSETS} VALUES ('Asia/Kathmandu', TIMESTAMP '2024-03-02 12:00:00', 0, '2020a')")
    session.sql(f"ALTER TABLE {FACTS} SET TBLPROPERTIES ('weir.tzdata' = '2020a')")
    (warned,) = start(session, home, domain)
    assert session.table(OFFSETS).where("tzdata = '2020a'").count() == 0, "what the database does not say any more is gone"
    (outdated,) = look_at_references(home, domain).outdated
    assert outdated == Outdated("b", datetime(2024, 3, 2, tzinfo=UTC), datetime(2024, 3, 2, 23, tzinfo=UTC), rows)
    assert f"tzdata 2020a to {VERSION}" in warned
    assert f"b 2024-03-02T00:00Z to 2024-03-02T23:00Z ({rows} rows)" in warned
    assert "`weir rebuild air_quality --layer gold --since 2024-03-02 --until 2024-03-02`" in warned
    assert note(session) == "2020a", "as long as some rows are older"
    proof = prove(home, domain, session)
    assert not proof.is_equal
    assert proof.advice == warned
    assert [one.bad for one in check(home, domain) if one.name.startswith("local keys")] == [rows]

    with Rebuild(
        home, domain, session, False, days_of("2024-03-02", "2024-03-02"), {gold.table.name for gold in domain.derived}
    ) as building:
        building.build()
        building.compare()
        building.publish()
    assert start(session, home, domain) == []
    assert note(session) == VERSION
    assert prove(home, domain, session).is_equal


def test_release_that_changes_nothing_that_is_there_asks_for_nothing(session: SparkSession, tmp_path: Path) -> None:
    write_locations(tmp_path, PLACES)
    home = Settings(home=tmp_path)
    domain = build_domain("air_quality", home)
    ensure_tables(session, domain)
    session.sql(f"ALTER TABLE {FACTS} UNSET TBLPROPERTIES ('weir.tzdata')")
    assert look_at_references(home, domain).advice == "", "a home of an earlier version has no such dimension yet"
    assert start(session, home, domain) == []
    assert note(session) == VERSION


def test_place_whose_zone_is_unknown_stops_no_other(session: SparkSession, tmp_path: Path) -> None:
    home = Settings(home=tmp_path)
    write_locations(tmp_path, ("hanoi", "danang"))
    listed = tmp_path / "locations.jsonl"
    listed.write_text(listed.read_text().replace("Asia/Ho_Chi_Minh", "Mars/Olympus"))  # hanoi's
    domain = build_domain("air_quality", home)
    start(session, home, domain)
    values = [HOURLY.encode(reading(place, hour)) for place in ("hanoi", "danang") for hour in range(60)]
    messages = pa.table(
        {
            "value": pa.array(values, pa.binary()),
            "topic": [HOURLY.topic] * len(values),
            "partition": pa.array([0] * len(values), pa.int32()),
            "offset": range(len(values)),
            "timestamp": pa.array([RETRIEVED] * len(values), pa.timestamp("us", "UTC")),
        }
    )
    breaker = Breaker(LocalFolder(tmp_path), "breaker.json", domain.name, Limit())
    bronze = to_bronze(session.createDataFrame(messages), domain.sources[0].contract)
    met = apply(bronze, domain.sources[0], domain, ApplyOptions(judge=lambda found: breaker.judge(0, found)))
    assert (met.accepted, dict(met.rejected)) == (60, {"place_left_out": 60})
    assert {row[0] for row in session.sql(f"SELECT DISTINCT location_key FROM {FACTS}").collect()} == {"danang"}
    assert {row[0] for row in session.sql("SELECT DISTINCT reason FROM lh.ops.rejects").collect()} == {
        "the zone of hanoi in the locations file is unknown"
    }
