"""Which metrics does weir expose? Each is declared here, once.

Metrics use base units with the unit in the name, and counters end in `_total`. Label values come from closed sets and are never ids, dates
or messages.

Several processes of a machine share one page: with PROMETHEUS_MULTIPROC_DIR set, as `weir up` does for its children, each process keeps its
values in files of that folder, and `serve` merges them. A counter continues across restarts of its part; a gauge has the value that was set
last, by whichever process. Without the variable the metrics are the process's own, and a driver in a container of YARN serves them itself
(`serve_process`).

Metrics that must stay true while a part hangs or is dead are set by no part: those in `WATCHED` are computed when the page is requested
(`monitoring/watch.py`). docs/operating.md has a table of all metrics; a test compares it with this module.
"""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

# Where the page shows further targets of Prometheus.
TARGETS_PATH = "/targets"
# From a micro-batch of a few rows to catching up after a long outage.
BATCH_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
# A phase may be a hundredth of a micro-batch.
PHASE_BUCKETS = (0.01, 0.03, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 60, 300)

# The producers. outcome: ok, refused, limited, unavailable, broken; window: minute, hour, day.
PRODUCER_CALLS = Counter("weir_producer_calls_total", "Requests to a source, by outcome", ["source", "outcome"])
PRODUCER_RETRIES = Counter("weir_producer_retries_total", "Requests to a source that retried a failed one", ["source"])
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
    "Hours of places in a source's answers: new, changed, measured (was a forecast), repeated (in doubt), unchanged (not sent by polls)",
    ["source", "kind"],
)
PRODUCER_FAILING_PLACES = Gauge(
    "weir_producer_failing_places",
    "Places whose hours the last poll could not fetch; weir status names them",
    ["source"],
    multiprocess_mode="mostrecent",
)
PRODUCER_BUDGET_USED = Gauge(
    "weir_producer_budget_used",
    "Weighted calls of a limit that all programs of the machine had used at the last call",
    ["api", "window"],
    multiprocess_mode="mostrecent",
)
PRODUCER_BUDGET_LIMIT = Gauge(
    "weir_producer_budget_limit", "Weighted calls that a limit allows", ["api", "window"], multiprocess_mode="mostrecent"
)
PRODUCER_BUDGET_WAITS = Counter("weir_producer_budget_waits_total", "Waits of a request for a limit to reset", ["source", "window"])

# The queries. query: as it is named, for the table it writes or the domain; reason and rule: names of rules.
QUERY_INPUT_ROWS = Counter("weir_query_input_rows_total", "Rows that a query read; a repeated micro-batch counts again", ["query"])
QUERY_ENGINE = Counter(
    "weir_query_engine_batches_total", "Micro-batches by the engine that computed their rows: duckdb or spark", ["query", "engine"]
)
QUERY_ROWS_OUT = Counter("weir_query_rows_out_total", "Rows that a query appended, or accepted for its MERGE", ["query"])
REJECTS = Counter("weir_rejects_total", "Rows that went to lh.ops.rejects, by the rule they break", ["query", "reason"])
WARNINGS = Counter("weir_warnings_total", "Rows that were accepted although they are unusual, by rule", ["query", "rule"])
UNKNOWN_FIELDS = Counter(
    "weir_unknown_fields_total",
    "Messages with a field that the contract does not know, by field; up to twenty names, all others under one name",
    ["query", "field"],
)
QUERY_BATCH_SECONDS = Histogram("weir_query_batch_seconds", "Time that one micro-batch took", ["query"], buckets=BATCH_BUCKETS)
TOMBSTONES = Counter(
    "weir_tombstones_total", "Messages without a value (tombstones): stored in bronze, neither accepted nor rejected", ["query"]
)
LATE_ROWS = Counter(
    "weir_late_rows_total", "Accepted rows whose hour was behind the watermark (48 h before Kafka took them) on arrival", ["query"]
)
QUERY_PHASE_SECONDS = Histogram(
    "weir_query_phase_seconds", "Time that one phase of a micro-batch took", ["query", "phase"], buckets=PHASE_BUCKETS
)
QUERY_LAST_COMMIT = Gauge(
    "weir_query_last_commit_timestamp_seconds",
    "When a query last completed a micro-batch with rows, Unix time",
    ["query"],
    multiprocess_mode="mostrecent",
)
QUERY_RESTARTS = Counter("weir_query_restarts_total", "Restarts of a query in its driver", ["query"])
QUERY_UP = Gauge(
    "weir_query_up", "1 while a query runs, 0 while it waits for its restart or is stopped", ["query"], multiprocess_mode="mostrecent"
)
QUERY_HELD_SOURCES = Gauge(
    "weir_query_held_sources", "Sources that the breaker holds back while the query runs", ["query"], multiprocess_mode="mostrecent"
)

LEASES_LOST = Counter("weir_leases_lost_total", "Leases that another process took over while this one was held up", ["lease"])

