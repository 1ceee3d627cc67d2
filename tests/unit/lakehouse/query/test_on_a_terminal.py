"""What does a query print on a real terminal? Colours, wide rows one under another, and a pager for what is longer than the screen."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from tests.unit.lakehouse.conftest import House
from tests.unit.lakehouse.query.test_query_cli import WEIR

ESCAPE = "\x1b["
LONG = "SELECT range AS n, 'x' AS text FROM range(200)"


def on_terminal(home: Path, *arguments: str, lines: int = 24, columns: int = 100, **environment: str) -> str:
    """Run weir with a terminal of that size for stdin, stdout and stderr; give what the terminal shows."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    given = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "PAGER", "LESS", "COLUMNS", "LINES")}
    asked = {**given, "WEIR_HOME": str(home), "TERM": "xterm-256color", "PAGER": "cat", **environment}
    process = subprocess.Popen([WEIR, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=asked)
    os.close(theirs)
    shown = b""
    try:
        while some := os.read(ours, 65536):
            shown += some
    except OSError:  # Linux's word for the end of a terminal
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 0, shown.decode()
    return shown.decode().replace("\r\n", "\n")


@pytest.fixture
def pager(tmp_path: Path) -> Path:
    """Give a pager that says that it was used, reads a little and leaves."""
    script = tmp_path / "a pager"
    script.write_text('#!/bin/sh\necho "paged with $*"\nhead -n 3\n')
    script.chmod(0o755)
    return script


def test_what_is_longer_than_the_screen_goes_through_the_pager_with_its_colours(house: House, pager: Path) -> None:
    shown = on_terminal(house.settings.home, "query", LONG, PAGER=f"'{pager}' --plain")
    assert shown.startswith("paged with --plain\n" + ESCAPE)
    assert len(shown.splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("query", "SELECT 1 AS n"), "{}"),
        (("query", LONG, "--no-pager"), "{}"),
        (("query", LONG, "--json"), "{}"),
        (("query", LONG), ""),
        (("query", LONG), "cat"),
        (("query", LONG), "/no/such/pager"),
    ],
)
def test_there_is_no_pager_where_the_rows_fit_or_none_is_wanted(house: House, pager: Path, arguments: tuple[str, ...], named: str) -> None:
    shown = on_terminal(house.settings.home, *arguments, PAGER=named.format(f"'{pager}'"))
    assert "paged" not in shown
    assert ("199" in shown) == (LONG in arguments)


def test_lines_that_the_terminal_folds_count_as_several(house: House, pager: Path) -> None:
    wide = "SELECT repeat('x', 150) AS text FROM range(2)"
    named = f"'{pager}'"
    assert "paged" in on_terminal(house.settings.home, "query", wide, lines=8, columns=30, PAGER=named)
    assert "paged" not in on_terminal(house.settings.home, "query", wide, lines=30, columns=30, PAGER=named)


def test_wide_rows_stand_one_under_another_and_lose_nothing(house: House) -> None:
    columns = ", ".join(f"'value {n}' AS column_{n}" for n in range(12))
    shown = on_terminal(house.settings.home, "query", f"SELECT {columns}", columns=60)
    assert "row 1" in shown
    assert all(f"column_{n} " in shown and f"value {n}" in shown for n in range(12))
    assert max(map(len, shown.splitlines())) <= 60 + len("\x1b[1mrow 1\x1b[0m")


def test_colour_is_for_terminals_and_not_where_it_is_refused(house: House) -> None:
    home = house.settings.home
    assert ESCAPE in on_terminal(home, "query")
    # Bold and dim are no colours: they stay.
    assert "\x1b[36m" in on_terminal(home, "query") and "\x1b[36m" not in on_terminal(home, "query", NO_COLOR="1")
    piped = subprocess.run([WEIR, "query"], capture_output=True, text=True, env={**os.environ, "WEIR_HOME": str(home)}, check=True)
    assert ESCAPE not in piped.stdout
