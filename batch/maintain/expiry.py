"""Up to when may a table's snapshots be expired? Pure rules over the table's metadata, the readers' positions and the ledgers.

A snapshot expires by age unless a program still needs it: a `Hold` keeps all snapshots from a commit on. Iceberg itself keeps those of tags
and branches.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from batch.table_state import TableState
from lakehouse.tables.stream_positions import Position

# The clocks of a program and of its commits may differ by this.
CLOCKS_APART = timedelta(minutes=1)
NOTHING = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Hold:
    """A reason to keep all snapshots that were committed at a moment or later."""

    since: datetime
    why: str


def reader_hold(bronze: TableState, position: Position | None, query: str) -> Hold:
    """Keep the snapshots that a streaming reader has not committed, and the one at its position, where it continues.

    Args:
        bronze: the table that it reads.
        position: of its last committed micro-batch; None where it is unknown.
        query: its name.
    """
    if position is None:
        return Hold(NOTHING, f"{query} has committed nothing that is known here")
    earliest = None
    for one in bronze.ancestors():
        # Commit times may be out of order where clocks differ, so the earliest of all needed snapshots counts.
        earliest = one.at if earliest is None else min(earliest, one.at)
        if one.id == position.snapshot_id:
            return Hold(earliest, f"{query} stands there")
    return Hold(NOTHING, f"{query} stands at snapshot {position.snapshot_id}, which is none of this table's")


def backfill_hold(planned: datetime | None) -> list[Hold]:
    """Keep the commits of an unfinished backfill, which finds its chunks by their snapshots."""
    return [] if planned is None else [Hold(planned - CLOCKS_APART, "an unfinished backfill looks for its chunks")]


def newest_hold(table: TableState, property_: str, why: str) -> list[Hold]:
    """Keep the newest snapshot with a property in its summary."""
    newest = table.newest(property_)
    return [] if newest is None else [Hold(newest.at, why)]


def limit(now: datetime, hours: float, holds: Iterable[Hold]) -> Hold:
    """Return up to when snapshots may be expired, and why."""
    by_age = Hold(now - timedelta(hours=hours), f"younger than {hours:g} h")
    return min([by_age, *holds], key=lambda hold: hold.since)


def expired_by(table: TableState, until: datetime) -> list[int]:
    """Return the snapshots that Iceberg would expire with this limit: those before it, except the head and those with a tag or branch."""
    millis = round(until.timestamp() * 1000)
    kept = {table.head, *table.refs.values()}
    for one in table.ancestors():
        # Walking back from the head, Iceberg keeps snapshots up to the first one that is older, whatever comes before that.
        if one.millis < millis and one.id != table.head:
            break
        kept.add(one.id)
    ancestors = {one.id for one in table.ancestors()}
    loose = {one.id for one in table.snapshots.values() if one.id not in ancestors and one.millis >= millis}
    return [id_ for id_ in table.snapshots if id_ not in kept | loose]
