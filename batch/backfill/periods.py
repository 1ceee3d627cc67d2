"""How is a range of days split into chunks? By calendar month, week from Monday, or day, and by entities, so that a chunk stays small."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, get_args

Period = Literal["month", "week", "day"]
PERIODS: tuple[Period, ...] = get_args(Period)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a backfill: UTC days, both included, for some entities."""

    since: date
    until: date
    entities: tuple[str, ...]


def cut(since: date, until: date, period: Period, entities: Sequence[str], rows_of_a_day: int, most_rows: int) -> list[Part]:
    """Split a range without gap or overlap, in order of time.

    Args:
        since: first UTC day.
        until: last UTC day, inclusive.
        period: length of a part; the first and the last part may be shorter.
        entities: the entities with the records.
        rows_of_a_day: number of an entity's records per day.
        most_rows: maximum rows of a part, unless one entity alone has more.
    """
    parts = []
    for first, last in _spans(since, until, period):
        most = max(1, most_rows // (rows_of_a_day * ((last - first).days + 1)))
        parts += [Part(first, last, tuple(entities[n : n + most])) for n in range(0, len(entities), most)]
    return parts


def _spans(since: date, until: date, period: Period) -> Iterator[tuple[date, date]]:
    first = since
    while first <= until:
        last = min(_end(first, period), until)
        yield first, last
        first = last + timedelta(days=1)


def _end(day: date, period: Period) -> date:
    if period == "day":
        return day
    if period == "week":
        return day + timedelta(days=6 - day.weekday())
    following = date(day.year + day.month // 12, day.month % 12 + 1, 1)
    return following - timedelta(days=1)
