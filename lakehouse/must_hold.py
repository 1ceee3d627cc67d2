"""Do the rows computed for a derived table keep what must hold for it? Asked before they are written (`Derived.must_hold`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lakehouse.domain import Derived
from lakehouse.errors import Fatal, LakehouseError

# Rows that break a statement are shown, so many at most.
EXAMPLES = 3


class RowsBreakCheck(LakehouseError, Fatal):
    """Rows computed for a derived table break a statement that must hold for it; they were not written."""

    def __init__(self, table: str, statement: str, found: Sequence[Mapping[str, Any]]) -> None:
        rows = "; ".join(", ".join(f"{name}={value}" for name, value in row.items()) for row in found)
        super().__init__(
            f"Rows computed for {table} break a check, so they were not written and the table is as it was. It must hold: {statement}. "
            f"Found: {rows}. Correct the transform, or the source and its rules, and start the stream again: it computes the rows once "
            "more. Silver already has the messages from which they were computed."
        )


def check_rows(derived: Derived, some_where: Callable[[str, int], Sequence[Mapping[str, Any]]]) -> None:
    """Check the rows computed for a table.

    Args:
        derived: the table.
        some_where: returns at most so many of the rows for which a SQL condition is true.

    Raises:
        RowsBreakCheck: some break a statement.
    """
    for statement, broken in derived.must_hold.items():
        if found := some_where(broken, EXAMPLES):
            raise RowsBreakCheck(derived.table.name, statement, found)
