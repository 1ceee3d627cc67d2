"""How does a batch program disturb a live stream as little as possible? By a low process priority and by short table locks."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lakehouse.locks.table_locks import is_wanted, table_lock
from lakehouse.settings import Settings

NICENESS = 10
# The most rows to write under one lock. Beside another program (a live stream) so few are written that it waits for less than a second.
# After each lock for which no other program waited, the number of rows doubles.
MOST_ROWS, ROWS_IN_COMPANY = 200_000, 1_000
COMPANY_SECONDS = 0.05
# A program that held the lock for longer is not a stream, but a proof or a publishing, which happens once.
MOST_SECONDS_AWAY = 10.0


def lower_priority() -> None:
    """Lower the priority of this process and of those that it starts later. On idle processors this slows nothing down."""
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


class ShortLocks:
    """Table locks on a domain for a program that takes many, beside a stream that needs them too.

    The lock is fair: two programs get it in turn. A stream's micro-batch is much shorter than a write here. After releasing the lock, this
    program pauses for as long as it had waited for the lock, or as it held it while another program waited. A stream then runs about two
    micro-batches for each lock taken here: one that waited for it, and one that did not.

    Args:
        settings: with the catalog.
        domain: the domain's name.
    """

    def __init__(self, settings: Settings, domain: str) -> None:
        self._settings, self._domain = settings, domain
        self._rows = ROWS_IN_COMPANY
        self._held_up, self._ended = 0.0, time.monotonic()

    @contextmanager
    def next(self) -> Iterator[int]:
        """Hold the lock while the block runs; yield the number of rows that may be written in it."""
        away = self._ended + self._held_up - time.monotonic()
        if self._held_up >= COMPANY_SECONDS and away > 0:
            time.sleep(away)
        with table_lock(self._settings, self._domain) as waited:
            if waited >= COMPANY_SECONDS:
                self._rows = ROWS_IN_COMPANY
            began = time.monotonic()
            yield self._rows
            self._ended = time.monotonic()
            held = self._ended - began if is_wanted(self._settings, self._domain) else 0.0
        # A stream may just be between two micro-batches, so the earlier pause is halved rather than forgotten.
        self._held_up = min(max(waited, held, self._held_up / 2), MOST_SECONDS_AWAY)
        self._rows = ROWS_IN_COMPANY if self._held_up >= COMPANY_SECONDS else min(MOST_ROWS, 2 * self._rows)
