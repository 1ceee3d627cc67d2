"""What did it cost? CPU seconds and the memory of process trees, sampled while they run; and medians of several runs."""

import statistics
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

CPU_EVERY_SECONDS = 0.2
# Adding up the pages of a JVM takes the kernel some 10 ms: once a second costs 1 % of a core.
MEMORY_EVERY_SECONDS = 1.0
MIB = 2**20


class Usage:
    """Watches process trees while it is open.

    CPU is kept by process, by its last reading: what a process used in its last `CPU_EVERY_SECONDS` is not counted.

    Attributes:
        peak_pss: the greatest sum of proportional set sizes met, bytes: shared pages count once over all processes.

    Args:
        roots: ids of the processes whose trees are watched; more may be added later.
    """

    def __init__(self, *roots: int) -> None:
        self.peak_pss = 0
        self._roots = list(roots)
        self._cpu: dict[tuple[int, float], float] = {}
        self._before: dict[tuple[int, float], float] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Usage":
        self._look()
        # What ran before did not run for us: only a process that is younger than this counts from zero.
        self._before = dict(self._cpu)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    @property
    def cpu_seconds(self) -> float:
        """Processor time that the trees used since this was opened, user and system."""
        return sum(self._cpu.values()) - sum(self._before.values())

    def add(self, root: int) -> None:
        """Watch one more tree, all of whose time counts."""
        self._roots.append(root)

    def _sample(self) -> None:
        memory_at = 0.0
        while not self._done.wait(CPU_EVERY_SECONDS):
            self._look()
            if time.monotonic() >= memory_at:
                self.peak_pss = max(self.peak_pss, pss_bytes(self._roots))
                memory_at = time.monotonic() + MEMORY_EVERY_SECONDS

    def _look(self) -> None:
        for process in tree(self._roots):
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._cpu[process.pid, process.create_time()] = times.user + times.system


def tree(roots: Iterable[int]) -> list[psutil.Process]:
    """List processes with all their descendants."""
    found: dict[int, psutil.Process] = {}
    for root in roots:
        with suppress(psutil.Error):
            first = psutil.Process(root)
            for process in (first, *first.children(recursive=True)):
                found[process.pid] = process
    return list(found.values())


def pss_bytes(roots: Iterable[int]) -> int:
    """Add up the proportional set sizes of process trees, bytes."""
    return sum(pss_of(process.pid) for process in tree(roots))


def pss_of(pid: int) -> int:
    """Proportional set size of one process, bytes; 0 once it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def wait_until(true: Callable[[], bool], seconds: float, what: str, every: float = 0.1) -> float:
    """Ask every so often until something is true; give the time of the answer, seconds since 1970.

    Raises:
        TimeoutError: it was not within so many seconds.
    """
    limit = time.monotonic() + seconds
    while not true():
        if time.monotonic() > limit:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(every)
    return time.time()


def median(values: Iterable[float]) -> float:
    """Median of the runs of a case."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """Smallest value that at least so many percent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * percent // 100) - 1))]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Show a median, with the least and the greatest where there were several runs."""
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"
