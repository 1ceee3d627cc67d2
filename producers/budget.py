"""How many calls of a source's API may this machine still make, and who goes first?

An API limits the calls of an address by minute, hour and UTC day, and may weigh them: how much a call weighs, and what the limits are,
is the source's to say. What was used stands in one file for all programs of the user, whatever their home, kept apart by the API's
host. Two lanes:

- `poll`, the live poll: takes what there is.
- `range`, a backfill: leaves what the polls that were announced still need until the limit begins anew (at most half of a minute's
  and an hour's; of the day's as much as they need), and stands aside while a poll waits.

Whoever finds no room is told until when; this module never sleeps.
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
# A poll that waits and was killed holds a backfill up for so long.
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
    """No room now: which limit, until when, and why."""

    span: LimitSpan
    until: datetime
    reason: str


def limit_boundary(span: LimitSpan, now: datetime) -> datetime:
    """Say when a limit begins anew: at the next full minute, hour, or UTC midnight."""
    return _begin(span, now) + SPANS[span]


class Budget:
    """What is left of the limits.

    Args:
        path: of the file that all programs share.
        url: of the API; its host tells whose limits these are.
        limits: weight by span; infinite where there is none.
        lane: of this program.
        program: tells it apart from the others, such as its home and process.

    Attributes:
        lane: of this program.
        file: the calls that all programs have made, see `_TABLES`.

    Raises:
        StateFileError: the file can be neither read nor begun anew.
    """

    def __init__(self, path: Path, url: str, limits: Mapping[LimitSpan, float], lane: Lane, program: str) -> None:
        self.lane = lane
        self._api, self._limits, self._program = urlsplit(url).netloc, limits, program
        self._is_told = False
        self.file = StateFile(path, _TABLES, "WEIR_BUDGET_PATH")
        if not self._is_unlimited and (problem := self.file.prepare()):
            log.warning(
                "the count of used calls is lost and begins at nothing; the API may refuse a call before we do",
                path=str(path),
                reason=problem,
            )

    @property
    def most_at_once(self) -> float:
        """The heaviest request that this lane can ever get, given time."""
        # Half of the short limits is never held back, so a backfill goes on however many polls were announced.
        share = 1.0 if self.lane == "poll" else 0.5
        return min(self._limits["minute"] * share, self._limits["hour"] * share, self._limits["day"])

    def take(self, weight: float, now: datetime) -> Wait | None:
        """Take so much for one request, or say why and until when there is no room.

        Raises:
            TooHeavyError: there never will be.
            StateFileError: the file cannot be read or written.
        """
        if self._is_unlimited:
            return None
        if weight > self.most_at_once:
            raise TooHeavyError(
                f"a request to {self._api} weighs {weight:.1f} calls and a {self.lane} may take {self.most_at_once:.1f} at once: "
                "raise WEIR_BUDGET_PER_MINUTE, _HOUR, _DAY to what your plan allows"
            )
        with self.file.changing() as state:
            # A poll that was killed while it waited is forgotten some time after its limit began anew.
            state.execute("DELETE FROM waiting WHERE until < ?", (_seconds(now - WAITS_ON),))
            state.execute("DELETE FROM plans WHERE expires < ?", (_seconds(now),))
            if self.lane == "range":
                query = "SELECT span, until FROM waiting WHERE api = ? ORDER BY until DESC"
                if row := state.execute(query, (self._api,)).fetchone():
                    return Wait(row[0], max(_instant(row[1]), now + timedelta(seconds=1)), "a live poll waits and goes first")
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
                    if self.lane == "poll" and span != "day":  # nobody waits for midnight
                        state.execute(
                            "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?)", (self._api, self._program, span, _seconds(until))
                        )
                    reason = f"weir's own count: {before:.1f} of {self._limits[span]:g} used, {weight:.1f} asked"
                    return Wait(span, until, reason + (f", {kept:.1f} kept for the live poll" if kept else ""))
            for span, before in used.items():
                self._set(state, span, before + weight, now)
            state.execute("DELETE FROM waiting WHERE api = ? AND program = ?", (self._api, self._program))
        return None

    def give_back(self, weight: float, taken: datetime) -> None:
        """Return what was taken for a request that never came to the API.

        Args:
            weight: as it was taken.
            taken: when; a limit that has begun anew since is left alone.

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
        """Say how long so much takes at least, were nothing of the limits used."""
        if self._is_unlimited:
            return timedelta(0)
        return max(max(math.ceil(weight / self._limits[span]) - 1, 0) * length for span, length in SPANS.items())

    def announce(self, weight: float, every: timedelta, now: datetime) -> None:
        """Say that this program polls: backfills leave it this weight, again and again. Holds for two polls; announce each.

        Raises:
            StateFileError: the file cannot be read or written.
        """
        if self._is_unlimited:
            return
        row = (self._api, self._program, weight, every.total_seconds(), _seconds(now + 2 * every))
        with self.file.changing() as state:
            state.execute("INSERT OR REPLACE INTO plans VALUES (?, ?, ?, ?, ?)", row)
        for span in () if self._is_told else SPANS:
            needed = weight * max(1, SPANS[span] / every)
            if needed > self._limits[span]:
                self._is_told = True
                log.warning(
                    "polling needs more calls than the limit: set WEIR_POLL_MINUTES higher, watch fewer places, or raise the limit",
                    span=span,
                    needed=round(needed),
                    limit=self._limits[span],
                    minutes_that_would_do=math.ceil(weight * SPANS[span] / timedelta(minutes=1) / self._limits[span]),
                )

    def fill(self, span: LimitSpan, now: datetime) -> None:
        """Note that the API itself says that a limit is used up: others on this address call it too.

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
        # So many polls can begin in what is left of the span, one of them at once.
        kept = sum(weight * (left // every + 1) for weight, every in plans)
        return kept if span == "day" else min(kept, self._limits[span] / 2)

    def _set(self, state: sqlite3.Connection, span: LimitSpan, weight: float, now: datetime) -> None:
        state.execute("INSERT OR REPLACE INTO used VALUES (?, ?, ?, ?)", (self._api, span, _seconds(_begin(span, now)), weight))
        metrics.PRODUCER_BUDGET_USED.labels(window=span).set(weight)
        metrics.PRODUCER_BUDGET_LIMIT.labels(window=span).set(self._limits[span])

    @property
    def _is_unlimited(self) -> bool:
        return all(math.isinf(limit) for limit in self._limits.values())


def _begin(span: LimitSpan, now: datetime) -> datetime:
    return now - (now - _EPOCH) % SPANS[span]


def _seconds(instant: datetime) -> float:
    return (instant - _EPOCH) / timedelta(seconds=1)


def _instant(seconds: float) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
