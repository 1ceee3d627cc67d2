"""Which partitions does the stream no longer write to? Those older than the times that it may still change.

Only these are rewritten: if the stream changed the same files meanwhile, one of two commits would be refused again and again. The stream
compacts small files of the other partitions itself (`lakehouse/write/compaction.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from batch.table_state import PartitionField

EPOCH = date(1970, 1, 1)
DATE = "date"
TIMES = ("timestamptz", DATE)


@dataclass(frozen=True, slots=True)
class Closed:
    """The closed partitions of a table.

    Attributes:
        where: the condition on its rows; empty where the table is not partitioned by time and counts as closed as a whole.
        field: the partition field's name in the metadata tables; empty likewise.
        before: the first period that is not closed, counted from 1970 as Iceberg does.
        with_null: whether rows without a time are closed too.
    """

    where: str = ""
    field: str = ""
    before: int = 0
    with_null: bool = False

    def holds(self, value: Any) -> bool:  # noqa: ANN401 - an int, or a date for days
        """Return whether a partition is closed, by its value in the metadata tables."""
        if not self.field:
            return True
        if value is None:
            return self.with_null
        return ((value - EPOCH).days if isinstance(value, date) else int(value)) < self.before


def closed_partitions(fields: Sequence[PartitionField], now: datetime, open_for: timedelta, with_null: bool) -> Closed:
    """Return the closed partitions.

    Args:
        fields: how the table is partitioned.
        now: the current time.
        open_for: how far back the stream still writes.
        with_null: whether rows without a time, a backfill's rows in bronze, are closed too, since no backfill runs.
    """
    by_time = next((f for f in fields if f.transform in ("year", "month", "day", "hour") and f.type in TIMES), None)
    if by_time is None:
        return Closed()
    first, ordinal = _period(by_time.transform, now.astimezone(UTC) - open_for)
    literal = f"DATE '{first:%Y-%m-%d}'" if by_time.type == DATE else f"TIMESTAMP '{first:%Y-%m-%d %H:%M:%S}+00:00'"
    where = f"{by_time.column} < {literal}"
    return Closed(f"({where} OR {by_time.column} IS NULL)" if with_null else where, by_time.name, ordinal, with_null)


def _period(transform: str, moment: datetime) -> tuple[datetime, int]:
    """Return the start of the period that contains a moment, and its number."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if transform == "year":
        return midnight.replace(month=1, day=1), moment.year - EPOCH.year
    if transform == "month":
        return midnight.replace(day=1), (moment.year - EPOCH.year) * 12 + moment.month - 1
    days = (moment.date() - EPOCH).days
    return (midnight, days) if transform == "day" else (midnight.replace(hour=moment.hour), days * 24 + moment.hour)
