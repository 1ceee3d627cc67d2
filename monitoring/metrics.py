"""Which numbers does weir tell of itself? Every metric is declared here, once.

Base units, the unit in the name, counters end in `_total`. Labels come from closed sets, never ids, dates or messages.

The parts are processes, the page is one: with PROMETHEUS_MULTIPROC_DIR set, as `weir up` does for its children, each process
keeps its numbers in files of that folder, and `serve` adds them up. A counter goes on over restarts of its part; a gauge is
the value that was set last, whichever process set it. Without the variable the metrics are the process's own.

What must be true of a part that hangs or is dead is set by none: those in `WATCHED` are worked out when the page is asked for
(`monitoring/watch.py`). docs/operating.md has a table of all of them; a test compares it with this module.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

# From a micro-batch of a few rows to the replay of a long outage.
BATCH_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
# A phase may be a hundredth of a micro-batch.
PHASE_BUCKETS = (0.01, 0.03, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 60, 300)

# The producers. outcome: ok, refused, limited, unavailable, broken; window: minute, hour, day.
PRODUCER_CALLS = Counter("weir_producer_calls_total", "Requests to a source, by how they ended", ["source", "outcome"])
PRODUCER_RETRIES = Counter("weir_producer_retries_total", "Requests to a source that repeated a failed one", ["source"])
PRODUCER_MESSAGES = Counter("weir_producer_messages_total", "Messages that Kafka reported as delivered", ["source"])
PRODUCER_DELIVERY_FAILURES = Counter("weir_producer_delivery_failures_total", "Messages that Kafka reported as not delivered", ["source"])
PRODUCER_LAST_SUCCESS = Gauge(
    "weir_producer_last_success_timestamp_seconds",
    "When all places of a source were last fetched and delivered, Unix time",
    ["source"],
    multiprocess_mode="mostrecent",
)
PRODUCER_READINGS = Counter(
    "weir_producer_readings_total",
    "Hours of places that a source answered: new, changed, measured (was a forecast), repeated (in doubt); a poll sends no unchanged one",
    ["source", "kind"],
)
PRODUCER_FAILING_PLACES = Gauge(
    "weir_producer_failing_places",
    "Places whose hours the last poll could not get; weir status names them",
    ["source"],
    multiprocess_mode="mostrecent",
)
PRODUCER_BUDGET_USED = Gauge(
    "weir_producer_budget_used",
    "Weighted calls used of a limit by all programs of the machine, at the last call",
    ["window"],
    multiprocess_mode="mostrecent",
)
PRODUCER_BUDGET_LIMIT = Gauge(
    "weir_producer_budget_limit", "Weighted calls that a limit allows", ["window"], multiprocess_mode="mostrecent"
)
PRODUCER_BUDGET_WAITS = Counter("weir_producer_budget_waits_total", "Waits of a request for a limit to begin anew", ["source", "window"])

# The queries. query: as it is named, for the table it writes or the domain; reason and rule: names of rules.
QUERY_INPUT_ROWS = Counter("weir_query_input_rows_total", "Rows that a query read; a repeated micro-batch counts again", ["query"])
QUERY_ROWS_OUT = Counter("weir_query_rows_out_total", "Rows that a query appended, or accepted for its MERGE", ["query"])
REJECTS = Counter("weir_rejects_total", "Rows that went to lh.ops.rejects, by the rule they break", ["query", "reason"])
WARNINGS = Counter("weir_warnings_total", "Rows that were kept although they are unusual, by rule", ["query", "rule"])
UNKNOWN_FIELDS = Counter(
    "weir_unknown_fields_total",
    "Messages with a field that the contract does not know, by the field; twenty names, the others as one",
    ["query", "field"],
)
QUERY_BATCH_SECONDS = Histogram("weir_query_batch_seconds", "Time that one micro-batch took", ["query"], buckets=BATCH_BUCKETS)
TOMBSTONES = Counter(
    "weir_tombstones_total", "Messages without a value (tombstones): kept in bronze, neither accepted nor rejected", ["query"]
)
LATE_ROWS = Counter(
    "weir_late_rows_total", "Accepted rows whose hour was behind the watermark (48 h before Kafka took them) on arrival", ["query"]
)
QUERY_PHASE_SECONDS = Histogram(
    "weir_query_phase_seconds", "Time that one phase of a micro-batch took", ["query", "phase"], buckets=PHASE_BUCKETS
)
QUERY_LAST_COMMIT = Gauge(
    "weir_query_last_commit_timestamp_seconds",
    "When a query last ended a micro-batch that had rows, Unix time",
    ["query"],
    multiprocess_mode="mostrecent",
)
QUERY_RESTARTS = Counter("weir_query_restarts_total", "Times that a query was started again in its driver", ["query"])
QUERY_UP = Gauge(
    "weir_query_up", "1 while a query runs, 0 while it waits for its restart or is stopped", ["query"], multiprocess_mode="mostrecent"
)

# The machine. part: kafka, stream, producer, metrics.
PART_UP = Gauge("weir_part_up", "1 while a part of the stack runs, else 0", ["part"], multiprocess_mode="mostrecent")


@dataclass(frozen=True, slots=True)
class Watched:
    """A gauge that is worked out when the page is asked for."""

    name: str
    about: str
    labels: tuple[str, ...]

    def family(self) -> GaugeMetricFamily:
        """Give it without a sample."""
        return GaugeMetricFamily(self.name, self.about, labels=self.labels)


# query, table: as they are named; what: kafka, checkpoint, tables, cities, proofs, health. None of them has a sample where it is not known.
PARTITION_LAG = Watched(
    "weir_partition_lag_messages", "Messages of a partition that the query has not committed", ("query", "topic", "partition")
)
PARTITION_LAG_SECONDS = Watched(
    "weir_partition_lag_seconds",
    "Age of the oldest message of a partition that the query has not committed, since Kafka took it; 0 without one",
    ("query", "topic", "partition"),
)
OPEN_TRANSACTION = Watched(
    "weir_topic_open_transaction_messages",
    "Offsets of a partition that were written and cannot be read before an open transaction ends; no lag",
    ("topic", "partition"),
)
QUERY_LAG = Watched("weir_query_lag_messages", "Messages (of Kafka, or rows of bronze) that the query has not committed", ("query",))
QUERY_LAG_SECONDS = Watched(
    "weir_query_lag_seconds",
    "Age of the oldest message that the query has not committed, since Kafka, or bronze, took it; 0 without one",
    ("query",),
)
TABLE_COMMIT_AGE = Watched("weir_table_last_commit_age_seconds", "Time since the table's rows were last changed by a commit", ("table",))
TABLE_ROWS = Watched("weir_table_rows", "Live rows of the table", ("table",))
TABLE_FILES = Watched("weir_table_files", "Data files of the table", ("table",))
TABLE_SMALL_FILES = Watched(
    "weir_table_small_files", "Data files below 128 MiB that could be joined, when maintenance last looked", ("table",)
)
TABLE_DELETE_FILES = Watched("weir_table_delete_files", "Delete files and deletion vectors of the table", ("table",))
TABLE_SNAPSHOTS = Watched("weir_table_snapshots", "Snapshots that the table keeps", ("table",))
TABLE_METADATA_BYTES = Watched("weir_table_metadata_bytes", "Length of the metadata file that every commit writes anew", ("table",))
TABLE_REWRITE_AGE = Watched("weir_table_rewrite_age_seconds", "Time since maintenance last left nothing to rewrite", ("table",))
TABLE_FRESHNESS = Watched("weir_table_freshness_seconds", "Age of the newest measured hour or day of any city, from its start", ("table",))
TABLE_WORST_FRESHNESS = Watched(
    "weir_table_worst_freshness_seconds", "Age of the newest measured hour or day of the city that is most behind", ("table",)
)
TABLE_MISSING_CITIES = Watched("weir_table_missing_cities", "Watched cities without a measured hour or day in the table", ("table",))
CITY_FRESHNESS = Watched(
    "weir_city_freshness_seconds",
    "Age of the newest measured hour or day of a city, from its start; of the WEIR_METRICS_CITIES that are most behind",
    ("table", "city"),
)
PROOF_AGE = Watched("weir_proof_age_seconds", "Time since the snapshots of the domain's last proof were taken", ("domain",))
PROOF_DIFFERENCES = Watched(
    "weir_proof_differences",
    "Rows in which a gold table differed in the domain's last proof; against: batch, or independent",
    ("domain", "table", "against"),
)
UPSTREAM_AGE = Watched(
    "weir_producer_upstream_age_seconds", "Time since the newest change of a source's values that a poll has seen", ("source",)
)
WATCH_KNOWN = Watched("weir_watch_known", "1 while the page can read what its numbers are made of, else 0", ("what",))
WATCH_AGE = Watched("weir_watch_age_seconds", "Time since the page last read what its numbers are made of", ("what",))

WATCHED = tuple(value for value in vars().values() if isinstance(value, Watched))
DECLARED = tuple(value for value in vars().values() if isinstance(value, Counter | Gauge | Histogram))


def described() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Give the name, as it stands on the page, the kind, the labels and the help text of every metric."""
    for metric in DECLARED:
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, family.type, metric._labelnames, family.documentation
    for watched in WATCHED:
        yield watched.name, "gauge", watched.labels, watched.about


class _Folder(Collector):
    """The numbers of all processes that keep them in a folder. The library's own collector takes the folder's name for a pattern."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Add up what the files say."""
        found: Iterable[Metric] = MultiProcessCollector.merge([str(file) for file in self._folder.glob("*.db")])  # type: ignore[no-untyped-call]
        return found


def serve(port: int, folder: Path, watch: Collector | None = None) -> None:
    """Serve the one page of all processes that keep their numbers in a folder; on the loopback only, in a thread.

    Args:
        port: of 127.0.0.1.
        folder: the processes' PROMETHEUS_MULTIPROC_DIR.
        watch: works out the metrics in `WATCHED`; without it the page has none of them.
    """
    registry = CollectorRegistry()
    registry.register(_Folder(folder))
    if watch is not None:
        registry.register(watch)
    start_http_server(port, addr="127.0.0.1", registry=registry)
