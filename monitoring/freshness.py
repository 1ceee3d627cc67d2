"""How fresh are the tables? The last commit of each, and the newest time of each entity (city), from metadata and a few columns.

Only commits that changed rows count, so not those that compacted small files or appended no row. The domain declares the tables with
entities, and their columns and rows to read (`Domain.fresh`). An hour or day counts from its start.
"""

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue, BooleanExpression, EqualTo
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakehouse.domain import Domain, Fresh
from lakehouse.settings import Settings
from lakehouse.tables.catalog import NoTables, ancestors, open_catalog
from lakehouse.tables.notes import changed_of
from lakehouse.tables.properties import ENGINE_PROPERTY

LAYERS = ("bronze", "silver", "gold", "ops")
# Newest hours and the rules of rejects are read from the data; above this number of rows that takes too long.
ROWS_AT_A_GLANCE = 2_000_000


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table's current state.

    Attributes:
        name: without the catalog's.
        rows: live ones.
        files: data files.
        last_commit_ts: when rows last changed.
        engine: what computed the rows of that commit, `duckdb` or `spark`; None for bronze and other tables that hold what arrived.
    """

    name: str
    rows: int
    files: int
    last_commit_ts: datetime | None
    engine: str | None = None


@dataclass(frozen=True, slots=True)
class CityHour:
    """The newest measured hour (or day) of a city, by its start, and when the source was asked for it; None in tables without that."""

    city: str
    newest_ts: datetime
    retrieved_ts: datetime | None = None


def read_facts(settings: Settings) -> list[TableFacts]:
    """Read the current state of every table, in the order bronze, silver, gold, ops.

    Raises:
        NoTables: nothing has been written yet.
        UnsupportedCatalog, UnreadableCatalog: the catalog cannot be read without Spark, or not now.
    """
    with closing(open_catalog(settings)) as catalog:
        names = sorted((".".join(name) for space in catalog.list_namespaces() for name in catalog.list_tables(space)), key=_layer)
        return [table_facts(catalog.load_table(name), name) for name in names]


def table_facts(table: Table, name: str) -> TableFacts:
    """Return a table's current state. The summary still counts rows deleted by position as records, so they are subtracted."""
    head = table.current_snapshot()
    if head is None or head.summary is None:
        return TableFacts(name, 0, 0, None)
    numbers = head.summary.additional_properties
    rows = int(numbers.get("total-records", 0)) - int(numbers.get("total-position-deletes", 0))
    changes = (one for one in ancestors(table) if _changed_rows(one))
    last = next(changes, None)
    # Where all remaining snapshots are compactions, maintenance has noted when rows last changed.
    noted = None if last is not None else changed_of(table.properties)
    changed = noted or datetime.fromtimestamp((last or head).timestamp_ms / 1000, UTC)
    engine = None if last is None or last.summary is None else last.summary.additional_properties.get(ENGINE_PROPERTY)
    return TableFacts(name, rows, int(numbers.get("total-data-files", 0)), changed, engine)


def read_cities(settings: Settings, domain: Domain, facts: Iterable[TableFacts]) -> dict[str, list[CityHour]]:
    """Read the newest hour of each city that has one, sorted by city, for each table of a domain that has cities.

    Tables with more than two million rows are left out.

    Args:
        settings: with the catalog.
        domain: the domain with the tables.
        facts: the existing tables, from `read_facts`.
    """
    small = {one.name for one in facts if one.rows <= ROWS_AT_A_GLANCE}
    wanted = {bare_name(one): one for one in domain.fresh if bare_name(one) in small}
    if not wanted:
        return {}
    try:
        with closing(open_catalog(settings)) as catalog:
            return {name: _cities(catalog.load_table(name), one) for name, one in wanted.items()}
    except NoTables:
        return {}


def bare_name(one: Fresh) -> str:
    """Return the table's name without the catalog's."""
    return one.table.name.partition(".")[2]


def most_behind(hours: Iterable[CityHour], places: Iterable[str], most: int) -> list[CityHour]:
    """Select the watched cities to report individually: at most `most`, those whose newest hour is the oldest."""
    watched = set(places)
    return sorted((one for one in hours if one.city in watched), key=lambda one: (one.newest_ts, one.city))[:most]


def _cities(table: Table, one: Fresh) -> list[CityHour]:
    measured: BooleanExpression = EqualTo(term=one.but, value=False) if one.but else AlwaysTrue()
    times = [one.time, *([one.asked] if one.asked else [])]
    rows = table.scan(row_filter=measured, selected_fields=(one.entity, *times)).to_arrow()
    newest: Any = rows.group_by(one.entity).aggregate([(name, "max") for name in times])
    newest = newest.take(pc.sort_indices(newest, sort_keys=[(one.entity, "ascending")]))
    return [_city_hour(row, one) for row in newest.to_pylist()]


def _city_hour(row: Mapping[str, Any], one: Fresh) -> CityHour:
    newest = row[f"{one.time}_max"]
    moment = newest if isinstance(newest, datetime) else datetime.combine(newest, time(), UTC)
    return CityHour(row[one.entity], moment, row.get(f"{one.asked}_max"))


def _changed_rows(snapshot: Snapshot) -> bool:
    if snapshot.summary is None:
        return True
    summary = snapshot.summary.additional_properties
    is_empty = snapshot.summary.operation == Operation.APPEND and summary.get("added-data-files", "0") == "0"
    return snapshot.summary.operation != Operation.REPLACE and not is_empty


def _layer(name: str) -> tuple[int, str]:
    layer = name.partition(".")[0]
    return (LAYERS.index(layer) if layer in LAYERS else len(LAYERS), name)
