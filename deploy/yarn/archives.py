"""How is an archive for the cluster kept on this machine? Under a name that tells its content, so it is built once; older ones go."""

from collections.abc import Callable
from pathlib import Path


def built_once(folder: Path, kind: str, content: str, suffix: str, write: Callable[[Path], None]) -> Path:
    """Return an archive, built where it is not there yet.

    Args:
        folder: where archives are kept; made.
        kind: the first part of its name. Others of this kind are removed when it is built.
        content: hash of what is in it.
        suffix: the last part of its name.
        write: writes the archive to a path.
    """
    archive = folder / f"{kind}-{content}{suffix}"
    if archive.exists():
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{archive.name}.new"
    write(beside)
    for old in folder.glob(f"{kind}-*{suffix}"):
        old.unlink()
    beside.replace(archive)
    return archive
