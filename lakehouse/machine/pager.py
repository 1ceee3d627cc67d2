"""How is a long output read on a terminal? By the pager that PAGER names, else by less; straight to stdout where it is no terminal."""

import contextlib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator

# Colours as they are, no clearing of the screen, and no pager for what fits on it: as git starts less.
_LESS = "FRX"
_FALLBACKS = ("less", "more")


class _Screen(io.StringIO):
    """Collects what is printed, and says that it is a terminal, so that colours and widths are those of one."""

    def isatty(self) -> bool:
        """Say yes."""
        return True


@contextlib.contextmanager
def paged(wanted: bool = True) -> Iterator[None]:
    """Show what is printed within by a pager where it is longer than the screen.

    Args:
        wanted: False prints it as it comes.
    """
    command = _command() if wanted and sys.stdout.isatty() else []
    if not command:
        yield
        return
    screen = _Screen()
    try:
        with contextlib.redirect_stdout(screen):
            yield
    finally:  # what was printed before an error is shown, too
        _show(screen.getvalue(), command)


def _command() -> list[str]:
    """Give the pager's words; none where PAGER says that there is to be no pager, or where the machine has none."""
    named = os.environ.get("PAGER")
    if named is None:
        return next(([name] for name in _FALLBACKS if shutil.which(name)), [])
    try:
        words = shlex.split(named)
    except ValueError:  # a quote without its other half
        words = []
    return words if words and words != ["cat"] and shutil.which(words[0]) else []


def _show(text: str, command: list[str]) -> None:
    if _height(text) < shutil.get_terminal_size().lines:  # a line is left for the shell's prompt
        print(text, end="", flush=True)
        return
    pager = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        env={"LESS": _LESS, **os.environ},
        text=True,
        encoding=sys.stdout.encoding,
        errors=sys.stdout.errors,
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the pager's
    try:
        assert pager.stdin is not None
        with contextlib.suppress(BrokenPipeError), pager.stdin:  # the reader left before the end
            pager.stdin.write(text)
        pager.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _height(text: str) -> int:
    """Count the lines of the screen that a text takes, folded ones as several."""
    from rich.text import Text

    width = max(shutil.get_terminal_size().columns, 1)
    return sum(max(1, -(-Text.from_ansi(line).cell_len // width)) for line in text.splitlines())
