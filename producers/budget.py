"""How many calls of a source's API may this machine still make, and which program goes first?

An API limits the calls of an IP address by minute, hour and UTC day. It may weigh them: each source defines its limits and the weight of
a request. All programs of the user, whatever their home, count the used calls in one file, separately for each host of an API. A program
takes calls in one of two lanes:

- `poll`, the live poll: may use everything that is left.
- `range`, a backfill: leaves the calls that announced polls still need before the limit resets (at most half of the limits of the minute
  and the hour, but as much of the day's as they need), and yields while a poll waits.

A program that gets no calls now receives the time at which to ask again; this module never sleeps.
"""

import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import structlog

from lakehouse.errors import Fatal, ProducerError
from monitoring import metrics
from producers.state_file import StateFile

LimitSpan = Literal["minute", "hour", "day"]
Lane = Literal["poll", "range"]

SPANS: dict[LimitSpan, timedelta] = {"day": timedelta(days=1), "hour": timedelta(hours=1), "minute": timedelta(minutes=1)}
# A poll that was killed while waiting blocks backfills for this long after its limit has reset.
WAITS_ON = timedelta(seconds=30)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TABLES = {
    "used": "api TEXT NOT NULL, span TEXT NOT NULL, begins REAL NOT NULL, weight REAL NOT NULL, PRIMARY KEY (api, span)",
    "plans": "api TEXT NOT NULL, program TEXT NOT NULL, weight REAL NOT NULL, every REAL NOT NULL, expires REAL NOT NULL, "
    "PRIMARY KEY (api, program)",
    "waiting": "api TEXT NOT NULL, program TEXT NOT NULL, span TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (api, program)",
}

log = structlog.get_logger()


class TooHeavyError(ProducerError, Fatal):
    """One request for one entity weighs more than a limit ever allows."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not enough calls are left now: of which limit, until when, and why."""

    span: LimitSpan
    until: datetime
    reason: str


def limit_boundary(span: LimitSpan, now: datetime) -> datetime:
    """Return when a limit resets: at the next full minute, full hour, or UTC midnight."""
    return _begin(span, now) + SPANS[span]


