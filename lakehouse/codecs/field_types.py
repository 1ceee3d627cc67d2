"""Which types may a field of a contract have, and what follows from each? One table for Python, both codecs, Spark, DuckDB and Iceberg.

Standard library only, so that a producer starts without Spark. SQL is text with `{}` where the expression of what was read stands.

No codec gives a value that differs from what was sent. Spark's own readers are not that strict: Spark 4.1's `from_json` rounds a
decimal with too many digits after the point, and takes "2024-02" and 19000 in quotes for dates. So a type is read as something that
loses nothing, and `misfit` says where that is no value of the type.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache

Value = str | float | int | Decimal | date | datetime | None
AvroType = str | dict[str, str | int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND, _MICROSECOND = timedelta(milliseconds=1), timedelta(microseconds=1)
_LONGEST_DECIMAL = 38  # digits: of Spark's, Iceberg's and DuckDB's
# Years 1 to 9999, which Python knows. Beyond, Spark's own arithmetic overflows and one message would stop the query.
_FIRST_MILLIS, _LAST_MILLIS = -62_135_596_800_000, 253_402_300_799_999
_FIRST_MICROS, _LAST_MICROS = _FIRST_MILLIS * 1000, _LAST_MILLIS * 1000 + 999
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896


# Texts of JSON as its grammar has them, without what readers take differently: -0 as a whole number, digits beyond 64 bits, exponents
# that a double does not reach, escapes by number, which may be half a character.
_WHOLE = "(?:0|-?[1-9][0-9]{0,17})"
_MANTISSA = "-?(?:0|[1-9][0-9]{0,16})"
_NUMBER = rf"(?:0|-?[1-9][0-9]{{0,14}}|{_MANTISSA}\.[0-9]{{1,20}}(?:[eE][-+]?[0-9]{{1,2}})?|{_MANTISSA}[eE][-+]?[0-9]{{1,2}})"
_TEXT = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])*"'


@dataclass(frozen=True, slots=True)
class JsonForm:
    """How JSON carries a type.

    Attributes:
        write: turns a value into what the JSON text holds.
        read_as: the type inside `from_json`.
        column: SQL of the column's value, over what was read.
        misfit: SQL condition over what was read, not null: it is no value of the type. Empty where `from_json` itself says so.
        suspect: SQL condition over the field as a VARIANT, not null: it is no value of the type. For reasons of rejects alone. Empty
            where everything is one.
        plain: the texts of values that DuckDB reads as well.
    """

    write: Callable[[Value], object]
    read_as: str
    plain: "PlainForm"
    column: str = "{}"
    misfit: str = ""
    suspect: str = ""


@dataclass(frozen=True, slots=True)
class PlainForm:
    """How DuckDB reads JSON of a type, for those texts that it surely reads as Spark does; all that `write` gives are among them.

    Attributes:
        token: a regular expression (RE2) of the texts.
        read_as: the type inside DuckDB's `from_json`.
        column: DuckDB's SQL of the column's value, over what was read, which may be no value of the type: DuckDB computes all of a query.
        fits: DuckDB's SQL condition over what was read, not null, for what the expression cannot say; empty where it says everything.
    """

    token: str
    read_as: str
    column: str = "{}"
    fits: str = ""


@dataclass(frozen=True, slots=True)
class AvroForm:
    """How Avro's binary form carries a type.

    Attributes:
        write: turns a value into what the Avro library takes.
        schema: the type in the writer's schema, with its logical type.
        read_as: the type by which Spark reads the same bytes, where one that is wider leaves a misfit to be named.
        column: SQL of the column's value, over what was read.
        misfit: SQL condition over what was read, not null: it is no value of the type. Empty where everything is one.
    """

    write: Callable[[Value], object]
    schema: AvroType
    read_as: AvroType
    column: str = "{}"
    misfit: str = ""


@dataclass(frozen=True, slots=True)
class FieldType:
    """A type of a field.

    Attributes:
        name: as a contract says it, such as `decimal(10, 2)`.
        holds: whether a Python value is one.
        sql: the column's type in Spark's SQL and in the DDL of an Iceberg table, which are the same.
        duckdb: the column's type in DuckDB.
        json: how JSON carries it.
        avro: how Avro carries it.
        precision: all digits of a decimal; 0 of other types.
        scale: a decimal's digits after the point; 0 of other types.
    """

    name: str
    holds: Callable[[Value], bool]
    sql: str
    duckdb: str
    json: JsonForm
    avro: AvroForm
    precision: int = 0
    scale: int = 0

    @property
    def is_number(self) -> bool:
        """Whether it can have a least and a greatest value."""
        return self.name in ("long", "double") or bool(self.precision)

    @property
    def is_instant(self) -> bool:
        """Whether it is an instant, in whatever unit on the wire."""
        return self.name in ("timestamp", "timestamp_us")

    def may_become(self, other: "FieldType") -> bool:
        """Whether old messages and old files read as the other type without a loss: the same type, or a decimal with more digits."""
        is_longer = bool(self.precision) and self.scale == other.scale and self.precision <= other.precision
        return self.name == other.name or is_longer


def to_millis(instant: datetime) -> int:
    """Milliseconds since 1970-01-01 UTC of an aware instant; finer parts are cut."""
    return (instant - _EPOCH) // _MILLISECOND


def to_micros(instant: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware instant."""
    return (instant - _EPOCH) // _MICROSECOND


