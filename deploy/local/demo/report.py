"""What is in gold, and does it agree with independent results? Tables for the terminal, and the comparison."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from deploy.local.demo.tables import DAYS, EPISODES, HOURS, DemoTables
from lakehouse.domains.dates.zones import zone

Row = Mapping[str, Any]

GOLDEN = Path(__file__).resolve().parents[3] / "tests" / "golden" / "air_quality"
DAYS_FILE, EPISODES_FILE = "upstream_city_daily_2024.csv", "upstream_episode_2024.csv"
# The independent results also used the hours before it, which are not recorded here, so running means differ on that day.
FIRST_RECORDED_DAY = date(2024, 1, 1)
COMPARED_COUNTS = ("hours_good", "hours_moderate", "hours_usg", "hours_unhealthy", "hours_very_unhealthy", "hours_hazardous")
LEAST_AGREEMENT = 0.995


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many city-days and episodes of the independent results are equal in gold; `extra_episodes` are those that only gold has."""

    days: int
    days_equal: int
    episodes: int
    episodes_equal: int
    extra_episodes: int

    @property
    def is_as_promised(self) -> bool:
        """Whether at least 99.5 % of the days, and every episode, are equal."""
        enough_days = self.days_equal >= LEAST_AGREEMENT * self.days
        return enough_days and self.episodes_equal == self.episodes and self.extra_episodes == 0

    def __str__(self) -> str:
        days = f"{self.days_equal:,} of {self.days:,} city-days agree with the independent results ({self.days_equal / self.days:.1%})"
        extra = f", {self.extra_episodes} more in gold" if self.extra_episodes else ""
        return f"{days}, {self.episodes_equal} of {self.episodes} episodes{extra}"


def agreement(golden_days: Iterable[Row], golden_episodes: Iterable[Row], days: Iterable[Row], episodes: Iterable[Row]) -> Agreement:
    """Compare days by maximum and all six hour counts, and episodes by start, end, duration and peak.

    Args:
        golden_days: the independent results as in their file, all values as text; the first recorded day is left out.
        golden_episodes: likewise.
        days: gold's, of any span of time.
        episodes: gold's; those that start after the last day of `golden_days` are left out.
    """
    wanted_days = {(row["location_key"], row["date_utc"]): row for row in golden_days if row["date_utc"] != str(FIRST_RECORDED_DAY)}
    gold_days = {(row["location_key"], str(row["date_utc"])): row for row in days}
    wanted = {_episode(row) for row in golden_episodes}
    last_day = max(day for _, day in wanted_days)
    in_gold = {episode for row in episodes if (episode := _episode(row))[1][:10] <= last_day}
    equal = sum(key in gold_days and _same_day(row, gold_days[key]) for key, row in wanted_days.items())
    # An episode with other values is on both sides, so it is not an extra one.
    extra = {episode[:2] for episode in in_gold} - {episode[:2] for episode in wanted}
    return Agreement(len(wanted_days), equal, len(wanted), len(wanted & in_gold), len(extra))


def _same_day(golden: Row, row: Row) -> bool:
    names = (("aqi_daily_max", "max_aqi"), *((name, name) for name in COMPARED_COUNTS))
    return all(golden[theirs] == str(row[ours]) for theirs, ours in names)


def _episode(row: Row) -> tuple[str, str, str, str, str]:
    """Format an episode like the golden file."""
    instants = [f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value) for value in (row["start_ts"], row["end_ts"])]
    return row["location_key"], instants[0], instants[1], str(row["duration_hours"]), str(row["peak_aqi"])


def read_agreement(tables: DemoTables, folder: Path = GOLDEN) -> Agreement | None:
    """Compare gold with the independent results; None where weir was installed without the repository's files."""
    try:
        golden_days, golden_episodes = _read_csv(folder / DAYS_FILE), _read_csv(folder / EPISODES_FILE)
    except FileNotFoundError:
        return None
    days = tables.rows("SELECT * FROM gold.fact_city_daily")
    episodes = tables.rows("SELECT * FROM gold.fact_episode")
    return agreement(golden_days, golden_episodes, days, episodes)


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def freshness_seconds(tables: DemoTables, since: datetime) -> tuple[int, float, float]:
    """Measure how long the newest messages took from Kafka to gold.

    Args:
        tables: the demo's tables.
        since: only messages that Kafka received from this instant on are measured.

    Returns:
        The number of messages, and the seconds from the first and from the last of them to the newest commit of a gold table.
    """
    newest = f"FROM bronze.open_meteo_hourly WHERE kafka_ts >= '{since.isoformat()}'"
    taken = tables.rows(f"SELECT count(*) AS hours, min(kafka_ts) AS first, max(kafka_ts) AS last {newest}")[0]
    heads = tables.heads()
    commit = max(heads[name].committed_ts for name in (HOURS, DAYS, EPISODES))
    return taken["hours"], (commit - taken["first"]).total_seconds(), (commit - taken["last"]).total_seconds()


def changed(before: Sequence[Row], after: Sequence[Row], key: str) -> list[tuple[Row, Row]]:
    """Return pairs of rows that differ, by key; a row that exists on one side only is paired with an empty one."""
    sides = [{row[key]: row for row in rows} for rows in (before, after)]
    keys = sorted(sides[0].keys() | sides[1].keys())
    pairs = [(sides[0].get(one, {}), sides[1].get(one, {})) for one in keys]
    return [(was, now) for was, now in pairs if was != now]


