"""Which commands and tables are there? Writes commands.md and tables.md beside this file: `.venv/bin/python docs/reference/generate.py`."""

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

import weir
from batch.backfill.ledger import BACKFILLS
from batch.maintain.maintenance_table import MAINTENANCE
from batch.prove.proofs_table import PROOFS
from lakehouse.domain_names import DOMAINS
from lakehouse.query.reader import BATCHES_COLUMNS, BATCHES_GRAIN
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.tables.schema import REJECTS
from streaming.losses import LOSSES

FOLDER = Path(__file__).resolve().parent
NOTE = "Written by `.venv/bin/python docs/reference/generate.py`; a unit test fails when it lacks a verb, an option or a column."
EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong usage, 75 temporary failure, try again. Results go to stdout, logs to stderr."


def commands_page() -> str:
    """Write every verb with its arguments, options and examples, as `--help` shows them."""
    group: Any = typer.main.get_command(weir.app)
    context = group.make_context("weir", [], resilient_parsing=True)
    verbs = dict(_verbs(group, context))
    index = [f"- [`weir {name}`](#weir-{name.replace(' ', '-')}): {_sentences(verb)[0]}" for name, verb in verbs.items()]
    parts = ["# Commands", NOTE, EXIT_CODES, "\n".join(index)]
    for name, verb in verbs.items():
        about, examples = _split(inspect.cleandoc(verb.help or ""))
        names = [_metavar(one) for one in verb.params if one.param_type_name == "argument"]
        options = ["[OPTIONS]"] if any(one.param_type_name == "option" for one in verb.params) else []
        parts += [f"## weir {name}", f"`{' '.join(['weir', name, *options, *names])}`", about]
        rows = [_row(one) for one in verb.params if one.name != "help" and not getattr(one, "hidden", False)]
        if rows:
            parts.append("\n".join(["| argument or option | meaning |", "| --- | --- |", *rows]))
        if examples:
            parts.append("```\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def tables_page() -> str:
    """Write every table with its grain, key and columns."""
    parts = [
        "# Tables",
        NOTE,
        "`weir query` without SQL lists the tables of a home in the same way; `--json` gives the list to programs. Instants are UTC.",
    ]
    shared = [REJECTS, BACKFILLS, PROOFS, MAINTENANCE, LOSSES]
    for name in DOMAINS:
        domain = build_domain(name, Settings())
        tables = [one.bronze for one in domain.sources] + list(domain.merged)
        tables += [table for table, _ in domain.dimensions if table not in tables]
        parts += [f"## Domain `{name}`", *(_table(one.name, one.grain, one.key, one.columns) for one in tables if one not in shared)]
    parts += ["## Operations", *(_table(one.name, one.grain, one.key, one.columns) for one in shared)]
    batches = [(name, kind, about) for name, _, kind, about in BATCHES_COLUMNS]
    parts.append(_section("lh.ops.batches", f"{BATCHES_GRAIN}; a view that `weir query` makes from the snapshots", (), batches))
    return "\n\n".join(parts) + "\n"


def _verbs(group: Any, context: Any, before: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - typer's own copy of click
    for name in group.list_commands(context):
        verb = group.get_command(context, name)
        if hasattr(verb, "list_commands"):
            yield from _verbs(verb, context, f"{before}{name} ")
        else:
            yield f"{before}{name}", verb


def _table(name: str, grain: str, key: Sequence[str], columns: Sequence[Any]) -> str:
    return _section(name, grain, key, [(one.name, one.type, one.about) for one in columns])


def _section(name: str, grain: str, key: Sequence[str], columns: Sequence[tuple[str, str, str]]) -> str:
    keys = f" Key: {', '.join(f'`{one}`' for one in key)}." if key else ""
    rows = [f"| `{column}` | {kind} | {_cell(about)} |" for column, kind, about in columns]
    return f"### {name}\n\n{grain[:1].upper()}{grain[1:]}.{keys}\n\n" + "\n".join(
        ["| column | type | meaning |", "| --- | --- | --- |", *rows]
    )


def _sentences(verb: Any) -> list[str]:  # noqa: ANN401 - typer's own copy of click
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", inspect.cleandoc(verb.help or ""))]


def _split(text: str) -> tuple[str, list[str]]:
    """Part the text of a help from its examples."""
    kept: list[str] = []
    examples: list[str] = []
    for line in (line.strip().removeprefix("Example: ") for line in text.splitlines() if line.strip() != "Examples:"):
        (examples if line.startswith("weir ") else kept).append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip(), examples


def _metavar(one: Any) -> str:  # noqa: ANN401
    name = (one.metavar or one.opts[0].upper()).removeprefix("[").removesuffix("]")
    return name if one.required else f"[{name}]"


def _row(one: Any) -> str:  # noqa: ANN401
    if one.param_type_name == "argument":
        return f"| `{_metavar(one)}` | {_cell(one.help or '')} |"
    name = ", ".join(f"`{opt}`" for opt in one.opts)
    kind = "" if one.is_flag else f" {_kind(one)}"
    default = f" Default: `{one.default}`." if one.default not in (None, "", False) and not callable(one.default) else ""
    required = " Required." if one.required else ""
    return f"| {name}{kind} | {_cell(one.help or '')}{'.' if default or required else ''}{required}{default} |"


def _kind(one: Any) -> str:  # noqa: ANN401
    annotation = one.type_descriptor.annotation
    return str(one.metavar or {int: "NUMBER", float: "NUMBER", str: "TEXT", Path: "PATH"}.get(annotation, "TEXT"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def pages() -> Iterator[tuple[Path, str]]:
    """Give each page's file and text."""
    yield FOLDER / "commands.md", commands_page()
    yield FOLDER / "tables.md", tables_page()


if __name__ == "__main__":
    for file, text in pages():
        file.write_text(text, encoding="utf-8")
