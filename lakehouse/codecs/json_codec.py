"""How is a record written as JSON, and how does Spark read it? One object a message; standard library only.

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
