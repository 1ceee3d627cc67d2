"""How is a setting looked up by people? Writes .env.example and docs/settings.md from the model: `python -m lakehouse.settings_doc`."""

import shlex
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from lakehouse.settings import OLDER_NAMES, SECRETS, Settings

ROOT = Path(__file__).resolve().parents[1]
_SIGNS = ((Ge, "ge", "at least"), (Gt, "gt", "more than"), (Le, "le", "at most"), (Lt, "lt", "less than"))


def env_example() -> str:
    """Write .env.example: every setting with its default, commented out."""
    head = (
        "# Every setting of weir, with its default; written by `python -m lakehouse.settings_doc`, so change the model instead.\n"
        "# The command reads the environment and weir.toml in the home folder. To use a copy of this file: set -a; . ./.env; set +a\n"
        "# In weir.toml a setting is written without WEIR_ and in small letters: trigger_seconds = 0.5\n"
    )
    return head + "".join(
        f"\n# {_about(name, field)}\n# WEIR_{name.upper()}={shlex.quote(_default(field)) if _default(field) else ''}\n"
        for name, field in Settings.model_fields.items()
    )


def settings_page() -> str:
    """Write docs/settings.md: the same as a table."""
    head = (
        "# Which settings are there?\n\n"
        "Written from `lakehouse/settings.py` by `python -m lakehouse.settings_doc`. The environment (`WEIR_<NAME>`) goes before\n"
        "`weir.toml` in the home folder, and that before the default. Every wrong name or value is reported at once, before a start.\n\n"
        "| setting | in the environment | default | meaning |\n| --- | --- | --- | --- |\n"
    )
    rows = []
    for name, field in Settings.model_fields.items():
        older = "".join(f"<br>or `{old}`" for old, new in OLDER_NAMES.items() if new == name)
        default = f"`{_default(field)}`" if _default(field) else ""
        rows.append(f"| `{name}` | `WEIR_{name.upper()}`{older} | {default} | {_about(name, field)} |\n")
    return head + "".join(rows)


def _about(name: str, field: FieldInfo) -> str:
    """What it means, its unit where the name does not say it, and what is allowed."""
    allowed = _allowed(field)
    return f"{field.description}{f' [{allowed}]' if allowed else ''}{' (secret: shown as ***)' if name in SECRETS else ''}"


def _allowed(field: FieldInfo) -> str:
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not NoneType]
    if get_origin(field.annotation) is Literal:
        return " or ".join(str(choice) for choice in kinds)
    if kinds == [bool]:
        return "true or false"
    bounds = [f"{words} {getattr(rule, key)}" for rule in field.metadata for kind, key, words in _SIGNS if isinstance(rule, kind)]
    return ", ".join([{int: "whole number", float: "number"}[kinds[0]], *bounds]) if kinds[0] in (int, float) else ""


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


if __name__ == "__main__":
    (ROOT / ".env.example").write_text(env_example())
    (ROOT / "docs").mkdir(exist_ok=True)
    (ROOT / "docs" / "settings.md").write_text(settings_page())
