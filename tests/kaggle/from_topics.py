"""Messages as a producer sent them, for the tables that DuckDB makes of them in a test."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from lakehouse.contract import Contract, Value
from tests.support.dumps import Topics

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def records(topics: Topics, contracts: Mapping[str, Contract]) -> Iterator[tuple[str, Mapping[str, Value]]]:
    """Yield table and record of every message of some topics, by the names of their tables."""
    for table, contract in contracts.items():
        yield from ((table, _typed(contract, row)) for row in topics.rows(contract.topic))


def _typed(contract: Contract, row: Mapping[str, Any]) -> dict[str, Value]:
    return dict(_values(contract, row.items()))


def _values(contract: Contract, row: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Value]]:
    for name, value in row:
        kind = contract.field(name).kind
        if kind.name == "timestamp":
            yield name, _EPOCH + timedelta(milliseconds=value)
        elif kind.name == "date":
            yield name, date.fromisoformat(value)
        else:
            yield name, Decimal(value) if kind.precision else value
