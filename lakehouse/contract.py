"""What does one message of a topic hold, and when is it a valid one?

A contract is data. The producer's validation, Spark's schema for parsing, the columns of the tables, the range rules and
the documentation all derive from it; nothing is typed twice. Standard library only, so that a producer starts without Spark.

On the wire a record is one JSON object; an instant is a whole number of **milliseconds** since 1970-01-01 UTC.
A new field is optional and comes last; a rename or a new meaning is a new version of the topic.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

type_names = Literal["string", "double", "timestamp"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Value = str | float | int | datetime | None


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record.

    Attributes:
        name: the column's name in every table that carries it.
        type: `timestamp` is an aware UTC instant in Python and TIMESTAMP in Spark; milliseconds on the wire.
        required: a record without it is rejected.
        about: what it means, for people; becomes the column's comment.
        unit: of a number; empty for dimensionless ones.
        low: the least plausible value, itself allowed; below it the record is rejected.
        high: the greatest plausible value, itself allowed; above it the record is rejected.
    """

    name: str
    type: type_names
    required: bool = False
    about: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """The records of one topic.

    Attributes:
        topic: with dots and hyphens, ending in the version of the contract.
        entity: the fields that make the Kafka key; records of one entity stay in order within a partition.
        key: the fields that identify a record; of two records with one key the newer version wins.
        version: the field that orders versions of one key; see `latest_per_key` for equal versions.
        fields: in the order of the columns.
    """

    topic: str
    entity: tuple[str, ...]
    key: tuple[str, ...]
    version: str
    fields: tuple[Field, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields, in order."""
        return tuple(f.name for f in self.fields)

    def field(self, name: str) -> Field:
        """Return the field of that name; KeyError when there is none."""
        for f in self.fields:
            if f.name == name:
                return f
        raise KeyError(f"{self.topic} has no field {name!r}; it has {', '.join(self.names)}")

    @property
    def shape(self) -> "Contract":
        """The contract without its ranges: a value out of range is data, kept among the rejects; what breaks the shape is no record."""
        return replace(self, fields=tuple(replace(field, low=-math.inf, high=math.inf) for field in self.fields))

    def violations(self, record: Mapping[str, Value]) -> list[str]:
        """Say what is wrong with a record before it is sent; empty when it may go.

        The producer's own check: a record that fails here is a fault of the producer or of its source.
        """
        known = self.names
        found = [f"unknown field {name!r}" for name in record if name not in known]
        for f in self.fields:
            value = record.get(f.name)
            if value is None:
                if f.required:
                    found.append(f"{f.name} is required")
            elif not _has_type(value, f.type):
                found.append(f"{f.name} is {type(value).__name__} {value!r}, expected {f.type}")
            elif isinstance(value, (int, float)) and not _in_range(value, f):
                found.append(f"{f.name} is {value:g} {f.unit}".rstrip() + f", expected {_allowed(f)}")
        return found

    def encode(self, record: Mapping[str, Value]) -> bytes:
        """Write a record as it goes on the wire. Null fields are left out; numbers keep their shortest form."""
        wire = {name: _to_wire(record[name]) for name in self.names if record.get(name) is not None}
        return json.dumps(wire, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()

    def encode_key(self, record: Mapping[str, Value]) -> bytes:
        """Write the Kafka key: the entity's fields, joined by a colon."""
        return ":".join(str(record[name]) for name in self.entity).encode()


def _has_type(value: Value, type_name: type_names) -> bool:
    if type_name == "string":
        return isinstance(value, str)
    if type_name == "timestamp":
        return isinstance(value, datetime) and value.utcoffset() == timedelta(0)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _in_range(value: float, f: Field) -> bool:
    if math.isnan(value) or math.isinf(value):
        return False
    return (f.low is None or value >= f.low) and (f.high is None or value <= f.high)


def _allowed(f: Field) -> str:
    if f.low is not None and f.high is not None:
        return f"{f.low:g} to {f.high:g}"
    if f.low is not None:
        return f"at least {f.low:g}"
    return f"at most {f.high:g}" if f.high is not None else "a finite number"


def _to_wire(value: Value) -> str | float | int | None:
    if isinstance(value, datetime):
        return to_millis(value)
    return value


def to_millis(instant: datetime) -> int:
    """Milliseconds since 1970-01-01 UTC of an aware instant; finer parts are cut."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)
