"""Where does the time of a backfill go? `python -m bench.timed_backfill backfill …` is `weir backfill …` with its parts timed.

What is timed is a function of the product each, called some times a chunk, so that timing costs nothing; a part that another one calls
is taken off that one. A chunk lands beside the one that goes into silver, so the parts add up to more than the whole; `other` is what the
main thread did, or waited for, beside its own. Prints them as a line of JSON at the end.
"""

import json
import runpy
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter as clock
from typing import Any

import batch.backfill.chunks
import batch.backfill.command
from batch.backfill.ledger import Ledger
from producers.sources.open_meteo.client import OpenMeteo

SECONDS: defaultdict[str, float] = defaultdict(float)
_of_main: list[float] = []
_running = threading.local()


@contextmanager
def part(name: str) -> Iterator[None]:
    """Time a part: what runs in it and is a part too counts there alone."""
    outer: list[float] | None = getattr(_running, "inner", None)
    inner = _running.inner = [0.0]
    began = clock()
    try:
        yield
    finally:
        whole = clock() - began
        SECONDS[name] += whole - inner[0]
        if threading.current_thread() is threading.main_thread():
            _of_main.append(whole - inner[0])
        _running.inner = outer
        if outer is not None:
            outer[0] += whole


def timing(owner: Any, name: str, part_name: str) -> None:  # noqa: ANN401 - a module or a class
    """Time each call of a function from now on."""
    call: Callable[..., Any] = getattr(owner, name)

    def timed(*values: Any, **named: Any) -> Any:  # noqa: ANN401 - passed on
        with part(part_name):
            return call(*values, **named)

    setattr(owner, name, timed)


def time_parts() -> None:
    """Time the parts of a backfill from now on."""
    timing(batch.backfill.command, "open_spark", "session")
    timing(batch.backfill.chunks, "ensure_tables", "tables")
    timing(batch.backfill.chunks, "write_dimensions", "tables")
    timing(OpenMeteo, "_get", "waiting for the API")
    timing(batch.backfill.chunks, "typed", "typing")
    timing(batch.backfill.chunks, "append_chunk", "bronze")
    timing(batch.backfill.chunks, "apply", "silver")
    timing(batch.backfill.chunks, "refresh_derived", "gold")
    timing(batch.backfill.chunks.Backfill, "_fetch", "decoding, checking and encoding")
    timing(batch.backfill.chunks.Backfill, "_new_or_changed", "comparing with silver")
    timing(Ledger, "_write", "ledger")


def main() -> None:
    """Run the command."""
    time_parts()
    began = clock()
    try:
        runpy.run_module("weir", run_name="__main__")
    finally:
        SECONDS["other"] = clock() - began - sum(_of_main)
        print(json.dumps({"parts": {name: round(seconds, 3) for name, seconds in SECONDS.items()}}), flush=True)


if __name__ == "__main__":
    main()
