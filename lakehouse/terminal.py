"""How does text come out whole where the machine has no locale, or one of few letters?

Python reads and names files in the locale's letters and dies of a sign that stdout has not. weir's own files are UTF-8 everywhere, so
a process begins again in Python's UTF-8 mode where the locale is another; what stdout cannot write is replaced.
"""

import codecs
import io
import locale
import os
import sys

# Set for the process that began again: with which letters the terminal writes.
_LETTERS = "_WEIR_TERMINAL_LETTERS"


def speak_plainly() -> None:
    """Make this process use UTF-8 for files and names, and print whatever there is to print. The first thing that a program does."""
    if not sys.flags.utf8_mode and not is_utf8(sys.getfilesystemencoding()):
        # Only here, and before anything is read: names that were read with other letters could not be opened any more.
        os.environ.setdefault(_LETTERS, sys.stdout.encoding if sys.stdout is not None else "ascii")
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    letters = os.environ.pop(_LETTERS, None)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=letters if letters and _is_known(letters) else None, errors="replace")


def is_utf8(encoding: str) -> bool:
    """Say whether a name of an encoding means UTF-8."""
    return _is_known(encoding) and codecs.lookup(encoding).name == "utf-8"


def letters() -> tuple[str, bool]:
    """Name the encoding of stdout, and say whether the locale that the environment asks for is installed."""
    encoding = getattr(sys.stdout, "encoding", None) or "none"
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        return encoding, False
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return encoding, True


def _is_known(encoding: str) -> bool:
    try:
        codecs.lookup(encoding)
    except LookupError:
        return False
    return True
