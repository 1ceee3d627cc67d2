"""What time is it, and how does a program wait? The poller and its sources use a `Clock`, which tests replace with their own."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as the poller sees it: `now` returns an aware instant in UTC; `sleep` takes seconds and may raise StoppedError."""

    now: Callable[[], datetime]
    sleep: Callable[[float], None]


def utc_now() -> datetime:
    """Return the current instant, aware, UTC."""
    return datetime.now(UTC)


def midnight(day: date) -> datetime:
    """Return the first instant of a UTC day."""
    return datetime.combine(day, time(), tzinfo=UTC)
