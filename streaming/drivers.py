"""How do several domains run in one process? A driver each, in a thread of its own, over one Spark; one that ends stops no other."""

import random
import signal
import threading
from collections.abc import Callable, Mapping, Sequence

import structlog
from pyspark.sql import SparkSession

from lakehouse.errors import WeirError
from lakehouse.settings import Settings
from lakehouse.spark import open_spark, session_beside
from streaming.driver import Driver
from streaming.failures import cause_of, classify
from streaming.metrics_report import report_batch, serve_from_container
from streaming.supervisor import wait_seconds

log = structlog.get_logger("weir.stream")


def run_drivers(
    names: Sequence[str], settings: Settings, available_now: bool, ready: Callable[[str], None], new_checkpoint: bool = False
) -> None:
    """Run the queries of domains until each has come to its end, or a signal asks for a stop.

    Args:
        names: of the domains.
        settings: all of them.
        available_now: drain what is there now, and end.
        ready: called with the name of each domain whose queries have started.
        new_checkpoint: move the checkpoints aside first.

    Raises:
        WeirError: what ended one of them, once all have ended; see `Driver.run`.
    """
    metrics = serve_from_container()
    beside = _Beside(settings, available_now, ready, new_checkpoint, metrics)
    drivers = beside.drivers

    def stop(*_: object) -> None:
        beside.stopping.set()
        for driver in list(drivers.values()):
            driver.request_stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if len(names) == 1:
        # It opens Spark only when its topics are there, so that a broker that is missing is said within seconds.
        drivers[names[0]] = driver = Driver(names[0], settings, report_batch, metrics=metrics)
        try:
            driver.run(available_now, lambda: ready(names[0]), new_checkpoint)
        finally:
            driver.close()
        return
    spark = open_spark(settings, f"weir {' '.join(names)}")
    try:
        beside.run(names, spark, stop)
    finally:
        spark.stop()


class _Beside:
    """The drivers of several domains; each is started again by itself where it ends with an error, as a process of its own would be."""

    def __init__(self, settings: Settings, available_now: bool, ready: Callable[[str], None], new_checkpoint: bool, metrics: str) -> None:
        self._metrics = metrics
        self._settings, self._available_now, self._ready, self._new_checkpoint = settings, available_now, ready, new_checkpoint
        self.drivers: dict[str, Driver] = {}
        self.stopping = threading.Event()
        self._errors: dict[str, BaseException] = {}

    def run(self, names: Sequence[str], spark: SparkSession, stop: Callable[[], None]) -> None:
        threads = [threading.Thread(target=self._run, args=(name, spark, stop), name=f"weir-{name}") for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # a signal is handled in this thread, and only between two waits
                thread.join(0.5)
        raise_first(self._errors)

    def _run(self, name: str, spark: SparkSession, stop: Callable[[], None]) -> None:
        failures = 0
        while not self.stopping.is_set():
            # A session of its own: what a domain sets is set for no other.
            driver = self.drivers[name] = Driver(name, self._settings, report_batch, spark=session_beside(spark), metrics=self._metrics)
            try:
                driver.run(self._available_now, lambda: self._ready(name), self._new_checkpoint and not failures)
                return
            except BaseException as error:
                failures += 1
                if self._available_now or classify(error) == "driver":
                    # Only another process can go on: with other settings, another lease, or another JVM.
                    self._errors[name] = error
                    log.error("a domain has stopped", domain=name, reason=cause_of(error))
                    if not self._available_now:
                        stop()
                    return
                wait = wait_seconds(failures, random.random())
                log.error("a domain has stopped and is started again", domain=name, reason=cause_of(error), in_seconds=round(wait, 1))
                self.stopping.wait(wait)
            finally:
                driver.close()


def raise_first(errors: Mapping[str, BaseException]) -> None:
    """Raise one of some errors, best one that says what it is."""
    for error in sorted(errors.values(), key=lambda one: not isinstance(one, WeirError)):
        raise error
