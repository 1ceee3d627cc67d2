"""What is in the tables? The verbs `query`, `export` and `connect`."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from lakehouse import completion
from lakehouse.days import days_of, past_day_of
from lakehouse.machine.pager import paged
from lakehouse.settings import Settings

AS_OF = typer.Option(help="UTC day, YYYY-MM-DD: read the tables as they were at its end", show_default=False)
TABLE_LIMIT = 1000
# As a shell reports a program that SIGPIPE ended.
EXIT_PIPE_CLOSED = 141


def query(
    ctx: typer.Context,
    sql: Annotated[
        str | None, typer.Argument(help="one SELECT in DuckDB's dialect; left out, the tables are listed", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="a list of objects: instants ISO 8601 UTC, what is no number null")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help=f"most rows to show (default: {TABLE_LIMIT}, with --json all)", show_default=False)
    ] = None,
    as_of: Annotated[str, AS_OF] = "",
    no_pager: Annotated[bool, typer.Option("--no-pager", help="print it all at once, also where it is longer than the screen")] = False,
) -> None:
    """Ask the tables, without Spark and with nothing running; or, without SQL, list them with their columns.

    With --as-of every table is read as it was at the end of that UTC day. Maintenance keeps the days of silver and gold.

    On a terminal what is longer than the screen is shown by the pager that PAGER names, else by less.

    Examples:

      weir query "SELECT location_key, max(max_aqi) FROM gold.fact_city_daily GROUP BY ALL"

      weir query "SELECT count(*) FROM gold.fact_episode" --as-of 2026-11-20
    """
    from lakehouse.query import show
    from lakehouse.query.reader import Reader

    started = time.perf_counter()
    settings: Settings = ctx.obj
    if limit is None and not as_json:
        limit = TABLE_LIMIT
    with Reader(settings, past_day_of(as_of, "--as-of")) as reader, paged(not as_json and not no_pager):
        if sql is None:
            show.tables(list(reader.tables()), as_json)
        else:
            show.answer(reader.query(sql, limit), as_json, lambda: time.perf_counter() - started)


def export(
    ctx: typer.Context,
    table: Annotated[str, typer.Argument(help="such as gold.fact_city_daily", autocompletion=completion.tables)],
    out: Annotated[str, typer.Argument(metavar="OUT", help="the file to write; - writes CSV to stdout")],
    file_format: Annotated[str, typer.Option("--format", help="parquet or csv (default: by the ending of OUT)", show_default=False)] = "",
    since: Annotated[str, typer.Option(help="first UTC day, YYYY-MM-DD (default: all rows)", show_default=False)] = "",
    until: Annotated[str, typer.Option(help="last UTC day, itself included (default: today)", show_default=False)] = "",
    time_column: Annotated[
        str, typer.Option(help="date or instant by which the days choose rows (default: what the table's domain says)", show_default=False)
    ] = "",
    as_of: Annotated[str, AS_OF] = "",
    force: Annotated[bool, typer.Option("--force", help="replace OUT where it is there already")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on stdout")] = False,
) -> None:
    """Write a table into a Parquet or CSV file, without Spark and with nothing running.

    OUT appears when it is whole: an interrupted export leaves nothing behind. A table of any size needs the memory of its largest data
    file. CSV has a header, instants as ISO 8601 in UTC, decimals with all digits, and an empty field for null.

    Examples:

      weir export gold.fact_city_daily days.parquet

      weir export gold.fact_air_quality_hourly january.csv --since 2025-01-01 --until 2025-01-31
    """
    from lakehouse.query.export import Wanted
    from lakehouse.query.export import export as export_table

    chosen = _format_of(out, file_format)
    if out == "-" and (chosen != "csv" or as_json):
        raise typer.BadParameter("- writes CSV to stdout: name a file for Parquet, and for --json")
    days = days_of(since, until)
    if time_column and days is None:
        raise typer.BadParameter("--time-column needs --since")
    path = None if out == "-" else Path(out)
    wanted = Wanted(table, path, chosen, days, time_column, past_day_of(as_of, "--as-of"), force)
    try:
        done = export_table(ctx.obj, wanted)
    except BrokenPipeError:  # whoever read stdout has enough, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout once more at its end
        raise typer.Exit(EXIT_PIPE_CLOSED) from None
    if as_json:
        print(json.dumps(done.as_dict(wanted), ensure_ascii=False))
    size = "" if done.bytes is None else f", {done.bytes:,} bytes in {out}"
    print(f"{done.rows:,} rows of {done.table}{size}; {done.seconds:.1f} s", file=sys.stderr)


def _format_of(out: str, named: str) -> Literal["parquet", "csv"]:
    """Choose the format: as named, or by the file's ending."""
    ending = "csv" if out == "-" else Path(out).suffix.lower().removeprefix(".")
    wanted = named or ending
    if wanted in ("csv", "parquet"):
        return cast(Literal["parquet", "csv"], wanted)
    what = f"--format {named!r}" if named else f"{out!r} ends in neither .parquet nor .csv"
    raise typer.BadParameter(f"{what}: expected --format parquet or --format csv")


def connect(
    ctx: typer.Context,
    engine: Annotated[
        str | None, typer.Argument(help="duckdb, pyiceberg, spark or spark-sql; left out, all of them", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="an object: engine -> text")] = False,
) -> None:
    """Print how other programs open these tables, ready to paste or to pipe.

    Example: weir connect duckdb | .venv/bin/python -
    """
    from lakehouse.query.connect import snippets

    texts = snippets(ctx.obj)
    if engine is not None and engine not in texts:
        raise typer.BadParameter(f"{engine!r}: there are {', '.join(texts)}", param_hint="ENGINE")
    chosen = texts if engine is None else {engine: texts[engine]}
    print(json.dumps(chosen, ensure_ascii=False, indent=1) if as_json else "\n".join(chosen.values()))
