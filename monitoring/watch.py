"""Which metrics stay correct while a part hangs or is dead? Those that the process with the metrics page computes on request.

None of them is reported by a query: lag comes from commits and the broker (`lag.py`), freshness from the tables (`freshness.py`). Ages of
tables, proofs and polls grow between two reads, since they are computed with the time of each request. Lag is as of its read: under load
something is always on its way, and its age at the next request would be that of the read, not of the message.

**The cost is bounded.** A read is repeated only after 499 times the processor time that it took, so the eleven reads use at most 2 %
of one core, however often the page is requested. But a value is never older than 20 s, since an alert must not come minutes late.
`weir_watch_age_seconds` is the age of the read. A value that cannot be read has no sample, rather than 0, and `weir_watch_known` is 0.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lakehouse.broker.offsets import Broker
from lakehouse.broker.topics import NoTopicYet
from lakehouse.domain import Domain, Source
from lakehouse.domain_names import DOMAINS
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.tables.catalog import NoTables
from monitoring import metrics
from monitoring.alerts import last_judged
from monitoring.backfill_state import newest_backfills
from monitoring.cluster import ClusterFacts
from monitoring.disks import disks
from monitoring.freshness import CityHour, TableFacts, most_behind, read_cities, read_facts
from monitoring.lag import (
    Lag,
    LagUnknown,
    Planned,
    TopicLag,
    bronze_lag,
    bronze_translation,
    planned_batch,
    silver_lags,
    silver_translation,
    whole_of,
)
from monitoring.last_proofs import LastProof, last_proofs
from monitoring.objectives import STAGES, Objective, SourceFacts, Stage, judge, late_stage, read_objectives
from monitoring.stages import ReadTimes, delays, stage_facts
from monitoring.table_upkeep import TableHealth, read_health

# A read that took one second of processor time is repeated after 499 s: a fifth of a percent of a core for each of the eleven.
REST = 499.0
LEAST_SECONDS, MOST_SECONDS = 1.0, 20.0

log = structlog.get_logger("weir.metrics")
_T = TypeVar("_T")


class Look(Generic[_T]):
    """A value that is read for the page, at most as often as its cost allows.

    Args:
        what: its name in the metrics.
        ask: reads it; any exception means that it is unknown now.
        clock: seconds of a monotonic clock.
        cost: seconds of processor time that this thread has used.
    """

    def __init__(
        self,
        what: str,
        ask: Callable[[], _T],
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.thread_time,
    ) -> None:
        self.what = what
        self._ask, self._clock, self._cost = ask, clock, cost
        self._found: _T | None = None
        self._looked_at, self._next = 0.0, float("-inf")
        self._problem = ""
        self._is_first = True  # the first read also loads libraries

    def found(self) -> _T | None:
        """Return the value, read again if it is due; None where it is unknown."""
        began, used = self._clock(), self._cost()
        if began >= self._next:
            try:
                self._found, problem = self._ask(), ""
            except Exception as error:  # the page must answer whatever is broken, since that is its purpose
                self._found, problem = None, f"{type(error).__name__}: {error}"
            if problem and problem != self._problem:
                log.warning("cannot be read", what=self.what, reason=problem)
            self._problem, self._looked_at = problem, self._clock()
            # Waiting for a broker that does not answer costs no processor time, but delays the page.
            earned = 0.0 if self._is_first else REST * (self._cost() - used)
            rest = max(LEAST_SECONDS, min(earned, MOST_SECONDS), self._looked_at - began)
            self._is_first = False
            self._next = self._looked_at + rest
        return self._found

    @property
    def is_known(self) -> bool:
        """Whether the last read succeeded."""
        return not self._problem

    @property
    def age(self) -> float:
        """Seconds since the last read."""
        return self._clock() - self._looked_at


@dataclass(frozen=True, slots=True)
class _Cities:
    """The watched cities of a domain, and the newest hour of each that has one, by table."""

    places: list[str]
    hours: dict[str, list[CityHour]]


@dataclass(frozen=True, slots=True)
class _Progress:
    """The micro-batch that is not committed yet, and what none has taken yet."""

    planned: Planned | None
    waiting: Lag


@dataclass(frozen=True, slots=True)
class _Bronze:
    topics: list[TopicLag]
    progress: _Progress
    read_ts: datetime


@dataclass(frozen=True, slots=True)
class _Silver:
    lags: list[Lag]
    progress: _Progress
    read_ts: datetime


class Watch(Collector):
    """The metrics of a home that are computed when the page is requested.

    Args:
        settings: of the home.
        bootstrap: returns the broker's host:port, empty or None while there is none.
        now: returns the current time.
        sources: returns by name what the polls of each source have noted.
        states: returns by query whether it runs and holds no source back, as its driver says; without queries that have no driver.
        cluster: returns the state of the cluster; None where there is none.
    """

    def __init__(
        self,
        settings: Settings,
        bootstrap: Callable[[], str | None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sources: Callable[[], Mapping[str, SourceFacts]] = dict,
        states: Callable[[], Mapping[str, bool]] = dict,
        cluster: Callable[[], ClusterFacts | None] = lambda: None,
    ) -> None:
        self._settings, self._bootstrap, self._now = settings, bootstrap, now
        self._broker: Broker | None = None
        # The page serves each request in a thread of its own.
        self._lock = threading.Lock()
        # By the name of the query.
        self._kafka: Look[dict[str, _Bronze]] = Look("kafka", self._bronze_lags)
        self._checkpoint: Look[dict[str, _Silver]] = Look("checkpoint", self._silver_lags)
        self._tables: Look[list[TableFacts]] = Look("tables", self._facts)
        self._cities: Look[list[_Cities]] = Look("cities", self._hours)
        self._proofs: Look[list[LastProof]] = Look("proofs", lambda: last_proofs(settings))
        self._health: Look[list[TableHealth]] = Look("health", lambda: read_health(settings))
        self._cluster: Look[ClusterFacts | None] = Look("cluster", cluster)
        self._backfills: Look[Mapping[str, Mapping[str, int]]] = Look("backfills", lambda: newest_backfills(settings))
        self._sources: Look[Mapping[str, SourceFacts]] = Look("sources", sources)
        self._states: Look[Mapping[str, bool]] = Look("states", states)
        # Not for each request: it reads the lists of places, which may lie on HDFS.
        self._built: Look[list[Domain]] = Look("domains", self._domains)
        self._objectives: Look[tuple[Objective, ...]] = Look("objectives", lambda: read_objectives(settings))

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without samples, so that registering reads nothing."""
        return [watched.family() for watched in metrics.WATCHED]

    def collect(self) -> Iterator[Metric]:
        """Compute all metrics."""
        with self._lock:
            kafka, silver, tables = self._kafka.found(), self._checkpoint.found(), self._tables.found()
            cities, proofs, health = self._cities.found(), self._proofs.found(), self._health.found()
            now = self._now()
            families = {watched: watched.family() for watched in metrics.WATCHED}
            for query, bronze in (kafka or {}).items():
                _add_topics(families, query, bronze.topics, bronze.read_ts)
                _add_progress(families, query, bronze.progress, bronze.read_ts)
            for query, rows in (silver or {}).items():
                _add_query(families, query, whole_of(rows.lags), rows.read_ts)
                _add_progress(families, query, rows.progress, rows.read_ts)
            self._add_stages(families, kafka, silver, tables or (), now)
            for table in tables or ():
                _add_table(families, table, now)
            for one in health or ():
                _add_health(families, one, now)
            for domain in cities or ():
                for name, hours in domain.hours.items():
                    _add_cities(families, f"lh.{name}", hours, domain.places, self._settings.metrics_cities, now)
            for proof in proofs or ():
                families[metrics.PROOF_AGE].add_metric([proof.domain], _age(proof.proved_ts, now))
                for table_name, ways in proof.differences.items():
                    for against, number in ways.items():
                        families[metrics.PROOF_DIFFERENCES].add_metric([proof.domain, table_name, against], number)
            for judged in last_judged(self._settings, DOMAINS):
                families[metrics.ALERT_AGE].add_metric([judged.domain], _age(judged.judged_ts, now))
                for alert in judged.alerts:
                    labels = [judged.domain, alert.kind, alert.name]
                    _add_known(families[metrics.ALERT_VALUE], labels, alert.value)
                    _add_known(families[metrics.ALERT_BOUND], labels, alert.bound)
            for name, source in (self._sources.found() or {}).items():
                _add_source(families, name, source, now)
            for domain_name, chunks in (self._backfills.found() or {}).items():
                for state, number in chunks.items():
                    families[metrics.BACKFILL_CHUNKS].add_metric([domain_name, state], number)
            for disk in disks(self._settings):
                families[metrics.DISK_FREE].add_metric([disk.place], disk.free)
                families[metrics.DISK_SIZE].add_metric([disk.place], disk.size)
            if (found := self._cluster.found()) is not None:
                _add_cluster(families, found)
            for look in self._looks:
                families[metrics.WATCH_KNOWN].add_metric([look.what], int(look.is_known))
                families[metrics.WATCH_AGE].add_metric([look.what], look.age)
        yield from families.values()

    @property
    def _looks(self) -> tuple["Look[Any]", ...]:
        of_tables = (self._kafka, self._checkpoint, self._tables, self._cities, self._proofs, self._health)
        return (*of_tables, self._cluster, self._backfills, self._sources, self._states, self._objectives)

    def _add_stages(
        self,
        families: "_Families",
        kafka: "Mapping[str, _Bronze] | None",
        silver: "Mapping[str, _Silver] | None",
        tables: Iterable[TableFacts],
        now: datetime,
    ) -> None:
        """Judge the objectives, and which stage of each domain is late."""
        sources, states = self._sources.found() or {}, self._states.found() or {}
        late: dict[str, Stage | None] = {}
        ages: dict[str, dict[str, float | None]] = {}
        for domain in self._built.found() or ():
            bronze = None if kafka is None else kafka[domain.bronze_query]
            rest = None if silver is None else silver[domain.refine_query]
            topics, rows = None if bronze is None else bronze.topics, None if rest is None else rest.lags
            read_ts = ReadTimes(now if bronze is None else bronze.read_ts, now if rest is None else rest.read_ts)
            late[domain.name] = late_stage(stage_facts(domain, topics, rows, states, tables, sources.values(), read_ts))
            ages[domain.name] = delays(domain, topics, rows, read_ts)
            for stage in STAGES:
                families[metrics.LATE_STAGE].add_metric([domain.name, stage], int(stage == late[domain.name]))
        entities = {
            name: _age(ranked[0].newest_ts, now)
            for cities in self._cities.found() or ()
            for name, hours in cities.hours.items()
            if (ranked := most_behind(hours, cities.places, 1))
        }
        for one in judge(self._objectives.found() or (), ages, entities, late):
            labels = [one.objective.name, one.objective.domain]
            _add_known(families[metrics.OBJECTIVE_VALUE], labels, one.seconds)
            families[metrics.OBJECTIVE_BOUND].add_metric(labels, one.objective.within_seconds)
            families[metrics.OBJECTIVE_TARGET].add_metric(labels, one.objective.target)
            _add_known(families[metrics.OBJECTIVE_MET], labels, None if one.is_met is None else int(one.is_met))

    def _bronze_lags(self) -> "dict[str, _Bronze]":
        address = self._bootstrap()
        if self._broker is not None and self._broker.bootstrap != address:
            self._broker.close()
            self._broker = None
        if not address:
            raise LagUnknown("Kafka is not running, so there is no end offset to compare with.")
        broker = self._broker = self._broker or Broker(address)
        found = {}
        for domain in self._domains():
            planned = planned_batch(self._settings, domain.bronze_query)
            topics = [self._topic_lag(source, address, broker) for source in domain.sources]
            waiting = whole_of(one.whole for one in topics) if planned is None else bronze_translation(domain, planned, broker)
            found[domain.bronze_query] = _Bronze(topics, _Progress(planned, waiting), self._now())
        return found

    def _topic_lag(self, source: Source, address: str, broker: Broker) -> TopicLag:
        try:
            return bronze_lag(self._settings, source, address, broker)
        except NoTopicYet:  # of a new home, or of a domain that nobody streams: nothing waits there
            return TopicLag(source.contract.topic, "")

    def _silver_lags(self) -> "dict[str, _Silver]":
        found = {}
        for domain in self._domains():
            planned = planned_batch(self._settings, domain.refine_query)
            lags = silver_lags(self._settings, domain)
            waiting = whole_of(lags) if planned is None else silver_translation(self._settings, domain, planned)
            found[domain.refine_query] = _Silver(lags, _Progress(planned, waiting), self._now())
        return found

    def _domains(self) -> list[Domain]:
        """Build the domains again, since places may have been added."""
        return [build_domain(name, self._settings) for name in DOMAINS]

    def _facts(self) -> list[TableFacts]:
        try:
            return read_facts(self._settings)
        except NoTables:
            return []

    def _hours(self) -> list[_Cities]:
        facts = self._tables.found() or ()
        return [_Cities(list(domain.entities), read_cities(self._settings, domain, facts)) for domain in self._domains()]


