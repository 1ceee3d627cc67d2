"""A home that the version before has written: its bronze lacks a column, and no commit says what gold is made of."""

from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import lakehouse.write.store
from lakehouse.apply import ApplyOptions, apply
from lakehouse.domain import Domain
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spark import iceberg_table
from lakehouse.storage.folders import LocalFolder
from lakehouse.tables.create import ensure_tables
from lakehouse.write.append_chunk import append_chunk, typed
from lakehouse.write.dimensions import write_dimensions
from lakehouse.write.small_batches import row_delta
from lakehouse.write.small_batches.memory_store import Memory
from streaming.checkpoints import IDENTITY, claim, other_inputs
from tests.support.pipeline import Pipeline, reading, write_locations

PLACES = ("a", "b")


def as_before(domain: Domain) -> Domain:
    """The domain with bronze as it was: without the version of the schema that a message was written by."""
    (source,) = domain.sources
    columns = tuple(column for column in source.bronze.columns if column.name != "wire_version")
    assert len(columns) == len(source.bronze.columns) - 1
    return replace(domain, sources=(replace(source, bronze=replace(source.bronze, columns=columns)),))


def bring(session: SparkSession, domain: Domain, name: str, hours: range, memory: Memory | None = None, version: int = 0) -> None:
    values = [
        HOURLY.encode(reading(place, hour, version=version, no2=1000.0 if hour % 40 < 9 else 20.0)) for place in PLACES for hour in hours
    ]
    rows = typed(session, values, HOURLY, name).select(list(domain.sources[0].bronze.names))
    append_chunk(session, domain.sources[0].bronze, rows, {})
    arrived = session.table(domain.sources[0].bronze.name).where(f"source_run = '{name}'")
    apply(arrived, domain.sources[0], domain, ApplyOptions(memory=memory))


@pytest.mark.parametrize("from_memory", [True, False], ids=["from memory", "by MERGE"])
def test_a_home_goes_on_and_nothing_is_made_again_that_was_right(
    session: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_memory: bool
) -> None:
    write_locations(tmp_path, PLACES)
    monkeypatch.setattr(row_delta, "MOVED_BYTES", 0)  # rows that only move to another file are not counted below
    settings = Settings(home=tmp_path)
    domain = build_domain("air_quality", settings)
    older = as_before(domain)
    with monkeypatch.context() as before:
        before.setattr(lakehouse.write.store, "to_property", lambda _: {})
        ensure_tables(session, older)
        write_dimensions(session, older)
        bring(session, older, "first", range(0, 60))
    facts = "lh.gold.fact_air_quality_hourly"
    old_head = iceberg_table(session, facts).currentSnapshot()
    assert not old_head.summary().get("weir.made-of")

    ensure_tables(session, domain)
    write_dimensions(session, domain)
    assert session.table(domain.sources[0].bronze.name).columns == list(domain.sources[0].bronze.names)
    bring(session, domain, "second", range(50, 70), Memory(domain) if from_memory else None, version=1)
    head = iceberg_table(session, facts).currentSnapshot()
    assert head.parentId() == old_head.snapshotId() and '"lh.silver.air_quality_hourly_clean": ' in head.summary().get("weir.made-of")
    # Hours 50 to 69 of two places, and the 24 after: what the older version made is not made again.
    assert int(head.summary().get("added-records")) <= 2 * (70 - 50 + 24)
    Pipeline(settings, session, domain).assert_gold_is_right()


def test_a_checkpoint_of_the_version_before_goes_on(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    folder.write(IDENTITY, '{"query": "silver.air_quality_hourly_clean", "topic_ids": {}}')
    assert other_inputs(folder, "silver.air_quality_hourly_clean", ["lh.bronze.open_meteo_hourly"]) == [], (
        "nothing is known of what it read"
    )
    claim(folder, "silver.air_quality_hourly_clean", {}, ["lh.bronze.open_meteo_hourly"])
    assert other_inputs(folder, "silver.air_quality_hourly_clean", ["lh.bronze.open_meteo_hourly"]) == []
    assert other_inputs(folder, "silver.air_quality_hourly_clean", ["lh.bronze.open_meteo_hourly", "lh.bronze.more"]) == [
        "lh.bronze.open_meteo_hourly"
    ]
    assert other_inputs(folder, "bronze.open_meteo_hourly", ["lh.bronze.more"]) == [], "another query's, which is refused"
