"""Is a driver elsewhere known to live, and for how long?"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.storage.folders import LocalFolder
from streaming.query_states import QueryState, RemoteDriver, read_remote_driver, read_states, states_file, write_states

STATE = QueryState("air_quality_bronze", "running", "", 0, "2026-01-01T00:00:00Z")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalFolder:
    monkeypatch.setenv("CONTAINER_ID", "container_1700000000000_0012_01_000001")
    return LocalFolder(tmp_path)


def test_a_driver_in_a_container_is_found_by_what_it_has_written(folder: LocalFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    write_states(folder, "air_quality", [STATE], "node-7:4711")
    monkeypatch.delenv("CONTAINER_ID")
    assert read_states(folder, "air_quality") == [STATE]
    assert read_remote_driver(folder, "air_quality") == RemoteDriver("air_quality", "application_1700000000000_0012", "node-7:4711")


def test_one_that_is_silent_for_a_minute_counts_as_gone(folder: LocalFolder) -> None:
    write_states(folder, "air_quality", [STATE], "node-7:4711")
    held = json.loads(folder.text(states_file("air_quality")) or "")
    folder.write(states_file("air_quality"), json.dumps({**held, "written_ts": (datetime.now(UTC) - timedelta(minutes=2)).isoformat()}))
    assert read_states(folder, "air_quality") == []
    assert read_remote_driver(folder, "air_quality") is None


def test_a_driver_of_this_machine_has_no_metrics_of_its_own(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    write_states(folder, "air_quality", [STATE])
    assert read_states(folder, "air_quality") == [STATE]
    assert read_remote_driver(folder, "air_quality") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"application": "a"}', '{"application": "a", "written_ts": "yesterday"}'])
def test_a_file_that_is_cut_names_nobody(folder: LocalFolder, text: str) -> None:
    folder.write(states_file("air_quality"), text)
    assert read_states(folder, "air_quality") == []
    assert read_remote_driver(folder, "air_quality") is None
