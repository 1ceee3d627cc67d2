"""What has maintenance done? The table `lh.ops.maintenance` has a row per table and round."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version

from pyspark.sql import SparkSession

from batch.maintain.table_health import Figures
from batch.table_state import TableState
from lakehouse.tables.create import create_missing
from lakehouse.tables.properties import MAINTAINED_PROPERTY
from lakehouse.tables.schema import Column, Table
from lakehouse.write.plain_rows import append_rows, relation
from monitoring.table_upkeep import Maintained, maintained_json, maintained_of

_ABOUT = {
    "files": "data files",
    "bytes": "bytes of the data files",
    "small_files": "data files below 128 MiB that share their partition with another such",
    "delete_files": "delete files, or deletion vectors",
    "snapshots": "snapshots that are kept",
    "metadata_bytes": "length of the metadata file",
    "disk_files": "files in the table's folder",
    "disk_bytes": "bytes of these",
}

MAINTENANCE = Table(
    name="lh.ops.maintenance",
    grain="one row per table and round of maintenance",
    key=(),
    columns=(
        Column("table_name", "STRING", "the table"),
        Column("started_ts", "TIMESTAMP", "when the round began; its rows have the same"),
        Column("seconds", "DOUBLE", "time that the table took [s]"),
        *(Column(f"{name}_before", "BIGINT", f"{about}, before") for name, about in _ABOUT.items()),
        *(Column(f"{name}_after", "BIGINT", f"{about}, afterwards") for name, about in _ABOUT.items()),
        Column("done", "STRING", "JSON: what was done"),
        Column("held", "STRING", "what keeps the oldest snapshot that is left"),
        Column("left_over", "STRING", "JSON: what is left for the next round, since other writers came between"),
        Column("failed", "STRING", "JSON: what failed, with its reason"),
        Column("code_version", "STRING", "version of weir"),
    ),
)


@dataclass(frozen=True, slots=True)
class Result:
    """The result for one table in one round.

    Attributes:
        table: its name, with `lh.`.
        before: its figures.
        after: the figures afterwards; in a dry run the expected ones.
        done: the work that was done, or would be.
        held: what keeps the oldest remaining snapshot.
        left: the work left for the next round.
        failed: failures, with their reasons.
        seconds: the time that it took.
    """

    table: str
    before: Figures
    after: Figures
    done: tuple[str, ...] = ()
    held: str = ""
    left: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    seconds: float = 0.0


def known_of(spark: SparkSession) -> dict[str, Maintained]:
    """Read the known facts about each table from its last maintenance."""
    if not spark.catalog.tableExists(MAINTENANCE.name):
        return {}
    newest = TableState.read(spark, MAINTENANCE.name).newest(MAINTAINED_PROPERTY)
    return maintained_of(newest.summary[MAINTAINED_PROPERTY] if newest else None)


def renewed(known: Mapping[str, Maintained], results: Iterable[Result], looked: Iterable[str], now: datetime) -> dict[str, Maintained]:
    """Return the known facts after a round.

    Args:
        known: the facts before it.
        results: of the round.
        looked: the tables that were searched for orphan files.
        now: when it began.
    """
    facts = dict(known)
    millis, searched = round(now.timestamp() * 1000), set(looked)
    for one in results:
        before = facts.get(one.table, Maintained())
        after = before if one.failed else replace(before, small_files=one.after.small_files)
        if not one.failed and not one.left:
            after = replace(after, rewritten_ms=millis)
        if one.table in searched:
            after = replace(after, orphans_ms=millis)
        facts[one.table] = after
    return facts


def keep(spark: SparkSession, results: Iterable[Result], known: Mapping[str, Maintained], now: datetime) -> None:
    """Append a round to `lh.ops.maintenance`."""
    rows = [
        (
            one.table,
            now,
            round(one.seconds, 3),
            *(one.before.as_dict()[name] for name in _ABOUT),
            *(one.after.as_dict()[name] for name in _ABOUT),
            json.dumps(one.done, ensure_ascii=False),
            one.held,
            json.dumps(one.left, ensure_ascii=False),
            json.dumps(one.failed, ensure_ascii=False),
            version("weir"),
        )
        for one in results
    ]
    if rows:
        create_missing(spark, [MAINTENANCE])
        append_rows(relation(spark, MAINTENANCE, rows), MAINTENANCE, {MAINTAINED_PROPERTY: maintained_json(known)})
