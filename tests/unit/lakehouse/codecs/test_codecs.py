"""Is what is encoded decoded as it was, without Spark?"""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.codecs import avro_codec, json_codec
from lakehouse.contract import Contract, Field, Value

FIELDS = (
    Field("name", "string", required=True),
    Field("said", "timestamp", required=True),
    Field("count", "long"),
    Field("weight", "double"),
    Field("price", "decimal(10, 2)"),
    Field("exact", "decimal(38, 18)"),
    Field("is_open", "boolean"),
    Field("day", "date"),
    Field("at", "timestamp_us"),
)
AVRO = Contract("t.v1", ("name",), ("name",), "said", FIELDS, codec="avro")
JSON = replace(AVRO, codec="json")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

instants = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59), timezones=st.just(UTC))


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    return st.integers(-(10**precision) + 1, 10**precision - 1).map(
        lambda whole: Decimal((whole < 0, tuple(map(int, str(abs(whole)))), -scale))
    )


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.text(),
    "said": instants.map(lambda instant: instant.replace(microsecond=instant.microsecond // 1000 * 1000)),
    "count": st.integers(-(2**63), 2**63 - 1),
    "weight": st.floats(allow_nan=False, allow_infinity=False),
    "price": decimals(10, 2),
    "exact": decimals(38, 18),
    "is_open": st.booleans(),
    "day": st.dates(),
    "at": instants,
}
records = st.fixed_dictionaries({f.name: VALUES[f.name] if f.required else st.none() | VALUES[f.name] for f in FIELDS})


def decoded(contract: Contract, datum: bytes) -> dict[str, Value]:
    """Read by another reader, and the schema as it is published, with its logical types."""
    found: Any = fastavro.schemaless_reader(io.BytesIO(datum), avro_codec.schema(contract.fields), None)
    return dict(found)


@given(records)
def test_avro_decodes_to_the_record(record: dict[str, Value]) -> None:
    assert AVRO.violations(record) == []
    assert decoded(AVRO, AVRO.encode(record)) == record


@given(records)
def test_json_decodes_to_the_record(record: dict[str, Value]) -> None:
    wire = json.loads(JSON.encode(record))
    back: dict[str, Callable[[Any], Value]] = {
        "said": lambda v: EPOCH + timedelta(milliseconds=v),
        "at": lambda v: EPOCH + timedelta(microseconds=v),
        "price": Decimal,
        "exact": Decimal,
        "day": date.fromisoformat,
    }
    assert {name: back[name](value) if name in back else value for name, value in wire.items()} == {
        k: v for k, v in record.items() if v is not None
    }
    assert isinstance(wire.get("exact", ""), str), "a number would be read as a double"


def test_avro_finer_than_a_millisecond_is_cut_as_in_json() -> None:
    record: dict[str, Value] = {"name": "x", "said": EPOCH - timedelta(microseconds=1)}
    assert decoded(AVRO, AVRO.encode(record))["said"] == EPOCH - timedelta(milliseconds=1)


@pytest.mark.parametrize("record", [{"name": "x"}, {"name": 5, "said": EPOCH}, {"name": "x", "said": EPOCH, "price": Decimal("1.005")}])
def test_avro_encodes_no_record_that_is_none_of_the_contracts(record: dict[str, Value]) -> None:
    assert AVRO.violations(record) != []
    with pytest.raises((TypeError, ValueError)):
        AVRO.encode(record)


def test_schema_for_readers_elsewhere_names_logical_types_and_what_may_be_null() -> None:
    fields = {f["name"]: f["type"] for f in avro_codec.schema(FIELDS)["fields"]}
    assert fields["said"] == {"type": "long", "logicalType": "timestamp-millis"}
    assert fields["at"] == ["null", {"type": "long", "logicalType": "timestamp-micros"}]
    assert fields["exact"] == ["null", {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 18}]
    assert fields["day"] == ["null", {"type": "int", "logicalType": "date"}]


def test_every_version_has_a_branch_and_reads_as_the_fields_of_today() -> None:
    contract = replace(AVRO, wire_version=2, former=(FIELDS[:3],))
    assert {version: len(fields) for version, fields in avro_codec.known_versions(contract).items()} == {1: 3, 2: 9}
    sql = avro_codec.parsing(contract)
    assert sql.count("from_avro(") == 2 and "WHEN 1 THEN" in sql and "WHEN 2 THEN" in sql
    assert "from_avro" not in json_codec.parsing(JSON)
