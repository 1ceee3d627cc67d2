"""Where are the files of a dump? In a folder, or in a zip, whose members are checked and extracted to a folder that is removed later.

Each file may be packed by gzip, as `Users.csv.gz`.
"""

import gzip
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory

from producers.dumps.errors import UnsafeArchiveError, UnusableDumpError

_GIB = 2**30
_CHUNK = 2**20
_GZIP = ".gz"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a zip may hold: GiB of one member and of all members that are needed, and how many times a member may grow when extracted.

    The same holds for files that are packed by gzip.
    """

    member_gib: float
    total_gib: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a dump: where it lies, its name in the dump, and when it was made, UTC."""

    path: Path
    name: str
    made: datetime


@contextmanager
def open_files(path: Path, wanted: Collection[str], scratch: Path, limits: Limits) -> Iterator[list[Found]]:
    """Find the wanted files of a dump while the block runs.

    Args:
        path: a folder, or a zip.
        wanted: names of files, found without regard to case and in any folder of a zip.
        scratch: a folder in which a zip is extracted; nothing is left there afterwards, also after an error.
        limits: of a zip.

    Raises:
        UnusableDumpError: it is neither, or cannot be read.
        UnsafeArchiveError: a zip has a member that must not be extracted. All members are checked before the first is read.
    """
    lower = {name.lower() + packed for name in wanted for packed in ("", _GZIP)}
    try:
        if path.is_dir() or zipfile.is_zipfile(path):
            scratch.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=scratch, prefix="dump.") as folder:
                if path.is_dir():
                    found = [_of_folder(file) for file in sorted(path.iterdir()) if file.name.lower() in lower and file.is_file()]
                else:
                    found = list(_extracted(path, lower, Path(folder), limits))
                yield list(_unpacked(found, Path(folder), limits))
        elif path.exists():
            raise UnusableDumpError(f"{path} is neither a folder nor a zip. Give the folder with the CSV files, or the zip as downloaded.")
        else:
            raise UnusableDumpError(f"{path} does not exist. Give the folder with the CSV files, or the zip as downloaded.")
    except PermissionError as error:
        raise UnusableDumpError(f"{error.filename or path}: {error.strerror}. Let this user read it.") from error


def _of_folder(file: Path) -> Found:
    return Found(file, file.name, datetime.fromtimestamp(file.stat().st_mtime, UTC))


def _unpacked(found: Sequence[Found], folder: Path, limits: Limits) -> Iterator[Found]:
    """Unpack what is packed by gzip, which does not say how large it will be."""
    left = limits.total_gib * _GIB
    for nth, file in enumerate(found):
        if not file.name.lower().endswith(_GZIP):
            yield file
            continue
        to = folder / f"gz.{nth}" / file.name[: -len(_GZIP)]
        to.parent.mkdir()
        left -= _unpack(file, to, min(limits.member_gib * _GIB, limits.ratio * max(file.path.stat().st_size, 1)), left)
        if file.path.is_relative_to(folder):
            file.path.unlink()
        yield replace(file, path=to, name=to.name)


def _unpack(file: Found, to: Path, most: float, left: float) -> int:
    written = 0
    try:
        with gzip.open(file.path) as packed, to.open("xb") as unpacked:
            while chunk := packed.read(_CHUNK):
                written += len(chunk)
                if written > most:
                    raise UnsafeArchiveError(
                        file.path, file.name, f"is more than {most / _GIB:.3g} GiB when unpacked (WEIR_DUMP_MEMBER_GIB, WEIR_DUMP_RATIO)"
                    )
                if written > left:
                    raise UnusableDumpError(
                        f"{file.path}: the files that are packed by gzip are larger than allowed when unpacked. If that is right, raise "
                        "WEIR_DUMP_TOTAL_GIB."
                    )
                unpacked.write(chunk)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UnusableDumpError(f"{file.path}: the file is damaged ({error}). Download it again.") from error
    return written


def _extracted(path: Path, wanted: Collection[str], folder: Path, limits: Limits) -> Iterator[Found]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            for member in members:
                _check_member(path, member, limits)
            needed = [member for member in members if PurePosixPath(member.filename).name.lower() in wanted and not member.is_dir()]
            if (total := sum(member.file_size for member in needed)) > limits.total_gib * _GIB:
                raise UnusableDumpError(
                    f"{path}: the files that are needed are {total / _GIB:.1f} GiB, allowed are {limits.total_gib:g}. "
                    "If that is right, raise WEIR_DUMP_TOTAL_GIB."
                )
            for nth, member in enumerate(needed):
                name = PurePosixPath(member.filename).name
                to = folder / str(nth) / name
                to.parent.mkdir()
                _extract(path, archive, member, to)
                yield Found(to, name, datetime(*member.date_time, tzinfo=UTC))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise UnusableDumpError(f"{path}: the zip is damaged ({error}). Download it again.") from error


def _check_member(path: Path, member: zipfile.ZipInfo, limits: Limits) -> None:
    # orig_filename: zipfile turns backslashes into slashes on some systems, and cuts a name at a null byte.
    name = member.orig_filename
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.is_absolute() or windows.drive or windows.root:
        raise UnsafeArchiveError(path, name, "has an absolute name")
    if ".." in posix.parts or ".." in windows.parts:
        raise UnsafeArchiveError(path, name, "has `..` in its name")
    if "\0" in name:
        raise UnsafeArchiveError(path, name, "has a null byte in its name")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsafeArchiveError(path, name, "is a link" if kind == stat.S_IFLNK else "is a special file")
    if member.flag_bits & 0x1:
        raise UnsafeArchiveError(path, name, "is encrypted")
    if member.file_size > limits.member_gib * _GIB:
        raise UnsafeArchiveError(
            path, name, f"is {member.file_size / _GIB:.1f} GiB, allowed are {limits.member_gib:g} (WEIR_DUMP_MEMBER_GIB)"
        )
    if member.file_size > limits.ratio * max(member.compress_size, 1):
        grows = member.file_size / max(member.compress_size, 1)
        raise UnsafeArchiveError(path, name, f"grows {grows:.0f} times when extracted, allowed are {limits.ratio:g} (WEIR_DUMP_RATIO)")


def _extract(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, to: Path) -> None:
    written = 0
    with archive.open(member) as packed, to.open("xb") as file:
        while chunk := packed.read(_CHUNK):
            written += len(chunk)
            # What the directory of a zip says of sizes need not be true.
            if written > member.file_size:
                raise UnsafeArchiveError(path, member.orig_filename, "is larger than the zip says")
            file.write(chunk)
