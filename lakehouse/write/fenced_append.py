"""How does a micro-batch get into bronze exactly once? By a mark in the table itself: the next offset of every partition.

Each append's snapshot carries, as the property `weir.offsets`, the next offset of every partition, by topic and topic id. Before
an append the newest such mark among the branch's ancestors is read, rows below it are dropped, and what is left is appended
with random file names. So repeating a micro-batch changes nothing, whether its checkpoint survived or not, however it is
cut into tasks, and whoever drives. Check and append are not one atomic step: the lease keeps a second driver out.

The mark is where the micro-batch was planned to end, not its last row: an offset need not be a message (a transaction's control
record, an aborted record, one that compaction removed), and an offset that was passed stays passed. A micro-batch without rows does not
need a commit of its own: at most one empty append a minute moves the mark. Offsets passed in the meantime are pending
(`pending_offsets.py`): the next append writes them, or `settle` does.

Why not Iceberg's native streaming append: it names files by partition, task, query and epoch, and overwrote committed files
when the replayed batch was the first of its driver (docs/design.md, "Bronze").
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.broker.offset_types import PartitionOffsets
from lakehouse.decode import Undecoded
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.spark import iceberg_table
from lakehouse.storage.folders import Folder
from lakehouse.tables.arrow_types import arrow_schema
from lakehouse.tables.properties import MARK_PROPERTY
from lakehouse.tables.schema import Table, quote
from lakehouse.write.hand_over import Appended
from lakehouse.write.pending_offsets import FILE as PENDING_FILE
from lakehouse.write.pending_offsets import read_pending, write_pending
from lakehouse.write.plain_rows import append_rows
from lakehouse.write.small_batches.data_files import DataFileWriter
from lakehouse.write.small_batches.session_tuning import SMALL_ROWS, conf_for_few, conf_for_many, session_conf

# At most one append without rows in this many seconds.
EMPTY_SECONDS = 60.0
# Messages are decoded in memory up to so many bytes at once, some 400,000 of a reading's; how long one is tell so many of them, the first
# time. A million at once took five times the memory of Spark's way, and longer.
MOST_BYTES, SAMPLED_ROWS = 192 << 20, 1_000

log = structlog.get_logger("weir.stream")


class TopicRecreated(LakehouseError, Fatal):
    """The broker's topic has another id than the topic whose offsets the table holds."""

    def __init__(self, table: str, topic: str, found: str, expected: str) -> None:
        super().__init__(
            f"{table} holds offsets of topic {topic} with id {expected}, but the broker's topic has id {found}: it was deleted and "
            f"created again, so its offsets mean other messages, and going on would lose or mix rows. Nothing was written. Restore the "
            f"broker's data, or publish what is missing under a new WEIR_HOME."
        )


