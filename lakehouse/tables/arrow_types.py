"""Which Arrow types have the columns of a table? Those that Spark, DuckDB and PyArrow give when they read it."""

import re

import pyarrow as pa

from lakehouse.tables.schema import Table

_TYPES = {
    "STRING": pa.string(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
    "BINARY": pa.binary(),
}


def arrow_schema(table: Table) -> pa.Schema:
    """Return the columns of a table, in order.

    Raises:
        KeyError: a column has a type that no table of weir has.
    """
    return pa.schema([(column.name, _arrow_type(column.type)) for column in table.columns])


def _arrow_type(kind: str) -> pa.DataType:
    digits = re.fullmatch(r"DECIMAL\((\d+), ?(\d+)\)", kind)
    return pa.decimal128(int(digits[1]), int(digits[2])) if digits else _TYPES[kind]
