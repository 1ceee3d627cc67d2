"""How were the tables on that day? A tag of each for the end of every UTC day, on snapshots that belong together."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from pyspark.sql import SparkSession

from batch.table_state import Snapshot, TableState
from lakehouse.tables.day_tags import tag_name
from lakehouse.tables.properties import BATCH_ID_PROPERTY, QUERY_PROPERTY


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag to be made: the table, the tag's name, its snapshot, and for how many days from the snapshot's commit on it is kept."""

    table: str
    name: str
    snapshot_id: int
    days: int


def wanted_tags(tables: Sequence[TableState], now: datetime, days: int) -> list[Tag]:
    """Find the tags that a domain's tables lack.

    A day's tag is the last snapshot before the midnight that ends it; where one `apply` went on over midnight, the last before that
    `apply`, so that silver and gold of one tag are of the same rows.

    Args:
        tables: silver and gold of one domain, seen between two `apply`.
        now: the time.
        days: for how many days a tag is kept.
    """
    commits = sorted((one for table in tables for one in table.ancestors()), key=lambda one: one.millis)
    found = []
    today = now.astimezone(UTC).date()
    for back in range(1, days + 1):
        day = today - timedelta(days=back)
        midnight = datetime.combine(day + timedelta(days=1), time(), UTC)
        cut = _between_applies(commits, midnight)
        for table in tables:
            if tag_name(day) in table.refs:
                continue
            last = next((one for one in table.ancestors() if one.millis < cut), None)
            if last is not None:
                # Iceberg counts a tag's age from its snapshot's commit: that of an idle table would be too old at once.
                older = math.ceil((midnight - last.at) / timedelta(days=1))
                found.append(Tag(table.name, tag_name(day), last.id, days + older))
    return found


def make_tags(spark: SparkSession, tags: Iterable[Tag]) -> None:
    """Make tags."""
    for one in tags:
        spark.sql(f"ALTER TABLE {one.table} CREATE TAG IF NOT EXISTS `{one.name}` AS OF VERSION {one.snapshot_id} RETAIN {one.days} DAYS")


def _between_applies(commits: Sequence[Snapshot], midnight: datetime) -> int:
    """Give the moment, in milliseconds, before which whole `apply` lie: midnight, or the first commit of the one that went over it."""
    cut = int(midnight.timestamp() * 1000)
    before = [one for one in commits if one.millis < cut and _apply(one.summary)]
    after = next((_apply(one.summary) for one in commits if one.millis >= cut and _apply(one.summary)), None)
    # Programs take turns: the commits of one `apply` lie together.
    for one in reversed(before):
        if _apply(one.summary) != after:
            break
        cut = one.millis
    return cut


def _apply(said: Mapping[str, str]) -> tuple[str, str] | None:
    return (said[QUERY_PROPERTY], said.get(BATCH_ID_PROPERTY, "")) if QUERY_PROPERTY in said else None