# The machine. part: kafka, stream, producer, metrics.
PART_RESTARTS = Counter("weir_part_restarts_total", "Ends of a part of the stack that its agent answers by a restart", ["part"])
PART_UP = Gauge("weir_part_up", "1 while a part of the stack runs, else 0", ["part"], multiprocess_mode="mostrecent")


@dataclass(frozen=True, slots=True)
class Watched:
    """A gauge that is computed when the page is requested."""

    name: str
    about: str
    labels: tuple[str, ...]

    def family(self) -> GaugeMetricFamily:
        """Return it without samples."""
        return GaugeMetricFamily(self.name, self.about, labels=self.labels)


# query, table: their names; what: one of the reads of `watch.py`. A metric without a known value has no sample.
PARTITION_LAG = Watched(
    "weir_partition_lag_messages", "Messages of a partition that the query has not committed", ("query", "topic", "partition")
)
PARTITION_LAG_SECONDS = Watched(
    "weir_partition_lag_seconds",
    "Age, since Kafka received it, of the oldest message of a partition that the query has not committed; 0 without one",
    ("query", "topic", "partition"),
)
OPEN_TRANSACTION = Watched(
    "weir_topic_open_transaction_messages",
    "Offsets of a partition that were written and cannot be read before an open transaction ends; not part of the lag",
    ("topic", "partition"),
)
QUERY_LAG = Watched("weir_query_lag_messages", "Messages (of Kafka, or rows of bronze) that the query has not committed", ("query",))
QUERY_LAG_SECONDS = Watched(
    "weir_query_lag_seconds",
    "Age, since Kafka or bronze received it, of the oldest message that the query has not committed; 0 without one",
    ("query",),
)
COMMIT_LAG_SECONDS = Watched(
    "weir_query_commit_lag_seconds", "Time since the micro-batch was planned that the query has not committed; 0 without one", ("query",)
)
TRANSLATION_LAG_SECONDS = Watched(
    "weir_query_translation_lag_seconds",
    "Age of the oldest message that no micro-batch has taken yet; 0 without one",
    ("query",),
)
TABLE_COMMIT_AGE = Watched("weir_table_last_commit_age_seconds", "Time since the table's rows were last changed by a commit", ("table",))
TABLE_ROWS = Watched("weir_table_rows", "Live rows of the table", ("table",))
TABLE_FILES = Watched("weir_table_files", "Data files of the table", ("table",))
TABLE_SMALL_FILES = Watched(
    "weir_table_small_files", "Data files below 128 MiB that could be compacted, as of the last maintenance", ("table",)
)
TABLE_DELETE_FILES = Watched("weir_table_delete_files", "Delete files and deletion vectors of the table", ("table",))
TABLE_SNAPSHOTS = Watched("weir_table_snapshots", "Snapshots of the table", ("table",))
TABLE_METADATA_BYTES = Watched("weir_table_metadata_bytes", "Size of the metadata file, which every commit rewrites", ("table",))
TABLE_REWRITE_AGE = Watched("weir_table_rewrite_age_seconds", "Time since maintenance last left no file to rewrite", ("table",))
TABLE_FRESHNESS = Watched(
    "weir_table_freshness_seconds", "Age of the newest measured hour or day of any city, counted from its start", ("table",)
)
TABLE_WORST_FRESHNESS = Watched(
    "weir_table_worst_freshness_seconds", "Age of the newest measured hour or day of the city that is most behind", ("table",)
)
TABLE_MISSING_CITIES = Watched("weir_table_missing_cities", "Watched cities without a measured hour or day in the table", ("table",))
CITY_FRESHNESS = Watched(
    "weir_city_freshness_seconds",
    "Age of the newest measured hour or day of a city, counted from its start; for the WEIR_METRICS_CITIES that are most behind",
    ("table", "city"),
)
PROOF_AGE = Watched("weir_proof_age_seconds", "Time since the snapshots of the domain's last proof were taken", ("domain",))
PROOF_DIFFERENCES = Watched(
    "weir_proof_differences",
    "Rows in which a gold table differed in the domain's last proof; against: batch or independent",
    ("domain", "table", "against"),
)
ALERT_VALUE = Watched(
    "weir_alert_value",
    "What the domain's last `weir check` or maintenance found: a z-score (records), a share (duplicates), seconds (freshness)",
    ("domain", "alert", "name"),
)
ALERT_BOUND = Watched("weir_alert_bound", "The value above which the alert is raised", ("domain", "alert", "name"))
ALERT_AGE = Watched("weir_alert_age_seconds", "Time since the domain's alerts were judged", ("domain",))
BACKFILL_CHUNKS = Watched(
    "weir_backfill_chunks", "Chunks of the domain's newest backfill, by state: planned, done, failed", ("domain", "state")
)
OBJECTIVE_VALUE = Watched("weir_objective_value_seconds", "The age that an objective of objectives.toml is about", ("objective", "domain"))
OBJECTIVE_BOUND = Watched("weir_objective_bound_seconds", "Its bound", ("objective", "domain"))
OBJECTIVE_TARGET = Watched("weir_objective_target_ratio", "Share of the last thirty days in which it must be met", ("objective", "domain"))
OBJECTIVE_MET = Watched("weir_objective_met", "1 while the objective is met, else 0", ("objective", "domain"))
LATE_STAGE = Watched(
    "weir_late_stage",
    "1 for the stage that is late: the first of upstream, producer, kafka, bronze, silver, gold that is not as it should be",
    ("domain", "stage"),
)
DISK_FREE = Watched("weir_disk_free_bytes", "Free space of the disk: home, or warehouse where that is on another one", ("place",))
DISK_SIZE = Watched("weir_disk_size_bytes", "Size of the disk", ("place",))
PRODUCER_LATE = Watched("weir_producer_late", "1 while no poll has succeeded for two intervals, else 0", ("source",))
PRODUCER_INTERVAL = Watched("weir_producer_poll_interval_seconds", "Time between two polls", ("source",))
PRODUCER_CURSOR_AGE = Watched(
    "weir_producer_cursor_age_seconds",
    "Time since the oldest instant up to which a watched entity was published",
    ("source",),
)
UPSTREAM_LATE = Watched("weir_producer_upstream_late", "1 while the source's next run is overdue by its timetable, else 0", ("source",))
UPSTREAM_AGE = Watched(
    "weir_producer_upstream_age_seconds", "Time since the newest change of a source's values that a poll saw", ("source",)
)
YARN_QUEUE_USED = Watched(
    "weir_yarn_queue_used_ratio", "Share of the most memory that the queue may have which is in use, from 0 to 1", ("queue",)
)
YARN_APPLICATION_UP = Watched("weir_yarn_application_up", "1 while an application streams the domain, else 0", ("domain",))
YARN_APPLICATION_CONTAINERS = Watched("weir_yarn_application_containers", "Containers of that application", ("domain",))
YARN_APPLICATION_MEMORY = Watched("weir_yarn_application_memory_bytes", "Memory of all its containers", ("domain",))
WATCH_KNOWN = Watched("weir_watch_known", "1 while the page can read the sources of these metrics, else 0", ("what",))
WATCH_AGE = Watched("weir_watch_age_seconds", "Time since the page last read the sources of these metrics", ("what",))

