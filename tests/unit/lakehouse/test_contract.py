import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.contract import Contract, Field, Value, to_millis
from lakehouse.domains.air_quality.contract import HOURLY, MEASURES, PROVIDER_INDICES

TRADES = Contract(
    topic="market.trades.v1",
    entity=("exchange", "symbol"),
    key=("exchange", "symbol", "trade_id"),
    version="trade_ts",
    fields=(
        Field("exchange", "string", required=True),
        Field("symbol", "string", required=True),
        Field("trade_id", "string", required=True),
        Field("trade_ts", "timestamp", required=True),
        Field("price", "double", unit="USDT", low=0),
        Field("depth", "double", high=10),
        Field("drift", "double"),
    ),
)
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
TRADE: dict[str, Value] = {"exchange": "binance", "symbol": "BTCUSDT", "trade_id": "1", "trade_ts": NOON, "price": 1}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

instants = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59), timezones=st.just(UTC))
values = {
    "string": st.text(),
    "double": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    "timestamp": instants,
}
records = st.fixed_dictionaries({f.name: values[f.type] if f.required else st.none() | values[f.type] for f in TRADES.fields})


@given(records)
def test_what_is_encoded_decodes_back_to_the_millisecond(record: dict[str, Value]) -> None:
    wire = json.loads(TRADES.encode(record))
    decoded = {
        f.name: EPOCH + timedelta(milliseconds=wire[f.name]) if f.type == "timestamp" and f.name in wire else wire.get(f.name)
        for f in TRADES.fields
    }
    cut = {name: v - timedelta(microseconds=v.microsecond % 1000) if isinstance(v, datetime) else v for name, v in record.items()}
    assert decoded == cut
    assert list(wire) == [name for name in TRADES.names if record[name] is not None]


@given(records)
def test_encoding_is_a_function_of_the_record_and_not_of_its_order(record: dict[str, Value]) -> None:
    assert TRADES.encode(record) == TRADES.encode(dict(reversed(record.items())))


@given(instants)
def test_instants_before_1970_round_down_like_those_after(instant: datetime) -> None:
    assert timedelta(0) <= instant - (EPOCH + timedelta(milliseconds=to_millis(instant))) < timedelta(milliseconds=1)


def test_text_of_any_script_stays_readable_on_the_wire() -> None:
    assert '"symbol":"Đà Nẵng"'.encode() in TRADES.encode(TRADE | {"symbol": "Đà Nẵng"})


def test_key_is_the_entity_so_that_its_records_stay_in_order() -> None:
    assert TRADES.encode_key(TRADE) == b"binance:BTCUSDT"
    assert HOURLY.encode_key({"location_key": "hanoi", "ts_utc": NOON}) == b"hanoi"


def test_number_that_json_does_not_have_is_never_sent() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        TRADES.encode(TRADE | {"price": math.nan})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"price": -1}, "price is -1 USDT, expected at least 0"),
        ({"price": math.inf}, "price is inf USDT, expected at least 0"),
        ({"depth": 10.5}, "depth is 10.5, expected at most 10"),
        ({"drift": math.nan}, "drift is nan, expected a finite number"),
        ({"price": "1"}, "price is str '1', expected double"),
        ({"price": True}, "price is bool True, expected double"),
        ({"symbol": 5}, "symbol is int 5, expected string"),
        ({"symbol": None}, "symbol is required"),
        ({"trade_ts": datetime(2024, 1, 1)}, "trade_ts is datetime datetime.datetime(2024, 1, 1, 0, 0), expected timestamp"),
        ({"volume": 1}, "unknown field 'volume'"),
    ],
)
def test_violation_says_what_was_found_against_what_is_allowed(change: dict[str, Value], said: str) -> None:
    assert TRADES.violations(TRADE | change) == [said]


def test_instant_of_another_zone_is_no_utc_instant() -> None:
    hanoi = NOON.astimezone(timezone(timedelta(hours=7)))
    assert [text.partition(" is ")[0] for text in TRADES.violations(TRADE | {"trade_ts": hanoi})] == ["trade_ts"]


def test_every_violation_is_named_at_once_and_bounds_themselves_are_allowed() -> None:
    assert len(TRADES.violations({"price": -1, "depth": 11})) == 6
    assert TRADES.violations(TRADE | {"price": 0, "depth": 10}) == []
    assert HOURLY.violations({"location_key": "hanoi", "ts_utc": NOON, "retrieved_ts": NOON, "pm25": 1000}) == []
    assert HOURLY.violations({"location_key": "hanoi", "ts_utc": NOON, "retrieved_ts": NOON, "pm25": 1001}) == [
        "pm25 is 1001 µg/m³, expected 0 to 1000"
    ]


def test_field_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(KeyError, match=r"market\.trades\.v1 has no field 'volume'; it has exchange, symbol"):
        TRADES.field("volume")


