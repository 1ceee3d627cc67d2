"""What of the lag does the running micro-batch take, and what has none taken yet? And how do disks and backfills stand?"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse.broker.missing_messages import Missing
from lakehouse.broker.offsets import Broker, TopicOffsets
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.storage.folders import open_folder
from monitoring.backfill_state import newest_backfills
from monitoring.disks import disks
from monitoring.lag import LagUnknown, bronze_translation, planned_batch

DOMAIN = build_domain("air_quality", Settings())
TOPIC = DOMAIN.sources[0].contract.topic
SINCE = datetime(2026, 1, 2, tzinfo=UTC)


def write(settings: Settings, name: str, *lines: str) -> None:
    about = json.dumps({"batchTimestampMs": int(SINCE.timestamp() * 1000)})
    open_folder(settings.checkpoint("q")).write(name, "\n".join(["v1", about, *lines]))


def test_a_micro_batch_is_planned_until_its_commit(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert planned_batch(settings, "q") is None
    write(settings, "offsets/9", "old")
    write(settings, "offsets/10", "{}")
    write(settings, "commits/9")
    planned = planned_batch(settings, "q")
    assert planned is not None
    assert (planned.number, planned.since, planned.offsets) == (10, SINCE, ("{}",))
    write(settings, "commits/10")
    assert planned_batch(settings, "q") is None


@pytest.mark.parametrize("text", ["", "v1", "v1\n{", "v1\n{}\n-"])
def test_one_that_is_being_written_is_none_yet(tmp_path: Path, text: str) -> None:
    settings = Settings(home=tmp_path)
    open_folder(settings.checkpoint("q")).write("offsets/0", text)
    assert planned_batch(settings, "q") is None


def test_a_checkpoint_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(LagUnknown, match="cannot be read here"):
        planned_batch(Settings(home=tmp_path, checkpoints_uri="unknown://host/checkpoints"), "q")


class FakeBroker:
    def topic(self, name: str) -> TopicOffsets:
        assert name == TOPIC
        return TopicOffsets("id", {0: (0, 10), 1: (0, 7)}, {})

    def missing(self, name: str, behind: Mapping[int, tuple[int, int]]) -> dict[int, Missing]:
        return {partition: Missing(end - first, SINCE) for partition, (first, end) in behind.items()}


def test_what_no_micro_batch_of_bronze_has_taken_begins_where_the_planned_one_ends(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    write(settings, "offsets/0", json.dumps({TOPIC: {"0": 8, "1": 7}}))
    planned = planned_batch(settings, "q")
    assert planned is not None
    lag = bronze_translation(DOMAIN, planned, cast(Broker, FakeBroker()))
    assert (lag.messages, lag.since) == (2, SINCE)


def test_the_newest_backfill_of_each_domain_is_counted_by_state(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert newest_backfills(settings) == {}
    rows = pa.table(
        {
            "backfill_id": ["a-1", "a-1", "a-2", "a-2", "a-2", "b-1"],
            "domain": ["a", "a", "a", "a", "a", "b"],
            "state": ["failed", "done", "done", "done", "failed", "planned"],
        }
    )
    catalog = SqlCatalog("lh", uri=settings.catalog_uri, warehouse=settings.warehouse_uri)
    catalog.create_namespace("ops")
    catalog.create_table("ops.backfills", schema=rows.schema).append(rows)
    catalog.close()
    assert newest_backfills(settings) == {"a": {"planned": 0, "done": 2, "failed": 1}, "b": {"planned": 1, "done": 0, "failed": 0}}


def test_each_disk_is_told_once_also_of_a_home_that_is_not_there_yet(tmp_path: Path) -> None:
    (disk,) = disks(Settings(home=tmp_path / "none"))
    assert disk.place == "home"
    assert 0 < disk.free < disk.size
    assert [one.place for one in disks(Settings(home=tmp_path, warehouse_uri="hdfs://namenode/weir"))] == ["home"]
