"""Which figure? `python -m bench [--quick] [CASE]`: runs one case, or all, and prints what docs/benchmarks.md keeps."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable

from bench.backlog_bronze import backlog_bronze
from bench.backlog_gold import backlog_gold
from bench.beside_stream import beside_stream
from bench.chunk_jobs import chunk_jobs
from bench.dump_difference import dump_difference
from bench.first_batch import first_batch
from bench.freshness import endurance, freshness
from bench.history_merge import history_merge
from bench.hourly_job import hourly_job
from bench.idle_domain import idle_domain
from bench.list_poll import list_poll
from bench.listener import listener
from bench.many_places import many_places
from bench.on_yarn import on_yarn
from bench.proof_cost import proof_cost
from bench.report import Stolen, hardware
from bench.table_size import table_size
from lakehouse.machine.proxies import leave_out_this_machine

# Each is told whether to take less data, and how many runs to make if not as many as it is defined with.
CASES: dict[str, Callable[[bool, int | None], None]] = {
    "B1": backlog_bronze,
    "B2": backlog_gold,
    "B3": freshness,  # and B7: one run of the load gives both
    "B4": table_size,
    "B5": hourly_job,
    "B6": first_batch,
    "B8": endurance,
    "B9": listener,
    "K1": dump_difference,
    "R1": chunk_jobs,
    "R2": many_places,
    "R3": beside_stream,
    "R4": proof_cost,
    "K2": history_merge,
    "K3": idle_domain,
    "K4": list_poll,
    "Y1": on_yarn,
}
OTHER_NAMES = {"B7": "B3", "freshness": "B3", "memory": "B3"}


def main() -> None:
    """Run the named case, or every one."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("case", nargs="?", choices=[*CASES, *OTHER_NAMES], help="case to run; all without")
    parser.add_argument("--quick", action="store_true", help="the same on less data")
    parser.add_argument("--repeats", type=int, help="runs of a case that makes several, if not as many as it is defined with")
    chosen = parser.parse_args()
    # So that a benchmark that is told to end leaves no process and no folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    leave_out_this_machine(os.environ)
    print(hardware(), flush=True)
    # Quick, B3 tells of B8 too: another run of the load would only take longer.
    every = [name for name in CASES if not (chosen.quick and name == "B8")]
    for name in [OTHER_NAMES.get(chosen.case, chosen.case)] if chosen.case else every:
        began, stolen = time.monotonic(), Stolen()
        CASES[name](chosen.quick, chosen.repeats)
        print(f"{name} took {time.monotonic() - began:.0f} s, {stolen}", flush=True)


if __name__ == "__main__":
    main()
