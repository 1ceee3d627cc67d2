"""Does the demo keep its hands off other people's data, and does it compare as it says?"""

import json
import os
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from deploy.local.agent.processes import ProcessKey
from deploy.local.agent.run_files import PartState, write_state
from deploy.local.demo.demo import AQI_RULE, environment_for, print_next, settings_text
from deploy.local.demo.home import HomeIsTaken, HomeRuns, choose_home, note_what_is_left, only_demo, prepare
from deploy.local.demo.report import Agreement, agreement, changed
from deploy.local.demo.tables import Presence

TEXT = settings_text(AQI_RULE)


def write(file: Path, text: str = "x") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def write_catalog(home: Path, location: str) -> None:
    with closing(sqlite3.connect(home / "catalog.db")) as catalog, catalog:
        catalog.execute("CREATE TABLE IF NOT EXISTS iceberg_tables (table_namespace TEXT, table_name TEXT, metadata_location TEXT)")
        catalog.execute("DELETE FROM iceberg_tables")
        catalog.execute("INSERT INTO iceberg_tables VALUES ('gold', 'fact_city_daily', ?)", (location,))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home as a demo leaves it."""
    home = tmp_path / "home"
    with only_demo(home):
        prepare(home, TEXT)
        write(home / "kafka/data/air-quality.hourly.v1-0/00000000000000000000.log", "messages")
        write(home / "kafka/data/__cluster_metadata-0/00000000000000000000.log", "of a start")
        write(home / "warehouse/gold/fact_city_daily/data/1.parquet")
        write(home / "checkpoints/silver/commits/0")
        write(home / "logs/stream.log")
        for name in ("air_quality.breaker.json", "open-meteo.published.db", "open-meteo.published.db-wal"):
            write(home / "state" / name)
        write_catalog(home, "1.metadata.json")
        note_what_is_left(home)
    return home


def test_home_that_is_not_there_or_empty_is_used(tmp_path: Path) -> None:
    assert choose_home(tmp_path / "new") == (tmp_path / "new", "")
    write(tmp_path / "home/logs/agent.log")
    (tmp_path / "home/state").mkdir()
    assert choose_home(tmp_path / "home") == (tmp_path / "home", "")


def test_demos_own_home_is_emptied_and_used_again(home: Path) -> None:
    write(home / "kafka/data/__cluster_metadata-0/00000000000000000000.log", "of another start")
    assert choose_home(home) == (home, "")
    prepare(home, TEXT)
    assert sorted(entry.name for entry in home.iterdir()) == ["demo.json", "logs", "run", "weir.toml"]
    assert list((home / "logs").iterdir()) == []
    assert choose_home(home) == (home, "")


@pytest.mark.parametrize("name", ["catalog.db", "kafka/cluster-id", "locations.jsonl", "weir.toml", "warehouse/x"])
def test_home_without_the_marker_is_left_alone(tmp_path: Path, name: str) -> None:
    write(tmp_path / "home" / name)
    used, why = choose_home(tmp_path / "home")
    assert used == tmp_path / "home-demo"
    assert why == f"has {name.partition('/')[0]} that the demo did not create"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("locations.jsonl", "x", "has locations.jsonl that the demo did not create"),
        ("state/open-meteo.cursor.json", "{}", "has state/open-meteo.cursor.json that the demo did not create"),
        ("weir.toml", TEXT + "kafka_partitions = 4\n", "has a weir.toml that was changed after the demo"),
        ("kafka/data/market.trades.v1-0/00000000000000000000.log", "x", "has messages that the demo did not publish"),
        ("demo.json", "{}", "has catalog.db, checkpoints, demo.json, kafka and more that the demo did not create"),
    ],
)
def test_home_that_was_used_since_is_left_alone(home: Path, name: str, text: str, why: str) -> None:
    write(home / name, text)
    assert choose_home(home) == (home.with_name("home-demo"), why)


def test_home_whose_tables_changed_is_left_alone(home: Path) -> None:
    write_catalog(home, "2.metadata.json")
    assert choose_home(home) == (home.with_name("home-demo"), "has tables that were changed since")


def test_home_of_a_demo_that_was_cut_off_is_used_again(home: Path) -> None:
    marker = json.loads((home / "demo.json").read_text())
    write(home / "demo.json", json.dumps({**marker, "left": None}))
    assert choose_home(home) == (home, "")


def test_nothing_is_used_when_both_folders_are_taken(tmp_path: Path) -> None:
    write(tmp_path / "home/catalog.db")
    write(tmp_path / "home-demo/catalog.db")
    with pytest.raises(HomeIsTaken, match=r"home-demo has catalog\.db that the demo did not create\. Move it away, or set WEIR_HOME"):
        choose_home(tmp_path / "home")


def test_demo_refuses_a_home_in_which_parts_run(home: Path) -> None:
    me = ProcessKey.of(os.getpid())
    write_state(home / "run", PartState("kafka", "up", me.pid, me.created))
    with pytest.raises(HomeRuns, match=rf"The stack runs \(kafka\) in {home}.*weir down"), only_demo(home):
        pass


def test_two_demos_do_not_share_a_home(home: Path) -> None:
    with only_demo(home), pytest.raises(HomeRuns, match="Another demo runs"), only_demo(home):
        pass


def test_processes_of_the_demo_do_not_see_where_other_data_is(tmp_path: Path) -> None:
    given = dict(os.environ) | {
        "WEIR_HOME": "elsewhere",
        "WEIR_CATALOG_URI": "postgresql://elsewhere",
        "WAREHOUSE_URI": "hdfs://elsewhere",
        "WEIR_KAFKA_BOOTSTRAP": "elsewhere:9092",
        "SPARK_MASTER": "yarn",
        "PROMETHEUS_MULTIPROC_DIR": "elsewhere",
        "WEIR_AQI_RULE": "us-epa-2024",
        "WEIR_SPARK_DRIVER_MEMORY": "1g",
    }
    seen = environment_for(given, tmp_path)
    assert "elsewhere" not in "".join(value for name, value in seen.items() if name in given and name not in os.environ)
    assert (seen["WEIR_HOME"], seen["WEIR_AQI_RULE"], seen["WEIR_SPARK_DRIVER_MEMORY"]) == (str(tmp_path), "us-epa-2024", "1g")
    assert "SPARK_MASTER" not in seen


@pytest.mark.parametrize(("folder", "prefix"), [(".weir", ""), ("home", "WEIR_HOME={} ")])
def test_hints_name_the_home_only_where_it_is_not_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, prefix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = StringIO()
    print_next(Console(file=said, width=200), tmp_path / folder, {"WAREHOUSE_URI": "hdfs://elsewhere"})
    commands = [line.strip() for line in said.getvalue().splitlines() if line.startswith("  ") and not line.startswith("   ")]
    assert len(commands) >= 5
    assert all(command.startswith(prefix.format(tmp_path / folder)) for command in commands)
    assert all(("WEIR_HOME" in command) == bool(prefix) for command in commands)
    assert "WAREHOUSE_URI: unset it" in said.getvalue()


COUNTS = {"hours_good": 20, "hours_moderate": 4, "hours_usg": 0, "hours_unhealthy": 0, "hours_very_unhealthy": 0, "hours_hazardous": 0}


def golden_day(day: int, aqi: int = 60) -> dict[str, str]:
    counts = {name: str(count) for name, count in COUNTS.items()}
    return {"location_key": "hanoi", "date_utc": f"2024-01-{day:02}", "aqi_daily_max": str(aqi), **counts}


def day(number: int, aqi: int = 60, **counts: int) -> dict[str, object]:
    return {"location_key": "hanoi", "date_utc": date(2024, 1, number), "max_aqi": aqi, **COUNTS, **counts}


def golden_episode(start: int, peak: int = 160) -> dict[str, str]:
    span = {"start_ts": f"2024-01-{start:02} 00:00:00", "end_ts": f"2024-01-{start:02} 04:00:00"}
    return {"location_key": "hanoi", **span, "duration_hours": "5", "peak_aqi": str(peak)}


def episode(start: int, peak: int = 160) -> dict[str, object]:
    span = {"start_ts": datetime(2024, 1, start, tzinfo=UTC), "end_ts": datetime(2024, 1, start, 4, tzinfo=UTC)}
    return {"location_key": "hanoi", **span, "duration_hours": 5, "peak_aqi": peak}


def test_days_agree_by_maximum_and_every_hour_count() -> None:
    golden = [golden_day(number) for number in (1, 2, 3, 4, 5)]
    found = agreement(golden, [], [day(1, aqi=999), day(2), day(3, aqi=61), day(4, hours_good=19)], [])
    # The first recorded day is apart; one day is equal, one has another maximum, one another count, one is missing.
    assert (found.days, found.days_equal, found.is_as_promised) == (4, 1, False)


def test_episodes_agree_by_span_and_peak_and_none_may_be_more() -> None:
    golden = [golden_episode(2), golden_episode(3), golden_episode(4)]
    found = agreement([golden_day(9)], golden, [day(9)], [episode(2), episode(3, peak=161), episode(5), episode(20)])
    assert (found.episodes, found.episodes_equal, found.extra_episodes) == (3, 1, 1)
    assert not found.is_as_promised


def test_agreement_reads_as_a_sentence() -> None:
    found = Agreement(1002, 998, 181, 181, 0)
    assert str(found) == "998 of 1,002 city-days agree with the independent results (99.6%), 181 of 181 episodes"
    assert found.is_as_promised
    assert not Agreement(1002, 996, 181, 181, 0).is_as_promised


def test_lost_and_doubled_do_not_hide_each_other() -> None:
    found = Presence("hours", expected=10, present=8, rows=10)
    assert (found.lost, found.doubled) == (2, 2)


def test_rows_that_differ_are_paired() -> None:
    before = [{"k": 1, "v": 1}, {"k": 2, "v": 2}, {"k": 3, "v": 3}]
    after = [{"k": 1, "v": 1}, {"k": 2, "v": 9}, {"k": 4, "v": 4}]
    assert changed(before, after, "k") == [({"k": 2, "v": 2}, {"k": 2, "v": 9}), ({"k": 3, "v": 3}, {}), ({}, {"k": 4, "v": 4})]
