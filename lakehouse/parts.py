"""Which rows of a table are meant? Those of some entities in some times (`Spans`), or those with some values in some columns (`Keys`).

A part is what a derived table is recomputed by: small enough for the driver's memory, or the whole table.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse.spans import Spans

KeyRow = tuple[Any, ...]
# With more tuples than this a part costs more than the table: then the whole table is meant, which is always right.
MOST_KEYS = 100_000


@dataclass(frozen=True)
class Keys:
    """Rows by the values of columns. A row is meant when it has the values of one of the tuples; null is a value.

    Attributes:
        tuples: by their columns. A tuple without columns means every row.
    """

    tuples: Mapping[tuple[str, ...], frozenset[KeyRow]] = field(default_factory=dict)

    @classmethod
    def of(cls, columns: Sequence[str], rows: Iterable[KeyRow]) -> "Keys":
        """Name rows by the values of some columns; every row where there are more tuples than memory should hold."""
        found = frozenset(tuple(row) for row in rows)
        if not found:
            return cls()
        return WHOLE if not columns or len(found) > MOST_KEYS else cls({tuple(columns): found})

    def __bool__(self) -> bool:
        return bool(self.tuples)

    @property
    def is_whole(self) -> bool:
        """Whether every row is meant."""
        return () in self.tuples

    def joined(self, other: "Keys") -> "Keys":
        """Name the rows that one or the other names."""
        if self.is_whole or other.is_whole:
            return WHOLE
        both = dict(self.tuples)
        for columns, rows in other.tuples.items():
            both[columns] = both.get(columns, frozenset()) | rows
        return WHOLE if sum(len(rows) for rows in both.values()) > MOST_KEYS else Keys(both)

    def renamed(self, names: Mapping[str, str]) -> "Keys":
        """Name the rows of another table that have the same values in columns of other names.

        Args:
            names: the other table's column by the column here. Where the other table lacks a column, its rows are named by the columns
                that it has, which may be more rows than needed; every row where it has none of them.
        """
        found = Keys()
        for columns, rows in self.tuples.items():
            kept = [n for n, column in enumerate(columns) if column in names]
            found = found.joined(Keys.of([names[columns[n]] for n in kept], {tuple(row[n] for n in kept) for row in rows}))
        return found


WHOLE = Keys({(): frozenset({()})})
Part = Spans | Keys


def join_parts(one: Part, other: Part) -> Part:
    """Name the rows that one part or the other names."""
    if not one or not other:
        return one or other
    if isinstance(one, Spans) and isinstance(other, Spans):
        return one.joined(other.rows)
    if isinstance(one, Keys) and isinstance(other, Keys):
        return one.joined(other)
    return WHOLE


def is_whole(part: Part) -> bool:
    """Say whether every row is meant."""
    return isinstance(part, Keys) and part.is_whole
