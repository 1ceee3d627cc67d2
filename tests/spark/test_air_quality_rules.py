"""Does each rule of the domain reject, or warn of, what it is for? A case a rule, at its edge, with the reason that a person reads."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from lakehouse.codecs.parse import to_bronze
from lakehouse.contract import Value
from lakehouse.domains.air_quality.contract import HOURLY, MEASURES
from lakehouse.domains.air_quality.rules import reading_rules
from lakehouse.rules import REASON, RULE, WARNINGS, with_reason, with_verdict
from tests.support.pipeline import START, reading
from tests.support.verdicts import assert_same_verdict

ARRIVED = datetime(2024, 6, 1, tzinfo=UTC)
PLACES, LEFT_OUT = ["hanoi"], ["elsewhere"]
WIRE = b'{"location_key":"hanoi","ts_utc":1709251200000,"retrieved_ts":1717200000000,'
NO_MEASURES: dict[str, Value] = dict.fromkeys(MEASURES.values())

# rule: (message, what its reason names)
REJECTED: dict[str, list[tuple[Mapping[str, Value] | bytes, str]]] = {
    "unparsable": [(b'{"cut', "not a JSON object"), (b"[1]", "not a JSON object")],
    "wrong_type": [(WIRE + b'"pm25":"high"}', 'pm25 is "high", expected double')],
    "no_key": [(b'{"location_key":"hanoi"}', "missing: ts_utc, retrieved_ts")],
    "out_of_range": [
        *(({**reading(), f.name: float(f.low) - 1}, f"{f.name} is ") for f in HOURLY.fields if f.low is not None),
        *(({**reading(), f.name: float(f.high) * 1.001}, f"{f.name} is ") for f in HOURLY.fields if f.high is not None),
    ],
    "place_left_out": [(reading("elsewhere"), "the zone of elsewhere")],
    "unknown_location": [(reading("atlantis"), "no place atlantis")],
    "off_hour": [({**reading(), "ts_utc": START + timedelta(milliseconds=1)}, "expected a full hour")],
    "too_early": [({**reading(), "ts_utc": datetime(2012, 12, 31, 23, tzinfo=UTC)}, "the archive begins in 2013")],
    "beyond_forecast": [({**reading(), "ts_utc": ARRIVED + timedelta(days=7, hours=1)}, "more than 7 days after")],
    "retrieved_in_future": [({**reading(), "retrieved_ts": ARRIVED + timedelta(minutes=61)}, "but it arrived at")],
}
WARNED: dict[str, list[Mapping[str, Value]]] = {
    "few_measures": [{**reading(), **NO_MEASURES, "pm10": 1.0, "o3": 1.0}],
    "fine_above_coarse": [reading(pm25=61.0, pm10=40.0)],
}
# Each lies on the good side of a rule's edge.
ACCEPTED: list[Mapping[str, Value]] = [
    reading(),
    {**reading(), "ts_utc": datetime(2013, 1, 1, tzinfo=UTC)},
    {**reading(), "ts_utc": ARRIVED + timedelta(days=7)},
    {**reading(), "retrieved_ts": ARRIVED + timedelta(minutes=60)},
    reading(pm25=0.0, pm10=0.0),
    reading(pm25=1_000.0, pm10=10_000.0),
    reading(pm25=60.0, pm10=40.0),
    {**reading(), **NO_MEASURES, "pm10": 1.0, "o3": 1.0, "no2": 1.0},
]


def judged(session: SparkSession, messages: list[Mapping[str, Value] | bytes]) -> list[dict[str, Any]]:
    values = [one if isinstance(one, bytes) else HOURLY.encode(one) for one in messages]
    table = pa.table({"value": pa.array(values, pa.binary()), "offset": pa.array(range(len(values)), pa.int64())})
    arrived = f"TIMESTAMP '{ARRIVED:%Y-%m-%d %H:%M:%S}' AS timestamp"
    rows = session.createDataFrame(table).selectExpr("value", "'t' AS topic", "0 AS partition", "offset", arrived)
    rules = reading_rules(PLACES, LEFT_OUT)
    assert_same_verdict(to_bronze(rows, HOURLY), HOURLY, rules)
    found = with_reason(with_verdict(to_bronze(rows, HOURLY), rules), rules).select("kafka_offset", RULE, REASON, WARNINGS)
    return sorted(found.toArrow().to_pylist(), key=lambda row: int(row["kafka_offset"]))


def test_every_rule_has_a_case_that_breaks_it() -> None:
    assert [rule.name for rule in reading_rules(PLACES, LEFT_OUT) if rule.level == "warn"] == list(WARNED)
    assert set(REJECTED) == {rule.name for rule in reading_rules(PLACES, LEFT_OUT) if rule.level == "reject"}
    bounded = [f.name for f in HOURLY.fields if f.low is not None]
    assert len(REJECTED["out_of_range"]) == 2 * len(bounded) > 20


def test_what_breaks_a_rule_is_rejected_by_it_with_a_reason(session: SparkSession) -> None:
    cases = [(rule, message, reason) for rule, broken in REJECTED.items() for message, reason in broken]
    found = judged(session, [message for _, message, _ in cases])
    assert [(row[RULE], reason in row[REASON]) for row, (_, _, reason) in zip(found, cases, strict=True)] == [
        (rule, True) for rule, _, _ in cases
    ]


def test_what_breaks_a_warning_is_accepted_with_it(session: SparkSession) -> None:
    cases = [(rule, message) for rule, broken in WARNED.items() for message in broken]
    found = judged(session, [message for _, message in cases])
    assert [(row[RULE], row[WARNINGS]) for row in found] == [(None, [rule]) for rule, _ in cases]


def test_what_lies_on_the_edge_is_accepted_without_a_word(session: SparkSession) -> None:
    found = judged(session, list(ACCEPTED))
    assert [(row[RULE], row[WARNINGS]) for row in found] == [(None, [])] * len(ACCEPTED)


@pytest.mark.parametrize("left_out", [[], LEFT_OUT])
def test_a_place_left_out_is_told_from_one_that_nobody_listed(session: SparkSession, left_out: list[str]) -> None:
    names = [rule.name for rule in reading_rules(PLACES, left_out)]
    assert ("place_left_out" in names) == bool(left_out)
    assert "unknown_location" in names
