"""Who writes a domain's silver and gold at this moment? One program at a time, for as long as one `apply` takes: it holds the table lock.

The stream's micro-batches, a backfill's chunks and the publishing of a rebuild each take the lock, so that none of them works on rows that
another one is changing. A reader of several tables that must belong together takes it too. The lock is fair: a backfill that goes from
chunk to chunk lets the stream in between.

The embedded catalog is a file of one machine, so its lock is a file lock beside it: it costs microseconds and ends with its process. On
a catalog in a database it is a lease there. Other catalogs (REST, Glue, hadoop) have the machine's file lock alone; between machines
Iceberg validates every commit, and a refused `apply` is repeated (`conflicts.py`).
"""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lakehouse.locks.lease import LeaseHeld, held_lease
from lakehouse.settings import Settings
from lakehouse.storage.files import is_locked, locked
from lakehouse.storage.paths import is_read_only
from lakehouse.tables.catalog import catalog_file

# How often a waiting program asks for a lease, in seconds; at random, so that two of them do not ask together.
ASK_SECONDS = (0.05, 0.2)


@contextmanager
def table_lock(settings: Settings, domain: str) -> Iterator[float]:
    """Hold the lock on a domain's tables while the block runs; wait for it first, and yield the seconds that took.

    Args:
        settings: name the catalog.
        domain: whose tables.

    Raises:
        UnreadableCatalog: the catalog's database does not answer.
    """
    began = time.monotonic()
    with _on_this_machine(settings, domain), _between_machines(settings, domain):
        yield time.monotonic() - began


def is_wanted(settings: Settings, domain: str) -> bool:
    """Return whether another program of this machine waits for the lock; for whoever holds it. Waiting machines are not seen.

    Args:
        settings: name the catalog.
        domain: whose tables.
    """
    return is_locked(_lock_folder(settings) / f"{domain}-door")


def _lock_folder(settings: Settings) -> Path:
    file = catalog_file(settings)
    return (settings.home if file is None else file.parent) / "run"


@contextmanager
def _on_this_machine(settings: Settings, domain: str) -> Iterator[None]:
    folder = _lock_folder(settings)
    if is_read_only(folder):  # nobody writes there, so tables belong together anyway
        yield
        return
    with ExitStack() as inside:
        # A file lock is not fair: a program that releases it and asks again gets it before one that waits. A second file makes a queue of
        # one: whoever waits holds it, and the program that has just released the lock waits behind.
        with locked(folder / f"{domain}-door"):
            inside.enter_context(locked(folder / f"{domain}-turn"))
        yield


@contextmanager
def _between_machines(settings: Settings, domain: str) -> Iterator[None]:
    if catalog_file(settings) is not None:
        yield
        return
    with ExitStack() as inside:
        while True:
            try:
                # A program that loses it was stopped for the lease's whole time: Iceberg refuses its next commit.
                inside.enter_context(held_lease(settings, f"turn {domain}", lambda _: None))
                break
            except LeaseHeld:
                time.sleep(random.uniform(*ASK_SECONDS))
        yield
