"""What is in the tables? The verbs `query` and `connect`."""

import json
import time
from typing import Annotated

import typer

from lakehouse.days import past_day_of
from lakehouse.machine.pager import paged
from lakehouse.settings import Settings

AS_OF = typer.Option(help="UTC day, YYYY-MM-DD: read the tables as they were at its end", show_default=False)
TABLE_LIMIT = 1000


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
