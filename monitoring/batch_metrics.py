"""How does a batch program tell Prometheus how it ended? It ends, so nobody can ask it: it pushes, or leaves a file.

With `pushgateway` to a Pushgateway, with `metrics_textfile` into the folder of node_exporter's textfile collector; with neither, nowhere.
Nothing of it can make the program fail.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway, write_to_textfile

from lakehouse.settings import Settings

JOB = "weir-batch"
PUSH_SECONDS = 5.0
LABELS = ("verb", "domain")
ALL = "all"

log = structlog.get_logger("weir.metrics")


@contextmanager
def reported(settings: Settings, verb: str, domain: str = "") -> Iterator[None]:
    """Report how the block ended: an error, or an exit with another code than 0, is a failure.

    Args:
        settings: where to.
        verb: of the command.
        domain: that it is about; empty for all.
    """
    began, is_good = time.monotonic(), False
    try:
        yield
        is_good = True
    except BaseException as error:
        is_good = getattr(error, "exit_code", 1) == 0  # how the command line ends a verb
        raise
    finally:
        _report(settings, {"verb": verb, "domain": domain or ALL}, is_good, time.monotonic() - began)


def _report(settings: Settings, labels: dict[str, str], is_good: bool, seconds: float) -> None:
    if settings.pushgateway:
        try:
            # The group has the labels. What a failure leaves out, the last success, stays as it was.
            pushadd_to_gateway(settings.pushgateway, JOB, _registry({}, is_good, seconds, with_success=is_good), labels, PUSH_SECONDS)
        except (OSError, ValueError) as error:
            log.warning("metrics not pushed", pushgateway=settings.pushgateway, error=str(error))
    if settings.metrics_textfile:
        name = f"weir-{labels['verb']}-{labels['domain']}"
        folder = Path(settings.metrics_textfile)
        try:
            write_to_textfile(str(folder / f"{name}.prom"), _registry(labels, is_good, seconds, with_success=False))
            if is_good:
                write_to_textfile(str(folder / f"{name}-success.prom"), _success(labels, CollectorRegistry()))
        except OSError as error:
            log.warning("metrics not written", folder=settings.metrics_textfile, error=str(error))


def _registry(labels: dict[str, str], is_good: bool, seconds: float, *, with_success: bool) -> CollectorRegistry:
    registry = CollectorRegistry()
    values = {
        "weir_batch_succeeded": ("1 where the last run of the verb succeeded, else 0", float(is_good)),
        "weir_batch_last_run_timestamp_seconds": ("When the verb ended last, Unix time", time.time()),
        "weir_batch_duration_seconds": ("Time that the last run of the verb took", seconds),
    }
    for name, (about, value) in values.items():
        _gauge(name, about, labels, registry).set(value)
    return _success(labels, registry) if with_success else registry


def _success(labels: dict[str, str], registry: CollectorRegistry) -> CollectorRegistry:
    _gauge("weir_batch_last_success_timestamp_seconds", "When the verb last succeeded, Unix time", labels, registry).set_to_current_time()
    return registry


def _gauge(name: str, about: str, labels: dict[str, str], registry: CollectorRegistry) -> Gauge:
    gauge = Gauge(name, about, list(labels), registry=registry)
    return gauge.labels(**labels) if labels else gauge