_Families = dict[metrics.Watched, GaugeMetricFamily]


def _add_topics(families: _Families, query: str, lags: Iterable[TopicLag], now: datetime) -> None:
    topics = list(lags)
    for lag in topics:
        for partition, one in lag.partitions.items():
            labels = [query, lag.topic, str(partition)]
            families[metrics.PARTITION_LAG].add_metric(labels, one.messages)
            _add_known(families[metrics.PARTITION_LAG_SECONDS], labels, one.seconds(now))
        for partition, offsets in lag.waiting.items():
            families[metrics.OPEN_TRANSACTION].add_metric([lag.topic, str(partition)], offsets)
    _add_query(families, query, whole_of(lag.whole for lag in topics), now)


def _add_progress(families: _Families, query: str, progress: _Progress, now: datetime) -> None:
    since = progress.planned.since if progress.planned is not None else now
    families[metrics.COMMIT_LAG_SECONDS].add_metric([query], max(0.0, _age(since, now)))
    _add_known(families[metrics.TRANSLATION_LAG_SECONDS], [query], progress.waiting.seconds(now))


def _add_source(families: _Families, name: str, source: SourceFacts, now: datetime) -> None:
    families[metrics.PRODUCER_LATE].add_metric([name], int(source.is_late))
    families[metrics.UPSTREAM_LATE].add_metric([name], int(source.is_upstream_late))
    _add_known(families[metrics.PRODUCER_INTERVAL], [name], source.every_seconds)
    for family, moment in ((metrics.PRODUCER_CURSOR_AGE, source.cursor), (metrics.UPSTREAM_AGE, source.upstream_changed)):
        _add_known(families[family], [name], None if moment is None else _age(moment, now))


