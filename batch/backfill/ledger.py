"""Which chunks of a backfill are done, and which are left? The table `lh.ops.backfills` has a row per chunk, and one for gold."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime
from importlib.metadata import version
from typing import Literal

import pyarrow as pa
from pyspark.sql import SparkSession

from batch.backfill.periods import Part
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.locks.conflicts import until_accepted
from lakehouse.spans import Spans, Times
from lakehouse.tables.create import create_missing
from lakehouse.tables.schema import Column, Table, quote
from lakehouse.write.small_batches.recent_rows import RecentRows

# planned: not started, or interrupted. failed: some or all entities could not be fetched. Gold has one row, number 0.
State = Literal["planned", "done", "failed"]
GOLD = 0

BACKFILLS = Table(
    name="lh.ops.backfills",
    grain="one row per chunk of a backfill, and one, numbered 0, for the gold that is made at its end",
    key=("backfill_id", "chunk"),
    columns=(
        Column("backfill_id", "STRING", "domain and when it was planned"),
        Column("chunk", "INT", "number from 1 in order of time; 0 is gold"),
        Column("domain", "STRING", "the domain"),
        Column("since", "DATE", "first UTC day"),
        Column("until", "DATE", "last UTC day, itself included"),
        Column("entities", "STRING", "JSON list: whose records"),
        Column("override", "BOOLEAN", "whether records that silver has with the same values are written again"),
        Column("state", "STRING", "planned, done or failed"),
        Column("attempt", "INT", "number of restarts after a failure; part of source_run"),
        Column("rows_fetched", "BIGINT", "records that the source gave"),
        Column("rows_in", "BIGINT", "of these, new or changed: bronze's rows with this source_run"),
        Column("rows_out", "BIGINT", "of these, accepted by the rules"),
        Column("rejected", "BIGINT", "of these, rejected"),
        Column("lacking", "STRING", "JSON: entity -> why its records could not be had"),
        Column("error", "STRING", "why it failed as a whole; null where it did not"),
        Column("calls", "INT", "calls of the source that were planned"),
        Column("weight", "DOUBLE", "of these calls, as the source's limits count them"),
        Column("seconds", "DOUBLE", "time that the last attempt took [s]"),
        Column("planned_ts", "TIMESTAMP", "when the backfill was planned"),
        Column("ended_ts", "TIMESTAMP", "when the last attempt ended"),
        Column("code_version", "STRING", "version of weir"),
    ),
)

_ARROW = {
    "STRING": pa.string(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "DATE": pa.date32(),
    "BOOLEAN": pa.bool_(),
    "DOUBLE": pa.float64(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
}
_SCHEMA = pa.schema([(column.name, _ARROW[column.type]) for column in BACKFILLS.columns])


class NothingToResume(LakehouseError, Fatal):
    """There is no backfill to resume or retry."""

    def __init__(self, domain: str, what: str) -> None:
        super().__init__(f'No backfill of {domain} {what}; lh.ops.backfills lists all: weir query "FROM ops.backfills".')


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row of the ledger; the table describes its columns."""

    backfill_id: str
    chunk: int
    domain: str
    since: date
    until: date
    entities: tuple[str, ...]
    override: bool
    planned_ts: datetime
    state: State = "planned"
    attempt: int = 0
    rows_fetched: int = 0
    rows_in: int = 0
    rows_out: int = 0
    rejected: int = 0
    lacking: Mapping[str, str] | None = None
    error: str | None = None
    calls: int = 0
    weight: float = 0.0
    seconds: float = 0.0
    ended_ts: datetime | None = None
    code_version: str = version("weir")

    @property
    def source_run(self) -> str:
        """Return the name of this attempt in bronze's rows."""
        return f"{self.backfill_id}/{self.chunk}" + (f".{self.attempt}" if self.attempt else "")

    def again(self) -> "Chunk":
        """Plan a failed chunk again; `lacking` still has the entities to fetch."""
        return replace(self, state="planned", attempt=self.attempt + 1, error=None)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The entities to fetch: all, or those that an earlier attempt lacked."""
        return tuple(self.lacking) if self.lacking else self.entities


class Ledger:
    """One backfill's rows, in memory and in the table; every change is a commit.

    Args:
        spark: the session.
        chunks: all of its rows, including gold's.
    """

    def __init__(self, spark: SparkSession, chunks: Iterable[Chunk]) -> None:
        self._spark = spark
        self._chunks = {one.chunk: one for one in chunks}
        self._rows = RecentRows(BACKFILLS, Times("backfill_id", "planned_ts"))

    @classmethod
    def plan(cls, spark: SparkSession, domain: str, parts: Sequence[tuple[Part, int, float]], override: bool, now: datetime) -> "Ledger":
        """Write a new backfill to the table.

        Args:
            spark: the session.
            domain: its name.
            parts: each with its calls and their weight.
            override: the option.
            now: the current time, which becomes part of the backfill's id.
        """
        name = f"{domain}-{now:%Y%m%dT%H%M%S.%fZ}"
        days = min(part.since for part, _, _ in parts), max(part.until for part, _, _ in parts)
        rows = [
            Chunk(name, number, domain, part.since, part.until, part.entities, override, now, calls=calls, weight=weight)
            for number, (part, calls, weight) in enumerate(parts, 1)
        ]
        everybody = tuple(dict.fromkeys(entity for part, _, _ in parts for entity in part.entities))
        create_missing(spark, [BACKFILLS])
        ledger = cls(spark, [Chunk(name, GOLD, domain, *days, everybody, override, now), *rows])
        ledger._write()
        return ledger

    @classmethod
    def unfinished(cls, spark: SparkSession, domain: str) -> "Ledger":
        """Read the newest interrupted backfill of a domain.

        Raises:
            NothingToResume: there is none.
        """
        return cls._newest(spark, domain, "state = 'planned'", "was cut off")

    @classmethod
    def failed(cls, spark: SparkSession, domain: str) -> "Ledger":
        """Read the newest backfill of a domain with a failed chunk, and plan the failed chunks again.

        Raises:
            NothingToResume: there is none.
        """
        ledger = cls._newest(spark, domain, "state = 'failed'", "has a failed chunk")
        retried = [one.again() for one in ledger._chunks.values() if one.state == "failed"]
        ledger.note(*retried, replace(ledger._chunks[GOLD], state="planned"))
        return ledger

    @classmethod
    def _newest(cls, spark: SparkSession, domain: str, state: str, what: str) -> "Ledger":
        create_missing(spark, [BACKFILLS])
        newest = spark.sql(f"SELECT max(backfill_id) AS name FROM {BACKFILLS.name} WHERE domain = {quote(domain)} AND {state}").toArrow()
        name = newest["name"][0].as_py()
        if name is None:
            raise NothingToResume(domain, what)
        rows = spark.sql(f"SELECT * FROM {BACKFILLS.name} WHERE backfill_id = {quote(name)}").toArrow().to_pylist()
        return cls(spark, [_chunk(row) for row in rows])

    @property
    def name(self) -> str:
        """The backfill's id."""
        return next(iter(self._chunks.values())).backfill_id

    @property
    def gold(self) -> Chunk:
        """The row of gold."""
        return self._chunks[GOLD]

    @property
    def chunks(self) -> list[Chunk]:
        """The rows of chunks, in order."""
        return [one for number, one in sorted(self._chunks.items()) if number != GOLD]

    def note(self, *changed: Chunk) -> None:
        """Write changed rows in one commit."""
        self._chunks |= {one.chunk: one for one in changed}
        self._write()

    def _write(self) -> None:
        # All rows are passed each time; only those that differ from the table's are written.
        wanted = pa.Table.from_pylist([_row(one) for one in self._chunks.values()], schema=_SCHEMA)
        planned = self.gold.planned_ts
        span = Spans(((self.name, planned, planned),))

        def write() -> None:
            self._rows.forget()
            self._rows.begin(self._spark)
            self._rows.replace(self._spark, wanted, span, dict, lambda commit: commit())

        until_accepted(write)


def _row(one: Chunk) -> dict[str, object]:
    row = {field.name: getattr(one, field.name) for field in fields(one)}
    lacking = None if one.lacking is None else json.dumps(dict(one.lacking), ensure_ascii=False)
    return row | {"entities": json.dumps(one.entities, ensure_ascii=False), "lacking": lacking}


def _chunk(row: Mapping[str, object]) -> Chunk:
    lacking = row["lacking"]
    planned, ended = row["planned_ts"], row["ended_ts"]
    assert isinstance(planned, datetime)
    values = {
        **row,
        "entities": tuple(json.loads(str(row["entities"]))),
        "lacking": None if lacking is None else json.loads(str(lacking)),
        "planned_ts": planned.astimezone(UTC),
        "ended_ts": ended.astimezone(UTC) if isinstance(ended, datetime) else None,
    }
    return Chunk(**values)  # type: ignore[arg-type]  # the table's columns are the record's fields