class Budget:
    """The calls left under the limits of one API.

    Args:
        path: the file that all programs share.
        url: the API's URL; used calls are counted by its host.
        limits: weight by span; infinite where there is no limit.
        lane: of this program.
        program: identifies this program among the others, such as by its home and process.

    Attributes:
        lane: of this program.
        file: the calls that all programs have made, see `_TABLES`.

    Raises:
        StateFileError: the file can be neither read nor replaced by a new one.
    """

    def __init__(self, path: Path, url: str, limits: Mapping[LimitSpan, float], lane: Lane, program: str) -> None:
        self.lane = lane
        self._api, self._limits, self._program = urlsplit(url).netloc, limits, program
        self._is_warned = False
        self.file = StateFile(path, _TABLES, "WEIR_BUDGET_PATH")
        if not self._is_unlimited and (problem := self.file.prepare()):
            log.warning(
                "the count of used calls was lost and restarts at zero; the API may refuse calls that weir's own count allows",
                path=str(path),
                reason=problem,
            )

    @property
    def most_at_once(self) -> float:
        """The heaviest request that this lane can make, possibly after waiting."""
        # Half of the limits of minute and hour is never reserved for polls, so a backfill always makes progress.
        share = 1.0 if self.lane == "poll" else 0.5
        return min(self._limits["minute"] * share, self._limits["hour"] * share, self._limits["day"])

    def take(self, weight: float, now: datetime) -> Wait | None:
        """Take the weight of one request; if not enough is left, return until when to wait, and why.

        Raises:
            TooHeavyError: the request weighs more than this lane may ever take at once.
            StateFileError: the file cannot be read or written.
        """
        if self._is_unlimited:
            return None
        if weight > self.most_at_once:
            raise TooHeavyError(
                f"a request to {self._api} weighs {weight:.1f} calls, but a {self.lane} may take at most {self.most_at_once:.1f} at once: "
                "raise WEIR_BUDGET_PER_MINUTE, _HOUR and _DAY to what your plan allows"
            )
        with self.file.changing() as state:
            # A poll that was killed while waiting is dropped some time after its limit has reset.
            state.execute("DELETE FROM waiting WHERE until < ?", (_seconds(now - WAITS_ON),))
            state.execute("DELETE FROM plans WHERE expires < ?", (_seconds(now),))
            if self.lane == "range":
                query = "SELECT span, until FROM waiting WHERE api = ? ORDER BY until DESC"
                if row := state.execute(query, (self._api,)).fetchone():
                    return Wait(row[0], max(_instant(row[1]), now + timedelta(seconds=1)), "a live poll is waiting and goes first")
            used: dict[LimitSpan, float] = {}
            for span in SPANS:
                query = "SELECT weight FROM used WHERE api = ? AND span = ? AND begins = ?"
                row = state.execute(query, (self._api, span, _seconds(_begin(span, now)))).fetchone()
                used[span] = row[0] if row else 0.0
            plans = state.execute("SELECT weight, every FROM plans WHERE api = ?", (self._api,)).fetchall()
            for span, before in used.items():
                kept = self._kept(span, now, plans)
                if before + weight + kept > self._limits[span] + 1e-6:
                    until = limit_boundary(span, now)
                    if self.lane == "poll" and span != "day":  # no program waits for midnight
                        state.execute(
                            "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?)", (self._api, self._program, span, _seconds(until))
                        )
                    reason = f"weir's own count: {before:.1f} of {self._limits[span]:g} used, {weight:.1f} requested"
                    return Wait(span, until, reason + (f", {kept:.1f} reserved for the live poll" if kept else ""))
            for span, before in used.items():
                self._set(state, span, before + weight, now)
            state.execute("DELETE FROM waiting WHERE api = ? AND program = ?", (self._api, self._program))
        return None

    def give_back(self, weight: float, taken: datetime) -> None:
        """Return the weight that was taken for a request that never reached the API.

        Args:
            weight: as it was taken.
            taken: when it was taken; a limit that has reset since then is not changed.

        Raises:
            StateFileError: the file cannot be read or written.
        """
        if self._is_unlimited:
            return
        with self.file.changing() as state:
            for span in SPANS:
                row = (weight, self._api, span, _seconds(_begin(span, taken)))
                state.execute("UPDATE used SET weight = max(weight - ?, 0) WHERE api = ? AND span = ? AND begins = ?", row)

    def least_time(self, weight: float) -> timedelta:
        """Return the least time in which the limits allow this weight, if none of it is used yet."""
        if self._is_unlimited:
            return timedelta(0)
        return max(max(math.ceil(weight / self._limits[span]) - 1, 0) * length for span, length in SPANS.items())

    def announce(self, weight: float, every: timedelta, now: datetime) -> None:
        """Announce that this program polls at an interval: backfills leave it this weight for each poll. Expires after two intervals.

        Raises:
            StateFileError: the file cannot be read or written.
        """
        if self._is_unlimited:
            return
        row = (self._api, self._program, weight, every.total_seconds(), _seconds(now + 2 * every))
        with self.file.changing() as state:
            state.execute("INSERT OR REPLACE INTO plans VALUES (?, ?, ?, ?, ?)", row)
        for span in () if self._is_warned else SPANS:
            needed = weight * max(1, SPANS[span] / every)
            if needed > self._limits[span]:
                self._is_warned = True
                log.warning(
                    "polling needs more calls than the limit allows: increase WEIR_POLL_MINUTES, watch fewer places, or raise the limit",
                    span=span,
                    needed=round(needed),
                    limit=self._limits[span],
                    minutes_that_would_do=math.ceil(weight * SPANS[span] / timedelta(minutes=1) / self._limits[span]),
                )

    def fill(self, span: LimitSpan, now: datetime) -> None:
        """Count a limit as used up, because the API reports it: other programs with this IP address call the API too.

        Raises:
            StateFileError: the file cannot be read or written.
        """
        if not math.isinf(self._limits[span]):
            with self.file.changing() as state:
                self._set(state, span, self._limits[span], now)

    def _kept(self, span: LimitSpan, now: datetime, plans: list[tuple[float, float]]) -> float:
        if self.lane == "poll":
            return 0.0
        left = (limit_boundary(span, now) - now).total_seconds()
        # The number of polls that can begin before the span ends, including one that begins now.
        kept = sum(weight * (left // every + 1) for weight, every in plans)
        return kept if span == "day" else min(kept, self._limits[span] / 2)

    def _set(self, state: sqlite3.Connection, span: LimitSpan, weight: float, now: datetime) -> None:
        state.execute("INSERT OR REPLACE INTO used VALUES (?, ?, ?, ?)", (self._api, span, _seconds(_begin(span, now)), weight))
        metrics.PRODUCER_BUDGET_USED.labels(api=self._api, window=span).set(weight)
        metrics.PRODUCER_BUDGET_LIMIT.labels(api=self._api, window=span).set(self._limits[span])

    @property
    def _is_unlimited(self) -> bool:
        return all(math.isinf(limit) for limit in self._limits.values())


def _begin(span: LimitSpan, now: datetime) -> datetime:
    return now - (now - _EPOCH) % SPANS[span]


def _seconds(instant: datetime) -> float:
    return (instant - _EPOCH) / timedelta(seconds=1)


def _instant(seconds: float) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
