"""How does text come out whole where the machine has no locale, or one of few letters?

Python reads and names files in the locale's letters and dies of a sign that stdout has not. weir's own files are UTF-8 everywhere, so
a process begins again in Python's UTF-8 mode where the locale is another. What stdout cannot write is replaced by `?`, and with `--json`
escaped as JSON does it, so that nothing of it is lost.
"""

import codecs
import io
import locale
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# Set for the process that began again: with which letters the terminal writes.
_LETTERS = "_WEIR_TERMINAL_LETTERS"
_JSON = "weir.json"
# The locales that the shell named and that are not there, as NAME=VALUE; `weir doctor` tells of them.
NOT_INSTALLED: list[str] = []


def speak_plainly() -> None:
    """Make this process use UTF-8 for files and names, and print whatever there is to print. The first thing that a program does."""
    if not sys.flags.utf8_mode and not is_utf8(sys.getfilesystemencoding()):
        # Only here, and before anything is read: names that were read with other letters could not be opened any more.
        os.environ.setdefault(_LETTERS, getattr(sys.stdout, "encoding", None) or "ascii")
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    NOT_INSTALLED[:] = [f"{name}={value}" for name, value in os.environ.items() if _names_locale(name) and not is_installed(value)]
    letters = os.environ.pop(_LETTERS, None)
    codecs.register_error(_JSON, _escaped)
    for stream, errors in ((sys.stdout, _JSON if "--json" in sys.argv else "replace"), (sys.stderr, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=letters if letters and _is_known(letters) else None, errors=errors)


def console_for_tables() -> "Console":
    """Return a console on stdout on which a row of a table stays whole."""
    from rich.console import Console

    console = Console(highlight=False)
    # A pipe has no width, and rich's default of 80 would cut ids and addresses.
    return console if console.is_terminal else Console(highlight=False, width=200)


def is_utf8(encoding: str) -> bool:
    """Return whether a name of an encoding means UTF-8."""
    return _is_known(encoding) and codecs.lookup(encoding).name == "utf-8"


def is_installed(name: str) -> bool:
    """Return whether a locale is there."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, name or "C")
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_ALL, before)
    return True


def _names_locale(variable: str) -> bool:
    return variable == "LANG" or variable.startswith("LC_")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Write what an encoding has not as JSON does within its texts: `\\uXXXX`, twice for what takes two."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2)), error.end


def _is_known(encoding: str) -> bool:
    try:
        codecs.lookup(encoding)
    except LookupError:
        return False
    return True
