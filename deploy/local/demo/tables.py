"""How far is the demo, and what is in its tables? They are read by metadata alone while it runs, and by SQL between its steps."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from deploy.local.demo.home import CATALOG, table_heads
from lakehouse.domains.air_quality.contract import TOPIC
from lakehouse.domains.air_quality.locations import local_path
from lakehouse.errors import DeployError, Fatal, WeirError
from lakehouse.query.reader import Reader
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.tables.catalog import ancestors, open_catalog
from lakehouse.tables.properties import MARK_PROPERTY
from monitoring.freshness import table_facts
from monitoring.lag import silver_lag

# The demo shows this domain.
DOMAIN = "air_quality"
BRONZE = "bronze.open_meteo_hourly"
SILVER = "silver.air_quality_hourly_clean"
HOURS = "gold.fact_air_quality_hourly"
DAYS = "gold.fact_city_daily"
EPISODES = "gold.fact_episode"
# In the order in which a micro-batch commits them.
FLOW = (BRONZE, SILVER, HOURS, DAYS, EPISODES)


class DemoFailed(DeployError, Fatal):
    """A check of the demo failed."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of rows of every table of the flow, from their snapshots."""

    bronze: int = 0
    silver: int = 0
    hours: int = 0
    days: int = 0
    episodes: int = 0

    def __str__(self) -> str:
        gold = f"gold {self.hours:,} hours, {self.days:,} days, {self.episodes:,} episodes"
        return f"bronze {self.bronze:,} · silver {self.silver:,} · {gold}"

    @property
    def short(self) -> str:
        """The text for the status line during a wait; together with the wait's name it fits 80 columns."""
        return f"bronze {self.bronze:,} silver {self.silver:,} gold {self.hours:,}"


@dataclass(frozen=True, slots=True)
class Commit:
    """A snapshot of a table of the flow."""

    table: str
    snapshot_id: int
    committed_ts: datetime


@dataclass(frozen=True, slots=True)
class Presence:
    """The result of a comparison: how many items are expected, how many of them are present, and in how many rows."""

    what: str
    expected: int
    present: int
    rows: int

    @property
    def lost(self) -> int:
        """The number of missing items."""
        return self.expected - self.present

    @property
    def doubled(self) -> int:
        """The number of rows beyond the first of each item."""
        return self.rows - self.present


