"""What runs? One Spark driver with a domain's queries: bronze from Kafka, then silver and gold from bronze.

A stop falls between micro-batches: `query.stop()` alone would interrupt the running one. So a flag makes the next body raise
before it does anything (its micro-batch is repeated at the next start), an idle query is stopped at once, and after a time
limit whatever still runs is interrupted, which is safe too, only slower to start again. What fails is minded by the supervisor.
"""

import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from lakehouse import failpoints
from lakehouse.broker.offsets import topic_offsets
from lakehouse.broker.topics import check_topic, ensure_topic, topic_id
from lakehouse.codecs.unknown_fields import UnknownFields, unknown_fields_file
from lakehouse.domain import Domain
from lakehouse.errors import Retryable, WeirError
from lakehouse.locks.lease import held_lease
from lakehouse.locks.table_locks import turn
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spark import jvm_pid, open_spark
from lakehouse.storage.folders import HadoopFolder, open_folder
from lakehouse.tables.create import batch_properties, create_missing, ensure_tables, write_dimensions
from lakehouse.tables.references import settle_references
from lakehouse.write.fenced_append import FencedAppend, Mark, newest_mark
from streaming import bronze, refine, resume
from streaming.batch_report import BatchReport, progress_told
from streaming.breaker import Breaker, Limit
from streaming.checkpoints import Position, check_topics, claim, examine, other_inputs, tidy
from streaming.errors import DataLoss, LostRange, RejectRateExceeded
from streaming.failures import cause_of
from streaming.losses import LOSSES, Bounds, check_readable, find_lost, fits, held_by, record_losses, recorded_losses, starting_offsets
from streaming.metrics_report import report_progress, report_restart, report_states
from streaming.supervisor import QueryState, Supervised, Supervisor, states_file, write_states

# How often the broker is asked, beside every append, whether the topic is still the same.
TOPIC_SECONDS = 5.0
# How often its settings are looked at: somebody alters them by hand, if ever.
SETTINGS_SECONDS = 60.0
ASK_AGAIN_SECONDS = 5.0
# Domains of one process share namespaces and some tables: of two that make them at once the catalog refuses one.
_PREPARING = threading.Lock()

