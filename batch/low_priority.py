"""How does a batch program keep as little as may be from a live stream? The processors by a low priority, the tables by short turns."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lakehouse.locks.table_locks import table_lock
from lakehouse.settings import Settings
from lakehouse.write.small_batches.session_tuning import SMALL_ROWS

NICENESS = 10
# A turn brings in so many rows at most. Where one had to be waited for, the next is of so few that they are written from memory: whoever
# held it up (a live stream) waits as long as it takes. Each turn that was free is followed by one of twice the rows.
MOST_ROWS, ROWS_IN_COMPANY = 200_000, SMALL_ROWS
COMPANY_SECONDS = 0.05
# Who held a turn for longer is no stream, but a proof or a publishing, which comes once.
MOST_SECONDS_AWAY = 10.0


def lower_priority() -> None:
    """Lower the priority of this process, and of what it starts from now on. Where nobody else wants the processors nothing is slower."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


class ShortLocks:
    """Turns at a domain's tables for a program that needs many, beside a stream that wants them too.

    A turn is next as soon as it is asked for. So after one that had to be waited for, this program stays away as long as the other held it
    up, and a stream has about two micro-batches for each turn: one that did not wait, after one that did.

    Args:
        settings: name the catalog.
        domain: whose tables.
    """

    def __init__(self, settings: Settings, domain: str) -> None:
        self._settings, self._domain = settings, domain
        self._rows = ROWS_IN_COMPANY
        self._held_up, self._ended = 0.0, time.monotonic()

    @contextmanager
    def next(self) -> Iterator[int]:
        """Have the next turn while the block runs; gives how many rows it may bring in."""
        away = self._ended + self._held_up - time.monotonic()
        if self._held_up >= COMPANY_SECONDS and away > 0:
            time.sleep(away)
        with table_lock(self._settings, self._domain) as waited:
            # A stream may be between two micro-batches at the moment: what it took before is forgotten by halves.
            self._held_up = min(max(waited, self._held_up / 2), MOST_SECONDS_AWAY)
            if waited >= COMPANY_SECONDS:
                self._rows = ROWS_IN_COMPANY
            yield self._rows
        self._rows = min(MOST_ROWS, 2 * self._rows)
        self._ended = time.monotonic()
