"""Does every type arrive as it was sent, by both codecs, and does what is no value of its type become a reject that names the field?"""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse.codecs.parse import retyped, to_bronze
from lakehouse.codecs.unknown_fields import unknown_names
from lakehouse.contract import WIRE_VERSION_HEADER, Codec, Contract, Field, Value
from lakehouse.registry import build_domain
from lakehouse.rules import REASON, RULE, TOMBSTONE, contract_rules, with_reason, with_verdict
from lakehouse.settings import Settings
from lakehouse.spark import iceberg_table
from lakehouse.tables.catalog import open_catalog
from lakehouse.tables.create import create_missing
from lakehouse.tables.schema import SOURCE_COLUMNS, Table, contract_columns, quote_name
from lakehouse.write.append_chunk import typed
from lakehouse.write.fenced_append import FencedAppend
from lakehouse.write.plain_rows import append_rows
from lakehouse.write.small_batches.data_files import DataFileWriter
from streaming.bronze import read_topics
from tests.support.verdicts import assert_same_verdict

NOON = datetime(2024, 2, 29, 12, 0, 0, 123_000, tzinfo=UTC)
FIELDS = (
    Field("name", "string", required=True, about="the key"),
    Field("said", "timestamp", required=True, about="greater wins"),
    Field("count", "long", about="how many"),
    Field("weight", "double", about="how heavy", unit="kg"),
    Field("price", "decimal(10, 2)", about="for one", unit="EUR"),
    Field("exact", "decimal(38, 18)", about="all digits there are"),
    Field("is_open", "boolean", about="for business"),
    Field("day", "date", about="of the year"),
    Field("at", "timestamp_us", about="to the microsecond"),
)
JSON = Contract("every.type.v1", ("name",), ("name",), "said", FIELDS)
AVRO = replace(JSON, codec="avro")
BY_CODEC: Mapping[Codec, Contract] = {"json": JSON, "avro": AVRO}
BRONZE = Table("lh.bronze.every_type", "one row per message", (), (*contract_columns(JSON), *SOURCE_COLUMNS))

WHOLE: dict[str, Value] = {
    "name": "Đà Nẵng",
    "said": NOON,
    "count": 2**63 - 1,
    "weight": 0.1,
    "price": Decimal("-99999999.99"),
    "exact": Decimal("12345678901234567890.123456789012345678"),
    "is_open": False,
    "day": date(2024, 2, 29),
    "at": NOON + timedelta(microseconds=1),
}
RECORDS: Sequence[dict[str, Value]] = [
    WHOLE,
    {"name": "nothing else", "said": NOON},
    {
        "name": "",
        "said": datetime(1, 1, 1, tzinfo=UTC),
        "count": -(2**63),
        "weight": -1.7e308,
        "price": Decimal("1.5"),
        "exact": Decimal("-1E-18"),
        "is_open": True,
        "day": date(1, 1, 1),
        "at": datetime(1, 1, 1, tzinfo=UTC),
    },
    {
        "name": "last",
        "said": datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        "count": 0,
        "weight": 5,
        "price": Decimal(0),
        "exact": Decimal("99999999999999999999.999999999999999999"),
        "day": date(9999, 12, 31),
        "at": datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    },
]


@dataclass(frozen=True)
class Sent:
    """One message; `version` is the text of its header, null for none."""

    value: bytes | None
    version: str | None = "1"


def messages(session: SparkSession, sent: Iterable[Sent]) -> DataFrame:
    """Messages as Kafka's source gives them, in one partition."""
    listed = list(sent)
    header = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
    # As Kafka has them: none at all is null, and one key may stand there twice.
    before: list[dict[str, object]] = [{"key": WIRE_VERSION_HEADER, "value": b"77"}, {"key": "source", "value": None}]
    headers = [None if v is None else [*before, {"key": WIRE_VERSION_HEADER, "value": v.encode()}] for v in (one.version for one in listed)]
    rows = pa.table(
        {
            "value": pa.array([one.value for one in listed], pa.binary()),
            "topic": pa.array(["every.type.v1"] * len(listed)),
            "partition": pa.array([0] * len(listed), pa.int32()),
            "offset": pa.array(range(len(listed)), pa.int64()),
            "timestamp": pa.array([NOON] * len(listed), pa.timestamp("us", "UTC")),
            "headers": pa.array(headers, header),
        }
    )
    return session.createDataFrame(rows).coalesce(1)


