"""Does `weir status` work when nothing was ever started?"""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.local.doctor import examine
from deploy.local.status import collect, show
from lakehouse.codecs.unknown_fields import UnknownFields, unknown_fields_file
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.settings import Settings
from lakehouse.storage.folders import LocalFolder
from streaming.query_states import QueryState, write_states

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_status_of_a_home_that_was_never_used(tmp_path: Path) -> None:
    home = tmp_path / "home"
    found = json.loads(json.dumps(collect(Settings(home=home), NOW)))
    assert found["now"] == "2026-01-02T03:04:05.000Z"
    assert [(part["part"], part["state"]) for part in found["parts"]] == [
        *((part, "down") for part in ("kafka", "stream", "producer")),
        ("producer-kaggle", "off"),  # no credentials
        ("metrics", "down"),
    ]
    assert found["tables"] == []
    assert found["tables_say"].startswith("No tables yet: ")
    assert found["queries"][0]["lag_messages"] is None
    assert found["queries"][0]["says"].startswith("Kafka is not running")
    assert found["paths"]["home"] == str(home)
    show(found)
    assert not home.exists()


def test_status_names_the_query_that_is_stopped_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    write_states(
        LocalFolder(home / "state"),
        "air_quality",
        [
            QueryState("bronze.open_meteo_hourly", "running", "", 0, "2026-01-02T03:00:00.000Z"),
            QueryState("silver.air_quality_hourly_clean", "stopped", "too many rejects [30 %]", 2, "2026-01-02T03:01:00.000Z"),
        ],
    )
    found = collect(Settings(home=home), NOW)
    bronze, silver = found["queries"][:2]  # those of the other domains follow
    assert (bronze["state"], bronze["reason"]) == ("running", None)
    assert (silver["state"], silver["restarts"], silver["reason"]) == ("stopped", 2, "too many rejects [30 %]")
    show(found)
    told = capsys.readouterr().out
    assert "stopped silver.air_quality_hourly_clean since 2026-01-02 03:01:00, 2 restarts: too many rejects [30 %]" in told
    assert "running" not in told


def test_status_names_fields_that_the_contract_does_not_know_with_nothing_running(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = UnknownFields(LocalFolder(tmp_path / "state"), unknown_fields_file("air_quality"), HOURLY, lambda: NOW)
    counted.note({"nh3": 1234, "\x1b[2J": 1}, {})
    found = json.loads(json.dumps(collect(Settings(home=tmp_path), NOW)))
    assert found["unknown_fields"][1] == {
        "domain": "air_quality",
        "field": "nh3",
        "messages": 1234,
        "first_seen": "2026-01-02T03:04:05Z",
        "last_seen": "2026-01-02T03:04:05Z",
    }
    show(found)
    told = capsys.readouterr().out
    assert "unknown field 'nh3' of air_quality: 1,234 messages since 2026-01-02 03:04:05, last 2026-01-02 03:04:05" in told
    assert "\x1b" not in told


def test_doctor_finds_nothing_wrong_with_a_home_that_was_never_used(tmp_path: Path) -> None:
    findings = examine(Settings(home=tmp_path / "home", open_meteo_url="http://127.0.0.1:9"), files=True)
    assert [one for one in findings if not one.ok] == []
