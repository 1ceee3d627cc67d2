"""What happens when another writer changed the same rows? Iceberg refuses the commit, nothing is written, and the work is repeated.

The table lock (`table_locks.py`) keeps weir's own programs apart. What is left are maintenance, and writers that do not take the lock.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import stamina
import structlog
from pyiceberg.exceptions import CommitFailedException

# Nothing was committed when one of these is raised; after any other error it may have been.
REFUSED = ("org.apache.iceberg.exceptions.ValidationException", "org.apache.iceberg.exceptions.CommitFailedException")
ATTEMPTS = 6
WAIT_FIRST_SECONDS, WAIT_MOST_SECONDS = 0.2, 4.0

log = structlog.get_logger("weir.tables")

_T = TypeVar("_T")


class TableMoved(Exception):
    """The rows were read from a newer snapshot than the one that is written on, as another writer came between; nothing was committed."""


def is_refused(error: Exception) -> bool:
    """Return whether Iceberg refused a commit because of another one; any other failure is no conflict."""
    return isinstance(error, (TableMoved, CommitFailedException)) or any(name in text for text in _texts(error) for name in REFUSED)


def until_accepted(work: Callable[[], _T]) -> _T:
    """Run work that ends in commits; repeat it from a fresh look at the tables when Iceberg refuses one. Waits are jittered and grow.

    Args:
        work: safe to repeat; what it committed before the refused commit stays.

    Raises:
        Exception: what `work` raises; at once where it is no conflict, else after the last attempt.
    """
    for attempt in stamina.retry_context(
        on=is_refused, attempts=ATTEMPTS, timeout=None, wait_initial=WAIT_FIRST_SECONDS, wait_max=WAIT_MOST_SECONDS
    ):
        with attempt:
            if attempt.num > 1:
                log.info("repeated after another writer's commit", attempt=attempt.num)
            return work()
    raise AssertionError("the last attempt returns or raises")


def _texts(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield str(error)
        yield str(getattr(error, "_stackTrace", ""))  # Spark's converted exceptions keep Java's trace beside their message
        error = error.__cause__
