"""How does a row of a dump become a message without Python? As SQL that writes what the contract's JSON codec writes, for millions of rows.

`tests/unit/producers/test_dump_columns.py` compares both on generated rows. What does not fit its type goes out as the text that it is, so
that bronze keeps it and the rules reject it with a reason.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from lakehouse.contract import Contract, Value
from lakehouse.contract import Field as ContractField
from lakehouse.tables.schema import quote_name, quote_text
from producers.dumps.description import MISFITS


def message(contract: Contract, values: Sequence[str], same: Mapping[str, Value]) -> str:
    """Return the SQL of a row's message, as text.

    Args:
        contract: of the message; its codec is JSON.
        values: the fields that are columns of the row, beside MISFITS.
        same: the fields that have one value in all messages.
    """
    parts = []
    for field in contract.fields:
        if field.name in values:
            column = quote_name(field.name)
            parts.append(f"CASE WHEN {column} IS NOT NULL THEN concat('\"{field.name}\":', {_value(field, column)}) END")
        elif same.get(field.name) is not None:
            parts.append(quote_text(contract.encode({field.name: same[field.name]}).decode()[1:-1]))
    return f"concat('{{', concat_ws(',', {', '.join(parts)}, {MISFITS}), '}}')"


def key(contract: Contract, is_keyed: str) -> str:
    """Return the SQL of a row's Kafka key, as text; null where the row does not name its entity."""
    return f"CASE WHEN {is_keyed} THEN concat_ws(':', {', '.join(quote_name(name) for name in contract.entity)}) END"


def literal(field: ContractField, value: Value) -> str:
    """Return the SQL of a value of a field, in the type that DuckDB has for it."""
    shown = value.isoformat() if isinstance(value, datetime) else str(value)
    return f"CAST({'NULL' if value is None else quote_text(shown)} AS {field.kind.duckdb})"


def _value(field: ContractField, column: str) -> str:
    if field.type == "long":
        return column
    if field.type in ("string", "double", "boolean"):
        return f"to_json({column})"
    if field.type == "date" or field.kind.precision:
        return f"'\"' || CAST({column} AS VARCHAR) || '\"'"
    if field.type == "timestamp":
        return f"unix_millis({column})"
    raise ValueError(f"{field.name} is a {field.type}, which no dump has had yet")
