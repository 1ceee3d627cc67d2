"""What runs? One Spark driver with a domain's queries: bronze from Kafka, then silver and gold from bronze.

A stop falls between micro-batches: `query.stop()` alone would interrupt the running one. So a flag makes the next body raise
before it does anything (its micro-batch is repeated at the next start), an idle query is stopped at once, and after a time
limit whatever still runs is interrupted, which is safe too, only slower to start again.
"""

import threading
import time
from collections.abc import Callable

from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from lakehouse import failpoints
from lakehouse.domain import Domain
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.sinks.fenced_append import newest_mark
from lakehouse.sinks.tables import ensure_tables, write_dimensions
from lakehouse.spark import jvm_pid, open_spark
from lakehouse.topics import ensure_topic
from streaming import bronze, refine
from streaming.bronze import Body
from streaming.errors import QueryFailed
from streaming.progress import BatchReport

STOP_LIMIT_SECONDS = 45
POLL_SECONDS = 0.2


class StopRequested(Exception):
    """Raised inside a micro-batch that began after the stop was asked for; the batch is not committed."""


class Driver:
    """The queries of one domain in one Spark driver.

    Args:
        name: the domain's.
        settings: all of them.
        report: is told what each micro-batch was.
    """

    def __init__(self, name: str, settings: Settings, report: Callable[[BatchReport], None]) -> None:
        self._name = name
        self._settings = settings
        self._report = report
        self._stopping = threading.Event()
        self._spark: SparkSession | None = None

    def request_stop(self) -> None:
        """Ask the queries to end after their running micro-batch; returns at once and may be called from a signal handler."""
        self._stopping.set()

    def run(self, available_now: bool, ready: Callable[[], None] = lambda: None) -> None:
        """Run until everything that is there now is in gold (`available_now`), a stop is asked for, or a query fails.

        Raises:
            NoKafkaAddressError, NoKafkaError: no broker is known, or none answers.
            TopicRecreated: the topic is another one than bronze holds.
            QueryFailed: a query ended with an error; the others were stopped.
        """
        domain = build_domain(self._name, self._settings)
        ids = {domain.contract.topic: ensure_topic(self._settings.kafka_bootstrap, domain.contract, self._settings.kafka_partitions)}
        spark = self._spark = open_spark(self._settings, f"weir {self._name}")
        failpoints.arm(self._settings.failpoint, [jvm_pid(spark)])
        ensure_tables(spark, domain)
        write_dimensions(spark, domain)
        newest_mark(spark, domain.bronze).check_topics(ids, domain.bronze.name)
        land = self._starter(spark, bronze.query_name(domain), lambda: self._start_bronze(spark, domain, ids, available_now))
        work = self._starter(spark, refine.query_name(domain), lambda: self._start_refine(spark, domain, available_now))
        if available_now:
            self._watch([land()], ready)
            if not self._stopping.is_set():
                self._watch([work()], lambda: None)
        else:
            self._watch([land(), work()], ready)

    def close(self) -> None:
        """Stop Spark."""
        if self._spark is not None:
            self._spark.stop()

    def _start_bronze(self, spark: SparkSession, domain: Domain, ids: dict[str, str], available_now: bool) -> StreamingQuery:
        body = self._guarded(bronze.bronze_body(domain, ids, self._report))
        return bronze.start_bronze(bronze.read_topic(spark, domain, self._settings), domain, self._settings, body, available_now)

    def _start_refine(self, spark: SparkSession, domain: Domain, available_now: bool) -> StreamingQuery:
        body = self._guarded(
            refine.refine_body(lambda: build_domain(self._name, self._settings), self._report, self._settings.compact_after)
        )
        return refine.start_refine(refine.read_bronze(spark, domain, self._settings), domain, self._settings, body, available_now)

    @staticmethod
    def _starter(spark: SparkSession, pool: str, start: Callable[[], StreamingQuery]) -> Callable[[], StreamingQuery]:
        def started() -> StreamingQuery:
            spark.sparkContext.setLocalProperty("spark.scheduler.pool", pool)
            return start()

        return started

    def _guarded(self, body: Body) -> Body:
        def guarded(rows: DataFrame, batch_id: int) -> None:
            if self._stopping.is_set():
                raise StopRequested
            body(rows, batch_id)

        return guarded

    def _watch(self, queries: list[StreamingQuery], ready: Callable[[], None]) -> None:
        """Wait until the queries have ended; when one fails or a stop is asked for, end the others."""
        ready()
        while any(query.isActive for query in queries):
            if self._stopping.wait(POLL_SECONDS) or any(_failure(query) for query in queries):
                self._end(queries)
        for query in queries:
            if failure := _failure(query):
                raise QueryFailed(query.name or "", _cause(failure)) from failure

    def _end(self, queries: list[StreamingQuery]) -> None:
        self._stopping.set()
        limit = time.monotonic() + STOP_LIMIT_SECONDS
        while any(query.isActive for query in queries):
            for query in queries:
                if query.isActive and (not query.status["isTriggerActive"] or time.monotonic() > limit):
                    query.stop()
            time.sleep(POLL_SECONDS)


def _failure(query: StreamingQuery) -> StreamingQueryException | None:
    error = query.exception()
    return None if error is None or StopRequested.__name__ in str(error) else error


def _cause(error: StreamingQueryException) -> str:
    """The last line of the innermost cause: what a person needs; the rest is in the JVM's log."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    python = [line for line in lines if ": " in line and not line.startswith(("at ", "File "))]
    return (python or lines or ["unknown"])[-1][:500]
