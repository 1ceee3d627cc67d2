"""Was gold computed by the reference data in force, such as the zone database? What was not is named, and asks for a rebuild.

A domain names the releases that its gold is computed by (`Domain.references`). Its first gold table notes, as `weir.<name>`, the release
that all of its rows agree with. Where that is another one, the rows themselves are asked (`Domain.outdated`): as long as some differ, the
note stays as it is; when none does, because nothing that is there has changed or it was rebuilt, the note becomes the release in force.
"""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from multiprocessing import get_context
from typing import Any

import structlog
from pyiceberg.exceptions import NoSuchTableError
from pyspark.sql import SparkSession

from lakehouse.domain import Domain
from lakehouse.settings import Settings
from lakehouse.spark import iceberg_table
from lakehouse.tables.catalog import UnsupportedCatalog, open_catalog
from lakehouse.tables.properties import edition_property
from lakehouse.tables.schema import quote

log = structlog.get_logger("weir.tables")


@dataclass(frozen=True, slots=True)
class Outdated:
    """Rows of gold that an older release computed: of which entity, from when to when (UTC, both included), and how many."""

    entity: str
    since: datetime
    until: datetime
    rows: int

    def __str__(self) -> str:
        return f"{self.entity} {self.since:%Y-%m-%dT%H:%MZ} to {self.until:%Y-%m-%dT%H:%MZ} ({self.rows} rows)"


@dataclass(frozen=True, slots=True)
class References:
    """How gold stands to the reference data.

    Attributes:
        domain: whose gold.
        in_force: release by name.
        noted: release by name that all of gold agrees with; None where no table says so.
        outdated: what an older release computed.
    """

    domain: str
    in_force: Mapping[str, str]
    noted: Mapping[str, str | None]
    outdated: tuple[Outdated, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Whether all of gold agrees with the releases in force by what is noted, so that no row need be asked."""
        return dict(self.noted) == dict(self.in_force)

    @property
    def advice(self) -> str:
        """What to do, as one sentence; empty where nothing is outdated."""
        if not self.outdated:
            return ""
        changed = ", ".join(f"{name} {self.noted.get(name) or 'before'} to {now}" for name, now in self.in_force.items())
        since, until = min(one.since for one in self.outdated), max(one.until for one in self.outdated)
        rows = "; ".join(str(one) for one in self.outdated[:5]) + (f"; and {len(self.outdated) - 5} more" if len(self.outdated) > 5 else "")
        return (
            f"Reference data has changed ({changed}), and these rows of gold are of the older one: {rows}. "
            f"`weir rebuild {self.domain} --layer gold --since {since:%Y-%m-%d} --until {until:%Y-%m-%d}` computes them again."
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what --json prints."""
        rows = [asdict(one) | {"since": one.since.isoformat(), "until": one.until.isoformat()} for one in self.outdated]
        return {"domain": self.domain, "in_force": dict(self.in_force), "noted": dict(self.noted), "outdated": rows}


def look_at_references(settings: Settings, domain: Domain) -> References:
    """Compare gold with the reference data in force; without Spark, and without a look at rows where the releases are the same.

    Raises:
        NoTables: nothing has been written yet.
        UnsupportedCatalog: the catalog can be read through Spark only.
    """
    if not domain.references:
        return References(domain.name, {}, {})
    with closing(open_catalog(settings)) as catalog:
        try:
            found = _as_noted(domain, catalog.load_table(domain.derived[0].table.name.partition(".")[2]).properties)
        except NoSuchTableError:
            return References(domain.name, domain.references, {})
    if found.is_settled or not domain.outdated:
        return found
    return replace(found, outdated=_outdated(settings, domain))


def settle_references(spark: SparkSession, settings: Settings, domain: Domain) -> None:
    """Note the releases in force where all of gold agrees with them, and warn of what does not; do neither where that cannot be asked.

    The dimensions must be those of the configuration.
    """
    if not domain.references:
        return
    table = domain.derived[0].table.name
    if _as_noted(domain, iceberg_table(spark, table).properties()).is_settled:
        return
    # In a process of its own, which ends: a driver that has loaded DuckDB ends with a page of that library's complaints.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        found = apart.submit(_look_apart, settings, domain.name).result()
    if found is None:
        return
    if found.outdated:
        log.warning("gold is of older reference data", advice=found.advice)
    else:
        for name, release in domain.references.items():
            spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ({quote(f'weir.{name}')} = {quote(release)})")


def _as_noted(domain: Domain, properties: Mapping[str, str]) -> References:
    """Read what the first gold table notes, without a look at its rows."""
    return References(domain.name, domain.references, {name: properties.get(edition_property(name)) for name in domain.references})


def _look_apart(settings: Settings, domain: str) -> References | None:
    from lakehouse.registry import build_domain

    try:
        return look_at_references(settings, build_domain(domain, settings))
    except UnsupportedCatalog:
        return None


def _outdated(settings: Settings, domain: Domain) -> tuple[Outdated, ...]:
    from lakehouse.query.reader import Reader, UnknownTable

    with Reader(settings) as reader:
        try:
            return tuple(Outdated(*row) for row in reader.query(domain.outdated).rows)
        except UnknownTable:  # a home of an earlier version: the stream makes the dimension at its next start
            return ()
