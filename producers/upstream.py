"""Is there nothing new, or are we the late ones? Pure functions of instants and of the model's timetable.

An answer does not say which run of the model it is of. What is seen is that values which were published come with others: then a run
has arrived. Between two polls its instant is not known; the arrival that was due in between is taken, else the earlier poll, so
upstream is never told younger than it is.

Source: the model (CAMS global) starts at 00 and 12 UTC, and the API has a run about 8 h after its start; see the API's documentation.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

RUN_EVERY, ARRIVES_AFTER = timedelta(hours=12), timedelta(hours=8)
# "About 8 h": what arrives so much before or after is on time.
TOLERANCE = timedelta(hours=2)
# One poll missed is a hiccup; a second one is late.
LATE_POLLS = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

UpstreamState = Literal["unknown", "new", "nothing new", "late"]


@dataclass(frozen=True, slots=True)
class Upstream:
    """What is known of the source: its state, a sentence for the operator, and the age of its newest change; None while unknown."""

    state: UpstreamState
    says: str
    age: timedelta | None


def newest_due(now: datetime) -> datetime:
    """Say when the newest run that should be there was due."""
    return now - (now - ARRIVES_AFTER - _EPOCH) % RUN_EVERY


def changed_at(polled_before: datetime | None, now: datetime) -> datetime:
    """Say when upstream changed, if a poll sees a change and the one before did not."""
    return max(polled_before, newest_due(now)) if polled_before and polled_before < now else now


def judge_upstream(changed: datetime | None, now: datetime, is_new: bool = False) -> Upstream:
    """Tell a source that has nothing new from one that is late.

    Args:
        changed: when its values last changed; None where no change was seen yet.
        now: the present.
        is_new: whether the poll at hand saw that change.
    """
    if changed is None:
        return Upstream("unknown", "upstream's age is not known yet: no published value has changed since the first poll", None)
    age, due = max(now - changed, timedelta(0)), newest_due(now)
    if is_new:
        return Upstream("new", f"new upstream: the next run is due in {span(due + RUN_EVERY - now)}", age)
    if changed >= due - TOLERANCE:
        return Upstream(
            "nothing new",
            f"nothing new upstream: last change {span(age)} ago, the next run is due in {span(due + RUN_EVERY - now)}",
            age,
        )
    if now < due + TOLERANCE:
        return Upstream("nothing new", f"nothing new upstream: last change {span(age)} ago, a run is due about now", age)
    return Upstream("late", f"upstream is late: last change {span(age)} ago, a run was due {span(now - due)} ago", age)


def lateness(last_success: datetime | None, every: timedelta | None, now: datetime) -> str:
    """Say that we are late, if we are: the last successful poll is more than two intervals old. Empty when we are on time."""
    if last_success is None or every is None or now - last_success <= LATE_POLLS * every:
        return ""
    return f"we are late: last successful poll {span(now - last_success)} ago, expected every {span(every)}"


def span(time: timedelta) -> str:
    """Write a span for people, such as 40 min or 5 h."""
    seconds = time.total_seconds()
    for unit, size, most in (("s", 1, 90), ("min", 60, 90 * 60), ("h", 3_600, 48 * 3_600)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.1f} d"
