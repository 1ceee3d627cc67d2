"""Which part of a table is recomputed? Rows of entities within times (`Spans`), or rows by the values of columns (`Keys`).

A part is described in the driver's memory. Where the description would become too long, the part is the whole table.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse.spans import Spans

KeyRow = tuple[Any, ...]
# With more tuples than this, the part is the whole table, which is always right. A micro-batch of as many messages as the settings allow by
# default (200,000) stays below: else the first load of a large table would compute it whole with each of them.
MOST_KEYS = 250_000


@dataclass(frozen=True)
class Keys:
    """Rows by the values of columns. A row belongs to the part when its values equal one of the tuples; null equals null.

    Attributes:
        tuples: by their columns. The empty tuple stands for every row.
    """

    tuples: Mapping[tuple[str, ...], frozenset[KeyRow]] = field(default_factory=dict)

    @classmethod
    def of(cls, columns: Sequence[str], rows: Iterable[KeyRow]) -> "Keys":
        """Build a part from values of some columns; the whole table where there are more than MOST_KEYS tuples."""
        found = frozenset(tuple(row) for row in rows)
        if not found:
            return cls()
        return WHOLE if not columns or len(found) > MOST_KEYS else cls({tuple(columns): found})

    def __bool__(self) -> bool:
        return bool(self.tuples)

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole table."""
        return () in self.tuples

    def joined(self, other: "Keys") -> "Keys":
        """Return the union of both."""
        if self.is_whole or other.is_whole:
            return WHOLE
        both = dict(self.tuples)
        for columns, rows in other.tuples.items():
            both[columns] = both.get(columns, frozenset()) | rows
        return WHOLE if sum(len(rows) for rows in both.values()) > MOST_KEYS else Keys(both)

    def renamed(self, names: Mapping[str, str]) -> "Keys":
        """Return the part of another table whose rows have the same values under other column names.

        Args:
            names: {column here: column of the other table}. Columns that are not named are ignored, so the result may cover more rows than
                needed; where none is named, it is the whole table.
        """
        found = Keys()
        for columns, rows in self.tuples.items():
            kept = [n for n, column in enumerate(columns) if column in names]
            found = found.joined(Keys.of([names[columns[n]] for n in kept], {tuple(row[n] for n in kept) for row in rows}))
        return found


WHOLE = Keys({(): frozenset({()})})
Part = Spans | Keys


def join_parts(one: Part, other: Part) -> Part:
    """Return the union of two parts; the whole table where they are of different kinds."""
    if not one or not other:
        return one or other
    if isinstance(one, Spans) and isinstance(other, Spans):
        return one.joined(other.rows)
    if isinstance(one, Keys) and isinstance(other, Keys):
        return one.joined(other)
    return WHOLE


def is_whole(part: Part) -> bool:
    """Return whether a part is the whole table."""
    return isinstance(part, Keys) and part.is_whole
