"""How is a result shown? One table a case, and a line for each goal: what was found against what is wanted."""

import platform
from collections.abc import Sequence
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

_CONSOLE = Console(width=140)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """Print a table; the first column holds names, the others numbers."""
    table = Table()
    for n, name in enumerate(columns):
        table.add_column(name, justify="left" if n == 0 else "right")
    for row in rows:
        table.add_row(*row)
    _CONSOLE.print(title, style="bold", highlight=False)
    _CONSOLE.print(table)
    for note in notes:
        _CONSOLE.print(note, highlight=False)


def goal(what: str, found: float | None, wanted: float, at_least: bool = False, digits: int = 2) -> str:
    """Return one line with the figure, the goal, and whether it is reached; None is no figure: the run was too short to measure it."""
    if found is None:
        return f"  --    {what}: not measured, the run was too short, goal {'≥' if at_least else '≤'} {wanted:g}"
    reached = found >= wanted if at_least else found <= wanted
    return f"  {'ok  ' if reached else 'MISS'}  {what}: {found:.{digits}f}, goal {'≥' if at_least else '≤'} {wanted:g}"


def hardware() -> str:
    """Say what machine this is, and what else ran on it."""
    model = next((line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores ({model}), {memory:.0f} GiB, load before {psutil.getloadavg()[0]:.1f}"


class Stolen:
    """Counts what a host gives of this machine's processor time to others; it has some, and a case that met much is to be run again."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def __str__(self) -> str:
        """Say its share since the count began."""
        now = psutil.cpu_times()
        spent = {name: getattr(now, name) - getattr(self._before, name) for name in now._fields if not name.startswith("guest")}
        return f"{100 * spent.get('steal', 0.0) / max(sum(spent.values()), 1e-9):.1f} % of the processors' time stolen by the host"


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []
