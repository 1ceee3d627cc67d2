"""What can be wrong with a dump? Errors of a dump as a whole, and of one of its tables, whose others are published all the same."""

from collections.abc import Sequence
from pathlib import Path

from lakehouse.errors import Fatal, ProducerError


class UnusableDumpError(ProducerError, Fatal):
    """The dump cannot be read at all, or lacks files."""


class UnsafeArchiveError(ProducerError, Fatal):
    """A zip has a member that must not be extracted."""

    def __init__(self, path: Path, member: str, why: str) -> None:
        super().__init__(f"{path}: member {member!r} {why}. Nothing was extracted. Get the dump from its source again.")


class TableError(ProducerError, Fatal):
    """One table of the dump cannot be published."""


class MissingColumnError(TableError):
    """A file of the dump lacks columns."""

    def __init__(self, path: str, missing: Sequence[str], present: Sequence[str]) -> None:
        super().__init__(
            f"{path}: no column {', '.join(missing)}; it has {', '.join(present) or 'none'}. "
            "Check that it is the right file, unchanged, and run the same command again."
        )


class BrokenCsvError(TableError):
    """A file of the dump is not CSV from some line on."""


class TooManyBadRowsError(TableError):
    """More of a table's rows break the domain's rules than the breaker lets through."""


class TooManyGoneError(TableError):
    """A dump lacks so many rows of the dump before that it is more likely cut."""


class NoRoomError(ProducerError, Fatal):
    """Memory or disk do not suffice for a table."""


class DumpFailedError(ProducerError, Fatal):
    """Some tables of the dump were not published; the others were."""


class AnotherRunError(ProducerError, Fatal):
    """Another process publishes a dump of the same source from the same home."""