@cache
def field_type(name: str) -> FieldType:
    """Return the type of that name.

    Raises:
        ValueError: there is none, or a decimal has digits that no column can have.
    """
    if name in _PLAIN:
        return _PLAIN[name]
    if digits := re.fullmatch(r"decimal\(([0-9]+), ?([0-9]+)\)", name):
        precision, scale = int(digits[1]), int(digits[2])
        if 1 <= precision <= _LONGEST_DECIMAL and scale <= precision:
            return _decimal(precision, scale)
    raise ValueError(
        f"no type {name!r}; there are {', '.join(_PLAIN)} and decimal(p, s) with p from 1 to {_LONGEST_DECIMAL} and s from 0 to p"
    )


def _same(value: Value) -> object:
    return value


def _is_string(value: Value) -> bool:
    return isinstance(value, str)


def _is_long(value: Value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_double(value: Value) -> bool:
    if isinstance(value, bool):
        return False
    # A whole number beyond the greatest double would arrive as an infinite one.
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= sys.float_info.max)


def _is_boolean(value: Value) -> bool:
    return isinstance(value, bool)


def _is_date(value: Value) -> bool:
    return isinstance(value, date) and not isinstance(value, datetime)


def _is_instant(value: Value) -> bool:
    return isinstance(value, datetime) and value.utcoffset() == timedelta(0)


def _day(value: Value) -> object:
    assert isinstance(value, date)
    return value.isoformat()


def _day_number(value: Value) -> object:
    assert isinstance(value, date)
    return (value - _EPOCH.date()).days


def _millis(value: Value) -> object:
    assert isinstance(value, datetime)
    return to_millis(value)


def _micros(value: Value) -> object:
    assert isinstance(value, datetime)
    return to_micros(value)


def _plain_instant(unit: str, first: int, last: int) -> PlainForm:
    micros = "{} * 1000" if unit == "millis" else "{}"
    return PlainForm(_WHOLE, "BIGINT", f"TRY(make_timestamptz({micros}))", f"{{}} BETWEEN {first} AND {last}")


def _instant(name: str, write: Callable[[Value], object], unit: str, first: int, last: int) -> FieldType:
    # Read as a whole number: a timestamp inside `from_json` costs 1.6 times as much.
    beyond = f"{{}} NOT BETWEEN {first} AND {last}"
    column = f"timestamp_{unit}({{}})"
    kind, whole = "schema_of_variant({})", "try_variant_get({}, '$', 'bigint')"
    suspect = f"({kind} NOT IN ('BIGINT', 'VOID') OR {whole} NOT BETWEEN {first} AND {last})"
    return FieldType(
        name,
        _is_instant,
        sql="TIMESTAMP",
        duckdb="TIMESTAMPTZ",
        json=JsonForm(write, "BIGINT", _plain_instant(unit, first, last), column, beyond, suspect),
        avro=AvroForm(write, {"type": "long", "logicalType": f"timestamp-{unit}"}, "long", column, beyond),
    )


def _plain_decimal(precision: int, scale: int) -> PlainForm:
    whole = f"[0-9]{{1,{precision - scale}}}" if precision > scale else "0"
    digits = rf"(?:\.[0-9]{{1,{scale}}})?" if scale else ""
    return PlainForm(f'"-?{whole}{digits}"', "VARCHAR", f"TRY_CAST({{}} AS DECIMAL({precision}, {scale}))")


