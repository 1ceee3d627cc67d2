"""Do the runs that a domain names come out of its tables, and does the metrics page show what was judged last?"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from lakehouse.alerts import Alert
from lakehouse.domains.kaggle.alerts import runs
from lakehouse.settings import Settings
from monitoring.alerts import Judged, keep, last_judged
from monitoring.watch import Watch

NOW = datetime(2025, 7, 4, 12, tzinfo=UTC)


@pytest.fixture
def tables() -> duckdb.DuckDBPyConnection:
    database = duckdb.connect()
    database.execute("""
        ATTACH ':memory:' AS lh; CREATE SCHEMA lh.bronze; CREATE SCHEMA lh.silver;
        CREATE TABLE lh.silver.kaggle_dumps AS SELECT * FROM (VALUES
          ('users', DATE '2025-03-01', TIMESTAMPTZ '2025-03-01 06:00Z', 100),
          ('users', DATE '2025-03-08', TIMESTAMPTZ '2025-03-08 06:00Z', 110),
          ('datasets', DATE '2025-03-08', TIMESTAMPTZ '2025-03-08 06:00Z', 7),
          ('users', DATE '2025-03-15', TIMESTAMPTZ '2025-03-15 06:00Z', NULL)
        ) t (table_name, run_date, run_ts, rows);
        CREATE TABLE lh.bronze.kaggle_users AS SELECT * FROM (VALUES
          (1, DATE '2025-03-01'), (2, DATE '2025-03-01'), (1, DATE '2025-03-01'), (2, DATE '2025-03-08'), (NULL, NULL)
        ) t (user_id, run_date);
        CREATE TABLE lh.bronze.kaggle_datasets (dataset_id BIGINT, run_date DATE);
        CREATE TABLE lh.bronze.kaggle_dataset_tags (dataset_id BIGINT, tag VARCHAR, occurrence BIGINT, run_date DATE);
        CREATE TABLE lh.silver.kaggle_dataset_list_polls AS SELECT * FROM (VALUES
          (TIMESTAMPTZ '2025-07-04 01:00Z', true, 40), (TIMESTAMPTZ '2025-07-04 02:00Z', false, 9),
          (TIMESTAMPTZ '2025-07-04 03:00Z', true, 41)
        ) t (poll_ts, is_complete, rows);
        CREATE TABLE lh.bronze.kaggle_dataset_list AS SELECT * FROM (VALUES
          ('a/b', TIMESTAMPTZ '2025-07-04 03:00Z'), ('a/b', TIMESTAMPTZ '2025-07-04 03:00Z')) t (ref, poll_ts);
    """)
    return database


def test_runs_of_kaggle_are_dumps_with_rows_and_complete_polls(tables: duckdb.DuckDBPyConnection) -> None:
    found = {
        one.name: tables.execute(f"SELECT records, duplicates FROM (SELECT * FROM ({one.sql}) ORDER BY run_ts)").fetchall()
        for one in runs()
    }
    assert found == {
        "dumps_users": [(100, 1), (110, 0)],
        "dumps_datasets": [(7, 0)],
        "dumps_dataset_tags": [],
        "list_polls": [(40, 0), (41, 1)],
    }


def test_page_shows_what_was_judged_last_with_its_age(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    alerts = (
        Alert("records", "list_polls", "lh.bronze.kaggle_dataset_list", 4.5, 3.0, "z = 4.50"),
        Alert("freshness", "gold", "lh.gold", None, None, "not judged"),
    )
    keep(settings, Judged("kaggle", NOW - timedelta(minutes=5), alerts))
    assert last_judged(settings, ["kaggle", "air_quality"])[0].alerts == alerts
    registry = CollectorRegistry()
    registry.register(Watch(settings, lambda: None, lambda: NOW))
    page = generate_latest(registry).decode().splitlines()
    assert 'weir_alert_value{alert="records",domain="kaggle",name="list_polls"} 4.5' in page
    assert 'weir_alert_bound{alert="records",domain="kaggle",name="list_polls"} 3.0' in page
    assert 'weir_alert_age_seconds{domain="kaggle"} 300.0' in page
    assert not any("freshness" in line and line.startswith("weir_alert") for line in page), "what is not known has no sample"


@pytest.mark.parametrize(
    "text", ["", "{}", '{"judged_ts": 1, "alerts": []}', '{"judged_ts": "2025-07-04T00:00:00+00:00", "alerts": [{"x": 1}]}']
)
def test_file_that_cannot_be_read_has_no_alerts(tmp_path: Path, text: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "kaggle.alerts.json").write_text(text)
    assert last_judged(Settings(home=tmp_path), ["kaggle"]) == []