class DemoTables:
    """The tables of the demo's home, while they are written and afterwards.

    A loaded table is reused until the catalog names another metadata file, since the demo reads several times a second and the driver needs
    the cores.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalog: Catalog | None = None
        self._loaded: dict[str, tuple[str, Table]] = {}
        self._in_gold: tuple[object, bool] = (None, False)

    def counts(self) -> Counts:
        """Count by metadata."""
        return Counts(*[0 if table is None else table_facts(table, name).rows for name, table in self._flow()])

    def heads(self) -> dict[str, Commit]:
        """Return the newest commit of every table that has one."""
        return {name: _commit(name, head) for name, table in self._flow() if table is not None and (head := table.current_snapshot())}

    def first_commit_after(self, heads: dict[str, Commit]) -> Commit | None:
        """Return the earliest commit that is not among the ancestors of those heads; None while there is none."""
        commits = []
        for name, table in self._flow():
            for snapshot in ancestors(table) if table is not None else ():
                if name in heads and snapshot.snapshot_id == heads[name].snapshot_id:
                    break
                commits.append(_commit(name, snapshot))
        return min(commits, key=lambda commit: commit.committed_ts, default=None)

    def is_all_in_gold(self, end_offsets: dict[int, int]) -> bool:
        """Return whether bronze has every message, and the micro-batch that wrote the last row to gold is committed."""
        if {partition: end for partition, end in self._next_offsets().items() if end} != {p: end for p, end in end_offsets.items() if end}:
            return False
        checkpoint = local_path(self._settings.checkpoint(SILVER))
        committed = max((int(file.name) for file in checkpoint.glob("commits/*") if file.name.isdigit()), default=-1)
        if self._in_gold[0] != (seen := (committed, tuple(end_offsets.items()))):
            try:
                self._in_gold = (seen, silver_lag(self._settings, build_domain(DOMAIN, self._settings)).messages == 0)
            except WeirError:  # the checkpoint cannot be read at this moment
                return False
        return self._in_gold[1]

    def presence(self, end_offsets: dict[int, int]) -> list[Presence]:
        """Compare Kafka with bronze by offset, and bronze with silver and gold by key, row by row.

        Raises:
            DemoFailed: bronze has a message that Kafka does not have.
        """
        by_offset = self.rows("""
            SELECT topic, partition, count(*) AS total, count(DISTINCT kafka_offset) AS present, max(kafka_offset) AS greatest
            FROM bronze.open_meteo_hourly GROUP BY ALL
        """)
        for row in by_offset:
            if row["topic"] != TOPIC or row["greatest"] >= end_offsets.get(row["partition"], 0):
                raise DemoFailed(f"Bronze has {row['topic']}[{row['partition']}]@{row['greatest']}, but Kafka ends before it.")
        by_key = self.rows("""
            WITH hours AS (SELECT DISTINCT location_key, ts_utc FROM bronze.open_meteo_hourly),
            days AS (SELECT DISTINCT location_key, ts_utc::DATE AS date_utc FROM hours),
            silver AS (SELECT location_key, ts_utc FROM silver.air_quality_hourly_clean),
            facts AS (SELECT location_key, ts_utc FROM gold.fact_air_quality_hourly),
            city_days AS (SELECT location_key, date_utc FROM gold.fact_city_daily)
            SELECT 'hours in silver' AS what, (SELECT count(*) FROM hours) AS expected,
                   (SELECT count(*) FROM hours SEMI JOIN silver USING (location_key, ts_utc)) AS present,
                   (SELECT count(*) FROM silver) AS total
            UNION ALL
            SELECT 'hours in gold', (SELECT count(*) FROM hours),
                   (SELECT count(*) FROM hours SEMI JOIN facts USING (location_key, ts_utc)), (SELECT count(*) FROM facts)
            UNION ALL
            SELECT 'city-days in gold', (SELECT count(*) FROM days),
                   (SELECT count(*) FROM days SEMI JOIN city_days USING (location_key, date_utc)), (SELECT count(*) FROM city_days)
        """)
        present, total = (sum(row[name] for row in by_offset) for name in ("present", "total"))
        messages = Presence("messages of Kafka in bronze", sum(end_offsets.values()), present, total)
        return [messages, *[Presence(row["what"], row["expected"], row["present"], row["total"]) for row in by_key]]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Query the tables' current snapshots in SQL."""
        with Reader(self._settings) as reader:
            answer = reader.query(sql)
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    def rows_of(self, name: str) -> int:
        """Count the rows of a table by metadata; 0 where there is none yet."""
        table = self._table(name, table_heads(self._settings.home / CATALOG).get(name))
        return 0 if table is None else table_facts(table, name).rows

    def close(self) -> None:
        """Close the catalog."""
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None

    def _flow(self) -> list[tuple[str, Table | None]]:
        locations = table_heads(self._settings.home / CATALOG)
        return [(name, self._table(name, locations.get(name))) for name in FLOW]

    def _table(self, name: str, location: str | None) -> Table | None:
        if location is None:
            return None
        if name not in self._loaded or self._loaded[name][0] != location:
            if self._catalog is None:
                self._catalog = open_catalog(self._settings)
            self._loaded[name] = (location, self._catalog.load_table(name))
        return self._loaded[name][1]

    def _next_offsets(self) -> dict[int, int]:
        table = dict(self._flow())[BRONZE]
        for snapshot in ancestors(table) if table is not None else ():
            if snapshot.summary is not None and (mark := snapshot.summary.additional_properties.get(MARK_PROPERTY)):
                return {int(partition): int(offset) for partition, offset in json.loads(mark)[TOPIC]["next"].items()}
        return {}


def read_revised(tables: DemoTables) -> dict[str, list[dict[str, Any]]]:
    """Read the rows of gold that the recorded revision of Hanoi's hours can change: hours, days and episodes, in order."""
    return {
        "hours": tables.rows("""
            SELECT ts_utc, pm25, aqi FROM gold.fact_air_quality_hourly
            WHERE location_key = 'hanoi' AND ts_utc >= '2025-09-19' ORDER BY ts_utc
        """),
        "days": tables.rows("""
            SELECT date_utc, avg_pm25, avg_aqi, max_aqi, hours_moderate, hours_usg, hours_unhealthy, hours_very_unhealthy
            FROM gold.fact_city_daily WHERE location_key = 'hanoi' AND date_utc >= '2025-09-19' ORDER BY date_utc
        """),
        "episodes": tables.rows("""
            SELECT start_ts, end_ts, duration_hours, avg_aqi, peak_aqi
            FROM gold.fact_episode WHERE location_key = 'hanoi' AND end_ts >= '2025-09-19' ORDER BY start_ts
        """),
    }


def _commit(name: str, snapshot: Any) -> Commit:  # noqa: ANN401 - pyiceberg's Snapshot
    return Commit(name, snapshot.snapshot_id, datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC))
