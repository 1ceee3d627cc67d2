"""Does `weir status` work when nothing was ever started?"""

import json
from datetime import UTC, datetime
from pathlib import Path

from deploy.local.doctor import examine
from deploy.local.status import collect, show
from lakehouse.settings import Settings

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_status_of_a_home_that_was_never_used(tmp_path: Path) -> None:
    home = tmp_path / "home"
    found = json.loads(json.dumps(collect(Settings(home=home), NOW)))
    assert found["now"] == "2026-01-02T03:04:05.000Z"
    assert [(part["part"], part["state"]) for part in found["parts"]] == [(p, "down") for p in ("kafka", "stream", "producer", "metrics")]
    assert found["tables"] == []
    assert found["tables_say"].startswith("No tables yet: ")
    assert found["queries"][0]["lag_messages"] is None
    assert found["queries"][0]["says"].startswith("Kafka is not running")
    assert found["paths"]["home"] == str(home)
    show(found)
    assert not home.exists()


def test_doctor_finds_nothing_wrong_with_a_home_that_was_never_used(tmp_path: Path) -> None:
    findings = examine(Settings(home=tmp_path / "home"), files=True)
    assert [one for one in findings if not one.ok] == []
