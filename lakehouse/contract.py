"""What does one message of a topic hold, and when is it a valid one?

A contract is data. The producer's validation, Spark's schema for parsing, the columns of the tables, the range rules and
the documentation all derive from it; nothing is typed twice. Standard library only, so that a producer starts without Spark.

On the wire a record is what its codec makes of it (`lakehouse/codecs/`): one JSON object, or one Avro datum.
A new field is optional and comes last; a rename or a new meaning is a new version of the topic.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal, get_args

from lakehouse.codecs.field_types import FieldType, Value, field_type, to_millis

__all__ = ["WIRE_VERSION_HEADER", "Codec", "Contract", "Field", "Value", "to_millis"]

Codec = Literal["json", "avro"]
# The header of a message with the version of the schema that it was written by, as a number in digits.
WIRE_VERSION_HEADER = "weir-wire-version"
# They stand in SQL and in Avro's schema as they are.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record.

    Attributes:
        name: the column's name in every table that carries it.
        type: of `lakehouse/codecs/field_types.py`: string, long, double, decimal(p, s), boolean, date; timestamp and timestamp_us,
            which are an aware UTC instant in Python and TIMESTAMP in Spark, and milliseconds or microseconds since 1970 on the wire.
        required: a record without it is rejected.
        about: what it means, for people; becomes the column's comment.
        unit: of a number; empty for dimensionless ones.
        low: the least plausible value of a number, itself allowed; below it the record is rejected.
        high: the greatest plausible value of a number, itself allowed; above it the record is rejected.
        kind: what follows from the type.

    Raises:
        ValueError: the name is no plain one, there is no such type, or the bounds are none of a number.
    """

    name: str
    type: str
    required: bool = False
    about: str = ""
    unit: str = ""
    low: float | Decimal | None = None
    high: float | Decimal | None = None
    kind: FieldType = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"Field {self.name!r}: a name begins with a letter and has letters, digits and _ only")
        try:
            kind = field_type(self.type)
        except ValueError as error:
            raise ValueError(f"Field {self.name}: {error}") from None
        if not kind.is_number and (self.low is not None or self.high is not None):
            raise ValueError(f"Field {self.name}: a {kind.name} has no least or greatest value")
        if kind.precision:
            # As it is written: the double that is nearest to 0.1 is greater than the decimal 0.1.
            object.__setattr__(self, "low", None if self.low is None else Decimal(str(self.low)))
            object.__setattr__(self, "high", None if self.high is None else Decimal(str(self.high)))
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise ValueError(f"Field {self.name}: nothing lies between {self.low} and {self.high}")
        object.__setattr__(self, "kind", kind)


