"""Does this process run in a container of YARN, and what does YARN tell it there? It says so in environment variables.

Source: Hadoop 3.4, `ApplicationConstants.Environment` and `ContainerId`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# container_[e<epoch>_]<cluster's start>_<application>_<attempt>_<container>
_ID = re.compile(r"container_(?:e\d+_)?(\d+)_(\d+)_(\d+)_\d+")


@dataclass(frozen=True, slots=True)
class Container:
    """A container of YARN.

    Attributes:
        application: id of its application.
        attempt: which start of the application's driver it belongs to, from 1.
        host: the node's name, by which others reach it.
        logs: the folder whose files YARN collects; None where there is none.
    """

    application: str
    attempt: int
    host: str
    logs: Path | None


def container_of(environment: Mapping[str, str]) -> Container | None:
    """Return the container that an environment was made for; None outside of one."""
    found = _ID.fullmatch(environment.get("CONTAINER_ID", ""))
    if found is None:
        return None
    start, application, attempt = found.groups()
    folders = [folder for folder in environment.get("LOG_DIRS", "").split(",") if folder]
    logs = Path(folders[0]) if folders else None
    return Container(f"application_{start}_{application}", int(attempt), environment.get("NM_HOST", "127.0.0.1"), logs)
