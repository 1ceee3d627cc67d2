"""Who may write a domain's tables? One holder of a lease in the catalog's database, which all machines share.

The table `weir_leases` has a row per name. A holder renews its row every 10 s; 30 s without that, and the next one may take it.
All times are the database's, so that clocks of machines need not agree. Before each micro-batch the holder asks whether the row
still carries its token, which stops a driver that was paused and has been replaced. A micro-batch that is already running
then is not stopped; MERGE's serializable isolation still protects the tables.

Catalogs whose database weir cannot reach (REST, Glue, hadoop) have no lease, only the machine's file lock.
"""

import contextlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import structlog

from lakehouse.errors import LakehouseError, Retryable
from lakehouse.settings import Settings
from lakehouse.tables.catalog import UnreadableCatalog, catalog_kind, database_url

TTL_SECONDS = 30.0
RENEW_SECONDS = 10.0
# Two readings of one process's creation time may differ by rounding.
SAME_START_SECONDS = 0.05
_TABLE = (
    "CREATE TABLE IF NOT EXISTS weir_leases "
    "(name VARCHAR(255) PRIMARY KEY, holder VARCHAR(2000) NOT NULL, expires_at DOUBLE PRECISION NOT NULL, token VARCHAR(64) NOT NULL)"
)
_NOW = {"sqlite": "((julianday('now') - 2440587.5) * 86400.0)", "postgresql": "extract(epoch FROM clock_timestamp())"}

log = structlog.get_logger("weir.lease")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds, or held, a lease. `created` is seconds since 1970; `machine` tells hosts, boots and containers apart."""

    host: str
    machine: str
    pid: int
    created: float

    @classmethod
    def me(cls) -> "Holder":
        """Describe this process."""
        return cls(socket.gethostname(), _machine(), os.getpid(), psutil.Process().create_time())

    def is_gone(self) -> bool:
        """Whether it is certain that this process has ended: only said of a process of this machine."""
        if self.machine != _machine():
            return False
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) >= SAME_START_SECONDS or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.created, UTC)
        return f"process {self.pid} on {self.host}, started {since:%Y-%m-%d %H:%M:%S} UTC"


class LeaseHeld(LakehouseError, Retryable):
    """Another process holds the lease."""

    def __init__(self, name: str, holder: Holder, left_seconds: float) -> None:
        super().__init__(
            f"{name} is already written by {holder}: two drivers would write the same tables. Stop that one (`weir down` there); if it has "
            f"died with its machine, its lease runs out in {max(0.0, left_seconds):.0f} s, and then this command may be repeated."
        )


class LeaseLost(LakehouseError, Retryable):
    """The lease was taken over while this process was held up."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(
            f"{name} is now written by {holder}: this process did not renew its lease for {TTL_SECONDS:g} s, so it ends. Its checkpoint is "
            "intact; to write here again, stop that one first."
        )


