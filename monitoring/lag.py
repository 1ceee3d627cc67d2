"""How far is each query behind its source, in messages and in seconds? Lag is defined here only.

Spark commits no offsets to Kafka, so tools that ask the broker for a consumer group's lag see nothing. A query's progress is read from what
it has committed, not from what its driver reports, so lag stays correct while the query hangs or is dead.

    bronze   the broker's offsets against the next offset of each partition, which a bronze table's newest append has as a property
    silver   the bronze tables' snapshots against those at which the query's checkpoint ends; gold is computed in the same micro-batch

**Lag in messages** counts the messages that can be read and are not committed. A message that retention deleted is not lag but a loss
(`ops.losses`). An offset without a message (a transaction's control record, an aborted record, a compacted record) is not lag either, so
where offsets are missing, the broker is asked for the messages: if they are few, they are counted, else the difference of the offsets is
reported. Messages of a transaction that is still open cannot be read yet; they are reported separately, as waiting.

A micro-batch that is planned and not committed splits lag in two, by the checkpoint's newest offsets: **commit lag** is how long ago it was
planned, **translation lag** is the age of the oldest message that no micro-batch has taken yet.

**Lag in seconds** is the age of the oldest of these messages, from its arrival at the source (Kafka's timestamp, or the commit to bronze)
until now; 0 where there is none. So it does not jump when the first message after a quiet hour arrives.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from lakehouse.broker.missing_messages import Missing
from lakehouse.broker.offsets import Broker, TopicOffsets
from lakehouse.broker.topics import NoKafkaError
from lakehouse.domain import Domain, Source
from lakehouse.errors import Retryable, WeirError
from lakehouse.settings import Settings
from lakehouse.storage.folders import Folder, open_folder
from lakehouse.tables.catalog import NoTables, ancestors, newest_mark_of, open_catalog
from lakehouse.tables.stream_positions import Position, committed_positions


class LagUnknown(WeirError, Retryable):
    """The source, or the query's progress, cannot be read."""


@dataclass(frozen=True, slots=True)
class Lag:
    """The messages of one source that a query has not committed.

    Attributes:
        messages: their number; of rows, where the source is a table.
        first: the oldest message's offset; 0 where the source is a table.
        since: when the oldest message arrived; None where there is none, or it is not known.
    """

    messages: int
    first: int = 0
    since: datetime | None = None

    def seconds(self, now: datetime) -> float | None:
        """Return the age of the oldest message in seconds, 0 where there is none, None where it is not known.

        It is also 0 if the broker's clock is ahead.
        """
        if not self.messages:
            return 0.0
        return None if self.since is None else max(0.0, (now - self.since).total_seconds())


@dataclass(frozen=True, slots=True)
class TopicLag:
    """The messages of a topic that bronze lacks.

    Attributes:
        topic: its name.
        topic_id: the id of the topic whose offsets bronze has; empty where it has none.
        partitions: the lag of each partition.
        waiting: by partition, the number of offsets that were written and cannot be read before an open transaction ends.
    """

    topic: str
    topic_id: str
    partitions: Mapping[int, Lag] = field(default_factory=dict)
    waiting: Mapping[int, int] = field(default_factory=dict)

    @property
    def whole(self) -> Lag:
        """All partitions together."""
        return whole_of(self.partitions.values())


def whole_of(lags: Iterable[Lag]) -> Lag:
    """Sum a query's lag over several sources or partitions."""
    behind = [lag for lag in lags if lag.messages]
    arrivals = [lag.since for lag in behind if lag.since is not None]
    return Lag(sum(lag.messages for lag in behind), 0, min(arrivals) if arrivals and len(arrivals) == len(behind) else None)


