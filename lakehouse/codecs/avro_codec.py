"""How is a record written as Avro, and how does Spark read it? A plain binary datum: no registry, no container around it.

The bytes say nothing of the schema they were written by. It is named beside them: the contract's wire version goes into a header of the
message and is kept in bronze's column `wire_version`. The contract lists the fields of each version.

Source: Apache Avro 1.12 specification, "Binary Encoding" and "Logical Types".
"""

import io
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import fastavro

from lakehouse.codecs.field_types import AvroForm, AvroType, Value
from lakehouse.contract import Contract, Field

# Avro's reader stops where the datum ends, whatever follows: bytes of a longer schema would be read as those of a shorter one. So a mark
# is set behind them, and read as the last field. Its first byte stands nowhere else in it: no shift of it begins with it.
_END, _MARK = "_end", "FF5745495220454E"
_MARK_BYTES = len(_MARK) // 2


def encode(contract: Contract, record: Mapping[str, Value]) -> bytes:
    """Write a record by the schema of the contract's wire version.

    Raises:
        ValueError, TypeError: a value does not fit its type, or a required one is missing.
    """
    # None where a field is not required; the library names the field where it is.
    wire = {f.name: None if (value := record.get(f.name)) is None else f.kind.avro.write(value) for f in contract.fields}
    datum = io.BytesIO()
    fastavro.schemaless_writer(datum, _writers_schema(contract.fields), wire)
    return datum.getvalue()


def schema(fields: Iterable[Field]) -> dict[str, Any]:
    """Return the schema of a record as a reader elsewhere needs it: a field that is not required is a union with null."""
    return _record(fields, lambda f: _nullable(f.kind.avro.schema, f.required))


def known_versions(contract: Contract) -> dict[int, tuple[Field, ...]]:
    """Return the fields of each wire version."""
    return dict(enumerate((*contract.former, contract.fields), start=1))


def parsing(contract: Contract) -> str:
    """Return the SQL that reads a message: over the columns `value` and `wire_version`, a struct with each field and the mark at the end.

    Every field is null, or the struct is, where the bytes are no record of their version; the struct is where the version is unknown.
    """
    reading = json.dumps(_spark_schema(contract.fields, is_reader=True))
    branches = " ".join(
        f"WHEN {version} THEN from_avro(concat(value, X'{_MARK}'), '{json.dumps(_spark_schema(fields))}', "
        f"map('mode', 'PERMISSIVE', 'avroSchema', '{reading}'))"
        for version, fields in known_versions(contract).items()
    )
    return f"CASE wire_version {branches} END"


def is_read(parsed: str) -> str:
    """Return the SQL condition, over the name of a struct of `parsing`: the message could be read, and ends where its record does."""
    return f"coalesce({parsed}.{_END} = X'{_MARK}', false)"


def form(f: Field) -> AvroForm:
    """Return how a field is carried."""
    return f.kind.avro


@cache
def _writers_schema(fields: tuple[Field, ...]) -> Any:  # noqa: ANN401 - the library's own form of a schema
    # Without logical types: a value is handed over as what it stands for, so that the library converts, and rounds, nothing.
    return fastavro.parse_schema(_record(fields, lambda f: _nullable(_plain(f.kind.avro.schema), f.required)))


def _spark_schema(fields: Iterable[Field], is_reader: bool = False) -> dict[str, Any]:
    """Return the schema by which Spark reads; as a reader's it takes what is absent for null."""
    record = _record(fields, lambda f: _nullable(f.kind.avro.read_as, f.required and not is_reader))
    return record | {"fields": [*record["fields"], {"name": _END, "type": {"type": "fixed", "name": "end", "size": _MARK_BYTES}}]}


def _record(fields: Iterable[Field], type_of: Callable[[Field], AvroType | list[AvroType]]) -> dict[str, Any]:
    return {"type": "record", "name": "record", "fields": [_field(f, type_of(f)) for f in fields]}


def _field(f: Field, type_: AvroType | list[AvroType]) -> dict[str, Any]:
    return {"name": f.name, "type": type_} | ({"default": None} if isinstance(type_, list) else {})


def _nullable(type_: AvroType, is_required: bool) -> AvroType | list[AvroType]:
    return type_ if is_required else ["null", type_]


def _plain(type_: AvroType) -> AvroType:
    return type_ if isinstance(type_, str) else str(type_["type"])