def _add_query(families: _Families, query: str, lag: Lag, now: datetime) -> None:
    families[metrics.QUERY_LAG].add_metric([query], lag.messages)
    _add_known(families[metrics.QUERY_LAG_SECONDS], [query], lag.seconds(now))


def _add_table(families: _Families, table: TableFacts, now: datetime) -> None:
    name = f"lh.{table.name}"
    families[metrics.TABLE_ROWS].add_metric([name], table.rows)
    if table.last_commit_ts is not None:
        families[metrics.TABLE_COMMIT_AGE].add_metric([name], _age(table.last_commit_ts, now))


def _add_health(families: _Families, table: TableHealth, now: datetime) -> None:
    labels = [f"lh.{table.name}"]
    families[metrics.TABLE_FILES].add_metric(labels, table.files)
    families[metrics.TABLE_DELETE_FILES].add_metric(labels, table.delete_files)
    families[metrics.TABLE_SNAPSHOTS].add_metric(labels, table.snapshots)
    families[metrics.TABLE_METADATA_BYTES].add_metric(labels, table.metadata_bytes)
    _add_known(families[metrics.TABLE_SMALL_FILES], labels, table.small_files)
    _add_known(families[metrics.TABLE_REWRITE_AGE], labels, None if table.rewritten_ts is None else _age(table.rewritten_ts, now))


