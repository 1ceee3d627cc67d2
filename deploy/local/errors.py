"""What can be wrong with this machine, and how does the operator fix it?"""

from pathlib import Path

from lakehouse.errors import DeployError, Fatal, Retryable


class PortInUse(DeployError, Fatal):
    """Another process listens on a requested port."""

    def __init__(self, part: str, port: int, owner: str, setting: str) -> None:
        super().__init__(
            f"{part} cannot listen on 127.0.0.1:{port}: the port is in use by {owner}. "
            f"Stop that process, set {setting} to another port, or unset {setting} to use a free port."
        )
        self.part, self.port, self.owner = part, port, owner


class MissingPrometheus(DeployError, Fatal):
    """A program of Prometheus is not there."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"There is no {name}: `make setup` gets it from Debian's packages where there is apt; elsewhere put it on PATH. Without "
            "--with-prometheus everything else works."
        )


class StaleProcessId(DeployError, Fatal):
    """A state file names a process that has ended, or whose id belongs to another process now."""

    def __init__(self, part: str, pid: int, state_file: Path) -> None:
        super().__init__(
            f"{part} is not running: {state_file} names process {pid}, which has ended unexpectedly or is another program now. "
            f"`weir up` starts {part} again; `weir down` removes the state file."
        )
        self.part, self.pid = part, pid


class HalfFormattedKafka(DeployError, Fatal):
    """Kafka's folder has data, but its meta.properties is missing, truncated or unreadable."""

    def __init__(self, folder: Path, found: str) -> None:
        super().__init__(
            f"Kafka's folder {folder} is half-formatted: {found}. Move it away (mv {folder.parent} {folder.parent}.broken) and run "
            f"`weir up` again to start with an empty Kafka; rows in bronze are kept."
        )
        self.folder = folder


class ForeignKafkaFolder(DeployError, Fatal):
    """Kafka's folder was formatted for another cluster or another node."""

    def __init__(self, folder: Path, what: str, found: str, expected: str) -> None:
        super().__init__(
            f"Kafka's folder {folder} belongs to another broker: its meta.properties has {what} {found!r}, expected {expected!r}. "
            f"Restore the right folder, or move this one away (mv {folder.parent} {folder.parent}.broken) and run `weir up` again "
            f"to start with an empty Kafka."
        )
        self.folder, self.found, self.expected = folder, found, expected


class DiskFull(DeployError, Fatal):
    """The disk is full, or has too little free space to start."""

    def __init__(self, folder: Path, free_bytes: int, needed_bytes: int) -> None:
        super().__init__(
            f"The disk of {folder} is full: {free_bytes // 2**20} MiB are free, {needed_bytes // 2**20} MiB are needed. "
            f"Free some space, or set WEIR_HOME to a folder on another disk."
        )
        self.folder, self.free_bytes = folder, free_bytes


class MissingJars(DeployError, Fatal):
    """The jars of a class path are not in their folder."""

    def __init__(self, folder: Path, missing: list[str]) -> None:
        super().__init__(f"{len(missing)} jar(s) are missing in {folder}, the first is {missing[0]}. `make setup` fetches them.")
        self.folder, self.missing = folder, missing


class WrongJarHash(DeployError, Fatal):
    """A jar differs from the locked one."""

    def __init__(self, jar: str, found: str, expected: str) -> None:
        super().__init__(
            f"{jar} has SHA-256 {found}, expected {expected} (deploy/local/jars.lock). It was not installed: the repository or a cache "
            f"returned another file. Clear that cache, or run `make lock` if the change is intended."
        )
        self.jar, self.found, self.expected = jar, found, expected


class JarsUnavailable(DeployError, Retryable):
    """The resolver could not fetch the jars."""

    def __init__(self, resolver: str, count: int, reason: str) -> None:
        super().__init__(
            f"{resolver} could not fetch {count} jar(s): {reason}. Check the network and the proxy or mirror settings of {resolver}, "
            f"then run `make setup` again; fetched jars are kept."
        )
        self.resolver, self.reason = resolver, reason


class PartFailed(DeployError, Retryable):
    """A part ended or did not answer in time; the reason is from its log."""

    def __init__(self, part: str, what: str, reason: str, log: Path) -> None:
        super().__init__(f"{part} {what}: {reason}. The full log is {log}; `weir doctor` checks this machine.")
        self.part, self.reason, self.log = part, reason, log


class ArchiveNotMade(DeployError, Retryable):
    """The run that should have written an archive of the driver's classes did not."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(
            f"The archive of the driver's classes was not written: {what} ({reason}). Drivers start without it; `make cds` tries again, "
            f"`weir doctor` checks this machine."
        )
        self.what, self.reason = what, reason


class StartFailed(DeployError, Fatal):
    """The agent could not start the stack; the message is the agent's."""


class DataFileDiffers(DeployError, Fatal):
    """A data file differs from its entry in the table's manifest."""

    def __init__(self, table: str, file: Path, found: str, expected: str) -> None:
        super().__init__(
            f"{table} refers to {file}: found {found}, expected {expected}. Stop the stream (`weir down`) and restore the file from a "
            f"backup, or publish its rows again from the source."
        )
        self.table, self.file = table, file


class OutdatedGold(DeployError, Fatal):
    """Rows of gold were computed with older reference data; the message is the advice."""
