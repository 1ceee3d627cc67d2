"""Where are micro-batches and the state of queries reported? In the log and the metrics. Neither can make a query fail."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from lakehouse.machine.container import container_of
from monitoring import metrics
from streaming.batch_report import BatchReport, log_batch
from streaming.query_states import QueryState


def report_batch(batch: BatchReport) -> None:
    """Log one line and update the metrics."""
    log_batch(batch)
    with _never_failing():
        metrics.QUERY_INPUT_ROWS.labels(batch.query).inc(batch.rows_in)
        metrics.QUERY_ROWS_OUT.labels(batch.query).inc(batch.rows_out)
        if batch.engine:
            metrics.QUERY_ENGINE.labels(batch.query, batch.engine).inc()
        metrics.QUERY_BATCH_SECONDS.labels(batch.query).observe(batch.seconds)
        metrics.LATE_ROWS.labels(batch.query).inc(batch.late)
        metrics.TOMBSTONES.labels(batch.query).inc(batch.tombstones)
        if batch.rows_in:
            metrics.QUERY_LAST_COMMIT.labels(batch.query).set_to_current_time()
        for phase, seconds in batch.phases.seconds.items():
            metrics.QUERY_PHASE_SECONDS.labels(batch.query, phase).observe(seconds)
        for rule, rows in batch.rejected.items():
            metrics.REJECTS.labels(batch.query, rule).inc(rows)
        for rule, rows in batch.warned.items():
            metrics.WARNINGS.labels(batch.query, rule).inc(rows)
        for name, rows in batch.unknown.items():
            metrics.UNKNOWN_FIELDS.labels(batch.query, name).inc(rows)


def report_progress(query: str, seconds: Mapping[str, float]) -> None:
    """Update the metrics of phases that only Spark measures."""
    with _never_failing():
        for phase, spent in seconds.items():
            metrics.QUERY_PHASE_SECONDS.labels(query, phase).observe(spent)


def report_states(states: Iterable[QueryState], gone: Iterable[str] = ()) -> None:
    """Set which queries run; those in `gone` do not."""
    with _never_failing():
        for one in states:
            metrics.QUERY_UP.labels(one.query).set(int(one.state == "running"))
            metrics.QUERY_HELD_SOURCES.labels(one.query).set(len(one.held))
        for name in gone:
            metrics.QUERY_UP.labels(name).set(0)
            metrics.QUERY_HELD_SOURCES.labels(name).set(0)


def report_restart(query: str) -> None:
    """Count one more start of a query in its driver."""
    with _never_failing():
        metrics.QUERY_RESTARTS.labels(query).inc()


def report_lost_lease(name: str) -> None:
    """Count a lease that another process took over."""
    with _never_failing():
        metrics.LEASES_LOST.labels(name).inc()


def serve_from_container() -> str:
    """Serve this process's metrics from a container of YARN; return host:port, empty elsewhere, where the agent serves them."""
    container = container_of(os.environ)
    if container is None:
        return ""
    try:
        return f"{container.host}:{metrics.serve_process(container.host)}"
    except OSError as error:
        structlog.get_logger("weir.stream").warning("metrics are not served", host=container.host, error=str(error))
        return ""


@contextmanager
def _never_failing() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        structlog.get_logger("weir.stream").warning("metrics not written", error=str(error))