def judged(session: SparkSession, contract: Contract, sent: Iterable[Sent]) -> list[dict[str, Any]]:
    """Each message, in order, with its fields, rule and reason."""
    rules = contract_rules(contract)
    bronze = to_bronze(messages(session, sent), contract)
    assert_same_verdict(bronze, contract, rules)
    rows = with_reason(with_verdict(bronze, rules), rules)
    return list(rows.orderBy("kafka_offset").toArrow().to_pylist())


def read_back(contract: Contract, record: Mapping[str, Value]) -> dict[str, Value]:
    """What a record is in a table: every field there, and a whole number of a double one."""
    found = {name: record.get(name) for name in contract.names}
    return found | {"weight": None if found["weight"] is None else float(found["weight"])}  # type: ignore[arg-type]  # a number


def fields(row: Mapping[str, Any], contract: Contract = JSON) -> dict[str, Any]:
    return {name: row[name] for name in contract.names}


# By field: the JSON of good values with what they become, and that of values that are none.
GOOD_JSON: dict[str, list[tuple[str, Value]]] = {
    "count": [("null", None), ("5", 5), ("-0", 0), ("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63))],
    "weight": [("null", None), ("1", 1.0), ("0.1", 0.1), ("1e3", 1000.0), ("-1e-400", -0.0)],
    "price": [
        *(("null", None), ('"1.25"', Decimal("1.25")), ("1.25", Decimal("1.25")), ("1", Decimal(1)), ('"1"', Decimal(1))),
        *(('"1.500"', Decimal("1.5")), ("1.500", Decimal("1.5")), ("-0.0", Decimal(0)), ('"000000000001.5"', Decimal("1.5"))),
        *(('"-99999999.99"', Decimal("-99999999.99")), ("99999999.99", Decimal("99999999.99")), ('".5"', Decimal("0.5"))),
    ],
    "exact": [
        ('"12345678901234567890.123456789012345678"', Decimal("12345678901234567890.123456789012345678")),
        ("12345678901234567890.123456789012345678", Decimal("12345678901234567890.123456789012345678")),
        ('"0.100000000000000000000000000000000000000000000000"', Decimal("0.1")),
    ],
    "is_open": [("null", None), ("true", True), ("false", False)],
    "day": [
        *(("null", None), ('"2024-02-29"', date(2024, 2, 29))),
        *(('"0001-01-01"', date(1, 1, 1)), ('"9999-12-31"', date(9999, 12, 31)), ('"1582-10-10"', date(1582, 10, 10))),
    ],
    "at": [("null", None), ("0", datetime(1970, 1, 1, tzinfo=UTC)), ("-1", datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))],
    # Whatever stands there is taken as its JSON text, as it always was.
    "name": [("5", "5"), ("true", "true"), ('{"a":1}', '{"a":1}')],
}
BAD_JSON: dict[str, list[str]] = {
    "count": ["1.5", "1.0", "1e3", '"1"', '""', "true", "[1]", '{"a":1}', "9223372036854775808", "-9223372036854775809", "1e30"],
    "weight": ['"1.5"', '"NaN"', "true", "[1]", "{}"],
    "price": [
        *("1.255", '"1.255"', "1.005", '"100000000"', "100000000", "100000000.00", '"99999999.995"', "99999999.995", "1e999999999"),
        *('"x"', '""', '"-"', '"."', '" 1.25"', '"1,5"', '"1e2"', "1e2", "1E-3", '"NaN"', '"Infinity"', "true", "[1]", "{}"),
        # More digits than any column has: what was sent is not known any more, so it must not pass for 1 and 0.1.
        *("1.000000000000000000000000000000000000000000001", "0.1000000000000000000000000000000000000000000001"),
        '"1.000000000000000000000000000000000000000000001"',
    ],
    "exact": ['"0.0000000000000000001"', "0.0000000000000000001", '"100000000000000000000"', "1e20"],
    "is_open": ['"true"', '""', "1", "0", "[true]", "{}"],
    "day": [
        *('"2023-02-29"', '"2024-02"', '"2024"', '"2024-2-9"', '"2024-02-29T10:00:00Z"', '"2024-02-29 10:00"', '" 2024-02-29"', '""'),
        *('"10000-01-01"', '"0000-01-01"', '"-001-01-01"', '"+2024-01-01"', '"19000"', "19000", "true", "[2024]", "{}"),
    ],
    "at": ["1.5", '"0"', "true", "[0]", "9000000000000000000", "-62135596800000001", "253402300800000000", "9223372036854775808"],
    "said": ["1.5", '"0"', '"2024-03-01T00:00"', "9000000000000000000", "-62135596800001", "253402300800000"],
}


def in_json(field: str, text: str) -> Sent:
    other = {"name": '"x"', "said": "0"} | {field: text}
    return Sent(("{" + ",".join(f'"{name}":{value}' for name, value in other.items()) + "}").encode())


def test_value_of_every_type_is_read_from_json_as_it_stands_there(session: SparkSession) -> None:
    cases = [(field, text, value) for field, listed in GOOD_JSON.items() for text, value in listed]
    rows = judged(session, JSON, [in_json(field, text) for field, text, _ in cases])
    expected = [fields(dict.fromkeys(JSON.names) | {"name": "x", "said": datetime(1970, 1, 1, tzinfo=UTC)} | {f: v}) for f, _, v in cases]
    wrong = [
        (case, row[REASON], fields(row))
        for case, row, wanted in zip(cases, rows, expected, strict=True)
        if row[RULE] or fields(row) != wanted
    ]
    assert wrong == []
    absent = judged(session, JSON, [Sent(b'{"name":"x","said":0}')])[0]
    assert absent[RULE] is None and {absent[name] for name in JSON.names[2:]} == {None}


def test_what_is_no_value_of_its_type_is_a_reject_that_names_field_and_type(session: SparkSession) -> None:
    cases = [(field, text) for field, listed in BAD_JSON.items() for text in listed]
    rows = judged(session, JSON, [in_json(field, text) for field, text in cases])
    taken = [
        (field, text, row[RULE], row[REASON])
        for (field, text), row in zip(cases, rows, strict=True)
        if row[RULE] != "wrong_type"
        or not row[REASON].startswith(f"{field} is ")
        or not row[REASON].endswith(f", expected {JSON.field(field).type}")
    ]
    assert taken == []
    assert all(row[name] is None for row in rows for name in JSON.names), "half of a message passes for no whole one"
    both = judged(session, JSON, [Sent(b'{"name":"x","said":0,"count":1.5,"weight":2,"price":"1.255","day":null}')])[0]
    assert both[REASON] == 'count is 1.5, expected long; price is "1.255", expected decimal(10, 2)'


def test_number_that_no_double_has_is_out_of_range_without_any_bounds(session: SparkSession) -> None:
    rows = judged(session, JSON, [in_json("weight", "1e400"), in_json("weight", "-1e400"), in_json("weight", "1.7e308")])
    assert [row[RULE] for row in rows] == ["out_of_range", "out_of_range", None]
    assert rows[0][REASON] == "weight is Infinity, allowed is a finite number kg"


@pytest.mark.parametrize("codec", BY_CODEC)
def test_bounds_hold_for_longs_doubles_and_decimals_and_are_allowed_themselves(session: SparkSession, codec: Codec) -> None:
    bounded = tuple(
        replace(f, low=low, high=high)
        for f, low, high in ((FIELDS[2], 0, 2**63 - 1), (FIELDS[3], 0, 1.5), (FIELDS[4], 0.1, 0.3), (FIELDS[5], None, Decimal("1E-18")))
    )
    contract = replace(BY_CODEC[codec], fields=(*FIELDS[:2], *bounded))
    fine: dict[str, Value] = {
        "name": "x",
        "said": NOON,
        "count": 2**63 - 1,
        "weight": 1.5,
        "price": Decimal("0.30"),
        "exact": Decimal("1E-18"),
    }
    least = fine | {"count": 0, "weight": 0.0, "price": Decimal("0.1"), "exact": Decimal(-5)}
    changes: list[dict[str, Value]] = [
        {"count": -1},
        {"weight": 1.6},
        {"price": Decimal("0.09")},
        {"price": Decimal("0.31")},
        {"exact": Decimal("2E-18")},
    ]
    records = [fine, least, *(fine | change for change in changes)]
    rows = judged(session, contract, [Sent(contract.encode(one)) for one in records])
    assert [row[RULE] for row in rows] == [None, None, *["out_of_range"] * len(changes)]
    assert [bool(contract.violations(one)) for one in records] == [False, False, *[True] * len(changes)], "Python and SQL agree"
    assert rows[4][REASON] == "price is 0.09, allowed is from 0.1 up to 0.3 EUR"


@pytest.mark.parametrize("codec", BY_CODEC)
def test_what_a_producer_encodes_is_what_bronze_holds_and_reads_again(session: SparkSession, tmp_path: Path, codec: Codec) -> None:
    contract = BY_CODEC[codec]
    assert [contract.violations(record) for record in RECORDS] == [[]] * len(RECORDS)
    create_missing(session, [BRONZE])
    rows = to_bronze(messages(session, [*(Sent(contract.encode(record)) for record in RECORDS), Sent(None, None)]), contract)
    FencedAppend(BRONZE, {contract.topic: "one"}).append(rows, {})  # Arrow -> Parquet
    from_memory = session.table(BRONZE.name).orderBy("kafka_offset").toArrow().to_pylist()
    expected = [*(read_back(contract, record) for record in RECORDS), dict.fromkeys(contract.names)]
    assert [fields(row) for row in from_memory] == expected
    assert [row["wire_version"] for row in from_memory] == [*[1] * len(RECORDS), None]

    (path,) = [row[0] for row in session.sql(f"SELECT file_path FROM {BRONZE.name}.files").collect()]
    physical = {column.name: column.physical_type for column in pq.ParquetFile(path.removeprefix("file:")).schema}
    assert (physical["price"], physical["exact"]) == ("INT64", "FIXED_LEN_BYTE_ARRAY"), "as Iceberg's specification has it"

    again = retyped(session.table(BRONZE.name), contract).orderBy("kafka_offset").select(*BRONZE.names).toArrow()
    assert again.to_pylist() == from_memory
    append_rows(rows, BRONZE, {})  # by Spark, beside
    assert session.sql(f"SELECT DISTINCT * FROM {BRONZE.name}").count() == len(expected), "both ways write the same"

    table = open_catalog(Settings(home=tmp_path)).load_table("bronze.every_type").scan().to_arrow()
    by_pyiceberg = [row for row in table.sort_by("kafka_offset").to_pylist() if row["value"] is not None]
    assert [fields(row) for row in by_pyiceberg[::2]] == expected[:-1]
    # Iceberg's bounds of the files, which a filter is answered from, are those of the values.
    filters = [f"price = {WHOLE['price']}", f"exact = {WHOLE['exact']}", f"exact < 0 AND exact >= -{Decimal('1E-18'):f}"]
    for condition in (*filters, f"count = {2**63 - 1}", "is_open", "day > DATE '2024-02-29'", "at > TIMESTAMP '9999-01-01 00:00:00Z'"):
        assert session.table(BRONZE.name).where(condition).count() == 2, condition


def test_types_of_a_contract_are_those_of_iceberg_arrow_and_duckdb(session: SparkSession, tmp_path: Path) -> None:
    create_missing(session, [BRONZE])
    rows = typed(session, [JSON.encode(WHOLE)], JSON, "one")
    DataFileWriter(session, iceberg_table(session, BRONZE.name), ()).append(rows, {})
    held = open_catalog(Settings(home=tmp_path)).load_table("bronze.every_type").scan().to_arrow().select(JSON.names)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("held", held)
        described = connection.sql("DESCRIBE held").fetchall()
        named = ", ".join(f"CAST(NULL AS {f.kind.duckdb}) AS {quote_name(f.name)}" for f in JSON.fields)
        assert [row[:2] for row in described] == [row[:2] for row in connection.sql(f"DESCRIBE SELECT {named}").fetchall()]
        # Instants apart: DuckDB gives them to Python with a zone library that is not among ours.
        exact = [name for name in JSON.names if not JSON.field(name).kind.is_instant]
        found = connection.sql(f"SELECT {', '.join(map(quote_name, exact))} FROM held").fetchall()
        assert found == [tuple(WHOLE[name] for name in exact)]


def test_backfilled_rows_carry_the_version_that_they_were_encoded_by(session: SparkSession) -> None:
    contract = replace(AVRO, wire_version=2, former=(FIELDS[:2],))
    rows = typed(session, [contract.encode(record) for record in RECORDS], contract, "chunk").to_pylist()
    assert [fields(row) for row in rows] == [read_back(contract, record) for record in RECORDS]
    assert {row["wire_version"] for row in rows} == {2}
    again = retyped(session.createDataFrame(pa.Table.from_pylist(rows)), contract).select("source_row", *contract.names)
    assert [fields(row) for row in again.orderBy("source_row").toArrow().to_pylist()] == [fields(row) for row in rows]


# A contract at its third version: a field came with each, one became longer, and one need not be there any more.
FIRST = (FIELDS[0], Field("said", "timestamp", required=True), Field("price", "decimal(8, 2)", required=True))
SECOND = (FIELDS[0], Field("price", "decimal(8, 2)"), FIELDS[1], FIELDS[2])
THIRD = replace(AVRO, fields=(*FIELDS[:2], FIELDS[4], FIELDS[2], FIELDS[7]), wire_version=3, former=(FIRST, SECOND))


def test_message_is_read_by_the_schema_of_its_writer(session: SparkSession) -> None:
    record: dict[str, Value] = {"name": "x", "said": NOON, "price": Decimal("12.5"), "count": 7, "day": date(2024, 2, 29)}
    old = [Contract("t.v1", ("name",), ("name",), "said", of, codec="avro").encode(record) for of in (FIRST, SECOND)]
    rows = judged(session, THIRD, [Sent(old[0], "1"), Sent(old[1], "2"), Sent(THIRD.encode(record), "3")])
    assert [row[RULE] for row in rows] == [None] * 3, [row[REASON] for row in rows]
    assert [fields(row, THIRD) for row in rows] == [
        record | {"count": None, "day": None},
        record | {"day": None},
        record,
    ]


def test_unknown_version_and_damaged_bytes_are_rejects_and_stop_nothing(session: SparkSession) -> None:
    record: dict[str, Value] = {"name": "x", "said": NOON, "price": Decimal("12.5"), "count": 7, "day": date(2024, 2, 29)}
    whole = THIRD.encode(record)
    first = Contract("t.v1", ("name",), ("name",), "said", FIRST, codec="avro").encode(record)
    unknown = [Sent(whole, version) for version in ("4", "0", "-1", "x", "", "3.0", None)] + [Sent(b"", None), Sent(whole, "99999999999")]
    damaged = [
        *(whole[:n] for n in range(len(whole))),  # cut anywhere
        whole + b"\0",
        whole + whole,
        first,  # of a shorter schema
        b"\xff\xfe\x00junk",
        b"\x01" + whole[1:],  # a text of -1 bytes
        b"\xde\xff\xff\xff\x0f" + whole[1:],  # one of 2 GB: Avro would set them aside, and the JVM end
        b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01" + whole[1:],
    ]
    sent = [*unknown, *(Sent(value, "3") for value in damaged), Sent(whole, "1"), Sent(None, "3"), Sent(None, None), Sent(whole, "3")]
    rows = judged(session, THIRD, sent)
    rules = ["unknown_wire_version"] * len(unknown) + ["unparsable"] * (len(damaged) + 1)
    assert [row[RULE] for row in rows] == [*rules, TOMBSTONE, TOMBSTONE, None]
    assert rows[0][REASON] == "wire version 4, known: 1, 2, 3"
    assert rows[6][REASON] == "no wire version, known: 1, 2, 3"
    assert rows[len(unknown)][REASON] == "the bytes are no Avro record of wire version 3"
    assert fields(rows[-1], THIRD) == record
    assert all(row[name] is None for row in rows[:-1] for name in THIRD.names)


def raw_avro(**changes: tuple[str, object]) -> bytes:
    """Write the whole record, with some fields as another type that Avro writes the same bytes for."""
    values: dict[str, tuple[str, object]] = {
        **{"name": ("string", "x"), "said": ("long", 0), "count": ("long", None), "weight": ("double", None), "price": ("bytes", None)},
        **{"exact": ("bytes", None), "is_open": ("boolean", None), "day": ("int", None), "at": ("long", None)},
        **changes,
    }
    listed = [{"name": f.name, "type": values[f.name][0] if f.required else ["null", values[f.name][0]]} for f in AVRO.fields]
    out = io.BytesIO()
    fastavro.schemaless_writer(out, {"type": "record", "name": "r", "fields": listed}, {name: value for name, (_, value) in values.items()})
    return out.getvalue()


def test_avro_value_beyond_its_type_is_a_reject_that_names_the_field(session: SparkSession) -> None:
    beyond: list[tuple[str, str, object]] = [
        ("name", "bytes", b"\xff\xfe"),
        ("said", "long", 253_402_300_800_000),
        ("price", "bytes", (10**10).to_bytes(6, "big", signed=True)),
        ("price", "bytes", (-(10**10)).to_bytes(16, "big", signed=True)),
        ("day", "int", 2_932_897),
        ("day", "int", -(2**31)),
        ("at", "long", 2**63 - 1),
        ("at", "long", -62_135_596_800_000_001),
    ]
    rows = judged(session, AVRO, [Sent(raw_avro(**{field: (kind, value)})) for field, kind, value in beyond])
    assert [(row[RULE], row[REASON].split(" ")[0]) for row in rows] == [("wrong_type", field) for field, _, _ in beyond]
    assert rows[2][REASON] == "price is 100000000.00, expected decimal(10, 2)"
    assert all(row[name] is None for row in rows for name in AVRO.names)
    # More digits than any column has: no value can be shown, and it is none either.
    longest = judged(
        session, AVRO, [Sent(raw_avro(exact=("bytes", (10**60).to_bytes(30, "big", signed=True)))), Sent(raw_avro(exact=("bytes", b"")))]
    )
    assert [row[RULE] for row in longest] == ["unparsable", "unparsable"]
    endless = judged(session, AVRO, [Sent(raw_avro(weight=("double", float(text)))) for text in ("nan", "inf", "-inf")])
    assert [row[RULE] for row in endless] == ["out_of_range"] * 3
    assert judged(session, AVRO, [Sent(raw_avro())])[0][RULE] is None


def test_avro_has_no_unknown_fields(session: SparkSession) -> None:
    rows = to_bronze(messages(session, [Sent(AVRO.encode(WHOLE)), Sent(b'{"more":1}'), Sent(None)]), AVRO)
    assert [row[0] for row in rows.selectExpr(unknown_names(AVRO)).collect()] == [[], [], []]


def test_date_utc_is_that_of_the_event_time_and_missing_without_one(session: SparkSession) -> None:
    assert "date_utc" not in to_bronze(messages(session, [Sent(None)]), JSON).columns
    row = to_bronze(
        messages(session, [Sent(JSON.encode(WHOLE | {"at": NOON - timedelta(days=1)}))]), replace(JSON, event_time="at")
    ).collect()[0]
    assert row["date_utc"] == date(2024, 2, 28)


def test_headers_are_read_from_kafka_where_a_message_is_read_by_its_version(session: SparkSession, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, kafka_bootstrap="127.0.0.1:1")  # nobody is asked before the query starts
    domain = build_domain("air_quality", settings)
    (source,) = domain.sources
    as_avro = replace(domain, sources=(replace(source, contract=replace(source.contract, codec="avro")),))
    assert "headers" in read_topics(session, as_avro, settings).columns
    assert "headers" not in read_topics(session, domain, settings).columns


def test_bronze_of_a_version_before_gets_the_column_and_goes_on(session: SparkSession) -> None:
    older = replace(BRONZE, columns=BRONZE.columns[:-1])
    assert BRONZE.columns[-1].name == "wire_version"
    create_missing(session, [older])
    before = to_bronze(messages(session, [Sent(JSON.encode(WHOLE), None)]), JSON)
    FencedAppend(older, {JSON.topic: "one"}).append(before.drop("wire_version"), {})
    snapshot = iceberg_table(session, BRONZE.name).currentSnapshot().snapshotId()

    create_missing(session, [BRONZE])
    assert session.table(BRONZE.name).columns == list(BRONZE.names)
    both = messages(session, [Sent(JSON.encode(WHOLE), None), Sent(JSON.encode(WHOLE | {"name": "new"}))])
    assert FencedAppend(BRONZE, {JSON.topic: "one"}).append(to_bronze(both, JSON), {}) == 1, "the first is there already"
    rows = session.table(BRONZE.name).orderBy("kafka_offset").toArrow().to_pylist()
    assert [(row["name"], row["wire_version"], row["at"]) for row in rows] == [("Đà Nẵng", None, WHOLE["at"]), ("new", 1, WHOLE["at"])]
    # A pass over a snapshot reads by that snapshot's columns.
    past = retyped(session.sql(f"SELECT * FROM {BRONZE.name} VERSION AS OF {snapshot}"), JSON).toArrow().to_pylist()
    assert [(fields(row), row["wire_version"]) for row in past] == [(read_back(JSON, WHOLE), None)]


def test_json_keeps_every_digit_of_a_decimal_on_the_wire() -> None:
    assert json.loads(JSON.encode(WHOLE))["exact"] == "12345678901234567890.123456789012345678"