def test_hourly_carries_all_seventeen_variables_and_every_key_is_required() -> None:
    assert len(MEASURES) == 10 and len(PROVIDER_INDICES) == 7
    assert {*MEASURES.values(), *PROVIDER_INDICES.values()} <= set(HOURLY.names)
    assert {f.name for f in HOURLY.fields if f.required} == {*HOURLY.key, *HOURLY.entity, HOURLY.version}


def test_bounds_of_a_decimal_are_decimals_and_those_of_a_long_are_exact() -> None:
    fields = (Field("price", "decimal(10, 2)", low=0.1, high=Decimal("0.30"), unit="EUR"), Field("count", "long", high=2**63 - 2))
    contract = replace(TRADES, fields=(*TRADES.fields[:4], *fields))
    record = {name: TRADE[name] for name in ("exchange", "symbol", "trade_id", "trade_ts")}
    assert contract.violations(record | {"price": Decimal("0.1"), "count": 2**63 - 2}) == []
    assert contract.violations(record | {"price": Decimal("0.09"), "count": 2**63 - 1}) == [
        "price is 0.09 EUR, expected 0.1 to 0.30",
        f"count is {2**63 - 1}, expected at most {2**63 - 2}",
    ]
    assert contract.violations(record | {"price": Decimal("0.105")}) == ["price is Decimal Decimal('0.105'), expected decimal(10, 2)"]
    shape = contract.shape
    assert shape.violations(record | {"price": Decimal("0.09"), "count": 2**63 - 1}) == [], "out of range is data"
    assert len(shape.violations(record | {"price": Decimal("NaN"), "count": 2**63})) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": ("symbol", "no")}, "Contract market.trades.v1: key names 'no', which is no field; there are exchange, symbol, "),
        ({"key": ()}, "key names no field"),
        ({"entity": ("no",)}, "entity names 'no', which is no field"),
        ({"entity": ()}, "entity names no field"),
        ({"version": "no"}, "version names 'no', which is no field"),
        ({"version": "is_gone"}, "version is is_gone, a boolean, which orders nothing"),
        ({"event_time": "no"}, "event_time names 'no', which is no field"),
        ({"event_time": "price"}, "event_time is price, a double, expected timestamp or timestamp_us"),
        ({"deleted": "no"}, "deleted names 'no', which is no field"),
        ({"deleted": "price"}, "deleted is price, a double, expected boolean"),
        ({"codec": "xml"}, "codec is 'xml', expected one of json, avro"),
        ({"wire_version": 0}, "wire_version is 0, expected 1 or more"),
        ({"former": (TRADES.fields,)}, "former fields are for Avro"),
        ({"codec": "avro", "wire_version": 2}, r"wire_version is 2, but 0 former version\(s\) are listed"),
        ({"codec": "avro", "former": (TRADES.fields,)}, r"wire_version is 1, but 1 former version\(s\) are listed"),
        ({"codec": "avro", "wire_version": 2, "former": ((Field("gone", "long"),),)}, "version 1 has a field gone, which is no field now"),
        (
            {"codec": "avro", "wire_version": 2, "former": ((*TRADES.fields[:4], Field("price", "long")),)},
            "price was a long in version 1, which does not read as double",
        ),
        ({"codec": "avro", "wire_version": 2, "former": (TRADES.fields[1:],)}, "exchange is required, but version 1 has none"),
        ({"fields": (*TRADES.fields, Field("Price", "long"))}, "two fields are named price; two fields are named Price"),
    ],
)
def test_contract_that_contradicts_itself_is_refused_at_once(changes: dict[str, Any], said: str) -> None:
    whole = replace(TRADES, fields=(*TRADES.fields, Field("is_gone", "boolean")))
    with pytest.raises(ValueError, match=said):
        replace(whole, **changes)


def test_everything_wrong_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"key names 'a', .*; version names 'b', .*; event_time is price") as caught:
        replace(TRADES, key=("a",), version="b", event_time="price")
    assert str(caught.value).startswith("Contract market.trades.v1: ")


def test_contract_needs_no_time_in_its_key_and_none_at_all() -> None:
    contract = Contract(
        "t.v1", ("id",), ("id",), "at", (Field("id", "long", required=True), Field("at", "long"), Field("gone", "boolean")), deleted="gone"
    )
    assert (contract.event_time, contract.codec, contract.wire_version) == ("", "json", 1)
    assert contract.encode({"id": 5, "gone": True}) == b'{"id":5,"gone":true}'
    assert HOURLY.event_time == "ts_utc"


@pytest.mark.parametrize(
    ("name", "type_", "bounds", "said"),
    [
        ("price", "money", {}, "Field price: no type 'money'; there are string, "),
        ("last price", "long", {}, "Field 'last price': a name begins with a letter"),
        ("_corrupt", "string", {}, "Field '_corrupt': a name begins with a letter"),
        ("day", "date", {"low": 0}, "Field day: a date has no least or greatest value"),
        ("n", "long", {"low": 2, "high": 1}, "Field n: nothing lies between 2 and 1"),
    ],
)
def test_field_that_no_table_could_hold_is_refused_at_once(name: str, type_: str, bounds: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Field(name, type_, **bounds)  # type: ignore[arg-type]  # bounds alone
