"""What happens when a query fails? It is restarted with growing waits, or stopped with a reason; the others continue.

One `Supervised` is one query through all its restarts. It keeps the Python exception that the micro-batch raised, since Spark only returns
its text. Nothing here knows Kafka or tables; the driver provides the function that starts a query.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog
from py4j.protocol import Py4JError
from pyspark.sql import DataFrame

from lakehouse.errors import WeirError
from streaming.bronze import Body
from streaming.errors import QueryFailed
from streaming.failures import Verdict, cause_of, classify
from streaming.query_states import QueryState, State

STOP_LIMIT_SECONDS = 45
POLL_SECONDS = 0.2
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
# After a query has applied micro-batches for this long, its next failure counts as the first.
GOOD_AFTER_SECONDS = 60.0
# After this many failures in a row of an unknown kind, the query is stopped.
MOST_UNKNOWN = 8
# Retries of a transient failure when the command drains and ends.
MOST_RETRIES_WHEN_DRAINING = 3

log = structlog.get_logger("weir.stream")


class StopRequested(Exception):
    """Raised inside a micro-batch that began after a stop was requested; the batch is not committed."""


class ResumeRequested(Exception):
    """Ends a query that runs between two micro-batches, so that it starts again with the sources that the breaker holds back."""


class Query(Protocol):
    """The part of Spark's streaming query that is used here."""

    @property
    def isActive(self) -> bool: ...  # noqa: N802, D102 - Spark's name
    @property
    def status(self) -> dict[str, Any]: ...  # noqa: D102
    def exception(self) -> Exception | None: ...  # noqa: D102
    def stop(self) -> None: ...  # noqa: D102


def wait_seconds(failures: int, chance: float) -> float:
    """Return the wait before the next start in seconds: doubled with every failure in a row, bounded, half of it random.

    Args:
        failures: in a row, from 1.
        chance: from 0 to 1.
    """
    longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 10))
    return longest * (0.5 + 0.5 * chance)


class Supervised:
    """One query through all its restarts.

    Args:
        name: the query's.
        start: examines what the query needs and starts it; an error it raises is handled like one that ends the query.
        explain: raises the real cause where Spark only reports that offsets are gone.
        stopping: set when all queries must end.
        before: called at the start of every micro-batch; raises when it must not run.
        draining: whether the query ends by itself when it has read all there is.
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
        # Information for the operator that the start found.
        self.note = ""
        self.error: BaseException | None = None
        # By source, the error of those that the start's query holds back.
        self.refused: Mapping[str, WeirError] = {}
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
        """The current state."""
        held = {source: str(error) for source, error in self.refused.items()} if self._state == "running" else {}
        return QueryState(self.name, self._state, self._reason, self._restarts, self._since, self.note, held)  # type: ignore[arg-type]

    @property
    def is_draining(self) -> bool:
        """Whether the query ends by itself when it has read all there is."""
        return self._draining

    @property
    def is_over(self) -> bool:
        """Whether it will not run again by itself."""
        return self._state in ("stopped", "done")

    def guard(self, body: Body) -> Body:
        """Wrap the body of the query: check whether it may run, and keep the exception that it raises."""

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
        """End the query between two micro-batches with an error that was found outside of it."""
        self._halted = self._halted or error

    def begin(self) -> None:
        """Start the query now."""
        self._kept = self._halted = self._good_since = None
        self.error, self.refused = None, {}
        try:
            self._query = self._start(self)
        except Exception as error:
            self._query = None
            self._failed(error)
        else:
            self._become("running", "")

    def resume(self) -> None:
        """Start a stopped or waiting query as if it had never failed, and one that holds sources back after its running micro-batch."""
        if self._state in ("stopped", "restarting"):
            self._failures = 0
            self._begin_again()
        elif self.refused:
            self.halt(ResumeRequested())

    def tick(self) -> None:
        """Check once whether the query has ended, and whether it is time to restart it."""
        if self._state == "restarting" and self._clock() >= self._try_at:
            self._begin_again()
        elif self._state == "running" and self._query is not None:
            if self._query.isActive:
                if self._halted is not None and not self._query.status["isTriggerActive"]:
                    self._query.stop()
                return
            error = self._kept or self._halted or self._query.exception()
            if isinstance(error, ResumeRequested):
                self._begin_again()
            elif error is None and self._draining and self.refused:
                self._failed(next(iter(self.refused.values())))
            elif error is None and self._draining:
                self._become("done", "")
            elif not isinstance(error, StopRequested):
                self._failed(error or QueryFailed(self.name, "it was stopped from outside"))

    def end(self, interrupt: bool) -> bool:
        """End the query between two micro-batches, or at once if `interrupt`; return whether it has ended."""
        if self._query is None or not self._query.isActive:
            return True
        if interrupt or not self._query.status["isTriggerActive"]:
            self._query.stop()
        return not self._query.isActive

    def _begin_again(self) -> None:
        self._restarts += 1
        self._restarted(self.name)
        self.begin()

    def _failed(self, error: BaseException) -> None:
        verdict = classify(error)
        if verdict == "loss":
            # If bronze lacks nothing, the next start continues after what it holds.
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
    """Return after how many failures in a row a query is stopped; None for never."""
    if verdict == "stop" or (verdict == "unknown" and draining):
        return 0
    return MOST_UNKNOWN if verdict == "unknown" else MOST_RETRIES_WHEN_DRAINING if draining else None


class Supervisor:
    """The queries of one driver.

    Args:
        queries: all of them.
        stopping: set to end them.
        report: gets all states whenever one changes.
        poll: called every 0.2 s, between two looks at the queries.
    """

    def __init__(
        self,
        queries: Sequence[Supervised],
        stopping: threading.Event,
        report: Callable[[Sequence[QueryState]], None] = lambda _: None,
        poll: Callable[[], None] = lambda: None,
    ) -> None:
        self._queries, self._stopping, self._report, self._poll = queries, stopping, report, poll
        self._last: list[QueryState] = []

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Run until a stop is asked for, or no query is left.

        Raises:
            WeirError: with which the first query stopped, when all have stopped or one cannot be judged here.
        """
        try:
            for query in self._queries:
                query.begin()
            self._report_changes()
            ready()
            while not all(query.is_over for query in self._queries):
                if self._stopping.wait(POLL_SECONDS):
                    return
                for query in self._queries:
                    query.tick()
                self._report_changes()
                self._poll()
        except (Py4JError, ConnectionError) as error:
            raise QueryFailed(", ".join(query.name for query in self._queries), f"Spark's JVM does not answer ({error})") from error
        finally:
            self._end()
        for query in self._queries:
            if query.error is not None:
                raise query.error if isinstance(query.error, WeirError) else QueryFailed(query.name, cause_of(query.error)) from query.error

    def _report_changes(self) -> None:
        states = [query.state for query in self._queries]
        if states != self._last:
            self._last = states
            self._report(states)

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
        """Ask every query to end; return whether all have."""
        return False not in [query.end(interrupt) for query in self._queries]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
