"""What happened in a micro-batch? Our own record of it, Spark's record, and one log line."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog
from py4j.protocol import Py4JError
from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

from lakehouse.counts import Applied
from lakehouse.phases import Phases

log = structlog.get_logger("weir.stream")

# Where the refine query had the rows of a micro-batch from; see `BatchReport`.
ReadFrom = Literal["memory", "files", "table"]


@dataclass(slots=True)
class BatchReport:
    """One micro-batch.

    Attributes:
        query: as it is named.
        batch_id: as the query's checkpoint counts.
        rows_in: rows read.
        rows_out: rows that went on.
        rejected: rows by the rule that rejected them.
        tombstones: messages without a value.
        warned: rows by the warning they broke.
        late: rows behind the watermark on arrival.
        unknown: messages by the field that the contract does not know.
        engine: what computed the rows of silver and derived tables, `duckdb` or `spark`.
        read_from: `memory` where its rows came from the bronze query of the same driver, `files` where they were read from the files of
            its commits, else `table`.
        compacted: the table that was compacted after it.
        seconds: in all.
        phases: of these, by phase.
    """

    query: str
    batch_id: int
    rows_in: int = 0
    rows_out: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    tombstones: int = 0
    warned: Mapping[str, int] = field(default_factory=dict)
    late: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    engine: str = ""
    read_from: ReadFrom = "table"
    compacted: str = ""
    seconds: float = 0.0
    phases: Phases = field(default_factory=Phases)

    def add(self, met: Applied) -> None:
        """Count the rows of one source."""
        self.rows_in += met.rows_in
        self.rows_out += met.accepted
        self.tombstones += met.tombstones
        self.late += met.late
        self.engine = met.engine or self.engine
        self.rejected = Counter(self.rejected) + Counter(met.rejected)
        self.warned = Counter(self.warned) + Counter(met.warned)


@contextmanager
def timed(query: str, batch_id: int, report: Callable[[BatchReport], None]) -> Iterator[BatchReport]:
    """Time a micro-batch and report it once it is done; one that fails is reported by its query's error."""
    batch = BatchReport(query, batch_id)
    started = time.monotonic()
    yield batch
    batch.seconds = time.monotonic() - started
    report(batch)


def log_batch(batch: BatchReport) -> None:
    """Write the one line of a micro-batch: counts and names of rules, never what a row holds."""
    rejected = sum(batch.rejected.values())
    details: dict[str, object] = {"rules": dict(batch.rejected)} if rejected else {}
    if batch.tombstones:
        details["tombstones"] = batch.tombstones
    if batch.warned:
        details["warnings"] = dict(batch.warned)
    if batch.late:
        details["late"] = batch.late
    if batch.engine:
        details["engine"] = batch.engine
        details["read_from"] = batch.read_from
    if batch.compacted:
        details["compacted"] = batch.compacted
    log.info(
        "micro-batch",
        query=batch.query,
        batch_id=batch.batch_id,
        rows_in=batch.rows_in,
        rows_out=batch.rows_out,
        rejected=rejected,
        seconds=round(batch.seconds, 3),
        **details,
    )


# What Spark's own account of a micro-batch is made of, and what it is called here. `spark.body` holds all of our own phases.
SPARK_PHASES = {
    "latestOffset": "spark.latest_offset",
    "getBatch": "spark.get_batch",
    "queryPlanning": "spark.planning",
    "walCommit": "spark.write_offsets",
    "addBatch": "spark.body",
    "commitOffsets": "spark.commit",
    "triggerExecution": "spark.whole",
}


class ProgressListener:
    """Told by Spark of every micro-batch that was committed, on a thread of its own: the micro-batch does not wait for it.

    Not a `StreamingQueryListener` of PySpark: that one copies an event field by field, each a call of the JVM; this one makes two calls.
    """

    def __init__(self, report: Callable[[str, Mapping[str, float]], None]) -> None:
        self._report = report

    def onQueryStarted(self, event: Any) -> None:  # noqa: ANN401, N802 - Spark's
        """Nothing: the supervisor knows."""

    def onQueryProgress(self, event: Any) -> None:  # noqa: ANN401, N802 - Spark's
        """Report the seconds by phase."""
        progress = json.loads(event.progress().json())
        spent = progress.get("durationMs", {})
        self._report(progress.get("name") or "", {ours: spent[theirs] / 1000 for theirs, ours in SPARK_PHASES.items() if theirs in spent})

    def onQueryIdle(self, event: Any) -> None:  # noqa: ANN401, N802 - Spark's
        """Nothing: lag says whether a query that is idle should be."""

    def onQueryTerminated(self, event: Any) -> None:  # noqa: ANN401, N802 - Spark's
        """Nothing: the supervisor knows."""

    class Java:
        """The interface of the JVM that this stands for; py4j reads it."""

        implements = ("org.apache.spark.sql.streaming.PythonStreamingQueryListener",)


@contextmanager
def reporting_progress(spark: SparkSession, report: Callable[[str, Mapping[str, float]], None]) -> Iterator[None]:
    """Report each micro-batch that a query of the session commits while the block runs: query, seconds by Spark's phases."""
    gateway: Any = spark.sparkContext._gateway
    ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
    listener = gateway.jvm.org.apache.spark.sql.streaming.PythonStreamingQueryListenerWrapper(ProgressListener(report))
    streams = spark._jsparkSession.streams()
    streams.addListener(listener)
    try:
        yield
    finally:
        # A JVM that is gone has no listeners.
        with suppress(Py4JError, ConnectionError):
            streams.removeListener(listener)