def _add_cities(families: _Families, table: str, hours: list[CityHour], places: list[str], most: int, now: datetime) -> None:
    ranked = most_behind(hours, places, len(places))
    families[metrics.TABLE_MISSING_CITIES].add_metric([table], len(places) - len(ranked))
    if ranked:
        families[metrics.TABLE_FRESHNESS].add_metric([table], _age(ranked[-1].newest_ts, now))
        families[metrics.TABLE_WORST_FRESHNESS].add_metric([table], _age(ranked[0].newest_ts, now))
    for one in ranked[:most]:
        families[metrics.CITY_FRESHNESS].add_metric([table, one.city], _age(one.newest_ts, now))


def _add_cluster(families: _Families, cluster: ClusterFacts) -> None:
    families[metrics.YARN_QUEUE_USED].add_metric([cluster.queue], cluster.queue_used)
    for domain, application in cluster.applications.items():
        families[metrics.YARN_APPLICATION_UP].add_metric([domain], int(application.is_running))
        families[metrics.YARN_APPLICATION_CONTAINERS].add_metric([domain], application.containers)
        families[metrics.YARN_APPLICATION_MEMORY].add_metric([domain], application.memory)


def _add_known(family: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    if value is not None:
        family.add_metric(labels, value)


def _age(moment: datetime, now: datetime) -> float:
    return (now - moment).total_seconds()
