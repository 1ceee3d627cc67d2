"""The toy's tables in a test: messages come in as Kafka would give them, and what is derived is compared with two other ways to make it."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from pyspark.sql import SparkSession

from lakehouse.contract import Value
from lakehouse.counts import Applied
from lakehouse.domain import Domain
from tests.support.law import ARRIVED, DomainHome, Record
from tests.toy.tables import TOY

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def maker(number: int, version: int = 0, **more: Value) -> dict[str, Value]:
    """Build a record of a maker; a greater version was changed later."""
    base: dict[str, Value] = {"maker_name": f"maker {number}", "country": "VN", "is_trusted": True}
    return {"maker_id": number, "changed_ts": ARRIVED + timedelta(minutes=version), **base, **more}


def item(number: int, maker: int, hour: float = 0, version: int = 0, **more: Value) -> dict[str, Value]:
    """Build a record of an item that was sold so many hours after NOON."""
    base: dict[str, Value] = {"price": Decimal("10.25"), "is_new": True, "made_on": date(2025, 1, 1), "remark": "none"}
    known: dict[str, Value] = {"item_id": f"i{number}", "maker_id": maker, "sold_ts": NOON + timedelta(hours=hour)}
    return {**known, "changed_ts": ARRIVED + timedelta(minutes=version), **base, **more}


class ToyHome(DomainHome):
    """One home with the toy's tables, or with what a test made of the toy."""

    def __init__(self, session: SparkSession, folder: Path, domain: Domain = TOY, from_memory: bool = True) -> None:
        super().__init__(session, folder, domain, from_memory)

    def makers(self, *records: Record | bytes | None) -> Applied:
        """Let makers arrive, and apply them."""
        return self.take(self.land(self.domain.sources[0], records), self.domain.sources[0])

    def items(self, *records: Record | bytes | None, deferred: str = "") -> Applied:
        """Let items arrive, and apply them."""
        return self.take(self.land(self.domain.sources[1], records), self.domain.sources[1], deferred)


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
