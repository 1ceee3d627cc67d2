"""Is the lag what lies between bronze's own offsets and the broker's?"""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from lakehouse.settings import Settings
from monitoring import lag
from monitoring.lag import BRONZE_TABLE, MARK_PROPERTY, SILVER_QUERY, TOPIC, BronzeLag, LagUnknown, bronze_lag, bronze_mark, unread_rows


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def bronze(settings: Settings) -> Iterator[Table]:
    catalog = SqlCatalog("lh", uri=settings.catalog_uri, warehouse=settings.warehouse_uri)
    catalog.create_namespace("bronze")
    yield catalog.create_table(BRONZE_TABLE, schema=pa.schema([("kafka_offset", pa.int64())]))
    catalog.close()


def append(table: Table, rows: int, mark: dict[str, int] | None = None) -> None:
    properties = {MARK_PROPERTY: json.dumps({TOPIC: {"id": "abc", "next": mark}})} if mark else {}
    table.append(pa.table({"kafka_offset": pa.array(range(rows), pa.int64())}), snapshot_properties=properties)


def commit_silver(settings: Settings, table: Table, snapshot: int, files: int) -> None:
    checkpoint = settings.home / "checkpoints" / SILVER_QUERY
    for name, content in (("offsets", json.dumps({"version": 1, "snapshot_id": snapshot, "position": files})), ("commits", "{}")):
        (checkpoint / name).mkdir(parents=True, exist_ok=True)
        (checkpoint / name / "3").write_text(f"v1\n{content}\n")


def test_mark_is_found_behind_a_snapshot_that_carries_none(settings: Settings, bronze: Table) -> None:
    append(bronze, 10, {"0": 6, "1": 4})
    append(bronze, 5)  # a backfill, or a compaction
    assert bronze_mark(settings) == {TOPIC: {"id": "abc", "next": {"0": 6, "1": 4}}}


def test_lag_is_the_sum_over_partitions(settings: Settings, bronze: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    append(bronze, 10, {"0": 6, "1": 4})
    monkeypatch.setattr(lag, "end_offsets", lambda *_: {0: 10, 1: 4, 2: 7})
    found = bronze_lag(settings, "127.0.0.1:9092")
    assert (found.messages, found.topic_id) == (4 + 0 + 7, "abc")


def test_topic_that_is_shorter_than_bronze_has_no_negative_lag() -> None:
    assert BronzeLag(TOPIC, "abc", end={0: 3}, next={0: 10}).messages == 0


def test_without_tables_every_message_is_lag(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "end_offsets", lambda *_: {0: 10})
    assert bronze_lag(settings, "127.0.0.1:9092").messages == 10


def test_broker_that_is_down_is_said(settings: Settings) -> None:
    with pytest.raises(LagUnknown, match=r"^Kafka at 127\.0\.0\.1:9 does not answer \("):
        bronze_lag(settings, "127.0.0.1:9")


def test_unread_rows_are_those_appended_after_the_committed_snapshot(settings: Settings, bronze: Table) -> None:
    append(bronze, 10)
    first = bronze.current_snapshot()
    assert first is not None
    append(bronze, 5)
    append(bronze, 2)
    commit_silver(settings, bronze, first.snapshot_id, files=1)
    assert unread_rows(settings) == 7
    commit_silver(settings, bronze, first.snapshot_id, files=0)
    assert unread_rows(settings) == 17


def test_query_that_committed_nothing_is_said(settings: Settings) -> None:
    with pytest.raises(LagUnknown, match="has committed no micro-batch yet"):
        unread_rows(settings)