def category(aqi: int | None) -> str:
    """Return the category of an AQI, for people."""
    from lakehouse.domains.air_quality.aqi import CATEGORIES

    if aqi is None:
        return "unknown"
    name = next((name for name, high in CATEGORIES.items() if aqi <= high), "hazardous")
    return "unhealthy for sensitive groups" if name == "usg" else name.replace("_", " ")


def print_findings(console: Console, tables: DemoTables) -> None:
    """Print the latest AQI of each city, the worst days and the longest episodes."""
    latest = tables.rows("""
        SELECT location_key, location_name, timezone, ts_utc, aqi, dominant_pollutant
        FROM gold.fact_air_quality_hourly JOIN gold.dim_location USING (location_key)
        QUALIFY row_number() OVER (PARTITION BY location_key ORDER BY ts_utc DESC) = 1 ORDER BY aqi DESC, location_key
    """)
    worst = tables.rows("""
        SELECT location_key, date_utc, max_aqi, round(avg_aqi)::INT AS mean_aqi, round(avg_pm25)::INT AS pm25, dominant_pollutant,
               hours_unhealthy + hours_very_unhealthy + hours_hazardous AS hours_bad
        FROM gold.fact_city_daily ORDER BY max_aqi DESC, avg_aqi DESC, location_key, date_utc LIMIT 5
    """)
    longest = tables.rows("""
        SELECT location_key, start_ts, duration_hours, peak_aqi, dominant_pollutant
        FROM gold.fact_episode ORDER BY duration_hours DESC, peak_aqi DESC, start_ts, location_key LIMIT 5
    """)
    print_grid(
        console,
        "Latest AQI by city (the recordings end there)",
        ("city", "name", "hour (UTC)", "there", ">AQI", "category", "by"),
        [
            (r["location_key"], r["location_name"], _hour(r["ts_utc"]), _there(r), r["aqi"], category(r["aqi"]), r["dominant_pollutant"])
            for r in latest
        ],
    )
    print_grid(
        console,
        "Worst days",
        ("city", "day (UTC)", ">highest AQI", ">mean", ">hours > 150", ">PM2.5 µg/m³", "by"),
        [
            (r["location_key"], r["date_utc"], r["max_aqi"], r["mean_aqi"], r["hours_bad"], r["pm25"], r["dominant_pollutant"])
            for r in worst
        ],
    )
    print_grid(
        console,
        "Longest episodes (AQI of 151 or more, hour after hour)",
        ("city", "from (UTC)", ">hours", ">peak AQI", "by"),
        [(r["location_key"], _hour(r["start_ts"]), r["duration_hours"], r["peak_aqi"], r["dominant_pollutant"]) for r in longest],
    )


def print_revision(console: Console, before: Mapping[str, Sequence[Row]], after: Mapping[str, Sequence[Row]]) -> None:
    """Print the changes in gold between two reads of Hanoi's rows."""
    hours = changed(before["hours"], after["hours"], "ts_utc")
    shown = [pair for pair in hours if pair[0].get("pm25") != pair[1].get("pm25")][:3]
    shown += [pair for pair in hours if pair[0].get("aqi") != pair[1].get("aqi") and pair not in shown][:5]
    print_grid(
        console,
        f"Hanoi in gold: {len(hours)} hours changed, among them",
        ("hour (UTC)", ">PM2.5 was", ">is", ">AQI was", ">is"),
        [(_hour(now["ts_utc"]), was.get("pm25"), now["pm25"], was.get("aqi"), now["aqi"]) for was, now in shown if now],
    )
    names = {"avg_pm25": "mean PM2.5", "avg_aqi": "mean AQI", "max_aqi": "highest AQI", "peak_aqi": "peak AQI"}
    for was, now in changed(before["days"], after["days"], "date_utc"):
        day = now.get("date_utc") or was["date_utc"]
        console.print(f"day {day}: {_differences(was, now, names)}", highlight=False, soft_wrap=True)
    for was, now in changed(before["episodes"], after["episodes"], "start_ts"):
        start = _hour(now.get("start_ts") or was["start_ts"])
        what = f"{now['duration_hours']} hours, new" if not was else "gone" if not now else _differences(was, now, names)
        console.print(f"episode from {start}: {what}", highlight=False, soft_wrap=True)
    if not changed(before["episodes"], after["episodes"], "start_ts"):
        console.print(f"episodes of those days: {len(after['episodes'])}, unchanged", highlight=False)
    console.print()


def _differences(was: Row, now: Row, names: Mapping[str, str]) -> str:
    if not was or not now:
        return "new" if now else "gone"
    return ", ".join(
        f"{names.get(name, name.replace('_', ' '))} {_short(was[name])} → {_short(now[name])}" for name in now if was[name] != now[name]
    )


def _short(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else _hour(value) if isinstance(value, datetime) else str(value)


def _hour(ts: datetime) -> str:
    return f"{ts.astimezone(UTC):%Y-%m-%d %H:%M}"


def _there(row: Row) -> str:
    local = row["ts_utc"].astimezone(zone(row["timezone"]))
    offset: timedelta = local.utcoffset() or timedelta(0)
    return f"{local:%a %H:%M} ({offset.total_seconds() / 3600:+g} h)"


def print_grid(console: Console, title: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows with a title; a heading that begins with > marks a right-aligned column of numbers."""
    grid = Grid(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        grid.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left", no_wrap=True)
    for row in rows:
        grid.add_row(*["" if value is None else str(value) for value in row])
    console.print(f"[bold]{title}[/bold]", highlight=False)
    console.print(grid)
    console.print()