@dataclass(frozen=True, slots=True)
class Contract:
    """The records of one topic.

    Attributes:
        topic: with dots and hyphens, ending in the version of the contract.
        entity: the fields that make the Kafka key; records of one entity stay in order within a partition.
        key: the fields that identify a record; of two records with one key the newer version wins. A time need not be among them.
        version: the field that orders versions of one key; see `latest_per_key` for equal versions.
        fields: in the order of the columns.
        codec: how a record is written. Bytes of one codec do not read as the other: a change needs a new topic.
        event_time: the field with the instant at which it happened; empty where there is none.
        deleted: the boolean field that says that what the key identifies is gone; empty where there is none. Silver keeps the row with its
            flag, versioned like any change, so that an older message does not bring it back.
        wire_version: the version of the schema that the producer writes, from 1 on; goes with each message as a header. Each set of Avro
            fields needs one of its own, since Avro's bytes are read by the schema they were written by.
        former: the fields of each earlier wire version of an Avro contract, version 1 first.
        names: the names of the fields, in order.

    Raises:
        ValueError: a name is of no field, a field has a type that its role does not allow, or the versions do not follow each other.
    """

    topic: str
    entity: tuple[str, ...]
    key: tuple[str, ...]
    version: str
    fields: tuple[Field, ...]
    codec: Codec = "json"
    event_time: str = ""
    deleted: str = ""
    wire_version: int = 1
    former: tuple[tuple[Field, ...], ...] = ()
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(f.name for f in self.fields))
        if wrong := [*self._wrong_names(), *self._wrong_roles(), *self._wrong_versions()]:
            raise ValueError(f"Contract {self.topic or 'without a topic'}: {'; '.join(wrong)}")

    def _wrong_names(self) -> Iterator[str]:
        # Spark's names know no case.
        folded = [name.lower() for name in self.names]
        for name in self.names:
            if folded.count(name.lower()) > 1:
                yield f"two fields are named {name}"
        optional = {"event_time": self.event_time, "deleted": self.deleted}
        named = {
            "entity": self.entity,
            "key": self.key,
            "version": (self.version,),
            **{role: (name,) for role, name in optional.items() if name},
        }
        for role, names in named.items():
            if not names:
                yield f"{role} names no field"
            for name in names:
                if name not in self.names:
                    yield f"{role} names {name!r}, which is no field; there are {', '.join(self.names)}"

    def _wrong_roles(self) -> Iterator[str]:
        for f in self.fields:
            if f.name == self.event_time and not f.kind.is_instant:
                yield f"event_time is {f.name}, a {f.type}, expected timestamp or timestamp_us"
            if f.name == self.deleted and f.type != "boolean":
                yield f"deleted is {f.name}, a {f.type}, expected boolean"
            if f.name == self.version and f.type == "boolean":
                yield f"version is {f.name}, a boolean, which orders nothing"

    def _wrong_versions(self) -> Iterator[str]:
        if self.codec not in get_args(Codec):
            yield f"codec is {self.codec!r}, expected one of {', '.join(get_args(Codec))}"
        if self.wire_version < 1:
            yield f"wire_version is {self.wire_version}, expected 1 or more"
        elif self.codec == "json" and self.former:
            yield "former fields are for Avro; JSON is read without its writer's schema"
        elif self.codec == "avro" and len(self.former) != self.wire_version - 1:
            yield f"wire_version is {self.wire_version}, but {len(self.former)} former version(s) are listed"
        now = {f.name: f for f in self.fields}
        for version, fields in enumerate(self.former, start=1):
            before = {f.name: f for f in fields}
            for name, f in before.items():
                if name not in now:
                    yield f"version {version} has a field {name}, which is no field now"
                elif not f.kind.may_become(now[name].kind):
                    yield f"{name} was a {f.type} in version {version}, which does not read as {now[name].type}"
            yield from (
                f"{name} is required, but version {version} has none" for name, f in now.items() if f.required and name not in before
            )

    def field(self, name: str) -> Field:
        """Return the field of that name; KeyError when there is none."""
        for f in self.fields:
            if f.name == name:
                return f
        raise KeyError(f"{self.topic} has no field {name!r}; it has {', '.join(self.names)}")

    @property
    def shape(self) -> "Contract":
        """The contract without its ranges: a value out of range is data, kept among the rejects; what breaks the shape is no record."""
        return replace(self, fields=tuple(replace(field, low=None, high=None) for field in self.fields))

    def violations(self, record: Mapping[str, Value]) -> list[str]:
        """Return what is wrong with a record before it is sent; empty when it may go.

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
            elif not f.kind.holds(value):
                found.append(f"{f.name} is {type(value).__name__} {value!r}, expected {f.type}")
            elif isinstance(value, (int, float, Decimal)) and f.kind.is_number and not _in_range(value, f):
                found.append(_out_of_range(value, f))
        return found

    def encode(self, record: Mapping[str, Value]) -> bytes:
        """Write a record as it goes on the wire, by the contract's codec.

        Raises:
            ValueError, TypeError: it is no record of the contract, see `violations`.
        """
        # Here, since the codecs know contracts; and a program that sends JSON needs no Avro library.
        if self.codec == "avro":
            from lakehouse.codecs import avro_codec

            return avro_codec.encode(self, record)
        from lakehouse.codecs import json_codec

        return json_codec.encode(self, record)

    def encode_key(self, record: Mapping[str, Value]) -> bytes:
        """Write the Kafka key: the entity's fields, joined by a colon."""
        return ":".join(str(record[name]) for name in self.entity).encode()


def _in_range(value: float | Decimal, f: Field) -> bool:
    # A value that is no number compares with nothing.
    return -math.inf < value < math.inf and (f.low is None or value >= f.low) and (f.high is None or value <= f.high)


def _out_of_range(value: float | Decimal, f: Field) -> str:
    return f"{f.name} is {_figure(value)} {f.unit}".rstrip() + f", expected {_allowed(f)}"


def _allowed(f: Field) -> str:
    if f.low is not None and f.high is not None:
        return f"{_figure(f.low)} to {_figure(f.high)}"
    if f.low is not None:
        return f"at least {_figure(f.low)}"
    return f"at most {_figure(f.high)}" if f.high is not None else "a finite number"


def _figure(number: float | Decimal) -> str:
    """Write a number for people: a double shortly, one that is exact with all its digits."""
    return f"{number:g}" if isinstance(number, float) else str(number)
