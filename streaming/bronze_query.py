"""How does the bronze query run? It starts behind what bronze holds, refuses what does not belong together, and finds what Kafka lost.

What a micro-batch does is in `bronze.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from lakehouse.broker.offsets import topic_offsets
from lakehouse.broker.topics import check_topic, ensure_topic, topic_id
from lakehouse.domain import Domain
from lakehouse.engine.choose import memory_engine
from lakehouse.errors import WeirError
from lakehouse.settings import Settings
from lakehouse.storage.folders import HadoopFolder
from lakehouse.write.fenced_append import FencedAppend, Mark, newest_mark
from lakehouse.write.hand_over import Appended
from lakehouse.write.plain_rows import batch_properties
from streaming import bronze
from streaming.arrivals import Arrivals
from streaming.batch_report import BatchReport
from streaming.checkpoints import Position, check_topics, examine
from streaming.errors import DataLoss, LostRange
from streaming.failures import cause_of
from streaming.losses import Bounds, check_readable, find_lost, fits, held_by, recorded_losses, starting_offsets
from streaming.query import begin_new_checkpoint_for_other_inputs, in_pool, move_aside, take_checkpoint
from streaming.supervisor import Supervised
from streaming.wake import Waker, can_wake

log = structlog.get_logger("weir.stream")


def make_topics(settings: Settings, domain: Domain) -> dict[str, str]:
    """Create the domain's topics where they are missing; return the id of each.

    Raises:
        NoKafkaAddressError, NoKafkaError: no broker is known, or none answers.
        UnfitTopicError: somebody else made a topic, with settings that weir cannot work with.
    """
    bootstrap, partitions = settings.kafka_bootstrap, settings.kafka_partitions
    return {one.contract.topic: ensure_topic(bootstrap, one.contract, partitions) for one in domain.sources}


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the query starts from.

    Attributes:
        ids: of the topics, by name.
        marks: of their bronze tables, by topic.
        position: where the checkpoint stands.
        bounds: the topics' written bounds.
    """

    ids: Mapping[str, str]
    marks: Mapping[str, Mark]
    position: Position
    bounds: Mapping[str, Bounds]


