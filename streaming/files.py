"""How do the small files of a driver stay whole?"""

import json
import os
from pathlib import Path


def write_whole(file: Path, content: object, is_lasting: bool = True) -> None:
    """Replace a file with JSON in one step.

    Args:
        file: its folder is made where it is missing.
        content: what JSON can say.
        is_lasting: after a power cut the file is the old or the new one.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.new")
    with beside.open("w") as text:
        json.dump(content, text)
        if is_lasting:
            text.flush()
            os.fsync(text.fileno())
    beside.replace(file)
