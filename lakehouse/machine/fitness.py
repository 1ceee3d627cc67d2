"""Is this machine fit to run weir? Looked at before a JVM starts, since what a JVM says of it is a page long; `weir doctor` lists all.

What weir can do without (a host name that resolves, a /tmp that may execute) is a note, and it works anyway. The rest is one sentence
with what to do. Everything here costs milliseconds; what has to ask somebody is in `deploy/local/doctor.py`.
"""

import errno
import os
import resource
import socket
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from lakehouse.errors import Fatal, LakehouseError
from lakehouse.machine.environment import may_execute
from lakehouse.settings import Settings

# A driver had 340 files open at its first commit, jars mostly, and Kafka 94 with one topic; both open more with partitions and queries.
LEAST_OPEN_FILES = 512
# As many as we ask for where the hard limit is higher: some programs walk through all that they might have.
MOST_OPEN_FILES = 65_536
# The newest recorded answer (deploy/local/services/recorded) is of this day: no clock that is right can say an earlier one.
NOT_BEFORE = datetime(2025, 9, 23, tzinfo=UTC)
_ABOUT_RIGHTS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
# What weir writes in its home; other things there may well be read-only, such as a mounted weir.toml.
WRITTEN = ("run", "state", "logs", "kafka", "warehouse", "checkpoints", "catalog.db")


class Noted(str):
    """What a check found, that weir works in spite of."""

    __slots__ = ()


class HomeNotWritable(LakehouseError, Fatal):
    """The home cannot be made or written."""

    def __init__(self, home: Path, reason: str) -> None:
        super().__init__(
            f"weir has no write access to its home {home}: {reason}. Give this user the right to write there, or set WEIR_HOME to a folder "
            f"where it may; verbs that only read (query, status, check) need none."
        )
        self.home, self.reason = home, reason


class TooFewOpenFiles(LakehouseError, Fatal):
    """A process here may open fewer files than Kafka or a Spark driver need."""

    def __init__(self, allowed: int) -> None:
        super().__init__(
            f"A process may open {allowed} files here, and Kafka and Spark need {LEAST_OPEN_FILES} each. Raise the hard limit: "
            f"`ulimit -Hn` shows it; nofile in /etc/security/limits.conf, LimitNOFILE= in a systemd unit, or --ulimit nofile=4096 of a "
            f"container set it."
        )
        self.allowed = allowed


class NoTemporaryFolder(LakehouseError, Fatal):
    """There is no folder for temporary files, or none whose files may be executed."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"There is no temporary folder to use: {reason}. Set TMPDIR to a folder where this user may write and execute.")


class ClockWrong(LakehouseError, Fatal):
    """The clock of this machine says a time that cannot be."""

    def __init__(self, now: datetime, than: str) -> None:
        super().__init__(
            f"The clock of this machine says {now:%Y-%m-%dT%H:%M:%SZ}, and {than}. Set it (`timedatectl set-ntp true`, or `date -s`): "
            f"retrieval times, lateness and limits go by it."
        )


def check_machine(settings: Settings) -> None:
    """Check what a JVM on this machine needs; whoever starts one calls it before.

    Raises:
        TooFewOpenFiles, NoTemporaryFolder, ClockWrong: the first one found.
    """
    open_files()
    temporary_folder(settings)
    clock()


def check_home(home: Path, given: Path | None = None) -> str:
    """Check that the home can be made and written, without making it; no trace is left.

    Args:
        home: its whole path.
        given: as it was given, to name a link that leads nowhere.

    Raises:
        HomeNotWritable: with the reason.
    """
    named = Path(given or home).expanduser().absolute()
    if link := next((part for part in (named, *named.parents) if part.is_symlink() and not part.exists()), None):
        raise HomeNotWritable(named, f"{link} is a link to {link.readlink()}, which is not there")
    nearest = next(part for part in (home, *home.parents) if os.path.lexists(part))
    if not nearest.is_dir():
        raise HomeNotWritable(home, f"{nearest} is no folder")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        if error.errno in _ABOUT_RIGHTS:
            raise HomeNotWritable(home, f"{error.strerror} in {nearest}") from error
    if nearest == home:
        for name in WRITTEN:
            if (home / name).exists() and not os.access(home / name, os.W_OK):
                raise HomeNotWritable(home, f"{home / name} belongs to somebody else, or is read-only")
    return f"{home} can be {'written' if nearest == home else 'made'}"


def given_home(environment: Mapping[str, str]) -> Path:
    """Return the home as it was given, and make sure that its links lead somewhere.

    Raises:
        HomeNotWritable: they lead around in a circle.
    """
    home = Path(environment.get("WEIR_HOME") or ".weir")
    try:
        home.expanduser().resolve().exists()
    except (OSError, RuntimeError) as error:
        raise HomeNotWritable(home, f"its links lead nowhere ({error})") from error
    return home


def raise_open_files() -> None:
    """Let this process and its children open as many files as the hard limit allows; shells begin with a soft one that is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def open_files() -> str:
    """Raise the limit of open files, and check it.

    Raises:
        TooFewOpenFiles: it is too low.
    """
    raise_open_files()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return "as many as there are"
    if soft < LEAST_OPEN_FILES:
        raise TooFewOpenFiles(soft)
    return f"{soft} for a process"


