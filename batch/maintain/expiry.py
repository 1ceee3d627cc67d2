"""How far may a table's snapshots be expired? Pure rules over what its metadata, the readers and the ledgers say.

A snapshot goes by its age, and nothing that somebody still needs goes: `Hold` is one such need, from a commit on. Tags and branches
are kept by Iceberg itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from batch.table_state import TableState
from lakehouse.tables.stream_positions import Position

# A clock of a program and one of the commits it makes may differ.
CLOCKS_APART = timedelta(minutes=1)
NOTHING = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Hold:
    """What keeps all snapshots that were committed at a moment or later, and why."""

    since: datetime
    why: str


def reader_hold(bronze: TableState, position: Position | None, query: str) -> Hold:
    """Keep what a streaming reader has not committed, and the snapshot it stands at: it goes on from there.

    Args:
        bronze: what it reads.
        position: of its last committed micro-batch; None where none is known.
        query: its name.
    """
    if position is None:
        return Hold(NOTHING, f"{query} has committed nothing that is known here")
    earliest = None
    for one in bronze.ancestors():
        # Commit times need not be in order where clocks differ: the earliest of all that it needs counts.
        earliest = one.at if earliest is None else min(earliest, one.at)
        if one.id == position.snapshot_id:
            return Hold(earliest, f"{query} stands there")
    return Hold(NOTHING, f"{query} stands at snapshot {position.snapshot_id}, which is none of this table's")


def backfill_hold(planned: datetime | None) -> list[Hold]:
    """Keep what an unfinished backfill may have appended: it finds its chunks by their snapshots."""
    return [] if planned is None else [Hold(planned - CLOCKS_APART, "an unfinished backfill looks for its chunks")]


def newest_hold(table: TableState, property_: str, why: str) -> list[Hold]:
    """Keep the newest snapshot that says something under a name."""
    newest = table.newest(property_)
    return [] if newest is None else [Hold(newest.at, why)]


def limit(now: datetime, hours: float, holds: Iterable[Hold]) -> Hold:
    """Give up to when snapshots may be expired, and what says so."""
    by_age = Hold(now - timedelta(hours=hours), f"younger than {hours:g} h")
    return min([by_age, *holds], key=lambda hold: hold.since)


def expired_by(table: TableState, until: datetime) -> list[int]:
    """Name the snapshots that Iceberg would expire with this limit: those before it but the head, and those with a tag or a branch."""
    millis = round(until.timestamp() * 1000)
    kept = {table.head, *table.refs.values()}
    for one in table.ancestors():
        # From the head back it keeps until the first that is older, whatever stands behind that one.
        if one.millis < millis and one.id != table.head:
            break
        kept.add(one.id)
    ancestors = {one.id for one in table.ancestors()}
    loose = {one.id for one in table.snapshots.values() if one.id not in ancestors and one.millis >= millis}
    return [id_ for id_ in table.snapshots if id_ not in kept | loose]
