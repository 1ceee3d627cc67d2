"""How does a program stop when it is told to? SIGTERM and SIGINT raise a flag that is looked at between two steps."""

import os
import select
import signal
from types import FrameType, TracebackType

from lakehouse.errors import ProducerError, Retryable


class StoppedError(ProducerError, Retryable):
    """The program was asked to stop before it was done."""


class Stop:
    """A flag that SIGTERM and SIGINT raise while the `with` lasts. A second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self._is_set = False
        # The handler runs in the thread that waits: a pipe wakes it, where threading.Event could lock itself out.
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
        """Say whether the program was told to stop."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait that long, or until told to stop; say whether it was."""
        if not self._is_set:
            select.select([self._woken], [], [], max(seconds, 0))
        return self._is_set

    def sleep(self, seconds: float) -> None:
        """Wait that long.

        Raises:
            StoppedError: when told to stop meanwhile.
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
