"""What can be wrong with this machine, and what does the operator do about it?"""

from pathlib import Path

from lakehouse.errors import DeployError, Fatal, Retryable


class PortInUse(DeployError, Fatal):
    """Another process listens on a port that was asked for."""

    def __init__(self, part: str, port: int, owner: str, setting: str) -> None:
        super().__init__(
            f"{part} cannot listen on 127.0.0.1:{port}: the port is in use by {owner}. "
            f"Stop that process, set {setting} to another port, or leave {setting} unset for a free one."
        )
        self.part, self.port, self.owner = part, port, owner


class StaleProcessId(DeployError, Fatal):
    """A state file names a process that is gone, or whose id belongs to another process by now."""

    def __init__(self, part: str, pid: int, state_file: Path) -> None:
        super().__init__(
            f"{part} is not running: {state_file} names process {pid}, which ended without a word or is another program by now. "
            f"`weir up` starts {part} again; `weir down` clears what is left."
        )
        self.part, self.pid = part, pid


class HalfFormattedKafka(DeployError, Fatal):
    """Kafka's folder holds data, and its meta.properties is missing, cut or unreadable."""

    def __init__(self, folder: Path, found: str) -> None:
        super().__init__(
            f"Kafka's folder {folder} is half-formatted: {found}. Move it away (mv {folder.parent} {folder.parent}.broken) and run "
            f"`weir up` again for an empty Kafka; rows that reached bronze stay there."
        )
        self.folder = folder


class ForeignKafkaFolder(DeployError, Fatal):
    """Kafka's folder was formatted for another cluster or another node."""

    def __init__(self, folder: Path, what: str, found: str, expected: str) -> None:
        super().__init__(
            f"Kafka's folder {folder} belongs to another broker: its meta.properties has {what} {found!r}, expected {expected!r}. "
            f"Put the right folder back, or move it away (mv {folder.parent} {folder.parent}.broken) and run `weir up` again "
            f"for an empty Kafka."
        )
        self.folder, self.found, self.expected = folder, found, expected


class DiskFull(DeployError, Fatal):
    """There is no room left, or too little to begin with."""

    def __init__(self, folder: Path, free_bytes: int, needed_bytes: int) -> None:
        super().__init__(
            f"The disk of {folder} is full: {free_bytes // 2**20} MiB are free, {needed_bytes // 2**20} MiB are needed. "
            f"Make room there, or set WEIR_HOME to a folder on another disk."
        )
        self.folder, self.free_bytes = folder, free_bytes


class MissingJars(DeployError, Fatal):
    """The jars of a class path are not in their folder."""

    def __init__(self, folder: Path, missing: list[str]) -> None:
        super().__init__(f"{len(missing)} jar(s) are missing in {folder}, first {missing[0]}. `make setup` fetches them.")
        self.folder, self.missing = folder, missing


class WrongJarHash(DeployError, Fatal):
    """A jar is not the one that was locked."""

    def __init__(self, jar: str, found: str, expected: str) -> None:
        super().__init__(
            f"{jar} has SHA-256 {found}, expected {expected} (deploy/local/jars.lock). It was not installed: the repository or a cache "
            f"gave another file; clear that cache, or run `make lock` if the change is meant."
        )
        self.jar, self.found, self.expected = jar, found, expected


class JarsUnavailable(DeployError, Retryable):
    """The resolver could not fetch the jars."""

    def __init__(self, resolver: str, count: int, reason: str) -> None:
        super().__init__(
            f"{resolver} could not fetch {count} jar(s): {reason}. Check the network and the proxy or mirror settings of {resolver}, "
            f"then run `make setup` again; jars that arrived are kept."
        )
        self.resolver, self.reason = resolver, reason


class PartFailed(DeployError, Retryable):
    """A part ended, or did not answer in time, and its log says no more than this."""

    def __init__(self, part: str, what: str, reason: str, log: Path) -> None:
        super().__init__(f"{part} {what}: {reason}. The whole log is {log}; `weir doctor` checks this machine.")
        self.part, self.reason, self.log = part, reason, log


class ArchiveNotMade(DeployError, Retryable):
    """The run that was to leave an archive of the driver's classes left none."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"No archive of the driver's classes was made: {what} ({reason}). Drivers start without one; `make cds` tries again, "
            f"`weir doctor` checks this machine."
        )
        self.what, self.reason = what, reason


class StartFailed(DeployError, Fatal):
    """The agent could not start the stack; the message is the agent's own."""


class DataFileDiffers(DeployError, Fatal):
    """A data file is not what the table's manifest says of it."""

    def __init__(self, table: str, file: Path, found: str, expected: str) -> None:
        super().__init__(
            f"{table} refers to {file}: found {found}, expected {expected}. Stop the stream (`weir down`) and restore the file from a copy "
            f"of the disk; its rows can also be published again from the source."
        )
        self.table, self.file = table, file


class OutdatedGold(DeployError, Fatal):
    """Rows of gold were computed by older reference data; the message is the advice."""
