"""Does upstream have nothing new, or is the poller late? Pure functions of instants and of a source's timetable.

A source rarely reports how old its data is. Upstream has changed when a poll returns other values for records that were published. The
exact instant of the change, between two polls, is unknown. It is assumed to be when the run in between was due, if the source has a
timetable, else at the earlier poll, so upstream's reported age is never too low.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

# One missed poll is normal; after a second one the poller is late.
LATE_POLLS = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

UpstreamState = Literal["unknown", "new", "nothing new", "late"]


@dataclass(frozen=True, slots=True)
class Timetable:
    """When a source regularly has new data.

    Attributes:
        every: the interval of runs, counted from UTC midnight.
        arrives_after: the approximate time from a run's start until its data is available.
        tolerance: data that arrives this much earlier or later is on time.
    """

    every: timedelta
    arrives_after: timedelta
    tolerance: timedelta

    def newest_due(self, now: datetime) -> datetime:
        """Return when the newest run that should be available was due."""
        return now - (now - self.arrives_after - _EPOCH) % self.every


@dataclass(frozen=True, slots=True)
class Upstream:
    """The known state of upstream, a sentence for the operator, and the age of its newest change, None while unknown."""

    state: UpstreamState
    says: str
    age: timedelta | None


def changed_at(polled_before: datetime | None, now: datetime, timetable: Timetable | None) -> datetime:
    """Return when upstream changed, if a poll sees a change that the previous one did not."""
    if not polled_before or polled_before >= now:
        return now
    return max(polled_before, timetable.newest_due(now)) if timetable else polled_before


def judge_upstream(changed: datetime | None, now: datetime, is_new: bool = False, *, timetable: Timetable | None) -> Upstream:
    """Decide whether a source has nothing new or is late; without a timetable it is never late.

    Args:
        changed: when its values last changed; None where no change was seen yet.
        now: the current time.
        is_new: whether the current poll saw that change.
        timetable: of the source; None where it has none.
    """
    if changed is None:
        return Upstream("unknown", "upstream's age is not known yet: no published value has changed since the first poll", None)
    age = max(now - changed, timedelta(0))
    if timetable is None:
        if is_new:
            return Upstream("new", "new upstream", age)
        return Upstream("nothing new", f"nothing new upstream: last change {span(age)} ago", age)
    due = timetable.newest_due(now)
    next_due = due + timetable.every - now
    if is_new:
        return Upstream("new", f"new upstream: the next run is due in {span(next_due)}", age)
    if changed >= due - timetable.tolerance:
        return Upstream("nothing new", f"nothing new upstream: last change {span(age)} ago, the next run is due in {span(next_due)}", age)
    if now < due + timetable.tolerance:
        return Upstream("nothing new", f"nothing new upstream: last change {span(age)} ago, a run is due about now", age)
    return Upstream("late", f"upstream is late: last change {span(age)} ago, a run was due {span(now - due)} ago", age)


def lateness(last_success: datetime | None, every: timedelta | None, now: datetime) -> str:
    """Describe how late polling is, if the last successful poll is more than two intervals old; empty when it is on time."""
    if last_success is None or every is None or now - last_success <= LATE_POLLS * every:
        return ""
    return f"we are late: last successful poll {span(now - last_success)} ago, expected every {span(every)}"


def span(time: timedelta) -> str:
    """Format a time span for people, such as 40 min or 5 h."""
    seconds = time.total_seconds()
    for unit, size, most in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3_600, 48 * 3_600)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.1f} d"
