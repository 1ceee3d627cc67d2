"""What is in the tables? The verbs `query` and `connect`."""

import json
import time
from typing import Annotated

import typer

from lakehouse.settings import Settings

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
) -> None:
    """Ask the tables, without Spark and with nothing running; or, without SQL, list them with their columns.

    Example: weir query "SELECT location_key, max(max_aqi) FROM gold.fact_city_daily GROUP BY ALL"
    """
    from lakehouse.query import show
    from lakehouse.query.reader import Reader

    started = time.perf_counter()
    settings: Settings = ctx.obj
    with Reader(settings) as reader:
        if sql is None:
            show.tables(list(reader.tables()), as_json)
            return
        if limit is None and not as_json:
            limit = TABLE_LIMIT
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
