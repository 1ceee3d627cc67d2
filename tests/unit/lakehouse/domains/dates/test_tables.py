import csv
from datetime import date
from pathlib import Path

import pytest

from lakehouse.domains.dates.tables import DIM_DATE, DIM_TIME, FIRST, LAST, date_rows, time_rows

# Facts of the predecessor's dimension, where they lie beside the repository.
UPSTREAM = Path(__file__).resolve().parents[6] / "shared" / "data" / "config"
DAYS = {row[1]: dict(zip(DIM_DATE.names, row, strict=True)) for row in date_rows()}


def test_every_day_is_there_once_without_a_gap() -> None:
    assert len(date_rows()) == len(DAYS) == (LAST - FIRST).days + 1
    assert len({day["date_key"] for day in DAYS.values()}) == len(DAYS)


@pytest.mark.parametrize(
    ("day", "facts"),
    [
        (
            date(2024, 1, 1),
            {"date_key": 20240101, "day_of_week": 1, "week_of_year": 1, "quarter": 1, "is_weekend": False, "fiscal_year": 2023},
        ),
        (date(2021, 1, 3), {"day_of_week": 7, "week_of_year": 53, "year": 2021, "is_weekend": True}),
        (date(2018, 12, 31), {"day_of_week": 1, "week_of_year": 1, "year": 2018}),
        (date(2024, 2, 29), {"day_of_month": 29, "month": 2, "month_name": "February", "day_of_week": 4}),
        (date(2024, 6, 30), {"quarter": 2, "fiscal_year": 2023, "fiscal_quarter": 4, "month_name": "June", "days_in_month": 30}),
        (date(2024, 7, 1), {"quarter": 3, "fiscal_year": 2024, "fiscal_quarter": 1, "month_name": "July", "year_month": "2024-07"}),
        (date(2024, 12, 31), {"quarter": 4, "fiscal_year": 2024, "fiscal_quarter": 2, "day_of_month": 31, "day_of_year": 366}),
        (date(2000, 1, 1), {"fiscal_year": 1999, "fiscal_quarter": 3, "day_name": "Saturday", "day_of_year": 1, "is_weekday": False}),
        (date(2000, 2, 29), {"days_in_month": 29, "day_name": "Tuesday", "is_weekday": True, "day_of_year": 60}),
        (date(2024, 9, 1), {"is_weekend": True, "day_of_week": 7}),
        (date(2024, 8, 1), {"holiday": None}),
    ],
)
def test_day_by_the_calendar(day: date, facts: dict[str, object]) -> None:
    assert facts.items() <= DAYS[day].items()


@pytest.mark.parametrize(
    "day", [date(2024, 2, 10), date(2025, 1, 29), date(2026, 2, 17), date(2024, 9, 2), date(2024, 4, 30), date(2024, 5, 1)]
)
def test_public_holidays_of_vietnam_move_with_the_moon_where_they_do(day: date) -> None:
    assert DAYS[day]["holiday"]


def test_lunar_new_year_is_named() -> None:
    assert "New Year" in str(DAYS[date(2024, 2, 10)]["holiday"])


def test_hours_of_the_day() -> None:
    hours = [dict(zip(DIM_TIME.names, row, strict=True)) for row in time_rows()]
    assert [hour["time_key"] for hour in hours] == list(range(24))
    assert (hours[5]["period"], hours[6]["period"], hours[12]["period"], hours[17]["period"]) == (
        "night",
        "morning",
        "afternoon",
        "evening",
    )
    assert [hour["time_key"] for hour in hours if hour["is_peak"]] == [7, 8, 17, 18]
    assert hours[9]["time_value"] == "09:00"


@pytest.mark.skipif(not (UPSTREAM / "upstream_dim_date.csv").exists(), reason="the predecessor's tables are not beside the repository")
def test_dates_agree_with_the_predecessors() -> None:
    rows = list(csv.DictReader((UPSTREAM / "upstream_dim_date.csv").read_text().splitlines()))
    assert len(rows) > 600
    for row in rows:
        ours = DAYS[date.fromisoformat(row["date_value"])]
        assert {name: str(ours[name]) for name in row} == row
