"""How do several domains run in one process? A driver each, in a thread of its own, over one Spark; one that ends stops no other."""

import signal
import threading
from collections.abc import Callable, Sequence

import structlog

from lakehouse.errors import WeirError
from lakehouse.settings import Settings
from lakehouse.spark import open_spark
from streaming.driver import Driver
from streaming.failures import cause_of
from streaming.report import report_batch

log = structlog.get_logger("weir.stream")


def run_drivers(
    names: Sequence[str], settings: Settings, available_now: bool, ready: Callable[[str], None], new_checkpoint: bool = False
) -> None:
    """Run the queries of domains until each has come to its end, or a signal asks for a stop.

    Args:
        names: of the domains.
        settings: all of them.
        available_now: drain what is there now, and end.
        ready: is told the name of each domain whose queries were started.
        new_checkpoint: move the checkpoints aside first.

    Raises:
        WeirError: with which the first of the drivers ended, once all have; see `Driver.run`.
    """
    # One domain opens Spark only when its topic is there, so that a broker that is missing is said within seconds.
    spark = open_spark(settings, f"weir {' '.join(names)}") if len(names) > 1 else None
    drivers = {name: Driver(name, settings, report_batch, spark=spark) for name in names}

    def stop(*_: object) -> None:
        for driver in drivers.values():
            driver.request_stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        if len(names) == 1:
            drivers[names[0]].run(available_now, lambda: ready(names[0]), new_checkpoint)
        else:
            _run_beside(drivers, available_now, ready, new_checkpoint)
    finally:
        for driver in drivers.values():
            driver.close()
        if spark is not None:
            spark.stop()


def _run_beside(drivers: dict[str, Driver], available_now: bool, ready: Callable[[str], None], new_checkpoint: bool) -> None:
    errors: dict[str, BaseException] = {}

    def run(name: str) -> None:
        try:
            drivers[name].run(available_now, lambda: ready(name), new_checkpoint)
        except BaseException as error:  # raised below, once the others have ended too
            errors[name] = error
            log.error("a domain has stopped; the others go on", domain=name, reason=cause_of(error))

    threads = [threading.Thread(target=run, args=(name,), name=f"weir-{name}") for name in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # a signal is handled in this thread, and only between two waits
            thread.join(0.5)
    for error in errors.values():
        if isinstance(error, WeirError):
            raise error
    for error in errors.values():
        raise error