def topic_lag(topic: str, offsets: TopicOffsets, mark: Mapping[str, Any]) -> TopicLag:
    """Compare a topic's offsets with a mark. It uses offsets alone, so offsets without a message count as lag.

    Args:
        topic: its name.
        offsets: the broker's.
        mark: bronze's, {topic: {"id": …, "next": {partition: offset}}}. Where it lacks the topic, or the topic was deleted and created
            again with this name, every message in the topic is lag.
    """
    reached = mark.get(topic, {})
    is_same = reached.get("id", "") in ("", offsets.id)
    following = {int(partition): int(offset) for partition, offset in reached.get("next", {}).items()} if is_same else {}
    partitions = {}
    for partition, (first, end) in offsets.bounds.items():
        start = max(first, following.get(partition, 0))
        partitions[partition] = Lag(max(0, end - start), start)
    return TopicLag(topic, reached.get("id", ""), partitions, offsets.waiting)


def bronze_lag(settings: Settings, source: Source, bootstrap: str | None = None, broker: Broker | None = None) -> TopicLag:
    """Compare a topic's offsets with its bronze table's mark, and ask the broker for the number and age of the messages between.

    Args:
        settings: with the catalog.
        source: the source with the topic and the bronze table.
        bootstrap: host:port of Kafka, if it is not in the settings.
        broker: an open client; a new one for this call when left out.

    Raises:
        LagUnknown: no broker's address is known.
        NoKafkaError: the broker does not answer, or has no such topic.
    """
    address = bootstrap or settings.kafka_bootstrap
    if broker is None:
        if not address:
            raise LagUnknown("Kafka is not running, so there is no end offset to compare with. `weir up` starts it.")
        with Broker(address) as once:
            return bronze_lag(settings, source, address, once)
    # The mark is read first: a commit between the two reads is then still reported as lag, and lag is never negative.
    return _lag_behind(source.contract.topic, bronze_mark(settings, source), broker)


def _lag_behind(topic: str, mark: Mapping[str, Any], broker: Broker) -> TopicLag:
    lag = topic_lag(topic, broker.topic(topic), mark)
    behind = {partition: (one.first, one.first + one.messages) for partition, one in lag.partitions.items() if one.messages}
    counted = {p: Lag(one.messages, behind[p][0], one.since) for p, one in _missing(broker, topic, behind).items()}
    return replace(lag, partitions={**lag.partitions, **counted})


def _missing(broker: Broker, topic: str, behind: Mapping[int, tuple[int, int]]) -> Mapping[int, Missing]:
    """Ask the broker for the messages; if it cannot be asked, the lag by offsets is still reported."""
    try:
        return broker.missing(topic, behind)
    except NoKafkaError:
        return {}


def bronze_mark(settings: Settings, source: Source) -> dict[str, Any]:
    """Read bronze's newest mark, see `newest_mark_of`; empty without the table."""
    table = _bronze(settings, source)
    return {} if table is None else newest_mark_of(table)


def silver_lag(settings: Settings, domain: Domain) -> Lag:
    """Count bronze rows that the refine query has not committed yet, from its checkpoint.

    A snapshot that was partly read counts by the share of its files that are not read yet. For a query that has committed nothing, or whose
    checkpoint was moved aside, all of bronze is lag.

    Raises:
        LagUnknown: its checkpoint cannot be read here, or has an offset that this version cannot read.
    """
    return whole_of(silver_lags(settings, domain))


def silver_lags(settings: Settings, domain: Domain) -> list[Lag]:
    """Return the same for each source of the domain, in their order.

    Raises:
        LagUnknown: as `silver_lag`.
    """
    folder = open_folder(settings.checkpoint(domain.refine_query))
    return _rows_behind_each(settings, domain, _positions(folder, _committed(folder), domain))


@dataclass(frozen=True, slots=True)
class Planned:
    """A micro-batch that is planned and not committed.

    Attributes:
        number: its number.
        since: when it was planned.
        offsets: a line for each input of the query, as its source writes offsets: where the micro-batch ends.
    """

    number: int
    since: datetime
    offsets: tuple[str, ...]


