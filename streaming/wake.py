"""When does a query look for new rows? Often while some come, seldom otherwise; the refine query as soon as bronze has appended some.

Spark looks at fixed times only: ten times a second, that took 6 % of a core from a driver without a message, and every reading waited 50 ms
more. Here the query's trigger gets a clock that stands still until it is set. The bronze query looks every `trigger_seconds`; once it has
found nothing for a while, it is told when a message comes (`arrivals.py`), or looks every `idle_trigger_seconds`. The refine query looks
after an append, after a micro-batch (there may be more to do), and every `silver_trigger_seconds` for what others append, or every 10 s
once nothing came for a while.

Spark has no public way to do this. The trigger's field `clock` is set by reflection, and only where the classes are as expected; otherwise
the query looks at fixed times.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from py4j.protocol import Py4JError
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from streaming.batch_report import BatchReport

# The clock decides, so the trigger's own interval only has to be short.
TRIGGER_SECONDS = 0.01
_EXECUTOR = "org.apache.spark.sql.execution.streaming.runtime.ProcessingTimeExecutor"
_CLOCK = "org.apache.spark.util.ManualClock"
_START_SECONDS = 30.0
# A query that found nothing for so long is idle.
IDLE_AFTER_SECONDS = 10.0
# How often an idle query looks that is told of what comes.
TOLD_SECONDS = 10.0

log = structlog.get_logger("weir.stream")


def can_wake(spark: SparkSession) -> bool:
    """Return whether Spark's classes are as `Waker` expects them."""
    jvm: Any = spark._jvm
    try:
        loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
        field = jvm.java.lang.Class.forName(_EXECUTOR, False, loader).getDeclaredField("clock")
        return bool(field.getType().isAssignableFrom(jvm.java.lang.Class.forName(_CLOCK, False, loader)))
    except Py4JError as error:
        log.warning("queries look for new rows at fixed times", why=str(error).splitlines()[0][:300])
        return False


class Waker:
    """Lets a query look for new rows when it is told to. Thread-safe.

    Attributes:
        is_told: whether somebody wakes the idle query when something comes, so that it need not look often.

    Args:
        spark: any session of the driver.
        every: seconds after which the query looks in any case.
        idle_every: the same while it is idle; `every` when left out.
        idle_after: seconds without rows after which it is idle.
    """

    def __init__(self, spark: SparkSession, every: float, idle_every: float | None = None, idle_after: float = IDLE_AFTER_SECONDS) -> None:
        self._spark, self._every, self._idle_after = spark, every, idle_after
        self._idle_every = every if idle_every is None else max(every, idle_every)
        self.is_told = False
        self._found_at = time.monotonic()
        self._stirred = threading.Event()
        self._clock: Any = None
        # Begins at the clock's time, as the trigger did, and goes on evenly when somebody sets the machine's clock.
        self._ahead = time.time() - time.monotonic()

    def wake(self) -> None:
        """Let the query look now, or after its running micro-batch; nothing happens before it has started."""
        if self._clock is not None:
            try:
                self._clock.setTime(self._now())
            except Py4JError as error:  # the JVM is ending
                log.debug("not woken", why=str(error).splitlines()[0][:300])

    def noting(self, report: Callable[[BatchReport], None]) -> Callable[[BatchReport], None]:
        """Return a report of micro-batches that also notes those with rows."""

        def both(batch: BatchReport) -> None:
            if batch.rows_in:
                self.found_rows()
            report(batch)

        return both

    def found_rows(self) -> None:
        """Note that a micro-batch had rows, so that the query is not idle."""
        was_idle, self._found_at = self.is_idle, time.monotonic()
        if was_idle:
            self._stirred.set()

    def attach(self, query: StreamingQuery) -> None:
        """Take over the clock of a query that has just been started with a trigger of `TRIGGER_SECONDS`."""
        threading.Thread(target=self._run, args=(query,), name=f"weir-wake {query.name}", daemon=True).start()

    def _run(self, query: StreamingQuery) -> None:
        try:
            self._take_over(query)
            self._found_at = time.monotonic()  # a query that has just started is not idle
            while query.isActive:
                self.wake()
                self._stirred.wait(self._until_next())
                self._stirred.clear()
        except (Py4JError, OSError) as error:  # the JVM is ending
            log.debug("no longer woken", why=str(error).splitlines()[:1])

    def _take_over(self, query: StreamingQuery) -> None:
        jvm: Any = self._spark._jvm
        execution = query._jsq.streamingQuery()
        began = time.monotonic()
        while (executor := execution.triggerExecutor()) is None:
            if not query.isActive or time.monotonic() - began > _START_SECONDS:
                return
            time.sleep(0.01)
        clock = getattr(jvm, _CLOCK)(self._now())
        field = executor.getClass().getDeclaredField("clock")
        field.setAccessible(True)
        field.set(executor, clock)
        self._clock = clock

    @property
    def is_idle(self) -> bool:
        """Whether the query has found nothing for a while."""
        return time.monotonic() - self._found_at > self._idle_after

    def _until_next(self) -> float:
        if not self.is_idle:
            return self._every
        return max(self._idle_every, TOLD_SECONDS) if self.is_told else self._idle_every

    def _now(self) -> int:
        return int((time.monotonic() + self._ahead) * 1000)
