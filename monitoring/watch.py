"""What is true now of a part that hangs, or is dead? Worked out when the page is asked for, by the process that serves it.

Nothing here is told by a query: lag comes from what was committed and the broker (`lag.py`), freshness from the tables
(`freshness.py`). Ages and lags in seconds grow between two looks, as they are taken against the clock of each answer.

**What it costs is bounded.** A look is repeated no sooner than after 199 times the processor time that it took, so the six
together take at most 3 % of one core, however often the page is asked for; but an answer is never older than 30 s, since an alert
that comes minutes late is none. `weir_watch_age_seconds` says how old the look is. What cannot be read has no sample, and
`weir_watch_known` is 0: a number that is not known is never a zero.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from lakehouse.broker.offsets import Broker
from lakehouse.domain import Domain
from lakehouse.domain_names import DOMAINS
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.tables.catalog import NoTables
from monitoring import metrics
from monitoring.freshness import CityHour, TableFacts, most_behind, read_cities, read_facts
from monitoring.lag import Lag, LagUnknown, TopicLag, bronze_lag, silver_lag, whole_of
from monitoring.last_proofs import LastProof, last_proofs
from monitoring.table_health import TableHealth, read_health

# A look that took a second of the processor is repeated after 199: half a percent of the time for each of the six.
REST = 199.0
LEAST_SECONDS, MOST_SECONDS = 1.0, 30.0

log = structlog.get_logger("weir.metrics")
_T = TypeVar("_T")


class Look(Generic[_T]):
    """Something outside that is looked at for an answer of the page, but not more often than it may cost.

    Args:
        what: its name in the metrics.
        ask: looks; whatever it raises means that it is not known now.
        clock: seconds, never back.
        cost: seconds of the processor that this thread has used.
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
        self._is_first = True  # it loads libraries, which is paid once

    def found(self) -> _T | None:
        """Give what there is, from a new look if it is time for one; None where it is not known."""
        began, used = self._clock(), self._cost()
        if began >= self._next:
            try:
                self._found, problem = self._ask(), ""
            except Exception as error:  # the page must answer whatever is broken: that is what it is for
                self._found, problem = None, f"{type(error).__name__}: {error}"
            if problem and problem != self._problem:
                log.warning("not known", what=self.what, reason=problem)
            self._problem, self._looked_at = problem, self._clock()
            # One that waits in vain for a broker costs no processor, but the page's time.
            earned = 0.0 if self._is_first else REST * (self._cost() - used)
            rest = max(LEAST_SECONDS, min(earned, MOST_SECONDS), self._looked_at - began)
            self._is_first = False
            self._next = self._looked_at + rest
        return self._found

    @property
    def is_known(self) -> bool:
        """Whether the last look found it."""
        return not self._problem

    @property
    def age(self) -> float:
        """Seconds since the last look."""
        return self._clock() - self._looked_at


@dataclass(frozen=True, slots=True)
class _Cities:
    """The watched cities of a domain, and the newest hour of each that has one, by table."""

    places: list[str]
    hours: dict[str, list[CityHour]]