WATCHED = tuple(value for value in vars().values() if isinstance(value, Watched))
DECLARED = tuple(value for value in vars().values() if isinstance(value, Counter | Gauge | Histogram))


def described() -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Yield the name on the page, the kind, the labels and the help text of every metric."""
    for metric in DECLARED:
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, family.type, metric._labelnames, family.documentation
    for watched in WATCHED:
        yield watched.name, "gauge", watched.labels, watched.about


class _Folder(Collector):
    """The values of all processes that keep them in a folder. The library's own collector would read the folder's name as a pattern."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Merge the values of all files."""
        merged: Iterable[Metric] = MultiProcessCollector.merge([str(file) for file in self._folder.glob("*.db")])  # type: ignore[no-untyped-call]
        return merged


def serve(port: int, folder: Path, watch: Collector | None = None, targets: Callable[[], object] = list) -> None:
    """Serve the page with the metrics of all processes that keep them in a folder; on the loopback only, in a thread.

    Args:
        port: on 127.0.0.1.
        folder: the processes' PROMETHEUS_MULTIPROC_DIR.
        watch: computes the metrics in `WATCHED`; without it the page has none of them.
        targets: returns where else Prometheus finds metrics, in the form of its HTTP service discovery; shown at /targets. What it raises
            is an answer of 503, after which Prometheus keeps the targets that it has.
    """
    registry = CollectorRegistry()
    registry.register(_Folder(folder))
    if watch is not None:
        registry.register(watch)
    page = make_wsgi_app(registry)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].rstrip("/") != TARGETS_PATH:
            return cast(Iterable[bytes], page(environ, start_response))
        try:
            status, said = "200 OK", json.dumps(targets())
        except Exception as error:  # whatever a cluster that is down makes of a question
            status, said = "503 Service Unavailable", json.dumps({"error": str(error)})
        start_response(status, [("Content-Type", "application/json")])
        return [said.encode()]

    server = make_server("127.0.0.1", port, application, ThreadingWSGIServer, handler_class=_Silent)
    threading.Thread(target=server.serve_forever, name="weir-metrics", daemon=True).start()


class _Silent(WSGIRequestHandler):
    """Logs no request."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def serve_process(host: str) -> int:
    """Serve this process's own metrics at a free port of a host's address, in a thread; return the port.

    Raises:
        OSError: the address is not one of this machine.
    """
    server, _ = start_http_server(0, addr=host)
    return int(server.server_port)
