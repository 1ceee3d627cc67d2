"""Which dates and hours are there? Two dimensions for all domains; holidays are Vietnam's.

A fiscal year begins on 1 July and is named for the calendar year in which it begins: 2024-07-01 to 2025-06-30 is 2024.
"""

from calendar import monthrange
from datetime import date, timedelta
from functools import cache

import holidays

from lakehouse.tables.schema import Column, Table

# Older than the air-quality archive, which begins in 2013, since other domains are; one row a day costs nothing.
FIRST, LAST = date(2000, 1, 1), date(2035, 12, 31)
FISCAL_YEAR_STARTS = 7

DIM_DATE = Table(
    name="lh.gold.dim_date",
    grain="one row per day",
    key=("date_key",),
    columns=(
        Column("date_key", "INT", "YYYYMMDD"),
        Column("date_value", "DATE", "the day"),
        Column("day_of_month", "INT", "1-31"),
        Column("day_of_week", "INT", "1 = Monday … 7 = Sunday"),
        Column("week_of_year", "INT", "ISO 8601 week"),
        Column("month", "INT", "1-12"),
        Column("month_name", "STRING", "in English"),
        Column("quarter", "INT", "1-4"),
        Column("year", "INT", "calendar year"),
        Column("is_weekend", "BOOLEAN", "Saturday or Sunday"),
        Column("holiday", "STRING", "public holiday of Vietnam; null on other days"),
        Column("fiscal_year", "INT", "calendar year in which the fiscal year begins, on 1 July"),
        Column("fiscal_quarter", "INT", "1 = July to September … 4 = April to June"),
        Column("day_name", "STRING", "in English"),
        Column("day_of_year", "INT", "1-366"),
        Column("year_month", "STRING", "YYYY-MM"),
        Column("is_weekday", "BOOLEAN", "Monday to Friday, holidays among them"),
        Column("days_in_month", "INT", "28-31"),
    ),
)

DIM_TIME = Table(
    name="lh.gold.dim_time",
    grain="one row per hour of the day",
    key=("time_key",),
    columns=(
        Column("time_key", "INT", "0-23"),
        Column("time_value", "STRING", "HH:00"),
        Column("hour", "INT", "0-23"),
        Column("period", "STRING", "night 0-5, morning 6-11, afternoon 12-16, evening 17-23"),
        Column("is_peak", "BOOLEAN", "rush hours 7-8 and 17-18"),
    ),
)

_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]


@cache  # a domain is put together for every micro-batch
def date_rows() -> list[tuple[object, ...]]:
    """Return the rows of `dim_date`, FIRST to LAST."""
    public = holidays.country_holidays("VN", years=range(FIRST.year, LAST.year + 1), language="en_US")
    days = (FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1))
    return [
        (
            day.year * 10_000 + day.month * 100 + day.day,
            day,
            day.day,
            day.isoweekday(),
            day.isocalendar().week,
            day.month,
            _MONTHS[day.month - 1],
            (day.month + 2) // 3,
            day.year,
            day.isoweekday() >= 6,
            public.get(day),
            day.year - (day.month < FISCAL_YEAR_STARTS),
            (day.month - FISCAL_YEAR_STARTS) % 12 // 3 + 1,
            _DAYS[day.weekday()],
            day.timetuple().tm_yday,
            f"{day:%Y-%m}",
            day.isoweekday() < 6,
            monthrange(day.year, day.month)[1],
        )
        for day in days
    ]


def time_rows() -> list[tuple[object, ...]]:
    """Return the rows of `dim_time`."""
    return [(hour, f"{hour:02d}:00", hour, _period(hour), hour in (7, 8, 17, 18)) for hour in range(24)]


def _period(hour: int) -> str:
    if hour < 6:
        return "night"
    if hour < 12:
        return "morning"
    return "afternoon" if hour < 17 else "evening"
