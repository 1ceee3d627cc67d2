"""How is a driver told to end that no signal reaches, as on another machine? By a file in the state folder, which it looks for each second.

It names an application of Spark, so a driver that is started later does not meet the request of the one before.
"""

from lakehouse.storage.folders import Folder


def stop_file(application: str) -> str:
    """Name the file for an application of Spark."""
    return f"stop-{application}"


def ask_to_stop(folder: Folder, application: str) -> None:
    """Ask an application to end after its running micro-batches."""
    folder.write(stop_file(application), "")


def is_asked_to_stop(folder: Folder, application: str) -> bool:
    """Return whether an application was asked to end."""
    return folder.text(stop_file(application)) is not None


def forget_stop(folder: Folder, application: str) -> None:
    """Remove the request for an application that has ended."""
    folder.remove(stop_file(application))
