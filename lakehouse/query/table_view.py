"""Which snapshot of a table is read, with which columns? The current one, or the one that was tagged at the end of a UTC day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pyiceberg.expressions import AlwaysTrue, BooleanExpression
from pyiceberg.schema import Schema
from pyiceberg.table import DataScan, Table
from pyiceberg.table.snapshots import Snapshot

from lakehouse.errors import Fatal, LakehouseError
from lakehouse.tables.catalog import NAME
from lakehouse.tables.day_tags import tag_name, tagged_days


class NotTagged(LakehouseError, Fatal):
    """The table has no tag of that day."""

    def __init__(self, name: str, day: date, days: Sequence[date]) -> None:
        if days:
            nearest = min(days, key=lambda one: abs(one - day))
            has = f"It has {len(days)} tagged day(s), {days[0]} to {days[-1]}; the nearest is {nearest}."
        else:
            has = (
                "It has no tagged days: `weir maintain` tags the tables of silver and gold at the end of each UTC day, and no others. "
                "Without --as-of it is read as it is now."
            )
        super().__init__(f"{name} cannot be read as of {day}: it has no tag {tag_name(day)}. {has}")


class NoTableTagged(LakehouseError, Fatal):
    """No table has a tag of that day."""

    def __init__(self, day: date, days: Sequence[date]) -> None:
        has = f"The tables have tags of {days[0]} to {days[-1]}." if days else "No table has any; `weir maintain` makes them."
        super().__init__(f"No table has a tag of {day}. {has}")


@dataclass(frozen=True, slots=True)
class TableView:
    """A table at one of its snapshots, with the columns that it had then; `snapshot` is None before the first commit."""

    name: str
    table: Table
    snapshot: Snapshot | None
    schema: Schema

    def scan(self, row_filter: BooleanExpression | None = None, selected_fields: tuple[str, ...] = ("*",)) -> DataScan:
        """Plan to read rows of that snapshot."""
        snapshot_id = None if self.snapshot is None else self.snapshot.snapshot_id
        return self.table.scan(row_filter=row_filter or AlwaysTrue(), selected_fields=selected_fields, snapshot_id=snapshot_id)


def view_of(table: Table, as_of: date | None) -> TableView:
    """Choose the snapshot to read: the current one, or that of a day's tag.

    Raises:
        NotTagged: the table has no tag of that day.
    """
    name = ".".join((NAME, *(part.lower() for part in table.name())))
    if as_of is None:
        return TableView(name, table, table.current_snapshot(), table.schema())
    ref = table.metadata.refs.get(tag_name(as_of))
    snapshot = None if ref is None else table.snapshot_by_id(ref.snapshot_id)
    if snapshot is None:
        raise NotTagged(name, as_of, tagged_days(table.metadata.refs))
    # A column that was added later is not among them.
    schema = table.schema() if snapshot.schema_id is None else table.schemas()[snapshot.schema_id]
    return TableView(name, table, snapshot, schema)