class BronzeQuery:
    """The bronze query of one domain; see `DomainQuery`.

    Args:
        spark: the session.
        domain: whose topics and bronze tables.
        settings: all of them.
        report: gets a report of each micro-batch.
        check_lease: raises where another driver has taken over the tables.
        tell: gets each commit to bronze that was written from memory.
    """

    def __init__(
        self,
        spark: SparkSession,
        domain: Domain,
        settings: Settings,
        report: Callable[[BatchReport], None],
        check_lease: Callable[[], None],
        tell: Callable[[Appended], None] = lambda _: None,
    ) -> None:
        self._tell = tell
        self._spark, self._domain, self._settings = spark, domain, settings
        self._report, self._check_lease = report, check_lease
        # Those that the running query started with.
        self._ids: dict[str, str] = {}
        self._appends: Mapping[str, FencedAppend] = {}

    @property
    def name(self) -> str:
        """See `DomainQuery`."""
        return self._domain.bronze_query

    def start(self, me: Supervised) -> StreamingQuery:
        """Start behind each table's mark.

        Raises:
            BadCheckpoint, TopicRecreated, AheadOfTransaction, BrokerLostItsEnd: topic, table and checkpoint do not belong together.
            DataLoss: Kafka dropped messages that bronze lacks.
        """
        spark, domain, checkpoint = self._spark, self._domain, self._checkpoint()
        me.note = begin_new_checkpoint_for_other_inputs(checkpoint, self.name, domain.topics)
        begins = self._beginning()
        if lost := self._lost(begins):
            raise DataLoss(self.name, lost, domain.name)
        appends = bronze.fenced_appends(domain, begins.ids, checkpoint, self._tell)
        marks = dict(begins.marks)
        is_fit = all(fits(topic, bounds, begins.position) for topic, bounds in begins.bounds.items())
        if not begins.position.is_new and not is_fit:
            # Kafka has all that bronze lacks, but not all that the checkpoint would read once more. Offsets that bronze does not know yet
            # stand in the checkpoint.
            for topic, append in appends.items():
                if append.settle(spark, batch_properties(self.name, None), at_once=True):
                    marks[topic] = newest_mark(spark, domain.source_of(topic).bronze)
            log.warning("checkpoint moved aside", query=self.name, to=checkpoint.move_aside())
        take_checkpoint(checkpoint, self.name, begins.ids, domain.topics)
        self._ids, self._appends = dict(begins.ids), appends
        starting = starting_offsets({topic: (bounds, held_by(marks[topic], topic)) for topic, bounds in begins.bounds.items()})
        messages = bronze.read_topics(spark, domain, self._settings, starting)
        settings = self._settings
        # Without an interval there is nothing to wait for.
        can_wait = settings.trigger_seconds > 0 and can_wake(spark)
        waker = Waker(spark, settings.trigger_seconds, settings.idle_trigger_seconds) if can_wait else None
        report = self._report if waker is None else waker.noting(self._report)
        body = me.guard(bronze.bronze_body(domain, begins.ids, checkpoint, report, appends, memory_engine(settings)))
        query = in_pool(spark, self.name, lambda: bronze.start_bronze(messages, domain, settings, body, me.is_draining, waker))
        if waker is not None and not me.is_draining:
            Arrivals(settings.kafka_bootstrap, domain.topics, waker).watch(lambda: _is_active(query))
        return query

    def before_batch(self) -> None:
        """Raise where another driver writes the tables, or a topic was deleted and created again."""
        self._check_lease()
        self.check_topics()

    def explain(self) -> None:
        """Raise DataLoss where Kafka dropped messages that bronze lacks."""
        if lost := self.lost():
            raise DataLoss(self.name, lost, self._domain.name)

    def lost(self) -> list[LostRange]:
        """Find what Kafka dropped before bronze read it, except what was accepted as lost."""
        return self._lost(self._beginning())

    def move_checkpoint_aside(self) -> None:
        """Write what only the checkpoint knows into bronze first: offsets without a message would be missed once retention took them."""
        folder = self._checkpoint()
        ids = {topic: topic_id(self._settings.kafka_bootstrap, topic) for topic in self._domain.topics}
        for append in bronze.fenced_appends(self._domain, ids, folder).values():
            append.settle(self._spark, batch_properties(self.name, None), at_once=True)
        move_aside(folder, self.name)

    def check_topics(self) -> None:
        """Raise TopicRecreated when one of the broker's topics is no longer the one that the query started with."""
        for topic in dict(self._ids):
            newest = {topic: topic_id(self._settings.kafka_bootstrap, topic)}
            Mark(self._ids).check_topics(newest, self._domain.source_of(topic).bronze.name)

    def check_topic_settings(self) -> None:
        """Raise UnfitTopicError when somebody gave a topic settings that weir cannot work with."""
        for topic in self._domain.topics:
            check_topic(self._settings.kafka_bootstrap, topic)

    def settle(self, at_once: bool) -> None:
        """Commit offsets that bronze does not know yet. What fails is tried again, at the latest by the next driver, which finds the note.

        Args:
            at_once: whether they are committed even if the last such commit is younger than a minute.
        """
        for topic, append in dict(self._appends).items():
            table = self._domain.source_of(topic).bronze.name
            try:
                self._check_lease()
                if append.settle(self._spark, batch_properties(self.name, None), at_once):
                    log.debug("offsets without a message passed", table=table)
            except (WeirError, PySparkException, Py4JError, OSError) as error:
                log.warning("offsets without a message are not noted in bronze yet", table=table, reason=cause_of(error))

    def _checkpoint(self) -> HadoopFolder:
        return HadoopFolder(self._spark, self._settings.checkpoint(self.name))

    def _beginning(self) -> Beginning:
        """Look at all that the query starts from, and refuse what does not belong together."""
        ids, checkpoint = make_topics(self._settings, self._domain), self._checkpoint()
        position = examine(checkpoint, self.name, self._domain.name, is_kafka=True)
        check_topics(position, ids, checkpoint.uri)
        marks, bounds = {}, {}
        for one in self._domain.sources:
            topic = one.contract.topic
            marks[topic] = newest_mark(self._spark, one.bronze)
            marks[topic].check_topics({topic: ids[topic]}, one.bronze.name)
            offsets = topic_offsets(self._settings.kafka_bootstrap, topic)
            check_readable(topic, offsets, held_by(marks[topic], topic), position, self.name)
            bounds[topic] = offsets.written_bounds
        return Beginning(ids, marks, position, bounds)

    def _lost(self, begins: Beginning) -> list[LostRange]:
        lost = []
        for topic, bounds in begins.bounds.items():
            held, known = held_by(begins.marks[topic], topic), recorded_losses(self._spark, topic)
            lost += find_lost(topic, bounds, held, begins.position, known, self.name)
        return lost


def _is_active(query: StreamingQuery) -> bool:
    try:
        return bool(query.isActive)
    except (Py4JError, OSError):  # the JVM is ending
        return False
