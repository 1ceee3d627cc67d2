"""How are past records written to the tables? Chunk by chunk from the source into bronze and silver, then gold, with progress in a ledger.

The rows are processed like the stream's: the contract's bytes, the same parsing, the same `apply`. Bronze marks them as rows of a backfill,
which the stream skips, and each chunk takes the table lock like the stream. While one chunk is applied to silver, the next one is fetched
and appended to bronze. An interrupted backfill can be resumed anywhere: a chunk whose rows are in bronze is not fetched again, `apply` can
be repeated, and gold is computed from silver at the end.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import duckdb
import pyarrow as pa
import structlog
from pyspark.sql import SparkSession

from batch.backfill.ledger import Chunk, Ledger
from batch.backfill.periods import Part, Period, cut
from batch.low_priority import ShortLocks
from lakehouse import failpoints
from lakehouse.apply import ApplyOptions, apply, refresh_derived
from lakehouse.changes import ChangedSpans, Changes, WholeChanged, distinct
from lakehouse.counts import Applied
from lakehouse.domain import ByTime, Domain, Source
from lakehouse.engine.choose import memory_engine
from lakehouse.engine.engine import DoesNotFit
from lakehouse.errors import Fatal, LakehouseError, ProducerError
from lakehouse.parts import Keys
from lakehouse.parts import Part as PartOfTable
from lakehouse.pending import changes_since, commits
from lakehouse.query.reader import Reader
from lakehouse.settings import Settings
from lakehouse.spans import Spans
from lakehouse.spark import iceberg_table, session_beside
from lakehouse.tables.create import ensure_tables
from lakehouse.tables.properties import CHUNK_PROPERTY, DEFERRED_PROPERTY
from lakehouse.write.append_chunk import append_chunk, chunk_rows, typed
from lakehouse.write.dimensions import write_dimensions
from lakehouse.write.plain_rows import batch_properties
from lakehouse.write.small_batches.memory_store import Memory
from lakehouse.write.small_batches.recent_rows import RecentRows, TableRows
from lakehouse.write.small_batches.session_tuning import COMPILED, session_conf
from producers.history import Asked, History, Lacking, SourceSpent

# A chunk's rows are compared with silver's in memory.
MOST_ROWS_OF_A_CHUNK = 200_000
# Gold is computed from rows in memory, including those that it looks back to.
GOLD_ROWS = 100_000
# A note in the ledger is a commit, which costs half as much as a small chunk, so the notes of several chunks are collected for this long.
# Chunks without a note are found in bronze after a crash, and applied again.
NOTE_SECONDS = 5.0

log = structlog.get_logger("weir.backfill")


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a backfill.

    Attributes:
        parts: the chunks in order, each with its cost at the source.
        asked: the total cost.
        least_time: the least time that the source's limits and calls require.
    """

    parts: Sequence[tuple[Part, Asked]]
    asked: Asked
    least_time: timedelta

    def rows(self, rows_of_a_day: int) -> int:
        """Return the approximate number of the source's records."""
        return sum(rows_of_a_day * len(part.entities) * ((part.until - part.since).days + 1) for part, _ in self.parts)


def plan(history: History, since: Mapping[str, date], until: date, period: Period) -> Plan:
    """Plan a backfill without calling the source.

    Args:
        history: the source.
        since: first UTC day of each entity.
        until: last UTC day, inclusive.
        period: maximum length of a chunk.
    """
    alike: dict[date, list[str]] = {}
    for entity, day in since.items():
        alike.setdefault(day, []).append(entity)
    spans = [cut(day, until, period, entities, history.rows_of_a_day, MOST_ROWS_OF_A_CHUNK) for day, entities in alike.items()]
    cut_up = sorted((part for parts in spans for part in parts), key=lambda part: part.since)
    parts = [(part, history.asks(part.entities, part.since, part.until)) for part in cut_up]
    asked = sum((one for _, one in parts), Asked())
    return Plan([(part, one) for part, one in parts if one.calls], asked, history.least_time(asked))


def latest_days(settings: Settings, source: Source) -> dict[str, date]:
    """Return the UTC day of silver's newest row of each entity that has one; by entity, since one may be far behind another.

    Raises:
        NoTables, UnknownTable: nothing has been written yet.
        NotKeptByTime: silver has no newest day.
    """
    if not isinstance(source.kind, ByTime):
        raise NotKeptByTime(source.silver.name)
    newest = f"SELECT {source.kind.entity}, max({source.kind.starts})::DATE FROM {source.silver.name} GROUP BY ALL"
    with Reader(settings) as reader:
        return dict(reader.query(newest).rows)