def planned_batch(settings: Settings, query: str) -> Planned | None:
    """Return the micro-batch that a query runs, or that its next start repeats; None where all are committed.

    Raises:
        LagUnknown: its checkpoint cannot be read here.
    """
    folder = open_folder(settings.checkpoint(query))
    try:
        # The commits are read last: one that comes between the two reads is seen.
        planned, committed = (max(map(int, filter(str.isdigit, folder.names(name))), default=-1) for name in ("offsets", "commits"))
        text = None if planned <= committed else folder.text(f"offsets/{planned}")
        _, about, *offsets = (text or "").splitlines()
        return Planned(planned, datetime.fromtimestamp(json.loads(about)["batchTimestampMs"] / 1000, UTC), tuple(offsets))
    except OSError as error:
        raise LagUnknown(f"The checkpoint {folder.uri} cannot be read here ({error}).") from error
    except (ValueError, KeyError, TypeError):  # none is planned, or it is being written
        return None


def bronze_translation(domain: Domain, planned: Planned, broker: Broker) -> Lag:
    """Count the messages that no micro-batch of bronze has taken yet.

    Raises:
        NoKafkaError: the broker does not answer.
    """
    try:
        ends: dict[str, dict[str, int]] = json.loads(planned.offsets[0])
    except (IndexError, ValueError):
        return Lag(0)
    topics = [topic for topic in domain.topics if topic in ends]
    return whole_of(_lag_behind(topic, {topic: {"next": ends[topic]}}, broker).whole for topic in topics)


def silver_translation(settings: Settings, domain: Domain, planned: Planned) -> Lag:
    """Count the rows of bronze that no micro-batch of the refine query has taken yet.

    Raises:
        LagUnknown: its checkpoint cannot be read here.
    """
    folder = open_folder(settings.checkpoint(domain.refine_query))
    return whole_of(_rows_behind_each(settings, domain, _positions(folder, [str(planned.number)], domain)))


def _rows_behind_each(settings: Settings, domain: Domain, positions: Iterable[Position | None]) -> list[Lag]:
    return [_rows_behind(settings, source, position) for source, position in zip(domain.sources, positions, strict=True)]


def _rows_behind(settings: Settings, source: Source, position: Position | None) -> Lag:
    table = _bronze(settings, source)
    rows, since = 0, None
    for snapshot in ancestors(table) if table is not None else ():
        is_append = snapshot.summary is not None and snapshot.summary.operation == Operation.APPEND
        added = snapshot.summary.additional_properties if snapshot.summary is not None and is_append else {}
        records, files = int(added.get("added-records", 0)), int(added.get("added-data-files", 0))
        is_last = position is not None and snapshot.snapshot_id == position.snapshot_id
        if is_last:
            assert position is not None
            records = records * max(0, files - position.files) // files if files else 0
        if records:
            rows, since = rows + records, datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
        if is_last:
            break
    return Lag(rows, 0, since)


def _bronze(settings: Settings, source: Source) -> Table | None:
    try:
        with closing(open_catalog(settings)) as catalog:
            return catalog.load_table(source.bronze.name.partition(".")[2])
    except (NoTables, NoSuchTableError):
        return None


def _positions(checkpoint: Folder, commits: list[str], domain: Domain) -> list[Position | None]:
    """Read the position in each table at which the newest of some micro-batches ends; None before the first."""
    try:
        return committed_positions(commits, checkpoint.text, len(domain.sources))
    except ValueError as error:
        raise LagUnknown(f"The checkpoint {checkpoint.uri} has an offset that this version cannot read ({error}).") from error
    except OSError as error:
        raise LagUnknown(f"The checkpoint {checkpoint.uri} cannot be read here, so the query's position is unknown ({error}).") from error


def _committed(checkpoint: Folder) -> list[str]:
    """Name the micro-batches that are committed."""
    try:
        return checkpoint.names("commits")
    except OSError as error:
        raise LagUnknown(f"The checkpoint {checkpoint.uri} cannot be read here, so the query's position is unknown ({error}).") from error
