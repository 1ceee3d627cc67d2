"""Is the lag what lies between what was committed and the source's end, and does it go on when nobody commits?"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from lakehouse.broker.missing_messages import Missing
from lakehouse.broker.offsets import Broker, TopicOffsets
from lakehouse.broker.topics import NoKafkaError
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.tables.properties import MARK_PROPERTY
from monitoring.lag import Lag, LagUnknown, bronze_lag, bronze_mark, silver_lag, topic_lag

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class FakeBroker:
    """A broker whose messages arrived a second per offset after a moment; of some partitions it can tell nothing."""

    def __init__(self, bounds: Mapping[int, tuple[int, int]], topic_id: str = "abc", unreadable: bool = False) -> None:
        self.offsets, self.unreadable = TopicOffsets(topic_id, bounds), unreadable
        self.asked: list[tuple[int, int]] = []

    def topic(self, _: str) -> TopicOffsets:
        return self.offsets

    def missing(self, _: str, wanted: Mapping[int, tuple[int, int]]) -> dict[int, Missing]:
        self.asked += [(partition, first) for partition, (first, _end) in wanted.items()]
        if self.unreadable:
            raise NoKafkaError("a test's", "it cannot be read")
        return {partition: Missing(end - first, NOW + timedelta(seconds=first)) for partition, (first, end) in wanted.items()}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def bronze(settings: Settings) -> Iterator[Table]:
    catalog = SqlCatalog("lh", uri=settings.catalog_uri, warehouse=settings.warehouse_uri)
    catalog.create_namespace("bronze")
    yield catalog.create_table(BRONZE_TABLE, schema=pa.schema([("kafka_offset", pa.int64())]))
    catalog.close()


DOMAIN = build_domain("air_quality", Settings())
SOURCE = DOMAIN.sources[0]
TOPIC, BRONZE_TABLE, SILVER_QUERY = SOURCE.contract.topic, SOURCE.bronze.name.removeprefix("lh."), DOMAIN.refine_query


def append(table: Table, rows: int, mark: dict[str, int] | None = None) -> None:
    properties = {MARK_PROPERTY: json.dumps({TOPIC: {"id": "abc", "next": mark}})} if mark else {}
    table.append(pa.table({"kafka_offset": pa.array(range(rows), pa.int64())}), snapshot_properties=properties)


def commit_silver(settings: Settings, snapshot: int, files: int) -> None:
    checkpoint = settings.home / "checkpoints" / SILVER_QUERY
    for name, content in (("offsets", json.dumps({"version": 1, "snapshot_id": snapshot, "position": files})), ("commits", "{}")):
        (checkpoint / name).mkdir(parents=True, exist_ok=True)
        (checkpoint / name / "3").write_text(f"v1\n{{}}\n{content}\n")


def test_mark_is_found_behind_a_snapshot_that_carries_none(settings: Settings, bronze: Table) -> None:
    append(bronze, 10, {"0": 6, "1": 4})
    append(bronze, 5)  # a backfill, or a compaction
    assert bronze_mark(settings, SOURCE) == {TOPIC: {"id": "abc", "next": {"0": 6, "1": 4}}}


def test_lag_of_a_topic_is_the_sum_over_partitions_and_as_old_as_its_oldest_message(settings: Settings, bronze: Table) -> None:
    append(bronze, 10, {"0": 6, "1": 4})
    broker = FakeBroker({0: (0, 10), 1: (0, 4), 2: (2, 7)})
    lag = bronze_lag(settings, SOURCE, broker=cast(Broker, broker))
    assert {partition: one.messages for partition, one in lag.partitions.items()} == {0: 4, 1: 0, 2: 5}
    assert lag.whole == Lag(9, 0, NOW + timedelta(seconds=2))
    assert broker.asked == [(0, 6), (2, 2)]  # nobody waits in partition 1


def test_what_cannot_be_looked_at_is_told_by_its_offsets(settings: Settings, bronze: Table) -> None:
    append(bronze, 10, {"0": 6})
    lag = bronze_lag(settings, SOURCE, broker=cast(Broker, FakeBroker({0: (0, 10)}, unreadable=True)))
    assert lag.whole == Lag(4)
    assert lag.whole.seconds(NOW) is None


def test_what_waits_for_an_open_transaction_is_no_lag() -> None:
    offsets = TopicOffsets("abc", {0: (0, 6), 1: (0, 4)}, {0: 9, 1: 4})
    lag = topic_lag(TOPIC, offsets, {TOPIC: {"id": "abc", "next": {"0": 6, "1": 3}}})
    assert (lag.whole.messages, dict(lag.waiting)) == (1, {0: 3, 1: 0})


def test_lag_in_seconds_grows_while_nothing_is_committed() -> None:
    waiting = Lag(3, 6, NOW)
    assert [waiting.seconds(NOW + timedelta(seconds=s)) for s in (0, 1, 3600)] == [0, 1, 3600]
    assert waiting.seconds(NOW - timedelta(seconds=1)) == 0  # the broker's clock is ahead
    assert Lag(0, 6).seconds(NOW) == 0
    assert Lag(1, 6).seconds(NOW) is None  # not known is not zero


@given(st.integers(0, 50), st.integers(0, 50), st.one_of(st.none(), st.integers(0, 120)))
def test_lag_counts_each_message_that_is_kept_and_not_held(first: int, more: int, following: int | None) -> None:
    mark = {} if following is None else {TOPIC: {"id": "abc", "next": {"0": following}}}
    lag = topic_lag(TOPIC, TopicOffsets("abc", {0: (first, first + more)}), mark)
    assert lag.whole.messages == sum(offset >= (following or 0) for offset in range(first, first + more))


def test_topic_that_was_made_again_is_lag_from_its_beginning() -> None:
    mark = {TOPIC: {"id": "old", "next": {"0": 100}}}
    assert topic_lag(TOPIC, TopicOffsets("new", {0: (0, 8)}), mark).whole.messages == 8


def test_without_tables_every_message_is_lag(settings: Settings) -> None:
    assert bronze_lag(settings, SOURCE, broker=cast(Broker, FakeBroker({0: (0, 10)}))).whole.messages == 10


def test_broker_that_is_down_or_not_known_is_said(settings: Settings) -> None:
    with pytest.raises(NoKafkaError, match=r"^no Kafka broker answers at 127\.0\.0\.1:9 within 5 s \("):
        bronze_lag(settings, SOURCE, "127.0.0.1:9")
    with pytest.raises(LagUnknown, match=r"^Kafka is not running"):
        bronze_lag(settings, SOURCE)


def test_lag_of_silver_are_the_rows_appended_after_the_committed_snapshot(settings: Settings, bronze: Table) -> None:
    for rows in (10, 5, 2):
        append(bronze, rows)
    first, second, third = bronze.snapshots()
    commit_silver(settings, first.snapshot_id, files=1)
    assert silver_lag(settings, DOMAIN) == Lag(7, 0, datetime.fromtimestamp(second.timestamp_ms / 1000, UTC))
    commit_silver(settings, first.snapshot_id, files=0)
    assert silver_lag(settings, DOMAIN) == Lag(17, 0, datetime.fromtimestamp(first.timestamp_ms / 1000, UTC))
    commit_silver(settings, third.snapshot_id, files=1)
    assert silver_lag(settings, DOMAIN) == Lag(0)


def test_query_that_committed_nothing_has_all_of_bronze_before_it(settings: Settings, bronze: Table) -> None:
    append(bronze, 10)
    assert silver_lag(settings, DOMAIN).messages == 10


def test_checkpoint_elsewhere_or_broken_is_said(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(LagUnknown, match="cannot be read here"):
        silver_lag(Settings(home=tmp_path, checkpoints_uri="unknown://host/checkpoints"), DOMAIN)
    commit_silver(settings, 1, 1)
    (settings.home / "checkpoints" / SILVER_QUERY / "offsets" / "3").write_text("v1\n")
    with pytest.raises(LagUnknown, match="cannot read"):
        silver_lag(settings, DOMAIN)
