"""What runs? One Spark driver with a domain's queries: bronze from Kafka, then silver and gold from bronze.

A stop falls between micro-batches: `query.stop()` alone would interrupt the running one. So a flag makes the next body raise
before it does anything (its micro-batch is repeated at the next start), an idle query is stopped at once, and after a time
limit whatever still runs is interrupted, which is safe too, only slower to start again. What fails is minded by the supervisor.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from lakehouse import failpoints
from lakehouse.domain import Domain
from lakehouse.errors import Retryable, WeirError
from lakehouse.locks.lease import held_lease
from lakehouse.machine.container import container_of
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spark import jvm_pid, open_spark
from lakehouse.storage.folders import Folder, open_folder
from lakehouse.tables.create import create_missing, ensure_tables
from lakehouse.tables.references import settle_references
from lakehouse.write.dimensions import write_dimensions
from lakehouse.write.hand_over import HandOver
from streaming import resume
from streaming.batch_report import BatchReport, reporting_progress
from streaming.bronze_query import BronzeQuery, make_topics
from streaming.errors import DataLoss, RejectRateExceeded
from streaming.failures import cause_of
from streaming.losses import LOSSES, record_losses
from streaming.metrics_report import report_lost_lease, report_progress, report_restart, report_states
from streaming.query import DomainQuery
from streaming.query_states import BEAT_SECONDS, QueryState, states_file, write_states
from streaming.refine_query import RefineQuery
from streaming.stop_request import is_asked_to_stop
from streaming.supervisor import Supervised, Supervisor

# How often the broker is asked, beside every append, whether the topic is still the same.
TOPIC_SECONDS = 5.0
# How often its settings are looked at: somebody alters them by hand, if ever.
SETTINGS_SECONDS = 60.0
ASK_AGAIN_SECONDS = 5.0
# How often the state folder is looked at where that asks a NameNode.
CLUSTER_POLL_SECONDS = 1.0
# Domains of one process share namespaces and some tables: of two that make them at once the catalog refuses one.
_PREPARING = threading.Lock()

log = structlog.get_logger("weir.stream")


class Driver:
    """The queries of one domain in one Spark driver.

    Args:
        name: the domain's.
        settings: all of them.
        report: gets a report of each micro-batch.
        build: puts the domain together; by its name when left out.
        spark: a session to use; one of this process is opened when left out.
        metrics: host:port of the metrics, where this process serves them.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        report: Callable[[BatchReport], None],
        build: Callable[[], Domain] | None = None,
        spark: SparkSession | None = None,
        metrics: str = "",
    ) -> None:
        self._name = name
        self._settings = settings
        self._report = report
        self._build = build or (lambda: build_domain(name, settings))
        self._metrics = metrics
        self._stopping = threading.Event()
        self._given, self._spark = spark, spark

    def request_stop(self) -> None:
        """Ask the queries to end after their running micro-batch; returns at once and may be called from a signal handler."""
        self._stopping.set()

    def run(self, available_now: bool, ready: Callable[[], None] = lambda: None, new_checkpoint: bool = False) -> None:
        """Run until everything that is there now is in gold (`available_now`), a stop is asked for, or every query has stopped.

        Args:
            available_now: drain and end; the first query that stops ends it.
            ready: called when the queries were started.
            new_checkpoint: move the checkpoints aside first.

        Raises:
            NoKafkaAddressError, NoKafkaError: no broker is known, or none answers.
            UnfitTopicError: somebody else made the topic, with settings that weir cannot work with.
            LeaseHeld: a driver of another home or machine writes these tables.
            WeirError: with which a query stopped: QueryFailed, TopicRecreated, BadCheckpoint, DataLoss, RejectRateExceeded, …
        """
        domain = self._build()
        make_topics(self._settings, domain)
        supervised: list[Supervised] = []

        def lost(error: BaseException) -> None:
            report_lost_lease(f"stream {self._name}")
            for query in supervised:
                query.halt(error)

        with held_lease(self._settings, f"stream {self._name}", lost) as check:
            spark = self._spark = self._given or open_spark(self._settings, f"weir {self._name}")
            state = open_folder(self._settings.state_uri, spark)
            failpoints.arm(self._settings.failpoint, [jvm_pid(spark)])
            with _PREPARING:
                ensure_tables(spark, domain)
                create_missing(spark, [LOSSES])
                write_dimensions(spark, domain)
                settle_references(spark, self._settings, domain)
            between = HandOver()
            bronze = BronzeQuery(spark, domain, self._settings, self._report, check, between.put)
            refine = RefineQuery(spark, domain, self._build, self._settings, state, self._report, check, between)
            queries: list[DomainQuery] = [bronze, refine]
            if new_checkpoint:
                for query in queries:
                    query.move_checkpoint_aside()
            requests = ResumeRequests(self._name, state, spark, bronze, refine)
            requests.take(())
            supervised += [self._supervised(query, available_now) for query in queries]
            with _topics_watched(bronze, supervised[0]), reporting_progress(spark, report_progress):
                if available_now:  # each query drains what the one before it has written
                    for number, one in enumerate(supervised):
                        if not self._stopping.is_set():
                            self._supervise(spark, state, [one], lambda: None, ready if number == 0 else lambda: None)
                            bronze.settle(at_once=True)
                else:
                    self._supervise(spark, state, supervised, lambda: requests.take(supervised), ready)
            bronze.settle(at_once=True)

    def close(self) -> None:
        """Stop Spark, unless the session was given."""
        self._stopping.set()
        if self._spark is not None and self._given is None:
            self._spark.stop()

    def _supervised(self, query: DomainQuery, available_now: bool) -> Supervised:
        return Supervised(
            query.name,
            query.start,
            self._stopping,
            explain=query.explain,
            before=query.before_batch,
            draining=available_now,
            restarted=report_restart,
        )

    def _supervise(
        self, spark: SparkSession, state: Folder, queries: Sequence[Supervised], poll: Callable[[], None], ready: Callable[[], None]
    ) -> None:
        known: Sequence[QueryState] = ()

        def report(states: Sequence[QueryState]) -> None:
            nonlocal known
            known = states
            report_states(states)
            write()

        def write() -> None:
            try:
                write_states(state, self._name, known, self._metrics)
            except OSError as error:  # a full disk, or HDFS in safe mode, must not end the queries that still run
                log.warning("states not written", error=str(error))

        def take_requests() -> None:
            try:
                poll()
                # Only an application of a cluster is told so; one of this machine gets a signal.
                if is_on_cluster and is_asked_to_stop(state, application):
                    self.request_stop()
            except OSError as error:
                log.warning("requests cannot be read", error=str(error))

        application, is_on_cluster = str(spark.sparkContext.applicationId), not self._settings.spark_master.startswith("local")
        requests, beat = _Due(CLUSTER_POLL_SECONDS if is_on_cluster else 0, take_requests), _Due(BEAT_SECONDS, write)
        is_in_container = container_of(os.environ) is not None

        def tend() -> None:
            requests.run()
            if is_in_container:
                beat.run()

        try:
            Supervisor(queries, self._stopping, report, tend).run(ready)
            state.remove(states_file(self._name))
        finally:
            report_states([], gone=[query.name for query in queries])