def _decimal(precision: int, scale: int) -> FieldType:
    limit = 10**precision

    def unscaled(value: Decimal) -> int | None:
        """Return the value as a whole number of its last digit; None where it does not fit."""
        sign, digits, exponent = value.as_tuple()
        if not isinstance(exponent, int):
            return None  # not a number, or infinite
        # Digits alone: Decimal's own arithmetic rounds to 28 of them.
        shift, whole = exponent + scale, int("".join(map(str, digits)))
        if whole == 0:
            return 0
        if (shift < 0 and any(digits[shift:])) or shift > precision:
            return None
        whole = whole * 10**shift if shift >= 0 else whole // 10**-shift
        return None if whole >= limit else -whole if sign else whole

    def fitting(value: Value) -> int:
        whole = unscaled(value) if isinstance(value, Decimal) else None
        if whole is None:
            raise ValueError(f"{value!r} is no decimal({precision}, {scale})")
        return whole

    def to_text(value: Value) -> object:
        digits = f"{abs(fitting(value)):0{scale + 1}d}"
        number = f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
        return f"-{number}" if fitting(value) < 0 else number

    def to_bytes(value: Value) -> object:
        whole = fitting(value)
        return whole.to_bytes(whole.bit_length() // 8 + 1, "big", signed=True)

    # In JSON it is written as text: most readers and writers of JSON make a double of a number, and of 0.1 something else. A number is
    # read as well. Inside `from_json` it is a VARIANT, which keeps up to 38 digits; DECIMAL would be rounded, and STRING makes a double
    # of a number. A number with an exponent, or with more digits, is a double in a VARIANT too, and what was sent is not known any more.
    text = "try_variant_get({}, '$', 'string')"
    number = f"0*[0-9]{{0,{precision - scale}}}([.][0-9]{{0,{scale}}}0*)?"
    fits = f"{text} IS NULL OR ({text} RLIKE '^-?{number}$' AND {text} RLIKE '[0-9]')"
    misfit = f"NOT (schema_of_variant({{}}) RLIKE '^(STRING|BIGINT|DECIMAL|VOID)' AND ({fits}))"
    # In Avro it is read with as many digits as Spark has, so that one with too many digits can be told from damaged bytes.
    avro: AvroType = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
    wide: AvroType = {"type": "bytes", "logicalType": "decimal", "precision": _LONGEST_DECIMAL, "scale": scale}
    sql = f"DECIMAL({precision}, {scale})"
    return FieldType(
        f"decimal({precision}, {scale})",
        lambda value: isinstance(value, Decimal) and unscaled(value) is not None,
        sql=sql,
        duckdb=sql,
        json=JsonForm(to_text, "VARIANT", _plain_decimal(precision, scale), f"try_cast({text} AS {sql})", misfit, misfit),
        avro=AvroForm(
            to_bytes,
            avro,
            wide,
            f"try_cast({{}} AS {sql})",
            f"abs({{}}) >= {10 ** (precision - scale)}BD" if precision < _LONGEST_DECIMAL else "",
        ),
        precision=precision,
        scale=scale,
    )


_DAY = "({} IS NULL OR ({} RLIKE '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' AND {} > '0001' AND try_cast({} AS DATE) IS NOT NULL))"
_DAY_OF_VARIANT = _DAY.replace("{}", "try_variant_get({}, '$', 'string')")

_PLAIN = {
    "string": FieldType(
        "string",
        _is_string,
        sql="STRING",
        duckdb="VARCHAR",
        # Whatever else stands there is taken as its JSON text, as `from_json` does.
        json=JsonForm(_same, "STRING", PlainForm(_TEXT, "VARCHAR")),
        # Bytes that are no UTF-8 would stop whoever brings the column to Python.
        avro=AvroForm(_same, "string", "string", misfit="NOT is_valid_utf8({})"),
    ),
    "long": FieldType(
        "long",
        _is_long,
        sql="BIGINT",
        duckdb="BIGINT",
        json=JsonForm(_same, "BIGINT", PlainForm(_WHOLE, "BIGINT"), suspect="schema_of_variant({}) NOT IN ('BIGINT', 'VOID')"),
        avro=AvroForm(_same, "long", "long"),
    ),
    "double": FieldType(
        "double",
        _is_double,
        sql="DOUBLE",
        duckdb="DOUBLE",
        json=JsonForm(
            _same, "DOUBLE", PlainForm(_NUMBER, "DOUBLE"), suspect="NOT schema_of_variant({}) RLIKE '^(DOUBLE|BIGINT|DECIMAL|VOID)'"
        ),
        avro=AvroForm(_same, "double", "double"),
    ),
    "boolean": FieldType(
        "boolean",
        _is_boolean,
        sql="BOOLEAN",
        duckdb="BOOLEAN",
        json=JsonForm(_same, "BOOLEAN", PlainForm("(?:true|false)", "BOOLEAN"), suspect="schema_of_variant({}) NOT IN ('BOOLEAN', 'VOID')"),
        avro=AvroForm(_same, "boolean", "boolean"),
    ),
    "date": FieldType(
        "date",
        _is_date,
        sql="DATE",
        duckdb="DATE",
        # Read as text: DATE would take a month, a year or an instant for a day.
        json=JsonForm(
            _day,
            "STRING",
            PlainForm(
                '"[0-9]{4}-[0-9]{2}-[0-9]{2}"', "VARCHAR", "TRY_CAST({} AS DATE)", "{} > '0001' AND TRY_CAST({} AS DATE) IS NOT NULL"
            ),
            "try_cast({} AS DATE)",
            f"NOT {_DAY}",
            f"NOT {_DAY_OF_VARIANT}",
        ),
        avro=AvroForm(
            _day_number,
            {"type": "int", "logicalType": "date"},
            "int",
            "date_from_unix_date({})",
            f"{{}} NOT BETWEEN {_FIRST_DAY} AND {_LAST_DAY}",
        ),
    ),
    "timestamp": _instant("timestamp", _millis, "millis", _FIRST_MILLIS, _LAST_MILLIS),
    "timestamp_us": _instant("timestamp_us", _micros, "micros", _FIRST_MICROS, _LAST_MICROS),
}