class Lease:
    """One name's lease, once acquired.

    Args:
        url: SQLAlchemy's URL of the catalog's database.
        name: what is leased, such as `stream` and a domain.
        ttl_seconds: how long the lease lasts without being renewed.
    """

    def __init__(self, url: str, name: str, ttl_seconds: float = TTL_SECONDS, holder: Holder | None = None) -> None:
        from sqlalchemy import create_engine, event
        from sqlalchemy.pool import NullPool

        self.name, self._ttl, self._url = name, ttl_seconds, url
        self._holder = holder or Holder.me()
        self._token = uuid.uuid4().hex
        sqlite = url.startswith("sqlite")
        # No pool: a refused program leaves no connection behind, and after a restart of the database a new connection is opened.
        self._engine = create_engine(url, connect_args={"timeout": 30} if sqlite else {}, poolclass=NullPool)
        self._now = _NOW[self._engine.dialect.name]
        if sqlite:
            Path(self._engine.url.database or "").parent.mkdir(parents=True, exist_ok=True)

            @event.listens_for(self._engine, "connect")
            def _as_spark_does(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's connection
                connection.execute("PRAGMA journal_mode=WAL")

    def acquire(self) -> None:
        """Take the lease if nobody holds it, its time is over, or its holder is a process of this machine that has ended.

        Raises:
            LeaseHeld: somebody else holds it.
        """
        from sqlalchemy.exc import IntegrityError

        with contextlib.suppress(IntegrityError):  # another process makes the table at this moment
            self._run(_TABLE)
        with contextlib.suppress(IntegrityError):  # a row is there already
            self._run(f"INSERT INTO weir_leases VALUES (:name, :holder, {self._now} + :ttl, :token)")
            return
        rows = self._rows(f"SELECT holder, token, expires_at - {self._now} FROM weir_leases WHERE name = :name")
        if not rows:  # released a moment ago
            self.acquire()
            return
        held, token, left = rows[0]
        holder = Holder(**json.loads(held))
        if left > 0 and not holder.is_gone():
            raise LeaseHeld(self.name, holder, left)
        # Only from whom we saw: of two that find it free, one changes the row.
        taken = self._run(
            f"UPDATE weir_leases SET holder = :holder, token = :token, expires_at = {self._now} + :ttl "
            f"WHERE name = :name AND token = :seen AND (expires_at <= {self._now} OR :gone = 1)",
            seen=token,
            gone=int(holder.is_gone()),
        )
        if taken != 1:
            self.acquire()
            return
        log.warning("lease taken over", lease=self.name, of=str(holder))

    def renew(self) -> None:
        """Make the lease last from now.

        Raises:
            LeaseLost: somebody else has taken it.
        """
        if self._run(f"UPDATE weir_leases SET expires_at = {self._now} + :ttl WHERE name = :name AND token = :token") != 1:
            rows = self._rows("SELECT holder FROM weir_leases WHERE name = :name")
            raise LeaseLost(self.name, str(Holder(**json.loads(rows[0][0]))) if rows else "nobody")

    def check(self) -> None:
        """Check that the lease is still ours and lasts; called before every micro-batch.

        Raises:
            LeaseLost: somebody else has taken it.
        """
        rows = self._rows(f"SELECT expires_at - {self._now} FROM weir_leases WHERE name = :name AND token = :token")
        if not rows or rows[0][0] < self._ttl / 2:
            self.renew()

    def release(self) -> None:
        """Return the lease back."""
        self._run("DELETE FROM weir_leases WHERE name = :name AND token = :token")

    def _run(self, statement: str, **more: object) -> int:
        from sqlalchemy import text

        with self._said_plainly(), self._engine.begin() as connection:
            return int(connection.execute(text(statement), self._values(statement, more)).rowcount)

    def _rows(self, statement: str) -> list[Any]:
        from sqlalchemy import text

        with self._said_plainly(), self._engine.connect() as connection:
            return list(connection.execute(text(statement), self._values(statement, {})).all())

    @contextmanager
    def _said_plainly(self) -> Iterator[None]:
        """Make a database that does not answer an error worth trying again."""
        from sqlalchemy.exc import DBAPIError, IntegrityError

        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise UnreadableCatalog(self._url, error.orig) from error

    def _values(self, statement: str, more: dict[str, object]) -> dict[str, object]:
        ours = {"name": self.name, "holder": json.dumps(asdict(self._holder)), "ttl": self._ttl, "token": self._token, **more}
        return {key: value for key, value in ours.items() if f":{key}" in statement}


@contextmanager
def held_lease(settings: Settings, name: str, lost: Callable[[BaseException], None]) -> Iterator[Callable[[], None]]:
    """Hold a lease, renewed by a thread, while the block runs; give the check that belongs before every micro-batch.

    Args:
        settings: name the catalog.
        name: what is leased.
        lost: called by the renewing thread when another program has taken the lease.

    Raises:
        LeaseHeld: somebody else holds it.
        UnreadableCatalog: the database does not answer; the check may raise it too.
    """
    lease = _lease(settings, name)
    if lease is None:
        yield lambda: None
        return
    lease.acquire()
    ending = threading.Event()
    renewing = threading.Thread(target=_keep, args=(lease, ending, lost), name="weir-lease", daemon=True)
    renewing.start()
    try:
        yield lease.check
    finally:
        ending.set()
        renewing.join(TTL_SECONDS)
        with _told_only("lease not given back; it runs out by itself"):
            lease.release()


def has_leases(settings: Settings) -> bool:
    """Whether the catalog's database has leases, so that who gets one knows that nobody has it."""
    return _lease(settings, "") is not None


def _keep(lease: Lease, ending: threading.Event, lost: Callable[[BaseException], None]) -> None:
    while not ending.wait(RENEW_SECONDS):
        with _told_only("lease not renewed; tried again"):
            try:
                lease.renew()
            except LeaseLost as error:
                lost(error)
                return


@contextmanager
def _told_only(what: str) -> Iterator[None]:
    try:
        yield
    except UnreadableCatalog as error:
        log.warning(what, error=str(error))


def _lease(settings: Settings, name: str) -> Lease | None:
    if catalog_kind(settings) not in ("sqlite", "postgresql"):
        return None
    try:
        return Lease(database_url(settings), name)
    except ModuleNotFoundError as error:
        log.warning("no lease, only this machine's lock: the database's Python driver is not installed", missing=error.name)
        return None


def _machine() -> str:
    """Return an id of this boot of this host; a container has another one than its host."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), str(Path("/proc/self/ns/pid").readlink())]
    return " ".join(parts)
