"""What does one message of a topic hold, and when is it a valid one?

A contract is data. The producer's validation, Spark's schema for parsing, the columns of the tables, the range rules and
the documentation all derive from it; nothing is typed twice. Standard library only, so that a producer starts without Spark.

On the wire a record is one JSON object; an instant is a whole number of **milliseconds** since 1970-01-01 UTC.
A new field is optional and comes last; a rename or a new meaning is a new version of the topic.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

type_names = Literal["string", "double", "timestamp"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
# Made once: json.dumps makes one for every call with settings of its own.
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

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
        names: the names of the fields, in order.
    """

    topic: str
    entity: tuple[str, ...]
    key: tuple[str, ...]
    version: str
    fields: tuple[Field, ...]
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(f.name for f in self.fields))

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
        found = [f"unknown field {name!r}" for name in record if name not in self.names]
        for f in self.fields:
            value = record.get(f.name)
            if value is None:
                if f.required:
                    found.append(f"{f.name} is required")
            elif type(value) is float and f.type == "double":  # nearly all of them: the one check that is left for these
                if not _in_range(value, f):
                    found.append(_out_of_range(value, f))
            elif not _has_type(value, f.type):
                found.append(f"{f.name} is {type(value).__name__} {value!r}, expected {f.type}")
            elif isinstance(value, (int, float)) and not _in_range(value, f):
                found.append(_out_of_range(value, f))
        return found

    def encode(self, record: Mapping[str, Value]) -> bytes:
        """Write a record as it goes on the wire. Null fields are left out; numbers keep their shortest form."""
        wire = {name: _to_wire(value) for name in self.names if (value := record.get(name)) is not None}
        return _to_json(wire).encode()

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
    # A value that is no number compares with nothing.
    return -math.inf < value < math.inf and (f.low is None or value >= f.low) and (f.high is None or value <= f.high)


def _out_of_range(value: float, f: Field) -> str:
    return f"{f.name} is {value:g} {f.unit}".rstrip() + f", expected {_allowed(f)}"


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
    return (instant - _EPOCH) // _MILLISECOND
