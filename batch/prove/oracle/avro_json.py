"""How does the independent SQL read Avro, which DuckDB cannot? As JSON text from the Avro library; imports nothing from lakehouse/."""

import io
import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import fastavro
import pyarrow as pa


def as_json(rows: pa.Table, schemas: Mapping[int, Mapping[str, Any]]) -> pa.Table:
    """Convert the Avro datum in each row's `value` to JSON text, as bytes; null where it is not a valid datum.

    Instants and dates become ISO 8601 text, decimals text.

    Args:
        rows: with `value` and `wire_version`.
        schemas: the writer's schema by version.
    """
    parsed = {version: fastavro.parse_schema(dict(schema)) for version, schema in schemas.items()}
    values = [
        None if value is None or version not in parsed else _text(value, parsed[version])
        for value, version in zip(rows["value"].to_pylist(), rows["wire_version"].to_pylist(), strict=True)
    ]
    return rows.set_column(rows.column_names.index("value"), "value", pa.array(values, pa.binary()))


def _text(value: bytes, schema: Any) -> bytes | None:  # noqa: ANN401 - the library's own form of a schema
    datum = io.BytesIO(value)
    try:
        record = fastavro.schemaless_reader(datum, schema, None)
        return None if datum.read() else json.dumps(record, default=_plain).encode()
    except Exception:  # the library raises many types for bytes that are not a record of this schema
        return None


def _plain(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{value!r} has no JSON form")