log = structlog.get_logger("weir.stream")


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the bronze query starts from.

    Attributes:
        ids: of the topics, by name.
        marks: of their bronze tables, by topic.
        checkpoint: the query's.
        position: where it stands.
        bounds: the topics' written bounds.
    """

    ids: Mapping[str, str]
    marks: Mapping[str, Mark]
    checkpoint: HadoopFolder
    position: Position
    bounds: Mapping[str, Bounds]


class Driver:
    """The queries of one domain in one Spark driver.

    Args:
        name: the domain's.
        settings: all of them.
        report: is told what each micro-batch was.
        build: puts the domain together; by its name when left out.
        spark: a session to use; one of this process is opened when left out.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        report: Callable[[BatchReport], None],
        build: Callable[[], Domain] | None = None,
        spark: SparkSession | None = None,
    ) -> None:
        self._name = name
        self._settings = settings
        self._report = report
        self._build = build or (lambda: build_domain(name, settings))
        self._stopping = threading.Event()
        self._given, self._spark = spark, spark
        self._ids: dict[str, str] = {}
        self._landings: Mapping[str, FencedAppend] = {}
        self._ask_at = 0.0
        self._breakers: dict[str, Breaker] = {}
        # What this driver must find again wherever it runs.
        self._state = open_folder(settings.state_uri)

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
        self._ensure_topics(domain)
        queries: list[Supervised] = []

        def lost(error: BaseException) -> None:
            for query in queries:
                query.halt(error)

        with held_lease(self._settings, f"stream {self._name}", lost) as check:
            spark = self._spark = self._given or open_spark(self._settings, f"weir {self._name}")
            self._state = open_folder(self._settings.state_uri, spark)
            self._breakers = self._open_breakers(domain)
            failpoints.arm(self._settings.failpoint, [jvm_pid(spark)])
            with _PREPARING:
                ensure_tables(spark, domain)
                create_missing(spark, [LOSSES])
                write_dimensions(spark, domain)
                settle_references(spark, self._settings, domain)
            if new_checkpoint:
                self._move_aside(spark, domain)
            self._take_request(spark, domain, ())
            queries += self._queries(spark, domain, check, available_now)
            with self._topics_watched(spark, domain, queries[0], check), progress_told(spark, report_progress):
                if available_now:
                    self._supervise(queries[:1], lambda: None, ready)
                    self._settle(spark, domain, check, at_once=True)
                    if not self._stopping.is_set():
                        self._supervise(queries[1:], lambda: None)
                else:
                    self._supervise(queries, lambda: self._take_request(spark, domain, queries), ready)
            self._settle(spark, domain, check, at_once=True)

    def close(self) -> None:
        """Stop Spark, unless the session was given."""
        self._stopping.set()
        if self._spark is not None and self._given is None:
            self._spark.stop()

    def _queries(self, spark: SparkSession, domain: Domain, check: Callable[[], None], available_now: bool) -> list[Supervised]:
        home, alone = self._settings.home, len(domain.sources) == 1
        unknown = {
            one.name: UnknownFields(unknown_fields_file(home, self._name, "" if alone else one.name), one.contract)
            for one in domain.sources
        }

        def before_append() -> None:
            check()
            self._check_topics(domain)

        def land(me: Supervised) -> StreamingQuery:
            me.note = self._begin_anew(spark, me.name, domain.topics)
            begins = self._beginning(spark, domain)
            if lost := self._lost(spark, domain, begins):
                raise DataLoss(me.name, lost, self._name)
            into = bronze.landings(domain, begins.ids, begins.checkpoint)
            marks = dict(begins.marks)
            is_fit = all(fits(topic, bounds, begins.position) for topic, bounds in begins.bounds.items())
            if not begins.position.is_new and not is_fit:
                # All that bronze lacks is there, but not all that the checkpoint would read once more. What is owed stands in there.
                for topic, landing in into.items():
                    if landing.settle(spark, batch_properties(me.name, None), at_once=True):
                        marks[topic] = newest_mark(spark, domain.source_of(topic).bronze)
                log.warning("checkpoint moved aside", query=me.name, to=begins.checkpoint.move_aside())
            self._own(begins.checkpoint, me.name, begins.ids, domain.topics)
            self._ids = dict(begins.ids)
            starting = starting_offsets({topic: (bounds, held_by(marks[topic], topic)) for topic, bounds in begins.bounds.items()})
            messages = bronze.read_topics(spark, domain, self._settings, starting)
            self._landings = into
            body = me.guard(bronze.bronze_body(domain, begins.ids, begins.checkpoint, self._report, into))
            return self._in_pool(spark, me, lambda: bronze.start_bronze(messages, domain, self._settings, body, available_now))

        def work(me: Supervised) -> StreamingQuery:
            tables = [one.bronze.name for one in domain.sources]
            me.note = self._begin_anew(spark, me.name, tables)
            folder = HadoopFolder(spark, self._settings.checkpoint(me.name))
            examine(folder, me.name, self._name, is_kafka=False, inputs=len(tables))
            self._own(folder, me.name, {}, tables)
            refining = refine.refine_body(
                self._build,
                self._report,
                lambda source, batch_id, met: self._breakers[source.name].judge(batch_id, met),
                self._settings.compact_after,
                lambda source, met: unknown[source.name].note(met.unknown, met.offsets),
                lambda: turn(self._settings, self._name),
            )
            body = me.guard(refining)
            rows = refine.read_bronze(spark, domain, self._settings)
            return self._in_pool(spark, me, lambda: refine.start_refine(rows, domain, self._settings, body, available_now))

        def explain() -> None:
            if lost := self._lost(spark, domain, self._beginning(spark, domain)):
                raise DataLoss(domain.bronze_query, lost, self._name)

        make = functools.partial(Supervised, stopping=self._stopping, draining=available_now, restarted=report_restart)
        return [
            make(domain.bronze_query, land, explain=explain, before=before_append),
            make(domain.refine_query, work, before=check),
        ]

    def _ensure_topics(self, domain: Domain) -> dict[str, str]:
        """Make the topics that are missing; give the id of each."""
        bootstrap, partitions = self._settings.kafka_bootstrap, self._settings.kafka_partitions
        return {one.contract.topic: ensure_topic(bootstrap, one.contract, partitions) for one in domain.sources}

    def _open_breakers(self, domain: Domain) -> dict[str, Breaker]:
        """Open the breaker of each source, by its name."""
        settings = self._settings
        limit = Limit(settings.reject_limit_percent, settings.reject_window_rows, settings.reject_least_rows)
        found = {}
        for one in domain.sources:
            file, told = (self._name, self._name) if len(domain.sources) == 1 else (f"{self._name}.{one.name}", f"{self._name}, {one.name}")
            found[one.name] = Breaker(self._state, f"{file}.breaker.json", self._name, limit, told)
        return found

    def _begin_anew(self, spark: SparkSession, query: str, inputs: Sequence[str]) -> str:
        """Move a checkpoint aside whose query read something else; give a sentence of that, empty where it is the same.

        Nothing is lost: bronze goes on behind each table's mark, and silver reads bronze again, which changes nothing.
        """
        folder = HadoopFolder(spark, self._settings.checkpoint(query))
        before = other_inputs(folder, query, inputs)
        if not before:
            return ""
        aside = folder.move_aside()
        log.warning("checkpoint begun anew: the query's inputs changed", query=query, before=before, now=list(inputs), to=aside)
        return f"began a new checkpoint, since it read {', '.join(before)} and reads {', '.join(inputs)} now; the old one is {aside}"

    def _beginning(self, spark: SparkSession, domain: Domain) -> Beginning:
        """Look at all that the bronze query starts from, and refuse what does not belong together."""
        name = domain.bronze_query
        ids = self._ensure_topics(domain)
        checkpoint = HadoopFolder(spark, self._settings.checkpoint(name))
        position = examine(checkpoint, name, self._name, is_kafka=True)
        check_topics(position, ids, checkpoint.uri)
        marks, bounds = {}, {}
        for one in domain.sources:
            topic = one.contract.topic
            marks[topic] = newest_mark(spark, one.bronze)
            marks[topic].check_topics({topic: ids[topic]}, one.bronze.name)
            offsets = topic_offsets(self._settings.kafka_bootstrap, topic)
            check_readable(topic, offsets, held_by(marks[topic], topic), position, name)
            bounds[topic] = offsets.written_bounds
        return Beginning(ids, marks, checkpoint, position, bounds)

    def _lost(self, spark: SparkSession, domain: Domain, begins: Beginning) -> list[LostRange]:
        lost = []
        for topic, bounds in begins.bounds.items():
            held, known = held_by(begins.marks[topic], topic), recorded_losses(spark, topic)
            lost += find_lost(topic, bounds, held, begins.position, known, domain.bronze_query)
        return lost

    @staticmethod
    def _own(checkpoint: HadoopFolder, query: str, topic_ids: Mapping[str, str], inputs: Sequence[str]) -> None:
        """Make a checkpoint that was found good ready for its query."""
        for name in tidy(checkpoint):
            log.warning("checksum without its file removed from the checkpoint", query=query, file=name)
        claim(checkpoint, query, topic_ids, inputs)

    def _move_aside(self, spark: SparkSession, domain: Domain) -> None:
        folder = HadoopFolder(spark, self._settings.checkpoint(domain.bronze_query))
        # What is owed stands in there: offsets without a message, which would else be missed once retention has taken them.
        ids = {topic: topic_id(self._settings.kafka_bootstrap, topic) for topic in domain.topics}
        for landing in bronze.landings(domain, ids, folder).values():
            landing.settle(spark, batch_properties(domain.bronze_query, None), at_once=True)
        for name in (domain.bronze_query, domain.refine_query):
            folder = HadoopFolder(spark, self._settings.checkpoint(name))
            if folder.names():
                log.info("checkpoint moved aside", query=name, to=folder.move_aside())

    def _take_request(self, spark: SparkSession, domain: Domain, queries: Sequence[Supervised]) -> None:
        """Do what `weir resume` asked for; the request goes once its effect is written down, so a crash repeats it."""
        if time.monotonic() < self._ask_at or (request := resume.asked(self._state, self._name)) is None:
            return
        says = []
        try:
            if request.accept:
                says.append(self._accept(spark, domain, queries))
            if request.accept_loss:
                says.append(self._accept_loss(spark, domain, queries))
        except (WeirError, PySparkException, Py4JJavaError, OSError) as error:
            self._ask_at = time.monotonic() + ASK_AGAIN_SECONDS
            log.warning("cannot resume yet", reason=cause_of(error))
            return
        resume.done(self._state, self._name, resume.Answer(request.id, says))
        for query in queries:
            query.resume()

    def _accept(self, spark: SparkSession, domain: Domain, queries: Sequence[Supervised]) -> str:
        """Let the rows that are in bronze through; give a sentence of what that was."""
        if not _applies(RejectRateExceeded, queries):
            log.warning("nothing to accept", reason="no query is stopped by its rejects")
            return "No query is stopped by its rejects: nothing was accepted."
        for source in domain.sources:
            self._breakers[source.name].accept(newest_mark(spark, source.bronze))
        return "The rows that are in bronze now are let through."

    def _accept_loss(self, spark: SparkSession, domain: Domain, queries: Sequence[Supervised]) -> str:
        """Record what Kafka has lost; give a sentence of what that was."""
        if not _applies(DataLoss, queries):
            log.warning("no loss to accept", reason="no query is stopped by a loss: nothing was recorded")
            return "No query is stopped by a loss: nothing was recorded."
        lost = self._lost(spark, domain, self._beginning(spark, domain))
        if not lost:
            log.warning("no loss to accept", reason="Kafka has all that bronze lacks: nothing was recorded")
            return "Nothing is lost, Kafka has all that bronze lacks: nothing was recorded."
        record_losses(spark, self._name, lost)
        log.warning("loss accepted", ranges=[str(one) for one in lost])
        return f"Recorded as lost in {LOSSES.name}: {'; '.join(map(str, lost))}."

    def _settle(self, spark: SparkSession, domain: Domain, check: Callable[[], None], at_once: bool) -> None:
        """Commit the marks that bronze owes; what fails is tried again, at the latest by the next driver, which finds it noted."""
        for topic, landing in dict(self._landings).items():
            table = domain.source_of(topic).bronze.name
            try:
                check()
                if landing.settle(spark, batch_properties(domain.bronze_query, None), at_once):
                    log.debug("offsets without a message passed", table=table)
            except (WeirError, PySparkException, Py4JError, OSError) as error:
                log.warning("offsets without a message are not noted in bronze yet", table=table, reason=cause_of(error))

    @contextmanager
    def _topics_watched(self, spark: SparkSession, domain: Domain, query: Supervised, check: Callable[[], None]) -> Iterator[None]:
        """Ask on a timer whether the topics are still those that bronze holds, and made as weir needs them: an idle stream notices nothing.

        The same timer writes what bronze owes of offsets without a message.
        """
        ended = threading.Event()

        def watch() -> None:
            settings_at = time.monotonic() + SETTINGS_SECONDS
            while not ended.wait(TOPIC_SECONDS):
                try:
                    self._check_topics(domain)
                    if time.monotonic() >= settings_at:
                        settings_at = time.monotonic() + SETTINGS_SECONDS
                        for topic in domain.topics:
                            check_topic(self._settings.kafka_bootstrap, topic)
                except WeirError as error:
                    if not isinstance(error, Retryable):
                        query.halt(error)
                self._settle(spark, domain, check, at_once=False)

        watching = threading.Thread(target=watch, name="weir-topic", daemon=True)
        watching.start()
        try:
            yield
        finally:
            ended.set()
            watching.join(TOPIC_SECONDS)

    def _check_topics(self, domain: Domain) -> None:
        """Raise TopicRecreated when one of the broker's topics is no longer the one that the bronze query started with."""
        for topic in dict(self._ids):
            newest = {topic: topic_id(self._settings.kafka_bootstrap, topic)}
            Mark(self._ids).check_topics(newest, domain.source_of(topic).bronze.name)

    def _supervise(self, queries: Sequence[Supervised], poll: Callable[[], None], ready: Callable[[], None] = lambda: None) -> None:
        def told(states: Sequence[QueryState]) -> None:
            report_states(states)
            try:
                write_states(self._state, self._name, states)
            except OSError as error:  # a full disk must not end the queries that still run
                log.warning("states not written", error=str(error))

        try:
            Supervisor(queries, self._stopping, told, poll).run(ready)
            self._state.remove(states_file(self._name))
        finally:
            report_states([], gone=[query.name for query in queries])

    @staticmethod
    def _in_pool(spark: SparkSession, query: Supervised, start: Callable[[], StreamingQuery]) -> StreamingQuery:
        spark.sparkContext.setLocalProperty("spark.scheduler.pool", query.name)
        return start()


def _applies(error: type[WeirError], queries: Sequence[Supervised]) -> bool:
    """Whether a query stopped by that error; before the start of the queries nobody knows, and then it does."""
    return not queries or any(isinstance(query.error, error) for query in queries)
