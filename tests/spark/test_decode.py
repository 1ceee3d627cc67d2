"""Does DuckDB read a message as Spark does, whatever stands in it? Every type, on values, odd texts and damaged ones, exactly."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import cast

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from lakehouse.codecs.parse import to_bronze, undecoded
from lakehouse.contract import Contract, Field, Value
from lakehouse.decode import decode_rows, undecoded_by
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.domains.kaggle.contract import DATASETS, USERS
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.engine.on_spark import SparkEngine
from tests.spark.test_codecs import AVRO, BAD_JSON, GOOD_JSON, JSON, NOON, RECORDS, in_json

TEXTS = ["hanoi", "Đà Nẵng", "", 'a "b" \\ c/', "tab\tand\nline", "😀", "\x7f\x80", "\u2028", "}", '","count":1', "\ufeff"]
DOUBLES = [0.0, -0.0, 5, 0.1, 1e16, 1e22, 1e-7, -1.7e308, 5e-324, 2**53, 2**63, 10.5, 123456789.123456789]
NUMBERS = [
    *("-0", "0", "-0.0", "-1", "01", "1.", ".5", "+1", "1e3", "1E+3", "1e-3", "1e99", "1e400", "-1e-400", "1e", "0x10", "NaN", "Infinity"),
    *("123456789012345678", "999999999999999999", "1000000000000000000", "9223372036854775808", "12345678901234567890123"),
    *(
        "0.1234567890123456789012345",
        "2.2250738585072011e-308",
        "1" * 1200,
        "0." + "1" * 1200,
        "null",
        '"5"',
        "true",
        "[1]",
        "{}",
        " 1",
        "1 ",
    ),
]


def value(f: Field, chance: random.Random) -> Value:
    if f.type == "string":
        return chance.choice(TEXTS)
    if f.type == "long":
        return chance.choice([0, 1, -1, 10**17, 2**63 - 1, -(2**63), chance.randrange(-(10**6), 10**6)])
    if f.type == "double":
        return chance.choice([*DOUBLES, chance.uniform(-1000, 1000), round(chance.uniform(0, 500), 1)])
    if f.type == "boolean":
        return chance.random() < 0.5
    if f.type == "date":
        return chance.choice([date(1, 1, 1), date(1582, 10, 10), date(2024, 2, 29), date(9999, 12, 31)])
    if f.kind.is_instant:
        known = [datetime(1, 1, 1, tzinfo=UTC), datetime(1888, 2, 29, tzinfo=UTC), NOON, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)]
        return chance.choice([*known, NOON + timedelta(milliseconds=chance.randrange(10**9))])
    digits = chance.randrange(1, f.kind.precision + 1)
    return Decimal(chance.choice([-1, 1]) * chance.randrange(10**digits)).scaleb(-f.kind.scale, None)


def record(contract: Contract, chance: random.Random) -> dict[str, Value]:
    return {f.name: value(f, chance) for f in contract.fields if f.required or chance.random() < 0.7}


def damaged(text: bytes, chance: random.Random) -> bytes:
    """Change a message somewhere: readers of JSON differ in what they make of the result."""
    at = chance.randrange(len(text) + 1)
    ways: list[Callable[[], bytes]] = [
        lambda: (
            text[:at]
            + chance.choice([b" ", b"\n", b",", b"}", b"{", b'"', b"'", b"\\", b"\\u0041", b"\x00", b"\xff", b"0", b"-", b"e", b"null"])
            + text[at:]
        ),
        lambda: text[:at] + text[at + 1 :],
        lambda: text[:at],
        lambda: text[:-1] + b",}",
        lambda: text[:-1] + b',"more":1}',
        lambda: text + chance.choice([b" ", b"{}", b"\x00"]),
        lambda: text.replace(b":", b": ", 1),
        lambda: json.dumps(dict(reversed(json.loads(text).items())), separators=(",", ":"), ensure_ascii=False).encode(),
        lambda: text[:-1] + b"," + text[1:],  # each field twice
        lambda: json.dumps(json.loads(text)).encode(),
    ]
    return chance.choice(ways)()


def odd_numbers(contract: Contract) -> Iterator[bytes]:
    """Each odd number in each field, with the other fields as they should be."""
    plain = {f.name: f.kind.json.write(value(f, random.Random(1))) for f in contract.fields if f.required}
    for f in contract.fields:
        for number in NUMBERS:
            others = {**plain, f.name: "@"}
            in_order = {name: others[name] for name in contract.names if name in others}
            yield json.dumps(in_order, separators=(",", ":"), ensure_ascii=False).replace('"@"', number).encode()


def messages(values: Sequence[bytes | None]) -> pa.Table:
    return pa.table(
        {
            "value": pa.array(values, pa.binary()),
            "topic": pa.array(["t"] * len(values)),
            "partition": pa.array([0] * len(values), pa.int32()),
            "offset": pa.array(range(len(values)), pa.int64()),
            "timestamp": pa.array([NOON] * len(values), pa.timestamp("us", "UTC")),
        }
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckEngine]:
    duck = DuckEngine()
    yield duck
    duck.close()


@pytest.mark.parametrize("contract", [JSON, HOURLY, USERS, DATASETS], ids=lambda one: one.topic)
def test_duckdb_decodes_as_spark_does(session: SparkSession, engine: DuckEngine, contract: Contract) -> None:
    chance = random.Random(7)
    records = [contract.encode(record(contract, chance)) for _ in range(400)]
    values: list[bytes | None] = [
        *records,
        *(damaged(chance.choice(records), chance) for _ in range(2_000)),
        *odd_numbers(contract),
        None,
        b"",
    ]
    if contract == JSON:
        values += [JSON.encode(one) for one in RECORDS]
        values += [in_json(name, text).value for name, listed in GOOD_JSON.items() for text, _ in listed]
        values += [in_json(name, text).value for name, texts in BAD_JSON.items() for text in texts]
    frame = session.createDataFrame(messages(values)).coalesce(1)
    by_spark = to_bronze(frame, contract).toArrow()
    found = decode_rows(undecoded(frame).toArrow(), contract, engine, session).sort_by("kafka_offset")
    assert found.schema == by_spark.schema
    for one, other in zip(found.to_pylist(), by_spark.to_pylist(), strict=True):
        assert repr(one) == repr(other)  # which tells -0.0 from 0.0


@pytest.mark.parametrize("contract", [JSON, HOURLY, USERS, DATASETS], ids=lambda one: one.topic)
def test_what_weir_writes_is_left_to_duckdb(session: SparkSession, engine: DuckEngine, contract: Contract) -> None:
    chance = random.Random(8)
    records = [{name: one for name, one in record(contract, chance).items() if is_usual(one)} for _ in range(500)]
    required = {f.name for f in contract.fields if f.required}
    sent = [contract.encode(one) for one in records if required <= one.keys()]
    assert len(sent) > 50
    rows = undecoded(session.createDataFrame(messages(sent))).toArrow()
    nobody = cast(SparkSession, None)
    assert decode_rows(rows, contract, engine, nobody).num_rows == len(sent)


def is_usual(value: Value) -> bool:
    """Whether a value is none that is left to Spark: numbers of 16 digits and more, or with an exponent of three digits."""
    return not isinstance(value, int | float) or value == 0 or 1e-99 < abs(value) < 1e15


def test_avro_and_another_engine_are_left_to_spark(session: SparkSession, engine: DuckEngine) -> None:
    frame = session.createDataFrame(messages([b"{}"]))
    assert undecoded_by(frame, JSON, engine) is not None
    assert undecoded_by(frame, AVRO, engine) is None
    assert undecoded_by(frame, JSON, SparkEngine(session)) is None
    assert undecoded_by(frame, JSON, None) is None
