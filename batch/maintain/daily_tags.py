"""What did the tables contain on a given day? Each gets a tag for the end of every UTC day, on consistent snapshots."""

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
    """A tag to create: the table, the tag's name, its snapshot, and for how many days after the snapshot's commit it is kept."""

    table: str
    name: str
    snapshot_id: int
    days: int


def wanted_tags(tables: Sequence[TableState], now: datetime, days: int) -> list[Tag]:
    """Return the tags that a domain's tables lack.

    A day's tag is the last snapshot before the midnight that ends it. If an `apply` ran over midnight, it is the last snapshot before that
    `apply`, so that silver and gold of one tag contain the same rows.

    Args:
        tables: silver and gold of one domain, read between two `apply`.
        now: the current time.
        days: for how many days a tag is kept.
    """
    commits = sorted((one for table in tables for one in table.ancestors()), key=lambda one: one.millis)
    missing = []
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
                # Iceberg counts a tag's age from its snapshot's commit, by which an idle table's tag would expire at once.
                older = math.ceil((midnight - last.at) / timedelta(days=1))
                missing.append(Tag(table.name, tag_name(day), last.id, days + older))
    return missing


def make_tags(spark: SparkSession, tags: Iterable[Tag]) -> None:
    """Create tags."""
    for one in tags:
        spark.sql(f"ALTER TABLE {one.table} CREATE TAG IF NOT EXISTS `{one.name}` AS OF VERSION {one.snapshot_id} RETAIN {one.days} DAYS")


def _between_applies(commits: Sequence[Snapshot], midnight: datetime) -> int:
    """Return the moment, in milliseconds, before which every `apply` is complete: midnight, or the first commit of one that ran over it."""
    cut = int(midnight.timestamp() * 1000)
    before = [one for one in commits if one.millis < cut and _apply(one.summary)]
    after = next((_apply(one.summary) for one in commits if one.millis >= cut and _apply(one.summary)), None)
    # Programs take the table lock, so the commits of one `apply` are adjacent.
    for one in reversed(before):
        if _apply(one.summary) != after:
            break
        cut = one.millis
    return cut


def _apply(summary: Mapping[str, str]) -> tuple[str, str] | None:
    return (summary[QUERY_PROPERTY], summary.get(BATCH_ID_PROPERTY, "")) if QUERY_PROPERTY in summary else None
