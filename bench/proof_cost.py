"""R4: what does `weir prove` cost, against its independent half alone?

A million rows of bronze and silver, made by a backfill of 1,000 places. `weir prove` as a process reads gold, recomputes it in DuckDB
and in one batch pass of Spark, compares both key by key, and keeps the result. DuckDB alone is a process too, which reads what it needs
of bronze and recomputes gold (`oracle_alone.py`). In turn, on the same tables; the proof must find gold right.
"""

import json
import re
import time
from datetime import date, timedelta
from typing import Any

from bench.backfills import GOLD, MADE_API, SILVER, Run, backfill, finished, said, start_api
from bench.measure import MIB, median, spread
from bench.report import goal, show
from bench.stage import Home, Stage, stage

SINCE = date(2025, 1, 1)
PLACES, DAYS = 1_000, 42
QUICK_PLACES, QUICK_DAYS = 100, 21


def proof_cost(quick: bool, repeats: int | None = None) -> None:
    """Measure and print R4."""
    places, days, turns = (QUICK_PLACES, QUICK_DAYS, 1) if quick else (PLACES, DAYS, repeats or 3)
    with stage(with_broker=False) as here:
        _, url = start_api(here, MADE_API)
        home = here.home(places)
        backfill(here, home, url, str(SINCE), str(SINCE + timedelta(days=days - 1)))
        rows = home.reader.records(SILVER)
        if rows != places * days * 24:
            raise RuntimeError(f"silver has {rows} rows of {places * days * 24}")
        pairs = [(_prove(here, home), _oracle(here, home)) for _ in range(turns)]
    _print(rows, [proof for proof, _ in pairs], [alone for _, alone in pairs])


def _prove(here: Stage, home: Home) -> Run:
    began = time.monotonic()
    program = here.python(home, "weir", "prove", "air_quality", "--json", log="proof.log")
    run = finished(program, began)
    proof = proof_of(program.log.read_text())
    if not proof["is_equal"]:
        raise RuntimeError(f"gold is not what it should be: {proof}")
    return Run(run.wall, run.cpu, run.pss, parts={**proof["seconds"], "start, look, keep and end": run.wall - proof["took"]})


def proof_of(log: str) -> dict[str, Any]:
    """Read the last of the proofs that `weir prove --json` printed into a log, among other lines."""
    return dict(json.loads(re.findall(r"^\[\n.*?^\]$", log, re.MULTILINE | re.DOTALL)[-1])[0])


def _oracle(here: Stage, home: Home) -> Run:
    began = time.monotonic()
    program = here.python(home, "bench.oracle_alone")
    run = finished(program, began)
    made = said(program.log, '{"rows"')["rows"]
    if any(made[name.removeprefix("gold.")] == 0 for name in GOLD):
        raise RuntimeError(f"DuckDB alone made {made}")
    return run


def _print(rows: int, proofs: list[Run], alone: list[Run]) -> None:
    ratio = median(proof.wall / one.wall for proof, one in zip(proofs, alone, strict=True))
    parts = {name: median(proof.parts[name] for proof in proofs) for name in proofs[0].parts}
    split = ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items())
    show(
        f"R4 a proof of {rows:,} rows, median of {len(proofs)} (least-greatest)",
        ["", "wall s", "CPU s", "peak PSS MiB"],
        [
            [
                name,
                spread([run.wall for run in runs]),
                f"{median(run.cpu for run in runs):,.1f}",
                f"{median(run.pss for run in runs) / MIB:,.0f}",
            ]
            for name, runs in (("weir prove", proofs), ("DuckDB's part alone", alone))
        ],
        [goal("wall time, weir prove / DuckDB's part alone", ratio, 2), f"  weir prove, s: {split}"],
    )
