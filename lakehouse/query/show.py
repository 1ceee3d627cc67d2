"""How does an answer look? As a table for people, or as JSON for programs; on stdout."""

import base64
import json
import math
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse.query.reader import Answer, TableInfo

NULL = Text("∅", style="dim")
_NUMBERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "DECIMAL",
    "FLOAT",
    "DOUBLE",
)
_PIPE_WIDTH = 100_000  # a file or a pipe has no edge to fold lines at


def answer(found: Answer, as_json: bool, seconds: Callable[[], float]) -> None:
    """Print the rows of a query; for people with a footer of row count and seconds."""
    if as_json:
        nested = [kind == "JSON" for kind in found.types]
        objects = [
            {
                name: plain(json.loads(value) if is_json and value is not None else value)
                for name, is_json, value in zip(found.columns, nested, row, strict=True)
            }
            for row in found.rows
        ]
        _print_objects(objects)
        return
    console = open_console()
    numbers = [kind.startswith(_NUMBERS) and not kind.endswith("]") for kind in found.types]
    _grid(console, found.columns, numbers, found.rows)
    count = f"{len(found.rows):,} row{'' if len(found.rows) == 1 else 's'}"
    beyond = ", and more: --limit N shows more" if found.more else ""
    console.print(Text(f"({count}{beyond}; {seconds():.2f} s)", style="dim"))


def tables(found: Sequence[TableInfo], as_json: bool) -> None:
    """Print the tables with grain, rows, last commit and columns."""
    if as_json:
        _print_objects(
            [
                {
                    "table": t.table,
                    "layer": t.layer,
                    "grain": t.grain,
                    "rows": t.rows,
                    "last_commit": plain(t.last_commit),
                    "columns": [{"name": c.name, "type": c.type, "comment": c.comment} for c in t.columns],
                }
                for t in found
            ]
        )
        return
    console = open_console()
    for number, table in enumerate(found):
        commit = "nothing committed yet" if table.last_commit is None else f"last commit {table.last_commit:%Y-%m-%d %H:%M:%SZ}"
        console.print(
            Text.assemble("\n" if number else "", (table.table, "bold"), f"  {table.rows:,} rows, {commit}\n  {_safe(table.grain)}"),
            soft_wrap=True,
        )
        grid = Table(show_header=False, show_edge=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(style="cyan", no_wrap=True)
        grid.add_column(style="dim")
        for column in table.columns:
            grid.add_row(Text(f"    {column.name}"), Text(column.type), Text(_safe(column.comment)))
        _print(console, grid)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows of values as a table, one under another where it would be too wide; numbers stand on the right."""
    numbers = [all(isinstance(row[n], int | float | Decimal) or row[n] is None for row in rows) for n in range(len(columns))]
    _grid(open_console(), columns, numbers, rows)


def _grid(console: Console, columns: Sequence[str], numbers: Sequence[bool], rows: Sequence[Sequence[Any]]) -> None:
    grid = Table(header_style="bold", show_edge=False, box=None, pad_edge=False)
    for name, is_number in zip(columns, numbers, strict=True):
        grid.add_column(_safe(name), justify="right" if is_number else "left", no_wrap=True)
    cells = [[_cell(value) for value in row] for row in rows]
    for row in cells:
        grid.add_row(*row)
    unbounded = console.options.update(width=_PIPE_WIDTH)
    if console.measure(grid, options=unbounded).maximum <= console.width or not cells:
        _print(console, grid)
    else:
        _print_records(console, columns, cells)


def open_console() -> Console:
    """Open stdout: as wide as the terminal, or without a limit for a file or a pipe."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_PIPE_WIDTH)


def _print(console: Console, grid: Table) -> None:
    """Print without the blanks that pad a line to the widest."""
    with console.capture() as captured:
        console.print(grid)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _print_records(console: Console, columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    """Print wide rows one under another, a line per column."""
    for number, row in enumerate(rows, 1):
        console.print(Text(f"row {number:,}", style="bold"))
        grid = Table(show_header=False, show_edge=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in zip(columns, row, strict=True):
            grid.add_row(Text(f"  {_safe(name)}"), value)
        _print(console, grid)


def _print_objects(objects: Sequence[dict[str, Any]]) -> None:
    """Print a JSON list with one object a line."""
    lines = ",\n".join(json.dumps(one, ensure_ascii=False, allow_nan=False) for one in objects)
    print(f"[\n{lines}\n]" if lines else "[]")


def plain(value: Any) -> Any:  # noqa: ANN401 - any value of SQL
    """Turn a value into what JSON has: a decimal is a number where a double holds it exactly, else its digits as a text."""
    if isinstance(value, datetime):
        return value.isoformat() if value.tzinfo is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        if value == value.to_integral_value():
            return int(value)
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, pa.MonthDayNano):
        return _duration(value)
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def _cell(value: Any) -> Text:  # noqa: ANN401 - any value of SQL
    if value is None:
        return NULL
    if isinstance(value, datetime):
        return Text(value.isoformat(sep=" ") if value.tzinfo is None else value.astimezone(UTC).isoformat(sep=" ").replace("+00:00", "Z"))
    if isinstance(value, float):
        return Text("NaN" if math.isnan(value) else f"{value:.10g}")  # the bits of a sum in binary say nothing to people
    if isinstance(value, Decimal):
        return Text(f"{value:f}")
    shown = plain(value)
    return Text(_safe(json.dumps(shown, ensure_ascii=False) if isinstance(shown, (dict, list)) else str(shown)))


def text_of(value: bytes) -> str:
    """Write bytes as the text that they are by UTF-8, else in base64."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _duration(value: pa.MonthDayNano) -> str:
    """Write a span as ISO 8601 does: P1DT3H30M, PT0.5S; an empty one is PT0S."""
    sign = "-" if value.nanoseconds < 0 else ""
    whole, seconds = divmod(Decimal(abs(value.nanoseconds)) / 1_000_000_000, 60)
    hours, minutes = divmod(whole, 60)
    days = "".join(f"{number}{unit}" for number, unit in ((value.months, "M"), (value.days, "D")) if number)
    clock = "".join(f"{sign}{number:f}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if number)
    return f"P{days}T{clock}" if clock else f"P{days}" if days else "PT0S"


def _safe(text: str) -> str:
    """Escape what a terminal would obey: a message that arrived may hold anything."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
