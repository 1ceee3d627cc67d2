"""Maintenance changes how tables lie, and nothing that they say; and what others still need stays."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from batch.backfill.chunks import Backfill, plan
from batch.backfill.ledger import Ledger
from batch.bronze_since import NotWhole
from batch.consistent_snapshots import Heads
from batch.maintain.maintain import NoSuchTable, Round, all_tables, chosen_tables
from batch.maintain.maintenance_table import MAINTENANCE, Result, keep, known_of, renewed
from batch.prove.prove import prove
from batch.rebuild.on_branches import Rebuild, rebuild_lease
from batch.table_state import TableState
from lakehouse.codecs.parse import to_bronze
from lakehouse.domains.air_quality.contract import HOURLY, TOPIC
from lakehouse.domains.air_quality.tables import BRONZE, SILVER
from lakehouse.locks.lease import held_lease
from lakehouse.query.reader import Reader
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.tables.catalog import open_catalog
from lakehouse.tables.day_tags import tag_name
from lakehouse.write.fenced_append import FencedAppend, newest_mark
from lakehouse.write.small_batches import row_delta
from monitoring.freshness import read_facts
from monitoring.lag import silver_lag
from monitoring.last_proofs import last_proofs
from monitoring.table_upkeep import read_health
from producers.history import SourceSpent
from streaming import refine
from tests.support.backfills import MadeHistory
from tests.support.pipeline import START, Pipeline, assert_files_are_whole, reading, write_locations

PLACES = ("a", "b", "c")
ARRIVED = datetime(2024, 6, 30, 22, 0, tzinfo=UTC)
GOLD = "lh.gold.fact_air_quality_hourly"
TABLES = ("bronze.open_meteo_hourly", "silver.air_quality_hourly_clean", "gold.fact_air_quality_hourly", "gold.fact_city_daily")


class Stand:
    """A home whose stream is fed micro-batch by micro-batch, without Kafka; the queries are the production ones."""

    def __init__(self, session: SparkSession, folder: Path) -> None:
        write_locations(folder, PLACES)
        self.home = folder
        # Nobody reads meanwhile: what is not the head may go at once.
        self.settings = Settings(home=folder, tag_days=0).model_copy(update={"snapshot_hours": 0})
        self.session = session
        self.pipe = Pipeline(self.settings, session, build_domain("air_quality", self.settings)).prepare()
        self.append = FencedAppend(BRONZE, {TOPIC: "one"})
        self.offset = 0

    def arrive(self, hours: range, *, at: datetime = ARRIVED, version: int = 0) -> None:
        """Append a micro-batch to bronze: these hours of every place."""
        records = [
            reading(place, hour, version=version, pm25=float(20 + (hour * 37 + version) % 300)) for place in PLACES for hour in hours
        ]
        for record in records:  # nothing is retrieved after it arrived
            retrieved = record["retrieved_ts"]
            assert isinstance(retrieved, datetime)
            record["retrieved_ts"] = min(retrieved, at)
        rows = pa.table(
            {
                "value": pa.array([HOURLY.encode(record) for record in records], pa.binary()),
                "topic": pa.array([TOPIC] * len(records)),
                "partition": pa.array([0] * len(records), pa.int32()),
                "offset": pa.array(range(self.offset, self.offset + len(records)), pa.int64()),
                "timestamp": pa.array([at] * len(records), pa.timestamp("us", "UTC")),
            }
        )
        self.append.append(to_bronze(self.session.createDataFrame(rows), HOURLY), {"weir.query": "bronze"})
        self.offset += len(records)

    def refine(self, available_now: bool = True) -> None:
        """Let the refine query take what is there."""
        body = refine.refine_body(lambda: self.pipe.domain, lambda _: None)
        rows = refine.read_bronze(self.session, self.pipe.domain, self.settings)
        query = refine.start_refine(rows, self.pipe.domain, self.settings, body, available_now)
        try:
            if available_now:
                query.awaitTermination()
            else:
                query.processAllAvailable()
        finally:
            query.stop()

    def maintain(self, *tables: str, now: datetime | None = None, dry_run: bool = False, **changed: object) -> dict[str, Result]:
        """Maintain, as the command does: these tables, or those of `TABLES`; by name without the catalog."""
        settings = self.settings.model_copy(update=changed)
        moment, known = now or datetime.now(UTC), known_of(self.session)
        one = Round(settings, [self.pipe.domain], self.session, known, moment, dry_run)
        results = one.run(chosen_tables(self.session, tables or TABLES))
        if not dry_run:
            keep(self.session, results, renewed(known, results, one.searched, moment), moment)
        assert [result.failed for result in results if result.failed] == []
        return {result.table.removeprefix("lh."): result for result in results}

    def rows(self) -> Mapping[str, list[object]]:
        """All rows of the tables, in order."""
        found = {}
        for name in TABLES:
            table = self.pipe.table(name)
            found[name] = sorted(table.to_pylist(), key=lambda row: json.dumps(row, default=str, sort_keys=True))
        return found

    def state(self, name: str) -> TableState:
        return TableState.read(self.session, name)


@pytest.fixture
def stand(session: SparkSession, tmp_path: Path) -> Stand:
    return Stand(session, tmp_path)


def test_small_files_become_few_snapshots_go_and_no_row_changes(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_delta, "MOVED_BYTES", 0)  # as if the files were larger: the stream joins small ones itself
    for n in range(4):
        stand.arrive(range(n * 2, n * 2 + 4), version=n)
        stand.refine()
    before = stand.rows()
    everything = [name.removeprefix("lh.") for name in all_tables(stand.session)]
    heads = {name: stand.state(f"lh.{name}").head for name in TABLES}
    dry = stand.maintain(*everything, dry_run=True)
    assert heads == {name: stand.state(f"lh.{name}").head for name in TABLES}
    assert stand.rows() == before and not stand.session.catalog.tableExists(MAINTENANCE.name), "a dry run changes nothing"

    found = stand.maintain(*everything)

    assert stand.rows() == before
    for name in TABLES:
        was, is_ = found[name].before, found[name].after
        assert is_.files < was.files and is_.snapshots < was.snapshots and is_.metadata_bytes < was.metadata_bytes, name
        assert is_.small_files == 0 and is_.delete_files == 0, name
        assert (dry[name].after.files, dry[name].after.small_files) == (is_.files, is_.small_files), "expected as it came"
        assert_files_are_whole(stand.settings, name)
    assert found[TABLES[1]].before.delete_files > 0
    stand.pipe.assert_gold_is_right()
    again = stand.maintain(*TABLES[1:])
    assert all(one.before.files == one.after.files for one in again.values()), "what is well made is left alone"


def test_the_stream_goes_on_after_expiry_both_ways(stand: Stand) -> None:
    stand.arrive(range(0, 4))
    first = stand.state(BRONZE.name).head
    stand.refine()  # it began at a snapshot that will be gone
    for n in range(1, 4):
        stand.arrive(range(n * 4, n * 4 + 4))
    stand.refine(available_now=False)
    stand.maintain(TABLES[0])
    assert first not in stand.state(BRONZE.name).snapshots
    stand.arrive(range(16, 20))
    stand.refine(available_now=False)
    assert silver_lag(stand.settings, stand.pipe.domain).messages == 0
    stand.arrive(range(20, 24))
    stand.maintain(TABLES[0])
    stand.refine(available_now=True)
    stand.pipe.assert_gold_is_right()
    assert stand.pipe.table("silver.air_quality_hourly_clean").num_rows == 24 * len(PLACES)


def test_what_the_stream_has_not_read_stays_in_bronze(stand: Stand) -> None:
    stand.arrive(range(0, 4))
    stand.refine()
    reads = stand.state(BRONZE.name).head
    waiting = []
    for n in range(1, 4):
        stand.arrive(range(n * 4, n * 4 + 4))
        waiting.append(stand.state(BRONZE.name).head)
    found = stand.maintain("bronze.open_meteo_hourly", now=datetime.now(UTC) + timedelta(days=30))
    assert found["bronze.open_meteo_hourly"].after.files == 1, "joined all the same"
    assert {reads, *waiting} <= stand.state(BRONZE.name).snapshots.keys()
    stand.refine()
    stand.pipe.assert_gold_is_right()
    assert stand.pipe.table("silver.air_quality_hourly_clean").num_rows == 16 * len(PLACES)


def test_without_a_known_reader_bronze_keeps_all_snapshots(stand: Stand) -> None:
    for n in range(3):
        stand.arrive(range(n, n + 1))
    found = stand.maintain("bronze.open_meteo_hourly", now=datetime.now(UTC) + timedelta(days=30))
    assert found["bronze.open_meteo_hourly"].after.snapshots == 4, "three appends and the rewrite"
    assert "has committed nothing" in found["bronze.open_meteo_hourly"].held


def test_marks_offsets_and_ages_are_known_after_expiry(stand: Stand) -> None:
    for n in range(3):
        stand.arrive(range(n * 4, n * 4 + 4))
        stand.refine()
    with Heads.look(stand.settings, stand.pipe.domain) as heads:
        applied = dict(heads.applied)
    mark, changed = newest_mark(stand.session, BRONZE), {one.name: one.last_commit_ts for one in read_facts(stand.settings)}
    assert prove(stand.settings, stand.pipe.domain, stand.session).is_equal
    proofs = last_proofs(stand.settings)
    for _ in range(2):
        stand.maintain(*TABLES, "ops.rejects", "ops.proofs", now=datetime.now(UTC) + timedelta(days=30))
    with Heads.look(stand.settings, stand.pipe.domain) as heads:
        assert heads.applied == applied == {(TOPIC, 0): stand.offset - 1}
    assert newest_mark(stand.session, BRONZE) == mark
    assert last_proofs(stand.settings) == proofs
    facts = {one.name: one.last_commit_ts for one in read_facts(stand.settings)}
    assert {name: facts[name] for name in TABLES} == {name: changed[name] for name in TABLES}
    assert len(stand.state(SILVER.name).snapshots) == 1
    health = {one.name: one for one in read_health(stand.settings)}
    silver = health["silver.air_quality_hourly_clean"]
    assert (silver.files, silver.small_files, silver.delete_files, silver.snapshots) == (1, 0, 0, 1)
    assert silver.metadata_bytes > 0 and silver.rewritten_ts is not None


def test_an_unfinished_backfill_finds_its_chunks(stand: Stand) -> None:
    history = MadeHistory(PLACES, spent_after=2)
    planned = plan(history, dict.fromkeys(PLACES, date(2024, 2, 20)), date(2024, 3, 9), "week")
    parts = [(part, asked.calls, asked.weight) for part, asked in planned.parts]
    ledger = Ledger.plan(stand.session, "air_quality", parts, False, datetime.now(UTC))
    with pytest.raises(SourceSpent):
        Backfill(stand.settings, stand.pipe.domain, stand.pipe.domain.sources[0], stand.session, history, ledger).run()
    # Cut off after the append and before the ledger: the snapshot alone tells that the chunk is there.
    done = next(one for one in ledger.chunks if one.state == "done")
    ledger.note(replace(done, state="planned"))
    stand.arrive(range(0, 2))
    stand.refine()
    stand.maintain(TABLES[0], now=datetime.now(UTC) + timedelta(days=30))
    bronze = stand.session.table(BRONZE.name).where("source_run IS NOT NULL").count()
    history = MadeHistory(PLACES)
    assert Backfill(
        stand.settings,
        stand.pipe.domain,
        stand.pipe.domain.sources[0],
        stand.session,
        history,
        Ledger.unfinished(stand.session, "air_quality"),
    ).run()
    fetched = {since for _, since, _ in history.asked}
    assert done.since not in fetched and stand.session.table(BRONZE.name).where("source_run IS NOT NULL").count() > bronze
    assert stand.session.sql(f"SELECT source_run, source_row FROM {BRONZE.name} WHERE source_run IS NOT NULL GROUP BY ALL").count() == (
        stand.session.table(BRONZE.name).where("source_run IS NOT NULL").count()
    )
    found = stand.maintain(TABLES[0], now=datetime.now(UTC) + timedelta(days=30))
    assert found["bronze.open_meteo_hourly"].after.small_files == 0, "its rows have no day of arrival, and are joined now"
    stand.pipe.assert_gold_is_right()


def test_a_rebuild_keeps_snapshots_while_it_lives_and_no_longer(stand: Stand) -> None:
    for hours in (range(0, 4), range(4, 8)):
        stand.arrive(hours)
        stand.refine()
    silver, bronze = TABLES[1], TABLES[0]
    with held_lease(stand.settings, rebuild_lease(stand.pipe.domain), lambda _: None):
        Rebuild(stand.settings, stand.pipe.domain, stand.session, is_silver=True).__enter__()
        found = stand.maintain()
        assert "a rebuild uses a branch of it" in found[silver].held and "a rebuild of" in found[bronze].held
        assert found[silver].after.snapshots >= found[silver].before.snapshots
    # Killed: its lease is nobody's, its branches stay.
    then = stand.rows()
    tried = stand.maintain(dry_run=True)
    assert tried[silver].held, "a dry run removes nothing"
    found = stand.maintain()
    assert any("rebuild that was killed" in one for one in found[silver].done)
    assert not any("rebuild" in found[name].held for name in TABLES)
    assert found[silver].after.snapshots == 1 and stand.state(SILVER.name).branches == frozenset()
    assert stand.rows() == then


def test_daily_tags_agree_and_stay_and_named_ones_too(stand: Stand) -> None:
    stand.arrive(range(0, 4))
    stand.refine()
    then = stand.rows()
    stand.session.sql(f"ALTER TABLE {SILVER.name} CREATE TAG `mine`")
    held = stand.state(SILVER.name).head
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    name = tag_name(datetime.now(UTC).date())
    stand.maintain(now=tomorrow, tag_days=3)
    stand.arrive(range(0, 8), version=1)
    stand.refine()
    stand.maintain(now=tomorrow, tag_days=3)
    assert stand.rows() != then
    for table in TABLES[1:]:
        scanned = open_catalog(stand.settings).load_table(table)
        snapshot = scanned.refs()[name].snapshot_id
        rows = sorted(
            scanned.scan(snapshot_id=snapshot).to_arrow().to_pylist(), key=lambda row: json.dumps(row, default=str, sort_keys=True)
        )
        assert rows == then[table], table
        assert stand.session.sql(f"SELECT * FROM lh.{table} VERSION AS OF '{name}'").count() == len(rows)
    with Reader(stand.settings, as_of=datetime.now(UTC).date()) as reader:  # what `weir query --as-of` opens
        for table in TABLES[1:]:
            assert reader.query(f"SELECT count(*) FROM {table}").rows == [(len(then[table]),)], table
    assert stand.state(SILVER.name).refs["mine"] == held
    # Iceberg lets a tag go by its own age, at the next expiry; that of a person stays.
    state = stand.state(SILVER.name)
    assert {*state.refs} == {"mine", name, *(tag_name(datetime.now(UTC).date() - timedelta(days=n)) for n in range(1, 3))} & {*state.refs}


def test_old_days_leave_bronze_only_when_silver_holds_them(stand: Stand) -> None:
    def day(n: int) -> datetime:
        return START + timedelta(days=n)

    for n in range(7):
        stand.arrive(range(n * 24, n * 24 + 24), at=day(n + 1))
    stand.refine()
    stand.arrive(range(0, 8), at=day(3), version=1)  # waited in Kafka, and silver has not seen it
    name = "bronze.open_meteo_hourly"
    found = stand.maintain(name, now=day(8), bronze_days=2)
    assert any("dropped" in one for one in found[name].done)
    left = {row["kafka_ts"] for row in stand.pipe.table(name).to_pylist()}
    assert left == {day(n) for n in range(3, 8)}, "none from the day of the waiting rows on"
    stand.refine()  # a stream that has the delete before it
    stand.refine(available_now=False)
    silver = stand.pipe.table("silver.air_quality_hourly_clean").to_pylist()
    assert len(silver) == 168 * len(PLACES) and sum(row["retrieved_ts"] == day(3) for row in silver) == (24 + 8) * len(PLACES)
    proof = prove(stand.settings, stand.pipe.domain, stand.session)
    assert proof.is_equal, "what bronze no longer tells of is no difference"
    hourly = next(one for _, one in proof.compared if one.table == GOLD)
    assert proof.days is not None and proof.days[0] == day(5).date() and hourly.rows == 48 * len(PLACES)
    with pytest.raises(NotWhole, match="--since 2024-03-06"):
        prove(stand.settings, stand.pipe.domain, stand.session, (day(4).date(), day(6).date()))
    with pytest.raises(NotWhole), Rebuild(stand.settings, stand.pipe.domain, stand.session, is_silver=True):
        pytest.fail("silver of the first days could not be made again")
    assert stand.maintain(name, now=day(8), bronze_days=0)[name].failed == ()
    assert stand.pipe.table(name).num_rows == (5 * 24 + 8) * len(PLACES)


def test_files_that_belong_to_nothing_go_after_days(stand: Stand) -> None:
    stand.arrive(range(0, 4))
    folder = stand.home / "warehouse" / "bronze" / "open_meteo_hourly" / "data"
    old, young = folder / "old.parquet", folder / "young.parquet"
    for file in (old, young):
        file.write_bytes(b"nobody's")
    longago = (datetime.now() - timedelta(days=4)).timestamp()
    for file in [old, *folder.rglob("*.parquet")]:
        if file != young:
            os.utime(file, (longago, longago))
    before = stand.rows()
    stand.maintain("bronze.open_meteo_hourly", dry_run=True)
    assert old.exists()
    stand.maintain("bronze.open_meteo_hourly")
    assert not old.exists() and young.exists()
    assert stand.rows() == before
    assert_files_are_whole(stand.settings, "bronze.open_meteo_hourly")


def test_an_unknown_table_is_named_with_those_there_are(stand: Stand) -> None:
    with pytest.raises(NoSuchTable, match=r"gold\.nothing.*bronze\.open_meteo_hourly"):
        chosen_tables(stand.session, ["gold.nothing"])
