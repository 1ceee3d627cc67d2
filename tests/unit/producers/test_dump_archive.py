"""Which zips are refused, and is nothing left of one that was extracted?"""

import gzip
import stat
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from producers.dumps.archive import Limits, open_files
from producers.dumps.errors import UnsafeArchiveError, UnusableDumpError

LIMITS = Limits(member_gib=0.001, total_gib=0.0015, ratio=200)
AT = (2025, 8, 1, 6, 30, 2)


def zipped(path: Path, *members: tuple[str, bytes], mode: int = stat.S_IFREG | 0o644, at: tuple[int, ...] = AT) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name, at)  # type: ignore[arg-type]  # six numbers
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return path


def names(path: Path, scratch: Path, limits: Limits = LIMITS) -> list[tuple[str, bytes, datetime]]:
    with open_files(path, ["Users.csv", "Tags.csv"], scratch, limits) as found:
        assert all(file.path.exists() for file in found)
        return [(file.name, file.path.read_bytes(), file.made) for file in found]


def test_wanted_members_are_extracted_from_any_folder_and_removed_afterwards(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("meta/users.csv", b"one"), ("meta/Other.csv", b"two"), ("Tags.csv", b"three"), ("meta/", b""))
    at = datetime(*AT, tzinfo=UTC)
    assert names(path, tmp_path / "scratch") == [("users.csv", b"one", at), ("Tags.csv", b"three", at)]
    assert list((tmp_path / "scratch").iterdir()) == []
    assert {file.name for file in tmp_path.iterdir()} == {"a.zip", "scratch"}


def test_nothing_is_left_of_a_zip_after_an_error(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("Users.csv", b"one"))
    with pytest.raises(RuntimeError), open_files(path, ["Users.csv"], tmp_path / "scratch", LIMITS) as found:
        assert found[0].path.exists()
        raise RuntimeError
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/Users.csv", "has an absolute name"),
        ("C:\\Users.csv", "has an absolute name"),
        ("\\\\server\\share\\Users.csv", "has an absolute name"),
        ("../Users.csv", "has `..` in its name"),
        ("a/../../Users.csv", "has `..` in its name"),
        ("a\\..\\..\\Users.csv", "has `..` in its name"),
        ("../unwanted.txt", "has `..` in its name"),
    ],
)
def test_member_that_would_leave_the_folder_is_refused(tmp_path: Path, name: str, why: str) -> None:
    path = zipped(tmp_path / "a.zip", ("Users.csv", b"fine"), (name, b"bad"))
    with pytest.raises(UnsafeArchiveError, match=f"{why}. Nothing was extracted"):
        names(path, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(("mode", "why"), [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "is a special file")])
def test_links_and_special_files_are_refused(tmp_path: Path, mode: int, why: str) -> None:
    path = zipped(tmp_path / "a.zip", ("Users.csv", b"/etc/passwd"), mode=mode | 0o777)
    with pytest.raises(UnsafeArchiveError, match=why):
        names(path, tmp_path / "scratch")


def test_sizes_and_ratio_are_bounded(tmp_path: Path) -> None:
    noise = bytes(n * 7919 % 251 for n in range(2**10)) * 2**10
    large = zipped(tmp_path / "large.zip", ("Other.csv", noise + b"more" * 2**14))
    with pytest.raises(UnsafeArchiveError, match=r"is 0.0 GiB, allowed are 0.001 \(WEIR_DUMP_MEMBER_GIB\)"):
        names(large, tmp_path / "scratch")
    several = zipped(tmp_path / "several.zip", ("Users.csv", noise), ("Tags.csv", noise))
    with pytest.raises(UnusableDumpError, match="raise WEIR_DUMP_TOTAL_GIB"):
        names(several, tmp_path / "scratch", Limits(0.001, 0.0015, 1000))
    bomb = zipped(tmp_path / "bomb.zip", ("Users.csv", b"0" * 10**6))
    with pytest.raises(UnsafeArchiveError, match=r"grows \d+ times when extracted, allowed are 200 \(WEIR_DUMP_RATIO\)"):
        names(bomb, tmp_path / "scratch")


def test_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("Users.csv", b"one"))
    content = bytearray(path.read_bytes())
    for at in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[at] |= 1
    path.write_bytes(content)
    with pytest.raises(UnsafeArchiveError, match="is encrypted"):
        names(path, tmp_path / "scratch")


def test_member_that_is_larger_than_the_zip_says_or_damaged_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("Users.csv", b"one two three " * 50))
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises((UnsafeArchiveError, UnusableDumpError)):
        names(path, tmp_path / "scratch")
    damaged = zipped(tmp_path / "b.zip", ("Users.csv", b"one two three " * 50))
    content = bytearray(damaged.read_bytes())
    content[45] ^= 0xFF
    damaged.write_bytes(content)
    with pytest.raises(UnusableDumpError, match="the zip is damaged"):
        names(damaged, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_is_neither_folder_nor_zip_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Id\n1\n")
    with pytest.raises(UnusableDumpError, match="is neither a folder nor a zip"):
        names(tmp_path / "a.csv", tmp_path / "scratch")
    with pytest.raises(UnusableDumpError, match="does not exist"):
        names(tmp_path / "nowhere", tmp_path / "scratch")


def test_files_that_are_packed_by_gzip_are_unpacked_in_a_folder_and_in_a_zip_and_removed_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    folder.mkdir()
    (folder / "USERS.csv.GZ").write_bytes(gzip.compress(b"one"))
    (folder / "Tags.csv").write_bytes(b"two")
    assert {name: content for name, content, _ in names(folder, tmp_path / "scratch")} == {"USERS.csv": b"one", "Tags.csv": b"two"}
    path = zipped(tmp_path / "a.zip", ("x/Users.csv.gz", gzip.compress(b"three")), ("Tags.csv", b"four"))
    at = datetime(*AT, tzinfo=UTC)
    assert names(path, tmp_path / "scratch") == [("Users.csv", b"three", at), ("Tags.csv", b"four", at)]
    assert list((tmp_path / "scratch").iterdir()) == []
    assert {file.name for file in folder.iterdir()} == {"USERS.csv.GZ", "Tags.csv"}


@pytest.mark.parametrize(
    ("limits", "error", "why"),
    [
        (Limits(0.001, 1, 10_000), UnsafeArchiveError, "is more than 0.001 GiB when unpacked"),
        (Limits(1, 1, 200), UnsafeArchiveError, "when unpacked .WEIR_DUMP_MEMBER_GIB, WEIR_DUMP_RATIO"),
        (Limits(1, 0.001, 10_000), UnusableDumpError, "raise WEIR_DUMP_TOTAL_GIB"),
    ],
)
def test_file_that_grows_too_much_when_unpacked_is_refused(tmp_path: Path, limits: Limits, error: type[Exception], why: str) -> None:
    (tmp_path / "Users.csv.gz").write_bytes(gzip.compress(bytes(2 * 2**20)))
    with pytest.raises(error, match=why):
        names(tmp_path, tmp_path / "scratch", limits)
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b"cut off" * 99)[:-9], gzip.compress(b"x" * 99)[:20] + b"damaged" * 9])
def test_damaged_gzip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "Users.csv.gz").write_bytes(content)
    with pytest.raises(UnusableDumpError, match=r"Users.csv.gz: the file is damaged .*Download it again"):
        names(tmp_path, tmp_path / "scratch")
