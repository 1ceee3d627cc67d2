"""The law of the project, for any domain: stream = batch = DuckDB's own SQL, whatever the order, repetition, cutting and crashes.

A `DomainHome` takes messages as Kafka would give them; `assert_law` feeds it micro-batches that a test makes up.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from batch.prove.prove import prove
from lakehouse import failpoints
from lakehouse.apply import ApplyOptions, apply
from lakehouse.codecs.parse import to_bronze
from lakehouse.contract import Value
from lakehouse.counts import Applied
from lakehouse.domain import Domain, Source
from lakehouse.engine.choose import memory_engine
from lakehouse.settings import Settings
from lakehouse.tables.create import ensure_tables
from lakehouse.write.append_chunk import MESSAGES
from lakehouse.write.plain_rows import append_rows
from lakehouse.write.small_batches.memory_store import Memory

# Kafka takes every message of a test a day later.
ARRIVED = datetime(2025, 6, 1, tzinfo=UTC)
Record = Mapping[str, Value]
Message = Record | bytes | None
POINTS = ("silver.merged", "gold.first_table", "gold.merged")


class Crash(Exception):
    """The process ends here."""


class DomainHome:
    """One home with a domain's tables.

    Attributes:
        session: whose catalog is the home's.
        settings: of the home.
        domain: whose tables.
        memory: what a stream remembers; None to write by MERGE.
        engine: of the memory that the next restart makes; None for Spark.
        query: by which name micro-batches are written.
    """

    def __init__(self, session: SparkSession, folder: Path, domain: Domain, from_memory: bool = True) -> None:
        self.session, self.settings, self.domain = session, Settings(home=folder), domain
        self.from_memory, self.query = from_memory, "test"
        self._offset = 0
        self.engine = memory_engine(self.settings)
        ensure_tables(session, domain)
        self.memory = Memory(domain, engine=self.engine) if from_memory else None

    def restart(self, domain: Domain | None = None) -> None:
        """Forget all that a process knows."""
        self.domain = domain or self.domain
        ensure_tables(self.session, self.domain)
        self.memory = Memory(self.domain, engine=self.engine) if self.from_memory else None

    def land(self, source: Source, records: Iterable[Message], wire_version: int | None = None) -> DataFrame:
        """Append messages to bronze as they arrive from Kafka, and give their rows."""
        contract = source.contract
        values = [contract.encode(one) if isinstance(one, Mapping) else one for one in records]
        first = self._offset
        self._offset += len(values)
        columns = {
            "value": values,
            "topic": [contract.topic] * len(values),
            "partition": [0] * len(values),
            "offset": list(range(first, self._offset)),
            "timestamp": [ARRIVED + timedelta(days=1)] * len(values),
            "wire_version": [wire_version or contract.wire_version] * len(values),
        }
        messages = pa.table({f.name: pa.array(columns[f.name], f.type) for f in MESSAGES}, MESSAGES)
        append_rows(to_bronze(self.session.createDataFrame(messages), contract), source.bronze, {})
        return self.session.table(source.bronze.name).where(f"kafka_offset >= {first} AND kafka_offset < {self._offset}")

    def take(self, rows: DataFrame, source: Source, deferred: str = "") -> Applied:
        """Apply rows of bronze."""
        options = ApplyOptions(properties={"weir.query": self.query}, memory=self.memory, deferred=deferred)
        return apply(rows, source, self.domain, options)

    def rows(self, name: str, *columns: str) -> list[tuple[object, ...]]:
        """Give a table's rows, sorted."""
        found = self.session.table(f"lh.{name}").select(*columns).toArrow().to_pylist()
        return sorted((tuple(row.values()) for row in found), key=repr)

    def assert_right(self) -> None:
        """Compare every derived table with one batch pass and with DuckDB's recomputation from the bytes."""
        proof = prove(self.settings, self.domain, self.session)
        wrong = [(way, one) for way, one in proof.compared if one.differences]
        assert not wrong, wrong
        assert {way for way, _ in proof.compared} == {"batch", "independent"}


def assert_law(
    home: DomainHome, some_batch: Callable[[int], tuple[int, Sequence[Message]]], chance: random.Random, batches: int = 10
) -> None:
    """Apply micro-batches, some of them twice, late or after a crash, from memory by either engine and by MERGE; then prove the tables.

    Args:
        home: an empty one.
        some_batch: makes up a micro-batch by its number: the number of its source in the domain, and its messages.
        chance: decides what happens to each.
        batches: how many.
    """
    applied = []
    for number in range(batches):
        source_number, records = some_batch(number)
        source = home.domain.sources[source_number]
        rows = home.land(source, records)
        home.engine = chance.choice((memory_engine(home.settings), None))
        home.memory = None if chance.random() < 0.2 else home.memory or Memory(home.domain, engine=home.engine)
        fate = chance.random()
        if fate < 0.3:  # ends somewhere between two commits, and is repeated by the next process, or only later
            with pytest.MonkeyPatch.context() as monkeypatch:
                crash_at(monkeypatch, chance.choice(POINTS))
                with suppress(Crash):  # a micro-batch of rejects alone comes to no such point
                    home.take(rows, source)
            home.restart()
            if fate < 0.15:
                applied.append((rows, source))
                continue
        home.take(rows, source)
        applied.append((rows, source))
        if chance.random() < 0.2:
            home.take(*chance.choice(applied))
    for rows, source in applied[-3:]:
        home.take(rows, source)
    home.assert_right()


def crash_at(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Let a process end at a point, once it comes there."""

    def reach(found: str) -> None:
        if found == point:
            raise Crash(point)

    monkeypatch.setattr(failpoints, "reach", cast(Callable[[failpoints.Point], None], reach))
