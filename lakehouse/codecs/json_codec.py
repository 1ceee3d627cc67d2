"""How is a record written as JSON, and how do Spark and DuckDB read it? One object a message; standard library only.

Null fields are left out. Numbers keep their shortest form; a decimal and a date are texts, an instant is a whole number.
"""

import json
from collections.abc import Mapping

from lakehouse.codecs.field_types import JsonForm, Value
from lakehouse.contract import Contract, Field

CORRUPT = "_corrupt"
# Made once: json.dumps makes one for every call with settings of its own.
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def encode(contract: Contract, record: Mapping[str, Value]) -> bytes:
    """Write a record.

    Raises:
        ValueError: a number is none that JSON has, or does not fit its type.
    """
    wire = {f.name: f.kind.json.write(value) for f in contract.fields if (value := record.get(f.name)) is not None}
    return _to_json(wire).encode()


def parsing(contract: Contract) -> str:
    """Return the SQL that reads a message: over the column `value`, a struct with each field and CORRUPT."""
    record = ", ".join(f"`{f.name}` {f.kind.json.read_as}" for f in contract.fields)
    options = f"map('mode', 'PERMISSIVE', 'columnNameOfCorruptRecord', '{CORRUPT}', 'allowNonNumericNumbers', 'false')"
    return f"from_json(CAST(value AS STRING), '{record}, {CORRUPT} STRING', {options})"


def is_read(parsed: str) -> str:
    """Return the SQL condition, over the name of a struct of `parsing`: the message could be read."""
    return f"{parsed}.{CORRUPT} IS NULL"


def form(f: Field) -> JsonForm:
    """Return how a field is carried."""
    return f.kind.json


def as_texts() -> str:
    """Return the SQL that reads any JSON object as a map of texts; null where the message is none."""
    return "from_json(CAST(value AS STRING), 'map<string,string>')"


def as_sent(contract: Contract) -> str:
    """Return the SQL that reads each field as a VARIANT, which holds whatever JSON stands there."""
    return f"from_json(CAST(value AS STRING), '{', '.join(f'`{f.name}` VARIANT' for f in contract.fields)}')"


def plain_pattern(contract: Contract) -> str:
    """Return the regular expression (RE2) of messages that DuckDB reads as Spark does: as `encode` writes them, see `PlainForm`.

    Null fields are left out, the others follow in the contract's order, none twice, without spaces. Empty for a contract without a required
    field, of whose messages nothing is known.
    """
    first = next((number for number, f in enumerate(contract.fields) if f.required), None)
    if first is None:
        return ""
    parts = [f'"{f.name}":{f.kind.json.plain.token}' for f in contract.fields]
    before = "".join(f"(?:{part},)?" for part in parts[:first])
    after = [f",{part}" if f.required else f"(?:,{part})?" for f, part in zip(contract.fields, parts, strict=True)][first + 1 :]
    return rf"\{{{before}{parts[first]}{''.join(after)}\}}"


def plain_struct(contract: Contract) -> str:
    """Return the type as which DuckDB's `from_json` reads such a message."""
    return _to_json({f.name: f.kind.json.plain.read_as for f in contract.fields})
