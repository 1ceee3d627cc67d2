"""How far is a long command? A bar with an estimate on stderr, where that is a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Step(Protocol):
    """Moves a bar on, and may say where it is."""

    def __call__(self, where: str = "", by: int = 1) -> None:
        """One more is done, or several."""


@contextmanager
def progress(what: str, total: int) -> Iterator[Step]:
    """Show a bar of so many steps while the block runs; give what moves it on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)

        def step(where: str = "", by: int = 1) -> None:
            bar.update(task, advance=by, description=f"{what}, {where}" if where else what)

        yield step