class _Due:
    """Does something at most as often as it is worth."""

    def __init__(self, seconds: float, action: Callable[[], None]) -> None:
        self._seconds, self._action, self._next = seconds, action, 0.0

    def run(self) -> None:
        """Do it, if it is due."""
        if time.monotonic() >= self._next:
            self._action()
            self._next = time.monotonic() + self._seconds


class ResumeRequests:
    """Does what `weir resume` asks of a running driver.

    Args:
        domain: its name.
        state: where the requests lie.
        spark: the session.
        bronze: the query that a loss stops.
        refine: the query that rejects stop.
    """

    def __init__(self, domain: str, state: Folder, spark: SparkSession, bronze: BronzeQuery, refine: RefineQuery) -> None:
        self._domain, self._state, self._spark, self._bronze, self._refine = domain, state, spark, bronze, refine
        self._ask_at = 0.0

    def take(self, queries: Sequence[Supervised]) -> None:
        """Take a request, if there is one; it is removed once its effect is written down, so a crash repeats it.

        Args:
            queries: those that run or have stopped; none before their start.
        """
        if time.monotonic() < self._ask_at or (request := resume.asked(self._state, self._domain)) is None:
            return
        says = []
        try:
            if request.accept:
                says.append(self._accept(queries))
            if request.accept_loss:
                says.append(self._accept_loss(queries))
        except (WeirError, PySparkException, Py4JJavaError, OSError) as error:
            self._ask_at = time.monotonic() + ASK_AGAIN_SECONDS
            log.warning("cannot resume yet", reason=cause_of(error))
            return
        resume.done(self._state, self._domain, resume.Answer(request.id, says))
        for query in queries:
            query.resume()

    def _accept(self, queries: Sequence[Supervised]) -> str:
        """Let the rows that are in bronze through; return a sentence about it."""
        if not _applies(RejectRateExceeded, queries):
            log.warning("nothing to accept", reason="no query or source is stopped by its rejects")
            return "No query or source is stopped by its rejects: nothing was accepted."
        self._refine.accept_rows()
        return "The rows that are in bronze now are let through."

    def _accept_loss(self, queries: Sequence[Supervised]) -> str:
        """Record what Kafka has lost; return a sentence about it."""
        if not _applies(DataLoss, queries):
            log.warning("no loss to accept", reason="no query is stopped by a loss: nothing was recorded")
            return "No query is stopped by a loss: nothing was recorded."
        lost = self._bronze.lost()
        if not lost:
            log.warning("no loss to accept", reason="Kafka has all that bronze lacks: nothing was recorded")
            return "Nothing is lost, Kafka has all that bronze lacks: nothing was recorded."
        record_losses(self._spark, self._domain, lost)
        log.warning("loss accepted", ranges=[str(one) for one in lost])
        return f"Recorded as lost in {LOSSES.name}: {'; '.join(map(str, lost))}."


@contextmanager
def _topics_watched(bronze: BronzeQuery, query: Supervised) -> Iterator[None]:
    """Ask on a timer whether the topics are still those that bronze holds, with settings that weir needs: an idle stream notices nothing.

    The same timer writes offsets without a message that bronze does not know yet.
    """
    ended = threading.Event()

    def watch() -> None:
        settings_at = time.monotonic() + SETTINGS_SECONDS
        while not ended.wait(TOPIC_SECONDS):
            try:
                bronze.check_topics()
                if time.monotonic() >= settings_at:
                    settings_at = time.monotonic() + SETTINGS_SECONDS
                    bronze.check_topic_settings()
            except WeirError as error:
                if not isinstance(error, Retryable):
                    query.halt(error)
            bronze.settle(at_once=False)

    watching = threading.Thread(target=watch, name="weir-topic", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join(TOPIC_SECONDS)


def _applies(error: type[WeirError], queries: Sequence[Supervised]) -> bool:
    """Whether a query stopped by that error; before the start of the queries nobody knows, and then it does."""
    return not queries or any(isinstance(found, error) for query in queries for found in (query.error, *query.refused.values()))
