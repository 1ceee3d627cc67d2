"""How full are the disks that weir writes to on this machine?"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lakehouse.settings import Settings
from lakehouse.storage.paths import local_path


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk, by what lies on it: home, or warehouse where that is on another one. Sizes in bytes."""

    place: str
    free: int
    size: int


def disks(settings: Settings) -> Iterator[Disk]:
    """Look at each disk once."""
    seen = set()
    for place, folder in (("home", settings.home), ("warehouse", local_path(settings.warehouse_uri))):
        if folder is None or (there := _existing(folder)) is None or (device := there.stat().st_dev) in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(there)
        yield Disk(place, usage.free, usage.total)


def _existing(folder: Path) -> Path | None:
    return next((one for one in (folder, *folder.parents) if one.exists()), None)
