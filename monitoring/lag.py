"""How far is bronze behind Kafka? Spark commits no offsets to Kafka, so tools that ask the broker for a group's lag see nothing.

The broker knows the end offset of every partition; bronze's newest snapshot says, as a property, which offset comes next.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakehouse.catalog import NoTables, open_catalog
from lakehouse.errors import Retryable, WeirError
from lakehouse.settings import Settings

BRONZE_TABLE = "bronze.open_meteo_hourly"
SILVER_QUERY = "silver.air_quality_hourly_clean"
TOPIC = "air-quality.hourly.v1"
MARK_PROPERTY = "weir.offsets"
# The broker is on the same machine, or near: one that has not answered by then is down.
BROKER_SECONDS = 5.0


class LagUnknown(WeirError, Retryable):
    """The broker, or the topic, cannot be asked."""


@dataclass(frozen=True, slots=True)
class BronzeLag:
    """Offsets by partition of one topic: `end` is the broker's, `next` the first one that bronze does not hold.

    Without a mark in the table, `next` is empty and every message counts as lag. `topic_id` is the one bronze noted.
    """

    topic: str
    topic_id: str
    end: Mapping[int, int]
    next: Mapping[int, int]

    @property
    def messages(self) -> int:
        """Messages in Kafka that are not in bronze yet; retained ones from offset 0 on."""
        return sum(max(0, end - self.next.get(partition, 0)) for partition, end in self.end.items())


def bronze_lag(settings: Settings, bootstrap: str | None = None) -> BronzeLag:
    """Compare the broker's end offsets of the topic with what bronze holds.

    Args:
        settings: where the catalog is.
        bootstrap: host:port of Kafka, if it is not in the settings.

    Raises:
        LagUnknown: there is no broker to ask, it does not answer, or it has no such topic.
    """
    address = bootstrap or settings.kafka_bootstrap
    if not address:
        raise LagUnknown("Kafka is not running, so there is no end offset to compare with. `weir up` starts it.")
    end = end_offsets(address, TOPIC)
    held = bronze_mark(settings).get(TOPIC, {})
    return BronzeLag(TOPIC, held.get("id", ""), end, {int(partition): int(offset) for partition, offset in held.get("next", {}).items()})


def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """Ask the broker for the offset after the last message of each partition.

    Raises:
        LagUnknown: it does not answer, or has no such topic.
    """
    milliseconds = int(BROKER_SECONDS * 1000)
    host, port = bootstrap.split(",")[0].rsplit(":", 1)
    try:
        # The client goes on trying for all of its time where nobody listens.
        socket.create_connection((host, int(port)), timeout=BROKER_SECONDS).close()
    except OSError as error:
        raise LagUnknown(f"Kafka at {bootstrap} does not answer ({error}). `weir status` says what runs.") from error

    from kafka import KafkaAdminClient, TopicPartition
    from kafka.admin import OffsetSpec
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=milliseconds, bootstrap_timeout_ms=milliseconds)
    except KafkaError as error:
        raise LagUnknown(f"Kafka at {bootstrap} does not answer ({error}). `weir status` says what runs.") from error
    try:
        partitions = [one["partition_index"] for found in admin.describe_topics([topic]) for one in found["partitions"]]
        if not partitions:
            raise LagUnknown(f"Kafka at {bootstrap} has no topic {topic} yet: the producer or the stream makes it when it starts.")
        asked = {TopicPartition(topic, partition): OffsetSpec.LATEST for partition in partitions}
        return {where.partition: found.offset for where, found in admin.list_partition_offsets(asked).items()}
    except KafkaError as error:
        raise LagUnknown(f"Kafka at {bootstrap} did not tell the end offsets of {topic} ({error}).") from error
    finally:
        admin.close()


def bronze_mark(settings: Settings) -> dict[str, Any]:
    """Read the newest mark among the ancestors of bronze's head: {topic: {"id": …, "next": {partition: offset}}}; empty without one."""
    try:
        table = open_catalog(settings).load_table(BRONZE_TABLE)
    except (NoTables, NoSuchTableError):
        return {}
    for snapshot in ancestors(table):
        if snapshot.summary is not None and (held := snapshot.summary.additional_properties.get(MARK_PROPERTY)):
            mark: dict[str, Any] = json.loads(held)
            return mark
    return {}


def unread_rows(settings: Settings) -> int:
    """Count bronze rows that the silver and gold query has not committed yet, from its checkpoint on the local disk.

    A snapshot that was read in part counts by its share of files that are left.

    Raises:
        LagUnknown: the query has not committed a micro-batch yet, or its checkpoint is not a local folder.
    """
    uri = urlsplit(settings.checkpoint(SILVER_QUERY))
    if uri.scheme != "file":
        raise LagUnknown(
            f"The checkpoint {settings.checkpoint(SILVER_QUERY)} is not on this machine; the metrics page has the query's progress."
        )
    snapshot_id, files_read = _committed_position(Path(url2pathname(uri.path)))
    try:
        table = open_catalog(settings).load_table(BRONZE_TABLE)
    except (NoTables, NoSuchTableError):
        return 0
    rows = 0
    for snapshot in ancestors(table):
        is_append = snapshot.summary is not None and snapshot.summary.operation == Operation.APPEND
        added = snapshot.summary.additional_properties if snapshot.summary is not None and is_append else {}
        records, files = int(added.get("added-records", 0)), int(added.get("added-data-files", 0))
        if snapshot.snapshot_id == snapshot_id:
            return rows + (records * max(0, files - files_read) // files if files else 0)
        rows += records
    return rows


def _committed_position(checkpoint: Path) -> tuple[int, int]:
    """Read the snapshot and the number of its files that the last committed micro-batch ended with."""
    committed = [int(file.name) for file in checkpoint.glob("commits/*") if file.name.isdigit()]
    if not committed:
        raise LagUnknown(f"{SILVER_QUERY} has committed no micro-batch yet: it has no checkpoint in {checkpoint}.")
    try:
        offset = json.loads((checkpoint / "offsets" / str(max(committed))).read_text().splitlines()[-1])
        return int(offset["snapshot_id"]), int(offset["position"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise LagUnknown(f"The checkpoint {checkpoint} holds an offset that this version cannot read ({error}).") from error


def ancestors(table: Table) -> Iterator[Snapshot]:
    """Walk from a table's head back to the oldest snapshot that is kept. Compaction and backfills leave snapshots without a mark."""
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id is not None else None