def temporary_folder(settings: Settings) -> str:
    """Check that there is a temporary folder, and one in which a JVM may unpack a library and load it.

    Raises:
        NoTemporaryFolder: there is none.
    """
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise NoTemporaryFolder(error.strerror or str(error)) from error
    if may_execute(Path("/tmp")):
        return temporary
    if may_execute(Path(temporary)):
        return Noted(f"/tmp cannot execute or is read-only: the libraries that Java unpacks go to {temporary}")
    own = settings.home / "run" / "tmp"  # as `java_scratch` makes it; a look makes nothing
    if not may_execute(next(folder for folder in (own, *own.parents) if folder.exists())):
        raise NoTemporaryFolder(f"Java loads libraries from it, and neither /tmp nor {own} may execute (mount option noexec)")
    return Noted(f"/tmp cannot execute or is read-only (noexec): the libraries that Java unpacks go to {own}")


def clock(now: datetime | None = None) -> str:
    """Check that the clock does not say a time before this code was written.

    Raises:
        ClockWrong: it does.
    """
    now = now or datetime.now(UTC)
    if now < NOT_BEFORE:
        raise ClockWrong(now, f"weir holds answers of {NOT_BEFORE:%Y-%m-%d}: that day has passed")
    return f"{now:%Y-%m-%dT%H:%M:%SZ}"


def host_name() -> str:
    """Look the machine's own name up."""
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except (OSError, UnicodeError):
        return Noted(
            f"the name of this machine, {name}, does not resolve: weir uses 127.0.0.1 in its place. "
            f"For other programs add the line `127.0.1.1 {name}` to /etc/hosts"
        )
    return name


def home_folder(settings: Settings) -> str:
    """Check the home for `weir doctor`."""
    given = given_home(os.environ)
    return check_home(settings.home, given if given.expanduser().resolve() == settings.home else None)


def sentence_of(error: OSError) -> str:
    """Say what a machine lacks where a system call failed, wherever that was; empty where the error is of another kind."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return str(TooFewOpenFiles(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}{where}. Make room there, or set WEIR_HOME to a folder on another disk."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{error.strerror}{where}: this needs write access there. Give it to this user, or set WEIR_HOME to another folder."
    if error.errno in (*_ABOUT_RIGHTS, errno.EEXIST):  # a home, or a folder above it, that is none
        try:
            given = given_home(os.environ)
            check_home(given.expanduser().resolve(), given)
        except HomeNotWritable as unwritable:
            return str(unwritable)
    return ""