class NotKeptByTime(LakehouseError, Fatal):
    """Silver has no event time in its key."""

    def __init__(self, silver: str) -> None:
        super().__init__(f"{silver} is not kept by event time, so it has no newest day: use --since YYYY-MM-DD.")


@dataclass(frozen=True, slots=True)
class _Landed:
    """A chunk whose rows are in bronze.

    Attributes:
        chunk: as it will be noted once silver has the rows.
        rows: its rows in bronze, pending for silver; None where there are none.
    """

    chunk: Chunk
    rows: pa.Table | None = None


class Backfill:
    """One backfill, from its ledger.

    Args:
        settings: with the catalog.
        domain: the domain; missing tables are created.
        source: the source to backfill.
        spark: the session.
        history: the source's past records.
        ledger: the chunks and their states.
        report: called with each chunk that has ended, and with gold's row.
        is_stopping: checked between chunks.
        give_up: called after an unexpected error; ends a wait in the source.
    """

    def __init__(
        self,
        settings: Settings,
        domain: Domain,
        source: Source,
        spark: SparkSession,
        history: History,
        ledger: Ledger,
        report: Callable[[Chunk], None] = lambda _: None,
        is_stopping: Callable[[], bool] = lambda: False,
        give_up: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._domain, self._source, self._spark = settings, domain, source, spark
        # A second session, since `apply` changes the settings of its session while it runs.
        self._landing_spark = session_beside(spark)
        self._history, self._ledger, self._report = history, ledger, report
        self._is_stopping, self._give_up = is_stopping, give_up
        self._memory = Memory(domain, engine=memory_engine(settings))
        silver, kind = source.silver, source.kind
        self._silver = RecentRows(silver, kind.times) if isinstance(kind, ByTime) else TableRows(silver)
        self._locks = ShortLocks(settings, domain.name)
        self._unnoted: list[Chunk] = []
        self._noted_at = time.monotonic()

    def run(self) -> bool:
        """Process the planned chunks, then gold.

        Returns:
            Whether everything was processed; False when it was stopped.

        Raises:
            SourceSpent: the source accepts no more calls for now; the remaining chunks stay planned.
        """
        ensure_tables(self._spark, self._domain)
        write_dimensions(self._spark, self._domain)
        try:
            self._chunks(self._landings(self._appended()))
        except SourceSpent:
            if not self._is_stopping():
                self._note()
                raise
        self._note()
        if self._is_stopping() or any(chunk.state == "planned" for chunk in self._ledger.chunks):
            return False
        if self._ledger.gold.state == "planned":
            began = time.monotonic()
            self._gold()
            done = replace(self._ledger.gold, state="done", seconds=time.monotonic() - began, ended_ts=datetime.now(UTC))
            self._ledger.note(done)
            self._report(done)
        return True

    def _chunks(self, landings: Iterator[_Landed]) -> None:
        """Apply chunks to silver, each while the next one is appended to bronze."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="weir-landing") as beside:
            coming = beside.submit(next, landings, None)
            try:
                while True:
                    # The next chunk may wait for the source for a long time, so write pending notes meanwhile.
                    if not wait([coming], NOTE_SECONDS).done:
                        self._note()
                    landed = coming.result()
                    if landed is None:
                        return
                    coming = beside.submit(next, landings, None)
                    done = self._applied(landed)
                    self._unnoted.append(done)
                    if done.state == "failed" or not done.rows_in or time.monotonic() - self._noted_at > NOTE_SECONDS:
                        self._note()
                    self._report(done)
            except SourceSpent:
                raise
            except BaseException:
                self._give_up()
                raise

    def _note(self) -> None:
        """Note the chunks that have ended since the last note."""
        if self._unnoted:
            self._ledger.note(*self._unnoted)
            self._unnoted.clear()
            failpoints.reach("chunk.noted")
        self._noted_at = time.monotonic()

    def _landings(self, there: Mapping[str, Mapping[str, object]]) -> Iterator[_Landed]:
        """Append the planned chunks to bronze, one at a time, until stopped."""
        for chunk in self._ledger.chunks:
            if chunk.state == "planned":
                if self._is_stopping():
                    return
                yield self._landed(chunk, there.get(chunk.source_run))

    def _landed(self, chunk: Chunk, there: Mapping[str, object] | None) -> _Landed:
        """Append one chunk to bronze, or mark it as failed if the source refuses it.

        Raises:
            SourceSpent: the source accepts no more calls for now.
        """
        began = time.monotonic()
        if there is not None:
            fetched, lacking = int(str(there["fetched"])), dict(there["lacking"])  # type: ignore[call-overload]  # as it was written below
            rows: pa.Table | None = chunk_rows(self._landing_spark, self._source.bronze, chunk.source_run).toArrow()
        else:
            try:
                values, lacking = self._fetch(chunk)
            except SourceSpent:
                raise
            except ProducerError as error:
                log.error("chunk failed", chunk=chunk.chunk, since=str(chunk.since), until=str(chunk.until), reason=str(error))
                failed = replace(chunk, state="failed", error=str(error), seconds=time.monotonic() - began, ended_ts=datetime.now(UTC))
                return _Landed(failed)
            fetched = len(values)
            rows = self._append(chunk, values, lacking)
        if rows is not None:
            failpoints.reach("chunk.appended")
        landed = replace(
            chunk,
            state="failed" if lacking else "done",
            # An earlier attempt may have fetched some of the entities.
            rows_fetched=chunk.rows_fetched + fetched,
            lacking=lacking or None,
            seconds=time.monotonic() - began,
            ended_ts=datetime.now(UTC),
        )
        return _Landed(landed, rows)

    def _applied(self, landed: _Landed) -> Chunk:
        """Apply a chunk's rows to silver; return the chunk as it will be noted."""
        chunk = landed.chunk
        if landed.rows is None:
            return chunk
        began = time.monotonic()
        met = self._apply(landed.rows, self._properties(chunk))
        failpoints.reach("chunk.applied")
        return replace(
            chunk,
            rows_in=chunk.rows_in + sum(one.rows_in for one in met),
            rows_out=chunk.rows_out + sum(one.accepted for one in met),
            rejected=chunk.rejected + sum(one.rows_in - one.accepted for one in met),
            seconds=chunk.seconds + time.monotonic() - began,
            ended_ts=datetime.now(UTC),
        )

    def _apply(self, rows: pa.Table, properties: Mapping[str, str]) -> list[Applied]:
        """Apply a chunk's rows to silver, under one or several table locks; return the counts."""
        met: list[Applied] = []
        at = 0
        while at < rows.num_rows:
            with self._locks.next() as most:
                part = rows.slice(at, most)
                frame = self._spark.createDataFrame(part)
                options = ApplyOptions(properties=properties, memory=self._memory, deferred=self._ledger.name)
                applied = apply(frame, self._source, self._domain, options)
                met.append(applied)
            at += part.num_rows
        return met

    def _fetch(self, chunk: Chunk) -> tuple[list[bytes], dict[str, str]]:
        """Fetch a chunk's records as bytes; return those of complete entities, and the reasons why others are lacking."""
        contract = self._source.contract
        shape = contract.shape
        fetched: dict[str, list[bytes]] = {}
        lacking: dict[str, str] = {}
        for one in self._history.fetch(chunk.wanted, chunk.since, chunk.until):
            if isinstance(one, Lacking):
                lacking[one.entity] = str(one.error)
                continue
            broken = next((violations for record in one.records if (violations := shape.violations(record))), None)
            if broken:
                lacking[one.entity] = f"a record of the source does not match the contract of {contract.topic}: {'; '.join(broken)}"
                continue
            fetched.setdefault(one.entity, []).extend(contract.encode(record) for record in one.records)
        for entity, reason in lacking.items():
            log.error("entity failed", chunk=chunk.chunk, entity=entity, reason=reason)
        return [value for entity, values in fetched.items() if entity not in lacking for value in values], lacking

    def _append(self, chunk: Chunk, values: list[bytes], lacking: Mapping[str, str]) -> pa.Table | None:
        """Append the records that silver does not have with the same values; return their rows, or None where there are none."""
        if not values:
            return None
        rows = typed(self._landing_spark, values, self._source.contract, chunk.source_run)
        if not chunk.override:
            rows = self._new_or_changed(rows)
        if not rows.num_rows:
            return None
        note = {"source_run": chunk.source_run, "fetched": len(values), "lacking": dict(lacking)}
        append_chunk(self._landing_spark, self._source.bronze, rows, {**self._properties(chunk), CHUNK_PROPERTY: json.dumps(note)})
        return rows

    def _new_or_changed(self, rows: pa.Table) -> pa.Table:
        """Return the rows without those whose values, apart from the version, silver has already."""
        silver, contract = self._source.silver, self._source.contract
        part = self._part_of(rows)
        if not part:
            return rows
        try:
            self._silver.begin(self._landing_spark)
            if reason := self._silver.unfit():
                raise DoesNotFit(reason)
            present = self._silver.read(self._landing_spark, part)
        except DoesNotFit as reason:
            log.info("chunk not compared with silver: all of its rows are written", why=str(reason))
            return rows
        if not present.num_rows:
            return rows
        business = [name for name in contract.names if name in silver.names and name != contract.version]
        same = [f"r.{name} IS NOT DISTINCT FROM s.{name}" for name in business]
        if event_time := contract.event_time:
            # A forecast whose time has passed counts as changed, even with the same values.
            same.append(f"(r.{event_time} > r.{contract.version}) = (s.{event_time} > s.{contract.version})")
        with duckdb.connect() as connection:
            connection.register("r", rows)
            connection.register("s", present.select(list(silver.names)))
            return connection.sql(f"FROM r ANTI JOIN s ON {' AND '.join(same)}").to_arrow_table().cast(rows.schema)

    def _part_of(self, rows: pa.Table) -> PartOfTable:
        """Return the part of silver that contains the keys of bronze's rows; rows without a key are ignored."""
        key, kind = list(self._source.silver.key), self._source.kind
        keyed = rows.select(key).drop_null()
        if not isinstance(kind, ByTime):
            return Keys.of(key, distinct(keyed, key))
        entity, starts = kind.entity, kind.starts
        groups = keyed.group_by([entity]).aggregate([(starts, "min"), (starts, "max")]).to_pylist()
        return Spans.of((group[entity], group[f"{starts}_min"], group[f"{starts}_max"]) for group in groups)

    def _gold(self) -> None:
        """Recompute the derived tables for all rows of the chunks, in parts that each take the table lock."""
        properties = self._properties(self._ledger.gold)
        silver, kind = self._source.silver, self._source.kind
        memory = Memory(self._domain, looks_ahead=False, engine=memory_engine(self._settings))
        if not isinstance(kind, ByTime):
            with self._locks.next():
                handle = iceberg_table(self._spark, silver.name)
                mine = [one for one in commits(handle) if one.summary.get(DEFERRED_PROPERTY) == self._ledger.name]
                if mine:
                    before = handle.snapshot(mine[-1].id).parentId()
                    ids = {one.id for one in mine}
                    changes_of_mine = changes_since(self._spark, self._domain, silver, handle, int(before or 0), lambda one: one.id in ids)
                    changed: Changes = WholeChanged() if changes_of_mine is None else changes_of_mine
                    refresh_derived(self._spark, self._domain, {silver.name: changed}, ApplyOptions(properties=properties, memory=memory))
            return
        # In the order of chunks, not of places, so that a part is in few months of the tables, hence in few files.
        spans = [(entity, chunk.since, chunk.until) for chunk in self._ledger.chunks if chunk.rows_in for entity in chunk.entities]
        at = 0
        while at < len(spans):
            with self._locks.next() as most:
                part, rows = [], 0
                while at < len(spans) and rows < min(most, GOLD_ROWS):
                    entity, since, until = spans[at]
                    part.append((entity, _midnight(since), _midnight(until) + timedelta(days=1, microseconds=-1)))
                    rows += self._history.rows_of_a_day * ((until - since).days + 1)
                    at += 1
                # All parts have the same plans, since they are computed from rows in memory.
                with session_conf(self._spark, COMPILED):
                    changes = {silver.name: ChangedSpans(Spans.of(part), kind.times)}
                    refresh_derived(self._spark, self._domain, changes, ApplyOptions(properties=properties, memory=memory))

    def _appended(self) -> dict[str, Mapping[str, object]]:
        """Return the notes in bronze's snapshots about chunks of this backfill, by `source_run`."""
        bronze = self._source.bronze.name
        notes = self._spark.sql(
            f"SELECT summary['{CHUNK_PROPERTY}'] AS note FROM {bronze}.snapshots WHERE summary['{CHUNK_PROPERTY}'] IS NOT NULL"
        ).collect()
        chunks = [json.loads(row["note"]) for row in notes]
        return {chunk["source_run"]: chunk for chunk in chunks if chunk["source_run"].startswith(f"{self._ledger.name}/")}

    def _properties(self, chunk: Chunk) -> dict[str, str]:
        return batch_properties(f"backfill {self._domain.name}", chunk.chunk)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
