"""How does a program stop on a signal? SIGTERM and SIGINT set a flag that is checked between two steps."""

import os
import select
import signal
from types import FrameType, TracebackType

from lakehouse.errors import ProducerError, Retryable


class StoppedError(ProducerError, Retryable):
    """The program was stopped before it had finished."""


class Stop:
    """A flag that SIGTERM and SIGINT set within the `with` block. A second SIGINT raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self._is_set = False
        # The handler runs in the waiting thread: a pipe wakes it, whereas a threading.Event could deadlock.
        self._woken, self._wake = -1, -1
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Stop":
        self._woken, self._wake = os.pipe()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._raise)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave
        os.close(self._woken)
        os.close(self._wake)

    def is_set(self) -> bool:
        """Return whether the program was told to stop."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait for a number of seconds or until told to stop; return whether it was told to."""
        if not self._is_set:
            select.select([self._woken], [], [], max(seconds, 0))
        return self._is_set

    def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds.

        Raises:
            StoppedError: the program was told to stop meanwhile.
        """
        if self.wait(seconds):
            raise StoppedError("stopped while waiting, before everything was published")

    def set(self) -> None:
        """Tell the program to stop."""
        self._is_set = True
        os.write(self._wake, b"s")

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self._is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.set()
