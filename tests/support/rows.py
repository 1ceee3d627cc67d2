"""Rows of a table in memory, as a test writes them down."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from lakehouse.tables.arrow_types import arrow_schema
from lakehouse.tables.schema import Table


def arrow_rows(table: Table, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Give rows of a table; columns that a row does not name are null."""
    filled = [{name: row.get(name) for name in table.names} for row in rows]
    return pa.Table.from_pylist(filled, arrow_schema(table))
