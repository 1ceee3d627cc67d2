"""How does a benchmark run `weir backfill`? As a process, against an API of its own on the loopback."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from batch.compare import compare
from bench.catalog_reader import CatalogReader
from bench.measure import Usage, wait_until
from bench.stage import Home, Program, Stage
from lakehouse.domain import Domain
from lakehouse.registry import build_domain
from lakehouse.settings import Settings

BRONZE, SILVER = "bronze.open_meteo_hourly", "silver.air_quality_hourly_clean"
GOLD = ("gold.fact_air_quality_hourly", "gold.fact_city_daily", "gold.fact_episode")
RECORDED_API = ("deploy.local.services.open_meteo_server", "--filled")
MADE_API = ("bench.made_api",)
LIMIT_SECONDS = 7_200.0
# What a benchmark itself wrote into the log of a program, beside what the program says.
PARTS = '{"parts"'


@dataclass(frozen=True, slots=True)
class Run:
    """One program, or several one after the other. Seconds; bytes; what the backfill told of its chunks; seconds by part where timed."""

    wall: float
    cpu: float
    pss: int
    chunks: Sequence[Mapping[str, Any]] = ()
    parts: Mapping[str, float] = field(default_factory=dict)

    def total(self, of: str) -> int:
        """Add up a number of the chunks."""
        return sum(int(one[of]) for one in self.chunks)


def start_api(here: Stage, module: Sequence[str]) -> tuple[Program, str]:
    """Start an API; give its process and its URL."""
    log = here.folder / f"api-{len(list(here.folder.glob('api-*')))}.log"
    program = here.start([sys.executable, "-m", *module], log)
    wait_until(lambda: program.running() and log.read_text().startswith("http://") and "\n" in log.read_text(), 60, "start of the API")
    return program, log.read_text().split("\n", 1)[0]


def start_backfill(here: Stage, home: Home, url: str, since: str, until: str, module: str = "weir") -> Program:
    """Start `weir backfill`; `module` may be what runs it with its parts timed."""
    arguments = ("backfill", "air_quality", "--since", since, "--until", until, "--json")
    return here.python(home, module, *arguments, settings=api_settings(home, url), log="backfill.log")


def api_settings(home: Home, url: str) -> dict[str, str]:
    """Name the API, and a count of calls that is no other's."""
    return {"OPEN_METEO_URL": url, "BUDGET_PATH": str(home.folder / "budget.db")}


def backfill(here: Stage, home: Home, url: str, since: str, until: str, module: str = "weir") -> Run:
    """Run `weir backfill` to its end."""
    began = time.monotonic()
    run = finished(start_backfill(here, home, url, since, until, module=module), began)
    if not run.chunks or any(one["state"] != "done" for one in run.chunks):
        raise RuntimeError(f"the backfill left chunks undone: {run.chunks}")
    return run


def finished(program: Program, began: float) -> Run:
    """Wait for the end of a program that was just started, and read what it told."""
    with Usage(program.pid) as used:
        program.wait(LIMIT_SECONDS)
    wall = time.monotonic() - began
    told = said(program.log, '{"backfill_id"')
    timed = said(program.log, PARTS)
    return Run(wall, used.cpu_seconds, used.peak_pss, told["chunks"] if told else (), timed["parts"] if timed else {})


def said(log: Path, beginning: str) -> dict[str, Any]:
    """Read the last line of a log that begins so; empty where there is none."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith(beginning)]
    return dict(json.loads(lines[-1])) if lines else {}


def domain() -> Domain:
    """Give air quality as its tables are."""
    return build_domain("air_quality", Settings())


def check_same(one: CatalogReader, other: CatalogReader) -> dict[str, int]:
    """Make sure that two homes have the same gold, in all but the time of retrieval; give the rows by table.

    Raises:
        RuntimeError: they have not; a figure of them would say nothing.
    """
    counts = {}
    for name in (BRONZE, SILVER):
        counts[name] = one.records(name)
        if other.records(name) != counts[name] or not counts[name]:
            raise RuntimeError(f"{name} has {counts[name]} rows here and {other.records(name)} there")
    for gold in domain().derived:
        name = gold.table.name.removeprefix("lh.")
        table = replace(gold.table, columns=tuple(column for column in gold.table.columns if column.name != "retrieved_ts"))
        compared = compare(table, rows(one, name), rows(other, name))
        if compared.differences:
            raise RuntimeError(f"{name} differs: {compared}")
        counts[name] = compared.rows
    return counts


def rows(reader: CatalogReader, name: str) -> pa.Table:
    """Read all rows of a table."""
    table = reader.table(name)
    if table is None:
        raise RuntimeError(f"there is no {name}")
    return table.scan().to_arrow()


def data_files(reader: CatalogReader, name: str) -> list[str]:
    """Name the data files of a table, of which no row may have been deleted.

    Raises:
        RuntimeError: some have been.
    """
    table = reader.table(name)
    if table is None:
        raise RuntimeError(f"there is no {name}")
    tasks = list(table.scan().plan_files())
    if any(task.delete_files for task in tasks):
        raise RuntimeError(f"{name} has deleted rows")
    return [task.file.file_path.removeprefix("file://").removeprefix("file:") for task in tasks]
