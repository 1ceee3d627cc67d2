"""What happens when a query fails? It is started again with growing waits, or stopped with its reason; the others go on.

One `Supervised` is one query over all its lives. What its body raised is kept as the Python exception it was: Spark hands out
only a text of it. Nothing here knows Kafka or tables; the driver says how a query is started.
"""

import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import psutil
import structlog
from py4j.protocol import Py4JError
from pyspark.sql import DataFrame

from lakehouse.errors import WeirError
from lakehouse.locks.lease import SAME_START_SECONDS
from lakehouse.storage.folders import Folder
from streaming.bronze import Body
from streaming.errors import QueryFailed
from streaming.failures import Verdict, cause_of, classify

STOP_LIMIT_SECONDS = 45
POLL_SECONDS = 0.2
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
# A query that has applied micro-batches for so long is well again: its next failure is its first.
GOOD_AFTER_SECONDS = 60.0
# Failures in a row of a kind that is not known, before it counts as one that does not pass.
MOST_UNKNOWN = 8
# Of one that is worth trying again, when the command is to drain and end.
MOST_RETRIES_WHEN_DRAINING = 3

State = Literal["running", "restarting", "stopped", "done"]
log = structlog.get_logger("weir.stream")


class StopRequested(Exception):
    """Raised inside a micro-batch that began after the stop was asked for; the batch is not committed."""


class Query(Protocol):
    """What is needed of a streaming query."""

    @property
    def isActive(self) -> bool: ...  # noqa: N802, D102 - Spark's name
    @property
    def status(self) -> dict[str, Any]: ...  # noqa: D102
    def exception(self) -> Exception | None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class QueryState:
    """One query as `weir status` shows it.

    Attributes:
        query: its name.
        state: how it is.
        reason: why it does not run.
        restarts: how often it was started again.
        since: when it came to be so, ISO 8601 in UTC.
        note: what an operator should know though it runs, such as that it began a new checkpoint; empty for nothing.
    """

    query: str
    state: State
    reason: str
    restarts: int
    since: str
    note: str = ""


def wait_seconds(failures: int, chance: float) -> float:
    """Give the wait before the next start, in seconds: doubled with every failure in a row, bounded, up to half of it by chance.

    Args:
        failures: in a row, from 1.
        chance: from 0 to 1.
    """
    longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 10))
    return longest * (0.5 + 0.5 * chance)


