"""How do the small files of a program stay whole, whoever writes them and whenever it ends?"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_file(path: Path, text: str, is_lasting: bool = True) -> None:
    """Write a file so that a reader, or a crash, sees the old text or the new one, and nothing between.

    Args:
        path: its folder is made where it is missing.
        text: the whole content.
        is_lasting: so too after a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        if is_lasting:
            file.flush()
            os.fsync(file.fileno())
    beside.replace(path)
    if not is_lasting:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file against the other programs that ask for it here too; the lock is a file beside it, and the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_locked(path: Path) -> bool:
    """Return whether somebody holds a file by `locked` at this moment."""
    try:
        with path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody has held it yet, and the folder is not there or may not be written
        return False
    return False
