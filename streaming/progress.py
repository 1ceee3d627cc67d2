"""What was a micro-batch? One record of it, one log line, the metrics."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version

import structlog

log = structlog.get_logger("weir.stream")


def batch_properties(query: str, batch_id: int) -> dict[str, str]:
    """Give what every snapshot of a micro-batch says of it; `lh.ops.batches` reads it back."""
    return {"weir.query": query, "weir.batch-id": str(batch_id), "weir.code-version": version("weir")}


@dataclass(slots=True)
class BatchReport:
    """One micro-batch: rows read, rows that went on, rows rejected and warned of by rule, the table compacted after it, seconds in all."""

    query: str
    batch_id: int
    rows_in: int = 0
    rows_out: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)
    compacted: str = ""
    seconds: float = 0.0


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
    if batch.warned:
        details["warnings"] = dict(batch.warned)
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