class Supervised:
    """One query over all its lives.

    Args:
        name: the query's.
        start: examines what the query needs and starts it; what it raises is judged like what ends the query.
        explain: raises what is really wrong where Spark only says that offsets are gone.
        stopping: set when all are to end.
        before: called at the start of every micro-batch; raises when it must not run.
        draining: the query ends by itself when it has read all there is.
        clock: seconds, never back.
    """

    def __init__(
        self,
        name: str,
        start: Callable[["Supervised"], Query],
        stopping: threading.Event,
        *,
        explain: Callable[[], None] = lambda: None,
        before: Callable[[], None] = lambda: None,
        draining: bool = False,
        restarted: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        # What its start found that an operator should know.
        self.note = ""
        self.error: BaseException | None = None
        self._start, self._explain, self._before, self._restarted = start, explain, before, restarted
        self._stopping, self._draining, self._clock = stopping, draining, clock
        self._query: Query | None = None
        self._kept: BaseException | None = None
        self._halted: BaseException | None = None
        self._good_since: float | None = None
        self._failures, self._try_at = 0, 0.0
        self._state, self._reason, self._restarts, self._since = "restarting", "", 0, _now()

    @property
    def state(self) -> QueryState:
        """The query as it is now."""
        return QueryState(self.name, self._state, self._reason, self._restarts, self._since, self.note)  # type: ignore[arg-type]

    @property
    def is_draining(self) -> bool:
        """Whether the query ends by itself when it has read all there is."""
        return self._draining

    @property
    def is_over(self) -> bool:
        """Whether it will not run again by itself."""
        return self._state in ("stopped", "done")

    def guard(self, body: Body) -> Body:
        """Wrap the body of the query: it asks first whether it may run, and keeps what it raises."""

        def guarded(rows: DataFrame, batch_id: int) -> None:
            try:
                if self._stopping.is_set():
                    raise StopRequested
                if self._halted is not None:
                    raise self._halted
                self._before()
                body(rows, batch_id)
            except BaseException as error:
                self._kept = error
                raise
            self._good_since = self._good_since or self._clock()

        return guarded

    def halt(self, error: BaseException) -> None:
        """End the query with an error that was found outside of it, between two micro-batches."""
        self._halted = self._halted or error

    def begin(self) -> None:
        """Start the query now."""
        self._kept = self._halted = self._good_since = None
        self.error = None
        try:
            self._query = self._start(self)
        except Exception as error:
            self._query = None
            self._failed(error)
        else:
            self._become("running", "")

    def resume(self) -> None:
        """Start a query that is stopped, or that waits, as if it had never failed."""
        if self._state in ("stopped", "restarting"):
            self._failures = 0
            self._restarts += 1
            self._restarted(self.name)
            self.begin()

    def tick(self) -> None:
        """Look once: has it ended, and is it time to start it again?"""
        if self._state == "restarting" and self._clock() >= self._try_at:
            self._restarts += 1
            self._restarted(self.name)
            self.begin()
        elif self._state == "running" and self._query is not None:
            if self._query.isActive:
                if self._halted is not None and not self._query.status["isTriggerActive"]:
                    self._query.stop()
                return
            error = self._kept or self._halted or self._query.exception()
            if error is None and self._draining:
                self._become("done", "")
            elif not isinstance(error, StopRequested):
                self._failed(error or QueryFailed(self.name, "it was stopped from outside"))

    def end(self, interrupt: bool) -> bool:
        """Let the query end between two micro-batches, or now; say whether it has."""
        if self._query is None or not self._query.isActive:
            return True
        if interrupt or not self._query.status["isTriggerActive"]:
            self._query.stop()
        return not self._query.isActive

    def _failed(self, error: BaseException) -> None:
        verdict = classify(error)
        if verdict == "loss":
            # Where nothing is found that bronze lacks, the next start begins after what it holds.
            verdict = "retry" if self._draining else "unknown"
            try:
                self._explain()
            except WeirError as found:
                error, verdict = found, classify(found)
        if verdict == "driver":
            raise error if isinstance(error, WeirError) else QueryFailed(self.name, cause_of(error)) from error
        if self._good_since is not None and self._clock() - self._good_since >= GOOD_AFTER_SECONDS:
            self._failures = 0
        self._failures += 1
        self.error = error
        most = _most_failures(verdict, self._draining)
        if most is not None and self._failures > most:
            self._become("stopped", cause_of(error))
            log.error("query stopped", query=self.name, reason=cause_of(error), failures=self._failures)
            return
        wait = wait_seconds(self._failures, random.random())
        self._try_at = self._clock() + wait
        self._become("restarting", cause_of(error))
        log.warning("query will start again", query=self.name, reason=cause_of(error), in_seconds=round(wait, 1), verdict=verdict)

    def _become(self, state: State, reason: str) -> None:
        self._state, self._reason, self._since = state, reason, _now()


def _most_failures(verdict: Verdict, draining: bool) -> int | None:
    """Failures in a row after which a query is started again; null for ever."""
    if verdict == "stop" or (verdict == "unknown" and draining):
        return 0
    return MOST_UNKNOWN if verdict == "unknown" else MOST_RETRIES_WHEN_DRAINING if draining else None


class Supervisor:
    """The queries of one driver.

    Args:
        queries: all of them.
        stopping: set to end them.
        told: is told of all states whenever one changes.
        poll: called every 0.2 s, between two looks at the queries.
    """

    def __init__(
        self,
        queries: Sequence[Supervised],
        stopping: threading.Event,
        told: Callable[[Sequence[QueryState]], None] = lambda _: None,
        poll: Callable[[], None] = lambda: None,
    ) -> None:
        self._queries, self._stopping, self._told, self._poll = queries, stopping, told, poll
        self._last: list[QueryState] = []

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Run until a stop is asked for, or no query is left.

        Raises:
            WeirError: with which the first query stopped, when all have stopped or one cannot be judged here.
        """
        try:
            for query in self._queries:
                query.begin()
            self._say()
            ready()
            while not all(query.is_over for query in self._queries):
                if self._stopping.wait(POLL_SECONDS):
                    return
                for query in self._queries:
                    query.tick()
                self._say()
                self._poll()
        except (Py4JError, ConnectionError) as error:
            raise QueryFailed(", ".join(query.name for query in self._queries), f"Spark's JVM does not answer ({error})") from error
        finally:
            self._end()
        for query in self._queries:
            if query.error is not None:
                raise query.error if isinstance(query.error, WeirError) else QueryFailed(query.name, cause_of(query.error)) from query.error

    def _say(self) -> None:
        states = [query.state for query in self._queries]
        if states != self._last:
            self._last = states
            self._told(states)

    def _end(self) -> None:
        limit = time.monotonic() + STOP_LIMIT_SECONDS
        # A JVM that is gone has no queries left to end.
        with contextlib.suppress(Py4JError, ConnectionError):
            if self._have_ended(interrupt=False):
                return
            self._stopping.set()
            while not self._have_ended(interrupt=time.monotonic() > limit):
                time.sleep(POLL_SECONDS)

    def _have_ended(self, interrupt: bool) -> bool:
        """Ask every query to end, whichever has already; say whether all have."""
        return False not in [query.end(interrupt) for query in self._queries]


def states_file(domain: str) -> str:
    """Name the file in which a driver says how its queries are."""
    return f"stream-{domain}.queries.json"


def write_states(folder: Folder, domain: str, states: Sequence[QueryState]) -> None:
    """Replace the file in one step."""
    me = psutil.Process()
    held = {"pid": me.pid, "created": me.create_time(), "domain": domain, "queries": [asdict(state) for state in states]}
    folder.write(states_file(domain), json.dumps(held))


def read_states(folder: Folder, domain: str) -> list[QueryState]:
    """Read the file; empty where there is none, or the driver that wrote it has ended."""
    try:
        held = json.loads(folder.text(states_file(domain)) or "")
        if abs(psutil.Process(held["pid"]).create_time() - held["created"]) >= SAME_START_SECONDS:
            return []
        return [QueryState(**state) for state in held["queries"]]
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return []


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
