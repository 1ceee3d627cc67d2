"""R2: how fast is a large backfill, against DuckDB reading the same answers and writing Parquet?

1,000 places, 365 days, 8.76 M hours, from an API that answers faster than anybody can take it (`made_api.py`); its processor time is
reported, since it shares the machine. The backfill is `weir backfill` as it plans itself, with its parts timed (`timed_backfill.py`):
bronze with the untouched bytes, silver, gold, a ledger. DuckDB has the answers as files, as the API sends them to the same requests, and
writes the hours and nothing else. That its rows are silver's is checked by a sum of hashes over all values.
"""

import sys
import time
import urllib.request
from datetime import date
from pathlib import Path

import duckdb

from bench.backfills import BRONZE, GOLD, MADE_API, SILVER, Run, backfill, data_files, finished, start_api
from bench.catalog_reader import CatalogReader, data_bytes
from bench.measure import MIB, Usage
from bench.report import show
from bench.stage import Program, stage
from lakehouse.domains.air_quality.contract import VARIABLES

SINCE, UNTIL, QUICK_UNTIL = date(2025, 1, 1), date(2025, 12, 31), date(2025, 1, 31)
PLACES, QUICK_PLACES = 1_000, 100
VALUES = ("latitude", "longitude", "epoch_us(ts_utc)", *VARIABLES.values(), "request_timezone")


def many_places(quick: bool, _: int | None = None) -> None:
    """Measure and print R2."""
    measure(*((QUICK_PLACES, QUICK_UNTIL) if quick else (PLACES, UNTIL)))


def measure(places: int, until: date) -> None:
    """Measure and print R2 of so many places and days."""
    with stage(with_broker=False) as here:
        api, url = start_api(here, MADE_API)
        home = here.home(places)
        with Usage(api.pid) as served:
            mine = backfill(here, home, url, str(SINCE), str(until), module="bench.timed_backfill")
        folder, file = here.folder / "answers", here.folder / "hours.parquet"
        requests = save_answers(api, url, folder)
        began = time.monotonic()
        other = finished(
            here.start([sys.executable, "-m", "bench.duckdb_hours", str(folder), str(file)], here.folder / "duckdb.log"), began
        )
        hours = check_hours(home.reader, file, places)
        written = [sum(data_bytes(home.reader, name)[0] for name in (BRONZE, SILVER, *GOLD)), file.stat().st_size]
        asked = sum(one.stat().st_size for one in folder.iterdir())
    _print(
        hours, mine, other, written, f"{requests} answers, {asked / MIB:,.0f} MiB; the API used {served.cpu_seconds:,.1f} processor seconds"
    )


def save_answers(api: Program, url: str, folder: Path) -> int:
    """Ask again all that the API was asked, and keep the answers as files; give their number."""
    paths = [line for line in api.log.read_text().splitlines() if line.startswith("/")]
    folder.mkdir()
    for number, path in enumerate(paths):
        with urllib.request.urlopen(url + path, timeout=60) as answer:
            (folder / f"{number:05d}.json").write_bytes(answer.read())
    return len(paths)


def check_hours(reader: CatalogReader, file: Path, places: int) -> int:
    """Make sure that silver has the rows of a Parquet file, and gold as many; give their number.

    Raises:
        RuntimeError: it has not.
    """
    silver = ", ".join(f"'{one}'" for one in data_files(reader, SILVER))
    sums = f"SELECT count(*), sum(hash({', '.join(VALUES)})::HUGEINT), count(DISTINCT (latitude, longitude)) FROM read_parquet"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        mine, other = (connection.execute(f"{sums}({files})").fetchall()[0] for files in (f"[{silver}]", f"'{file}'"))
    facts = sum(count_rows(reader, name) for name in GOLD[:1])
    if mine != other or mine[0] != facts or mine[2] != places or reader.records(BRONZE) != facts:
        raise RuntimeError(
            f"silver and DuckDB's file differ: {mine}, {other}; {facts} facts of {reader.records(BRONZE)} rows, {places} places"
        )
    return int(mine[0])


def count_rows(reader: CatalogReader, name: str) -> int:
    """Count a table's rows by its files, of which none may have deletes."""
    files = ", ".join(f"'{one}'" for one in data_files(reader, name))
    with duckdb.connect() as connection:
        return int(connection.execute(f"SELECT count(*) FROM read_parquet([{files}])").fetchall()[0][0])


def _print(hours: int, mine: Run, other: Run, written: list[int], note: str) -> None:
    rows = [
        [name, f"{run.wall:,.1f}", f"{hours / run.wall:,.0f}", f"{run.cpu:,.1f}", f"{run.pss / MIB:,.0f}", f"{size / MIB:,.1f}"]
        for name, run, size in (("weir backfill, to gold", mine, written[0]), ("DuckDB, to Parquet", other, written[1]))
    ]
    show(
        f"R2 a large backfill, {hours:,} hours, one run",
        ["", "wall s", "rows/s", "CPU s", "peak PSS MiB", "MiB written"],
        rows,
        [f"  rows/s, weir backfill / DuckDB: {other.wall / mine.wall:.4f} (no goal)", f"  {note}"],
    )
    show(
        f"R2 where the time of the backfill goes, {len(mine.chunks)} chunks, of which one lands while another goes into silver",
        ["", "s", "% of the whole", "µs an hour"],
        [
            [name, f"{seconds:,.1f}", f"{100 * seconds / mine.wall:.0f}", f"{1e6 * seconds / hours:,.1f}"]
            for name, seconds in sorted(mine.parts.items(), key=lambda one: -one[1])
        ],
    )