@dataclass(frozen=True, slots=True)
class Mark:
    """The table's next offset of every partition, and the ids of the topics."""

    topic_ids: Mapping[str, str] = field(default_factory=dict)
    next_offsets: PartitionOffsets = field(default_factory=dict)

    def to_json(self) -> str:
        """Write the mark as a snapshot property: {topic: {"id": …, "next": {partition: offset}}}."""
        topics = sorted({topic for topic, _ in self.next_offsets})
        return json.dumps(
            {
                topic: {
                    "id": self.topic_ids.get(topic, ""),
                    "next": {str(p): n for (t, p), n in sorted(self.next_offsets.items()) if t == topic},
                }
                for topic in topics
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Mark":
        """Read a snapshot property."""
        held: dict[str, Any] = json.loads(text)
        return cls(
            {topic: entry["id"] for topic, entry in held.items()},
            {(topic, int(p)): int(n) for topic, entry in held.items() for p, n in entry["next"].items()},
        )

    def missing(self, ends: PartitionOffsets) -> int:
        """Count the offsets before given ends that the table does not hold."""
        return sum(max(0, end - self.next_offsets.get(place, 0)) for place, end in ends.items())

    def check_topics(self, topic_ids: Mapping[str, str], table: str) -> None:
        """Raise TopicRecreated when the broker's topic is not the one whose offsets the table holds."""
        for topic, found in topic_ids.items():
            expected = self.topic_ids.get(topic, "")
            if expected and found != expected:
                raise TopicRecreated(table, topic, found, expected)


def newest_mark(spark: SparkSession, table: Table) -> Mark:
    """Read the mark of the newest append among the ancestors of the current snapshot.

    Other writers' snapshots (compaction, backfill) carry none and are skipped. Where no snapshot has one, the mark is the greatest
    offset in the data, plus one.
    """
    return _mark_of(spark, table, iceberg_table(spark, table.name))


def _mark_of(spark: SparkSession, table: Table, handle: Any) -> Mark:  # noqa: ANN401 - the JVM's object
    if handle.currentSnapshot() is None:
        return Mark()
    if (snapshot := _newest_marked(handle)) is not None:
        return Mark.from_json(snapshot.summary()[MARK_PROPERTY])
    rows = (
        spark.table(table.name).where("topic IS NOT NULL").groupBy("topic", "partition").agg(F.max("kafka_offset").alias("last")).collect()
    )
    return Mark({}, {(row["topic"], row["partition"]): row["last"] + 1 for row in rows})


def _newest_marked(handle: Any) -> Any:  # noqa: ANN401 - the JVM's objects
    """Return the newest snapshot with a mark, or None."""
    snapshot = handle.currentSnapshot()
    while snapshot is not None and not snapshot.summary().get(MARK_PROPERTY):
        parent = snapshot.parentId()
        snapshot = None if parent is None else handle.snapshot(parent)
    return snapshot


class FencedAppend:
    """Appends those rows of a micro-batch that a table does not hold yet, in one commit with their mark.

    A few rows are written from memory, so that they are read and parsed once, and so are many that are decoded in memory and fit. Others
    are written by Spark, in one pass where the checkpoint tells how far they go, else in two. The object keeps the table's metadata from
    one micro-batch to the next.

    Thread-safe for one thread that appends and another that settles.

    Args:
        table: the bronze table.
        topic_ids: the broker's id of each topic.
        checkpoint: of the query that appends; pending offsets are noted there, or kept in memory alone where there is none.
        clock: seconds since 1970.
        pending_file: the name of the note in the checkpoint; tables that share a checkpoint have one each.
        tell: gets each commit that was written from memory.
    """

    def __init__(
        self,
        table: Table,
        topic_ids: Mapping[str, str],
        checkpoint: Folder | None = None,
        clock: Callable[[], float] = time.time,
        pending_file: str = PENDING_FILE,
        tell: Callable[[Appended], None] = lambda _: None,
    ) -> None:
        self._table, self._topic_ids, self._checkpoint, self._clock = table, topic_ids, checkpoint, clock
        self._pending_file, self._tell = pending_file, tell
        self._handle: Any = None
        self._writer: DataFileWriter | None = None
        self._calls = 0
        # Pending offsets, and the snapshot whose mark they follow; None while they are not known.
        self._pending: dict[tuple[str, int], int] | None = None
        self._pending_after = 0
        # Of the newest messages, with what is known of their arrival; 0 while it is not known.
        self._bytes_of_a_row = 0.0
        # When an append came without a row, seconds since 1970; None while it is not known.
        self._empty_at: float | None = None
        self._last_properties: Mapping[str, str] = {}
        self._lock = threading.Lock()

    def append(
        self, rows: DataFrame, properties: Mapping[str, str], ends: PartitionOffsets | None = None, undecoded: Undecoded | None = None
    ) -> int:
        """Append.

        Args:
            rows: bronze rows with topic, partition and kafka_offset.
            properties: more properties for the snapshot.
            ends: the offset after the last one of the micro-batch by topic and partition, as planned in its checkpoint. When left out,
                it is computed from the rows.
            undecoded: the same rows, for decoding in memory; None where Spark must decode them.

        Returns:
            How many rows were appended; 0 when the table had all of them. Then nothing is committed, unless `ends` lie beyond the
            table's mark and the last append without a row is at least a minute old.

        Raises:
            TopicRecreated: the table holds offsets of another topic of that name.
        """
        with self._lock:
            try:
                self._last_properties = dict(properties)
                return self._append(rows, properties, ends, undecoded)
            except BaseException:
                self._handle = None  # the state of the table is unknown now
                raise

    def is_behind(self, spark: SparkSession, ends: PartitionOffsets) -> bool:
        """Return whether the table lacks offsets before some ends."""
        with self._lock:
            return self._look(spark).missing(ends) > 0

    def settle(self, spark: SparkSession, properties: Mapping[str, str] | None = None, at_once: bool = False) -> bool:
        """Commit pending offsets once their minute is over; return whether that was done.

        Does nothing while another thread appends: an append writes pending offsets itself.

        Args:
            spark: any session of the driver.
            properties: for the snapshot where nothing was appended yet.
            at_once: commit now, since the driver ends or its checkpoint is moved.

        Raises:
            TopicRecreated: the table holds offsets of another topic of that name.
        """
        if not self._lock.acquire(blocking=at_once):
            return False
        try:
            if self._pending is not None and not self._pending:
                return False
            mark = self._look(spark)
            mark.check_topics(self._topic_ids, self._table.name)
            pending = self._pending or {}
            if not mark.missing(pending):
                self._pending = {}
                return False
            if not at_once and self._was_empty_just_now():
                return False
            self._commit_nothing(mark, pending, {**(properties or {}), **self._last_properties})
            return True
        except BaseException:
            self._handle = None
            raise
        finally:
            self._lock.release()

    def _append(self, rows: DataFrame, properties: Mapping[str, str], ends: PartitionOffsets | None, undecoded: Undecoded | None) -> int:
        spark = rows.sparkSession
        mark = self._look(spark)
        mark.check_topics(self._topic_ids, self._table.name)
        if ends is None or mark.missing(ends) <= SMALL_ROWS:
            with session_conf(spark, conf_for_few(self._calls)):
                # Decoded by Spark on the way: for so few, DuckDB's planning and its expression cost more than they save.
                few = rows.coalesce(1).limit(SMALL_ROWS + 1).toArrow()
            if few.num_rows <= SMALL_ROWS:
                self._calls += 1
                return self._append_in_memory(spark, few, mark, properties, ends, None)
        if undecoded is not None and ends is not None and self._fits(undecoded, mark.missing(ends)):
            with session_conf(spark, conf_for_many(mark.missing(ends))):
                return self._append_in_memory(spark, undecoded.rows.toArrow(), mark, properties, ends, undecoded)
        with session_conf(spark, conf_for_many(0 if ends is None else mark.missing(ends))):
            many = rows.where(" AND ".join(f"NOT ({held})" for held in _held(mark)) or "true")
            if ends is None:
                counted = many.groupBy("topic", "partition").agg(F.max("kafka_offset") + 1).collect()
                ends = {(row[0], row[1]): row[2] for row in counted}
            if not mark.missing(ends):
                return 0
            # Offsets may have no message: many at once, where a long transaction was aborted.
            if self._was_empty_just_now() and many.isEmpty():
                self._note_pending(mark, ends)
                return 0
            append_rows(many, self._table, {**properties, **self._marked(mark, ends)})
        self._pending = {}
        self._look(spark)
        added = int(_newest_marked(self._handle).summary().getOrDefault("added-records", "0"))
        if not added:
            self._empty_at = self._clock()
        return added

    def _fits(self, undecoded: Undecoded, rows: int) -> bool:
        """Return whether so many messages are taken into memory; how long one is, the messages before tell, or some of these."""
        if rows > undecoded.most_rows:
            return False
        if not self._bytes_of_a_row:
            some = undecoded.rows.select("value").limit(SAMPLED_ROWS).toArrow()
            self._bytes_of_a_row = some.nbytes / max(1, some.num_rows)
        return rows * self._bytes_of_a_row <= MOST_BYTES

    def _append_in_memory(
        self,
        spark: SparkSession,
        rows: pa.Table,
        mark: Mark,
        properties: Mapping[str, str],
        ends: PartitionOffsets | None,
        undecoded: Undecoded | None,
    ) -> int:
        fresh = _not_held(rows, mark)
        del rows  # twice their bytes would be held
        if undecoded is not None and fresh.num_rows:
            self._bytes_of_a_row = fresh.nbytes / fresh.num_rows
            fresh = undecoded.decode(fresh)
        if not fresh.num_rows:
            if ends is not None and mark.missing(ends):
                self._pass_over(mark, ends, properties)
            return 0
        lasts = fresh.group_by(["topic", "partition"]).aggregate([("kafka_offset", "max")]).to_pylist()
        reached = {(row["topic"], row["partition"]): row["kafka_offset_max"] + 1 for row in lasts}
        properties = {**properties, **self._marked(mark, reached if ends is None else ends)}
        assert self._writer is not None  # `_look` has been here
        if reason := self._writer.unfit(fresh.column_names):
            log.debug("written by Spark", why=reason)
            append_rows(spark.createDataFrame(fresh), self._table, properties)
        else:
            self._tell_of(self._writer.append(fresh, properties), fresh, properties)
        self._pending = {}
        return int(fresh.num_rows)

    def _pass_over(self, mark: Mark, ends: PartitionOffsets, properties: Mapping[str, str]) -> None:
        """Commit that offsets hold no message, or note them as pending."""
        if self._was_empty_just_now():
            self._note_pending(mark, ends)
        else:
            self._commit_nothing(mark, ends, properties)

    def _note_pending(self, mark: Mark, ends: PartitionOffsets) -> None:
        self._pending, self._pending_after = self._following(mark, ends), self._marked_id()
        if self._checkpoint is not None:
            write_pending(self._checkpoint, self._pending_after, self._pending, self._pending_file)

    def _commit_nothing(self, mark: Mark, ends: PartitionOffsets, properties: Mapping[str, str]) -> None:
        assert self._writer is not None  # `_look` has been here
        properties = {**properties, **self._marked(mark, ends)}
        self._tell_of(self._writer.append(pa.table({}), properties), arrow_schema(self._table).empty_table(), properties)
        self._pending, self._empty_at = {}, self._clock()

    def _tell_of(self, files: int, rows: pa.Table, properties: Mapping[str, str]) -> None:
        snapshot = self._handle.currentSnapshot()
        if snapshot.summary().get(MARK_PROPERTY) == properties[MARK_PROPERTY]:  # else another writer has committed since
            in_order = rows.select(list(self._table.names))
            self._tell(Appended(self._table.name, int(snapshot.snapshotId()), snapshot.parentId(), files, in_order))

    def _was_empty_just_now(self) -> bool:
        """Return whether an append without rows was committed within the last minute, by this driver or one before."""
        if self._empty_at is None:
            self._empty_at = self._last_empty()
        return abs(self._clock() - self._empty_at) < EMPTY_SECONDS

    def _last_empty(self) -> float:
        """Return when the newest append without rows of the last minute was committed; 0 where there was none."""
        snapshot, oldest = self._handle.currentSnapshot(), self._clock() - EMPTY_SECONDS
        while snapshot is not None and (at := float(snapshot.timestampMillis()) / 1000) > oldest:
            summary = snapshot.summary()
            if summary.get(MARK_PROPERTY) and summary.getOrDefault("added-records", "0") == "0":
                return at
            parent = snapshot.parentId()
            snapshot = None if parent is None else self._handle.snapshot(parent)
        return 0.0

    def _marked_id(self) -> int:
        newest = _newest_marked(self._handle)
        return 0 if newest is None else int(newest.snapshotId())

    def _marked(self, mark: Mark, ends: PartitionOffsets) -> dict[str, str]:
        """Return the property with the table's mark, pending offsets included."""
        following = self._following(mark, ends)
        return {MARK_PROPERTY: Mark({**mark.topic_ids, **self._topic_ids}, {**mark.next_offsets, **following}).to_json()}

    def _following(self, mark: Mark, ends: PartitionOffsets) -> dict[tuple[str, int], int]:
        pending, held = self._pending or {}, mark.next_offsets
        return {place: max(ends.get(place, 0), pending.get(place, 0), held.get(place, 0)) for place in {**pending, **ends}}

    def _look(self, spark: SparkSession) -> Mark:
        """Load the table's current state and return its mark."""
        if self._handle is None:
            self._handle = iceberg_table(spark, self._table.name)
            self._writer = DataFileWriter(spark, self._handle, ())
        else:
            self._handle.refresh()
        if self._pending is None:
            self._pending_after = self._marked_id()
            self._pending = {} if self._checkpoint is None else read_pending(self._checkpoint, self._pending_after, self._pending_file)
        elif self._pending and self._marked_id() != self._pending_after:  # the table was rolled back, or another writer appended
            self._pending = {}
        return _mark_of(spark, self._table, self._handle)


def _held(mark: Mark) -> Iterator[str]:
    """Return the SQL of the rows of each partition that a table with this mark holds."""
    for (topic, partition), following in mark.next_offsets.items():
        yield f"topic = {quote(topic)} AND partition = {partition} AND kafka_offset < {following}"


def _not_held(rows: pa.Table, mark: Mark) -> pa.Table:
    """Leave out the rows that a table with this mark holds."""
    for (topic, partition), following in mark.next_offsets.items():
        same = pc.and_(pc.equal(rows["topic"], topic), pc.equal(rows["partition"], partition))
        rows = rows.filter(pc.invert(pc.and_(same, pc.less(rows["kafka_offset"], following))))
    return rows
