"""How long did each phase of a micro-batch take? A stopwatch that is handed to whoever does the work."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Phases:
    """Seconds by phase. Phases may run beside each other in threads; one that is entered again, or fails, counts too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}

    @property
    def seconds(self) -> dict[str, float]:
        """What was timed so far."""
        with self._lock:
            return dict(self._seconds)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time a block. Spark is lazy: a phase holds the work of the plans that it runs, whoever wrote them down."""
        began = time.perf_counter()
        try:
            yield
        finally:
            took = time.perf_counter() - began
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + took
