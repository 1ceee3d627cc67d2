"""When is it, and how does one wait? The poller and its sources take time from a `Clock`, so that a test can hand in its own."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as the poller sees it: `now` gives an aware instant in UTC; `sleep` takes seconds and may raise StoppedError."""

    now: Callable[[], datetime]
    sleep: Callable[[float], None]


def utc_now() -> datetime:
    """Give the present instant, aware, UTC."""
    return datetime.now(UTC)


def midnight(day: date) -> datetime:
    """Give the first instant of a UTC day."""
    return datetime.combine(day, time(), tzinfo=UTC)
