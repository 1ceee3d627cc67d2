"""The toy's tables in a test: messages come in as Kafka would give them, and what is derived is compared with two other ways to make it."""

import random
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from batch.prove.prove import prove
from lakehouse.apply import ApplyOptions, apply
from lakehouse.codecs.parse import to_bronze
from lakehouse.contract import Value
from lakehouse.counts import Applied
from lakehouse.domain import Domain, Source
from lakehouse.settings import Settings
from lakehouse.tables.create import ensure_tables
from lakehouse.write.append_chunk import MESSAGES
from lakehouse.write.plain_rows import append_rows
from lakehouse.write.small_batches.memory_store import Memory
from tests.toy.tables import TOY

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
ARRIVED = datetime(2025, 6, 1, tzinfo=UTC)
Record = Mapping[str, Value]


def maker(number: int, version: int = 0, **more: Value) -> dict[str, Value]:
    """Build a record of a maker; a greater version was changed later."""
    base: dict[str, Value] = {"maker_name": f"maker {number}", "country": "VN", "is_trusted": True}
    return {"maker_id": number, "changed_ts": ARRIVED + timedelta(minutes=version), **base, **more}


def item(number: int, maker: int, hour: float = 0, version: int = 0, **more: Value) -> dict[str, Value]:
    """Build a record of an item that was sold so many hours after NOON."""
    base: dict[str, Value] = {"price": Decimal("10.25"), "is_new": True, "made_on": date(2025, 1, 1), "remark": "none"}
    known: dict[str, Value] = {"item_id": f"i{number}", "maker_id": maker, "sold_ts": NOON + timedelta(hours=hour)}
    return {**known, "changed_ts": ARRIVED + timedelta(minutes=version), **base, **more}


class ToyHome:
    """One home with the toy's tables.

    Attributes:
        session: whose catalog is the home's.
        settings: of the home.
        domain: the toy, or what a test made of it.
        memory: what a stream remembers; None to write by MERGE.
    """

    def __init__(self, session: SparkSession, folder: Path, domain: Domain = TOY, from_memory: bool = True) -> None:
        self.session, self.settings, self.domain = session, Settings(home=folder), domain
        self.from_memory = from_memory
        self._offset = 0
        ensure_tables(session, domain)
        self.memory = Memory(domain) if from_memory else None

    def restart(self, domain: Domain | None = None) -> None:
        """Forget all that a process knows."""
        self.domain = domain or self.domain
        ensure_tables(self.session, self.domain)
        self.memory = Memory(self.domain) if self.from_memory else None

    def land(self, source: Source, records: Iterable[Record | bytes | None], wire_version: int | None = None) -> DataFrame:
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
        options = ApplyOptions(properties={"weir.query": "test"}, memory=self.memory, deferred=deferred)
        return apply(rows, source, self.domain, options)

    def makers(self, *records: Record | bytes | None) -> Applied:
        """Let makers arrive, and apply them."""
        return self.take(self.land(self.domain.sources[0], records), self.domain.sources[0])

    def items(self, *records: Record | bytes | None, deferred: str = "") -> Applied:
        """Let items arrive, and apply them."""
        return self.take(self.land(self.domain.sources[1], records), self.domain.sources[1], deferred)

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


def some_batch(chance: random.Random, round_number: int, serial: Iterator[int]) -> tuple[int, list[Record | bytes | None]]:
    """Make up a micro-batch: the number of its source, and messages with late, repeated, moved and withdrawn records."""
    if chance.random() < 0.35:
        made: list[Record | bytes | None] = [
            maker(
                chance.randrange(6),
                _version(chance, round_number, serial),
                country=chance.choice(["VN", "PT", "NP", None]),
                is_trusted=chance.choice([True, False, None]),
                is_gone=chance.random() < 0.2,
            )
            for _ in range(chance.randint(1, 3))
        ]
        return 0, [*made, *([b"no JSON"] if chance.random() < 0.2 else []), *([None] if chance.random() < 0.2 else [])]
    made = [
        item(
            chance.randrange(25),
            chance.randrange(6),
            chance.randrange(0, 60) + chance.random(),
            _version(chance, round_number, serial),
            price=chance.choice([None, Decimal(chance.randrange(0, 100_000)) / 100, Decimal("-1.00")]),
            is_new=chance.choice([True, False, None]),
            is_gone=chance.random() < 0.15,
        )
        for _ in range(chance.randint(1, 8))
    ]
    return 1, [*made, *([b"\x00"] if chance.random() < 0.2 else []), *made[:1]]


def _version(chance: random.Random, round_number: int, serial: Iterator[int]) -> int:
    """A version that is mostly new and sometimes late; no two records share one, so that order alone decides nothing."""
    return max(0, round_number + (chance.randint(-6, -1) if chance.random() < 0.25 else 0)) * 10_000 + next(serial)
