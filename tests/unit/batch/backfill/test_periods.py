"""Chunks cover a range once, in order, and none is larger than asked."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.backfill.periods import PERIODS, Part, Period, cut


@given(
    since=st.dates(date(2013, 1, 1), date(2026, 1, 1)),
    length=st.integers(1, 400),
    period=st.sampled_from(PERIODS),
    entities=st.integers(1, 7),
    most_rows=st.integers(1, 5_000),
)
def test_every_day_of_every_entity_is_in_one_part(since: date, length: int, period: Period, entities: int, most_rows: int) -> None:
    until, names = since + timedelta(days=length - 1), [f"e{n}" for n in range(entities)]
    parts = cut(since, until, period, names, 24, most_rows)
    seen = [(entity, part.since + timedelta(days=n)) for part in parts for entity in part.entities for n in range(_days(part))]
    assert len(seen) == len(set(seen)) == entities * length
    assert {day for _, day in seen} == {since + timedelta(days=n) for n in range(length)}
    assert parts == sorted(parts, key=lambda part: part.since)
    for part in parts:
        assert len(part.entities) == 1 or len(part.entities) * _days(part) * 24 <= most_rows
        assert {"day": part.since, "week": part.since - timedelta(days=part.since.weekday()), "month": part.since.replace(day=1)}[
            period
        ] == {"day": part.until, "week": part.until - timedelta(days=part.until.weekday()), "month": part.until.replace(day=1)}[period]


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ("month", [("2023-12-30", "2023-12-31"), ("2024-01-01", "2024-01-31"), ("2024-02-01", "2024-02-02")]),
        ("week", [("2023-12-30", "2023-12-31"), ("2024-01-01", "2024-01-07")]),
    ],
)
def test_calendar(period: Period, expected: list[tuple[str, str]]) -> None:
    until = date.fromisoformat(expected[-1][1])
    parts = cut(date(2023, 12, 30), until, period, ["a"], 24, 10_000)
    assert parts == [Part(date.fromisoformat(first), date.fromisoformat(last), ("a",)) for first, last in expected]


def _days(part: Part) -> int:
    return (part.until - part.since).days + 1