class Watch(Collector):
    """The metrics of a home that are worked out when the page is asked for.

    Args:
        settings: of the home.
        bootstrap: gives the broker's host:port, empty or None while there is none.
        now: gives the time.
        upstream: gives when the values of each source last changed, as its polls noted.
    """

    def __init__(
        self,
        settings: Settings,
        bootstrap: Callable[[], str | None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        upstream: Callable[[], Mapping[str, datetime | None]] = dict,
    ) -> None:
        self._settings, self._bootstrap, self._now, self._upstream = settings, bootstrap, now, upstream
        self._broker: Broker | None = None
        # The page has a thread for each that asks.
        self._lock = threading.Lock()
        # By the name of the query.
        self._kafka: Look[dict[str, list[TopicLag]]] = Look("kafka", self._bronze_lags)
        self._checkpoint: Look[dict[str, Lag]] = Look("checkpoint", self._silver_lags)
        self._tables: Look[list[TableFacts]] = Look("tables", self._facts)
        self._cities: Look[list[_Cities]] = Look("cities", self._hours)
        self._proofs: Look[list[LastProof]] = Look("proofs", lambda: last_proofs(settings))
        self._health: Look[list[TableHealth]] = Look("health", lambda: read_health(settings))

    def describe(self) -> Iterable[Metric]:
        """Name the metrics, so that registering them looks at nothing."""
        return [watched.family() for watched in metrics.WATCHED]

    def collect(self) -> Iterator[Metric]:
        """Work out all of them."""
        with self._lock:
            kafka, silver, tables = self._kafka.found(), self._checkpoint.found(), self._tables.found()
            cities, proofs, health = self._cities.found(), self._proofs.found(), self._health.found()
            now = self._now()
            families = {watched: watched.family() for watched in metrics.WATCHED}
            for query, lags in (kafka or {}).items():
                _tell_topics(families, query, lags, now)
            for query, lag in (silver or {}).items():
                _tell_query(families, query, lag, now)
            for table in tables or ():
                _tell_table(families, table, now)
            for one in health or ():
                _tell_health(families, one, now)
            for found in cities or ():
                for name, hours in found.hours.items():
                    _tell_cities(families, f"lh.{name}", hours, found.places, self._settings.metrics_cities, now)
            for proof in proofs or ():
                families[metrics.PROOF_AGE].add_metric([proof.domain], _age(proof.proved_ts, now))
                for table_name, ways in proof.differences.items():
                    for against, number in ways.items():
                        families[metrics.PROOF_DIFFERENCES].add_metric([proof.domain, table_name, against], number)
            for source, changed in self._upstream().items():
                _add_known(families[metrics.UPSTREAM_AGE], [source], None if changed is None else _age(changed, now))
            for look in (self._kafka, self._checkpoint, self._tables, self._cities, self._proofs, self._health):
                families[metrics.WATCH_KNOWN].add_metric([look.what], int(look.is_known))
                families[metrics.WATCH_AGE].add_metric([look.what], look.age)
        yield from families.values()

    def _bronze_lags(self) -> dict[str, list[TopicLag]]:
        address = self._bootstrap()
        if self._broker is not None and self._broker.bootstrap != address:
            self._broker.close()
            self._broker = None
        if not address:
            raise LagUnknown("Kafka is not running, so there is no end offset to compare with.")
        broker = self._broker = self._broker or Broker(address)
        return {
            domain.bronze_query: [bronze_lag(self._settings, source, address, broker) for source in domain.sources]
            for domain in self._domains()
        }

    def _silver_lags(self) -> dict[str, Lag]:
        return {domain.refine_query: silver_lag(self._settings, domain) for domain in self._domains()}

    def _domains(self) -> list[Domain]:
        """Put the domains together anew: places may have been added."""
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


def _tell_topics(families: _Families, query: str, lags: Iterable[TopicLag], now: datetime) -> None:
    told = list(lags)
    for lag in told:
        for partition, one in lag.partitions.items():
            labels = [query, lag.topic, str(partition)]
            families[metrics.PARTITION_LAG].add_metric(labels, one.messages)
            _add_known(families[metrics.PARTITION_LAG_SECONDS], labels, one.seconds(now))
        for partition, offsets in lag.waiting.items():
            families[metrics.OPEN_TRANSACTION].add_metric([lag.topic, str(partition)], offsets)
    _tell_query(families, query, whole_of(lag.whole for lag in told), now)


def _tell_query(families: _Families, query: str, lag: Lag, now: datetime) -> None:
    families[metrics.QUERY_LAG].add_metric([query], lag.messages)
    _add_known(families[metrics.QUERY_LAG_SECONDS], [query], lag.seconds(now))


def _tell_table(families: _Families, table: TableFacts, now: datetime) -> None:
    name = f"lh.{table.name}"
    families[metrics.TABLE_ROWS].add_metric([name], table.rows)
    if table.last_commit_ts is not None:
        families[metrics.TABLE_COMMIT_AGE].add_metric([name], _age(table.last_commit_ts, now))


def _tell_health(families: _Families, table: TableHealth, now: datetime) -> None:
    labels = [f"lh.{table.name}"]
    families[metrics.TABLE_FILES].add_metric(labels, table.files)
    families[metrics.TABLE_DELETE_FILES].add_metric(labels, table.delete_files)
    families[metrics.TABLE_SNAPSHOTS].add_metric(labels, table.snapshots)
    families[metrics.TABLE_METADATA_BYTES].add_metric(labels, table.metadata_bytes)
    _add_known(families[metrics.TABLE_SMALL_FILES], labels, table.small_files)
    _add_known(families[metrics.TABLE_REWRITE_AGE], labels, None if table.rewritten_ts is None else _age(table.rewritten_ts, now))


def _tell_cities(families: _Families, table: str, hours: list[CityHour], places: list[str], most: int, now: datetime) -> None:
    ranked = most_behind(hours, places, len(places))
    families[metrics.TABLE_MISSING_CITIES].add_metric([table], len(places) - len(ranked))
    if ranked:
        families[metrics.TABLE_FRESHNESS].add_metric([table], _age(ranked[-1].newest_ts, now))
        families[metrics.TABLE_WORST_FRESHNESS].add_metric([table], _age(ranked[0].newest_ts, now))
    for one in ranked[:most]:
        families[metrics.CITY_FRESHNESS].add_metric([table, one.city], _age(one.newest_ts, now))


def _add_known(family: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    if value is not None:
        family.add_metric(labels, value)


def _age(moment: datetime, now: datetime) -> float:
    return (now - moment).total_seconds()
