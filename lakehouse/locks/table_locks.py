"""Who writes a domain's silver and gold at this moment? One program at a time, each for as long as one `apply` takes.

The stream's micro-batch, a backfill's chunk and the publishing of a rebuild take turns, so that none of them works on rows that another
one changes meanwhile; what reads several tables and needs them to belong together takes a turn too. Whoever asked first is next: a
backfill that goes from chunk to chunk lets the stream in between.

On the embedded catalog, which is a file of one machine, a turn is a lock of that machine beside the file: it costs microseconds, and ends
with its process. On a catalog in a database it is a lease there. Catalogs that have neither (REST, Glue, hadoop) have the lock of the
machine; between machines Iceberg's validation of every commit is what is left, and a refused `apply` is done again (`apply.py`).
"""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lakehouse.locks.lease import LeaseHeld, held_lease
from lakehouse.settings import Settings
from lakehouse.storage.files import locked
from lakehouse.storage.paths import is_read_only
from lakehouse.tables.catalog import catalog_file

# Asked again so often while another program has its turn, in seconds; a little apart, so that two that wait do not ask together.
ASK_SECONDS = (0.05, 0.2)


@contextmanager
def table_lock(settings: Settings, domain: str) -> Iterator[float]:
    """Have a turn at a domain's tables while the block runs; waits for it, and gives the seconds that this took.

    Args:
        settings: name the catalog.
        domain: whose tables.

    Raises:
        UnreadableCatalog: the catalog's database does not answer.
    """
    began = time.monotonic()
    with _on_this_machine(settings, domain), _between_machines(settings, domain):
        yield time.monotonic() - began


@contextmanager
def _on_this_machine(settings: Settings, domain: str) -> Iterator[None]:
    file = catalog_file(settings)
    folder = settings.home if file is None else file.parent
    if is_read_only(folder):  # nobody writes there, so what is read belongs together
        yield
        return
    with ExitStack() as inside:
        # A lock is not fair: who lets go of it and asks again has it before one that waits. Whoever waits holds the door meanwhile.
        with locked(folder / "run" / f"{domain}-door"):
            inside.enter_context(locked(folder / "run" / f"{domain}-turn"))
        yield


@contextmanager
def _between_machines(settings: Settings, domain: str) -> Iterator[None]:
    if catalog_file(settings) is not None:
        yield
        return
    with ExitStack() as inside:
        while True:
            try:
                # Who loses it meanwhile was held up for its whole time: Iceberg refuses what it commits then.
                inside.enter_context(held_lease(settings, f"turn {domain}", lambda _: None))
                break
            except LeaseHeld:
                time.sleep(random.uniform(*ASK_SECONDS))
        yield
