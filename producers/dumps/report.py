"""What did a dump bring? Figures per table and over all, as JSON and as text. They name columns and rules, never a row's values."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from lakehouse.storage.files import replace_file

# published: all that differs was delivered. stopped: too many bad rows, or rows gone. failed: could not be read. missing: not in the dump.
State = Literal["published", "stopped", "failed", "missing"]
_TOP = 10


@dataclass(slots=True)
class TableReport:
    """What became of one table.

    Attributes:
        state: see `State`.
        form: of the table in the dump.
        files: that it was read from.
        input: rows and broken lines that were read.
        rejects: of these, those that the rules will reject, broken lines among them.
        repeated: rows that were dropped for a later one with the same identity.
        reasons: the rules that are broken first, and how often.
        warnings: rows that the rules accept although they are unusual, by rule.
        added, changed, gone: rows that differ from the last delivered dump; None where that is not known.
        delivered: messages that Kafka reported as delivered, without the notice that follows them.
        unknown_columns: columns that were kept although weir does not know them, by file.
        without_key: rows that do not name what they are about; they were sent without a Kafka key.
        broken_lines: lines that are no rows; they were sent as they are.
        late: whether a later dump was delivered before.
        why: what to know of a table that was not published.
    """

    state: State
    form: str = ""
    files: Sequence[str] = ()
    input: int = 0
    rejects: int = 0
    repeated: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)
    added: int | None = None
    changed: int | None = None
    gone: int | None = None
    delivered: int = 0
    unknown_columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    without_key: int = 0
    broken_lines: int = 0
    late: bool = False
    why: str = ""

    @property
    def output(self) -> int:
        """Rows that the rules will accept."""
        return self.input - self.rejects - self.repeated

    @property
    def rate(self) -> float:
        """The rejects' share of the input, from 0 to 1."""
        return self.rejects / self.input if self.input else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "state": self.state,
            **_figures(self.input, self.output, self.rejects, self.reasons),
            "warnings": dict(self.warnings),
            "repeated": self.repeated,
            "added": self.added,
            "changed": self.changed,
            "gone": self.gone,
            "delivered": self.delivered,
            "without_key": self.without_key,
            "broken_lines": self.broken_lines,
            "unknown_columns": {file: list(columns) for file, columns in self.unknown_columns.items()},
            "late": self.late,
            "form": self.form,
            "files": list(self.files),
            "why": self.why,
        }


@dataclass(slots=True)
class DumpReport:
    """What became of a dump: by table in the order of publishing, with what names the run."""

    source: str
    dump: str
    made: datetime
    run_id: str
    tables: dict[str, TableReport] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON, with those over all tables as `summary`."""
        reasons: Counter[str] = Counter()
        for one in self.tables.values():
            reasons.update(one.reasons)
        every = self.tables.values()
        given, output, rejects = (sum(getattr(one, name) for one in every) for name in ("input", "output", "rejects"))
        return {
            "source": self.source,
            "dump": self.dump,
            "run_id": self.run_id,
            "run_date": f"{self.made:%Y-%m-%d}",
            "run_ts": f"{self.made.isoformat(timespec='milliseconds').removesuffix('+00:00')}Z",
            "tables": {name: one.as_dict() for name, one in self.tables.items()},
            "summary": {
                **_figures(given, output, rejects, reasons),
                "delivered": sum(one.delivered for one in self.tables.values()),
                "states": {name: one.state for name, one in self.tables.items()},
            },
        }

    def write(self, folder: Path) -> Path:
        """Write the JSON to a file named by the run; return its path."""
        path = folder / f"{self.run_id}.json"
        replace_file(path, json.dumps(self.as_dict(), indent=1, ensure_ascii=False) + "\n")
        return path

    def as_text(self) -> str:
        """Return the report for people, a line per table."""
        lines = [f"dump of {self.made:%Y-%m-%d %H:%M:%SZ} ({self.dump})"]
        return "\n".join([*lines, *(f"  {name}: {_line(one)}" for name, one in self.tables.items())])


def _figures(given: int, output: int, rejects: int, reasons: Mapping[str, int]) -> dict[str, Any]:
    top = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))[:_TOP]
    return {
        "input": given,
        "output": output,
        "rejects": rejects,
        "rate": round(rejects / given, 6) if given else 0.0,
        "top_reasons": [{"reason": reason, "rows": rows} for reason, rows in top],
    }


def _line(one: TableReport) -> str:
    if one.state == "missing":
        return f"missing, so nothing of it was published ({one.why})" if one.why else "missing, so nothing of it was published"
    if one.state == "failed":
        return f"FAILED: {one.why}"
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(one.reasons.items(), key=lambda each: (-each[1], each[0]))[:3])
    parts = [f"{one.input} rows read, {one.output} good, {one.rejects} rejects ({one.rate:.2%}{f': {reasons}' if reasons else ''})"]
    if one.warnings:
        parts.append(f"unusual: {', '.join(f'{rule} {count}' for rule, count in one.warnings.items())}")
    if one.repeated:
        parts.append(f"{one.repeated} repeated, of which the last in the file counts")
    if one.state == "stopped":
        return "; ".join([f"STOPPED: {one.why}", *parts])
    if one.late:
        parts.append("older than the last delivered dump, so published whole")
    elif one.added is not None:
        parts.append(f"{one.added} added, {one.changed} changed, {one.gone} gone")
    parts.append(f"{one.delivered} messages delivered")
    if one.without_key:
        parts.append(f"{one.without_key} rows without a key")
    if one.broken_lines:
        parts.append(f"{one.broken_lines} broken lines")
    parts += [f"unknown columns of {file}: {', '.join(columns)}" for file, columns in one.unknown_columns.items()]
    return "; ".join(parts)
