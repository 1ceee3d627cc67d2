"""A source of the past in a test: hours made by a seed, which may fail for a place, stop, or change its mind."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from types import TracebackType

from pyspark.sql import SparkSession

from batch.backfill.chunks import Backfill, plan
from batch.backfill.ledger import Ledger
from batch.backfill.periods import Period
from lakehouse.contract import Value
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from producers.call_errors import UnavailableError
from producers.history import Asked, History, Lacking, Records, SourceSpent

SINCE, UNTIL = date(2024, 2, 20), date(2024, 3, 9)
RETRIEVED = datetime(2024, 6, 1, tzinfo=UTC)


class MadeHistory(History):
    """Hours of places; an episode of 30 hours runs over the end of February 2024 at the first place.

    Args:
        places: their keys.
        failing: whose hours cannot be had.
        spent_after: the source takes no more calls after so many.
        version: minutes by which the hours were retrieved later.
        changed: from this day on the values are others.
    """

    def __init__(
        self, places: Sequence[str], failing: Sequence[str] = (), spent_after: int = 1_000, version: int = 0, changed: date = date.max
    ) -> None:
        self.places, self.failing, self.left, self.version, self.changed = tuple(places), set(failing), spent_after, version, changed
        self.asked: list[tuple[str, date, date]] = []

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    @property
    def entities(self) -> Sequence[str]:
        return self.places

    @property
    def rows_of_a_day(self) -> int:
        return 24

    def asks(self, entities: Sequence[str], since: date, until: date) -> Asked:
        return Asked(1, float(len(entities)))

    def least_time(self, asked: Asked) -> timedelta:
        return timedelta(seconds=asked.calls)

    def fetch(self, entities: Sequence[str], since: date, until: date) -> Iterator[Records | Lacking]:
        if not self.left:
            raise SourceSpent("the source takes no more today")
        self.left -= 1
        for place in entities:
            self.asked.append((place, since, until))
            if place in self.failing:
                yield Lacking(place, UnavailableError("no answer"))
            else:
                yield Records(place, list(self._hours(place, since, until)))

    def _hours(self, place: str, since: date, until: date) -> Iterator[dict[str, Value]]:
        hour = datetime(since.year, since.month, since.day, tzinfo=UTC)
        while hour.date() <= until:
            chance = random.Random(f"{place} {hour}")
            is_bad = place == self.places[0] and datetime(2024, 2, 28, 20, tzinfo=UTC) <= hour < datetime(2024, 3, 2, tzinfo=UTC)
            if is_bad or chance.random() > 0.02:
                more = 5.0 if hour.date() >= self.changed else 0.0
                yield {
                    "location_key": place,
                    "ts_utc": hour,
                    "latitude": 21.0,
                    "longitude": 105.8,
                    "pm25": 300.0 if is_bad else round(chance.uniform(5, 120), 1) + more,
                    "pm10": round(chance.uniform(5, 200), 1),
                    "o3": round(chance.uniform(0, 200), 1),
                    "no2": 20.0,
                    "so2": 10.0,
                    "co": round(chance.uniform(100, 9000)),
                    "model_domain": "cams_global",
                    "request_timezone": "GMT",
                    "retrieved_ts": RETRIEVED + timedelta(minutes=self.version),
                }
            hour += timedelta(hours=1)


def fill(
    session: SparkSession,
    home: Settings,
    history: History,
    period: Period = "week",
    since: date = SINCE,
    until: date = UNTIL,
    override: bool = False,
) -> Ledger:
    """Plan a backfill of a home, and run it to its end."""
    planned = plan(history, dict.fromkeys(history.entities, since), until, period)
    parts = [(part, asked.calls, asked.weight) for part, asked in planned.parts]
    ledger = Ledger.plan(session, "air_quality", parts, override, datetime.now(UTC))
    assert go_on(session, home, history, ledger)
    return ledger


def go_on(session: SparkSession, home: Settings, history: History, ledger: Ledger) -> bool:
    """Run what is left of a backfill; tell whether it came to its end."""
    domain = build_domain("air_quality", home)
    return Backfill(home, domain, domain.sources[0], session, history, ledger).run()
