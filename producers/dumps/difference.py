"""Which rows differ between two dumps of a table, and which messages say so? In DuckDB, so an unchanged row never reaches Python.

Rows are matched by the table's identity and compared by the hash of their values. A row that does not name what it is about has no
identity: it is sent when the dump before has no row just like it, and nobody is told when it goes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import duckdb

from lakehouse.contract import Value
from lakehouse.tables.schema import quote_name
from producers.dumps.description import DumpTable
from producers.dumps.staging import HASH
from producers.dumps.wire import key, message

Kind = Literal["added", "changed", "gone"]
BATCH = 20_000
# Key and value of a message.
Message = tuple[bytes | None, bytes]


@dataclass(frozen=True, slots=True)
class Compared:
    """How many rows differ, by kind. `gone` are those that are said to have gone."""

    added: int
    changed: int
    gone: int


NO_DIFFERENCE = Compared(0, 0, 0)


class Difference:
    """The difference of two sets of rows of one table.

    Args:
        database: an open DuckDB.
        table: the table.
        values: its fields that are columns of the rows.
        is_keyed: SQL condition: a row names what it is about.
        before, after: SQL of the rows, with HASH. Without `before` every row is added.
    """

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        table: DumpTable,
        values: tuple[str, ...],
        is_keyed: str,
        before: str | None,
        after: str,
    ) -> None:
        self._database, self._table, self._values, self._is_keyed = database, table, values, is_keyed
        self._before, self._after = before, after
        self._identity = ", ".join(quote_name(name) for name in table.identity)

    def compare(self) -> Compared:
        """Find the rows that differ."""
        if self._before is None:
            return Compared(self._count(f"SELECT count(*) FROM ({self._after})"), 0, 0)
        each = f"SELECT {self._identity}, {HASH}"
        self._database.execute(f"""
            CREATE OR REPLACE TEMP TABLE differing AS
            SELECT {self._identity}, CASE WHEN b.{HASH} IS NULL THEN 'added' WHEN a.{HASH} IS NULL THEN 'gone' ELSE 'changed' END AS kind
            FROM ({each} FROM ({self._after}) WHERE {self._is_keyed}) AS a
            FULL JOIN ({each} FROM ({self._before}) WHERE {self._is_keyed}) AS b USING ({self._identity})
            WHERE a.{HASH} IS DISTINCT FROM b.{HASH}
        """)
        first = f" AND {quote_name(self._table.repeats)} = 1" if self._table.repeats else ""
        if first:
            self._database.execute(f"DELETE FROM differing WHERE kind = 'gone' AND NOT (true{first})")
        found = self._database.execute("SELECT kind, count(*) FROM differing GROUP BY ALL").fetchall()
        counts = {str(kind): int(count) for kind, count in found}
        unnamed = self._count(f"SELECT count(*) FROM ({self._unnamed()})")
        return Compared(counts.get("added", 0) + unnamed, counts.get("changed", 0), counts.get("gone", 0))

    def count_before(self) -> int:
        """Return the number of rows before that name what they are about."""
        return self._count(f"SELECT count(*) FROM ({self._before}) WHERE {self._is_keyed}") if self._before is not None else 0

    def messages(self, same: Mapping[str, Value]) -> Iterator[list[Message]]:
        """Return the messages of the difference in batches: what is new or changed, then what has gone. Call `compare` before.

        Args:
            same: the fields that have one value in all messages, other than whether a row has gone.
        """
        contract = self._table.contract
        here = self._select({**same, contract.deleted: False})
        if self._before is None:
            yield from self._batches(f"{here} FROM ({self._after})")
            return
        matched = f"WHERE {self._is_keyed} AND ({self._identity}) IN (SELECT ({self._identity}) FROM differing WHERE kind"
        yield from self._batches(f"{here} FROM ({self._after}) {matched} <> 'gone')")
        yield from self._batches(f"{here} FROM ({self._unnamed()})")
        gone = self._select({**same, contract.deleted: True})
        yield from self._batches(f"{gone} FROM ({self._before}) {matched} = 'gone')")

    def _unnamed(self) -> str:
        known = f"SELECT {HASH} FROM ({self._before}) WHERE NOT {self._is_keyed}"
        return f"SELECT * FROM ({self._after}) WHERE NOT {self._is_keyed} AND {HASH} NOT IN ({known})"

    def _select(self, same: Mapping[str, Value]) -> str:
        contract = self._table.contract
        return f"SELECT encode({key(contract, self._is_keyed)}) AS key, encode({message(contract, self._values, same)}) AS value"

    def _batches(self, query: str) -> Iterator[list[Message]]:
        # Read while it is computed, so never all of it is in memory; no other query may use the connection meanwhile.
        for batch in self._database.sql(query).to_arrow_reader(BATCH):
            yield list(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))

    def _count(self, query: str) -> int:
        ((count,),) = self._database.execute(query).fetchall()
        return int(count)
