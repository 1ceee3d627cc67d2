"""What does a process know of the container that it runs in?"""

import json
from pathlib import Path

import pytest
import structlog

from lakehouse.machine import logs
from lakehouse.machine.container import Container, container_of

APPLICATION = "application_1700000000000_0012"


@pytest.mark.parametrize("name", ["container_1700000000000_0012_02_000001", "container_e17_1700000000000_0012_02_000001"])
def test_application_and_attempt_are_in_the_containers_name(name: str) -> None:
    environment = {"CONTAINER_ID": name, "NM_HOST": "node-7", "LOG_DIRS": "/a,/b"}
    assert container_of(environment) == Container(APPLICATION, 2, "node-7", Path("/a"))


@pytest.mark.parametrize("environment", [{}, {"CONTAINER_ID": ""}, {"CONTAINER_ID": "docker-17"}])
def test_elsewhere_there_is_none(environment: dict[str, str]) -> None:
    assert container_of(environment) is None


def test_a_containers_log_is_a_file_that_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_ID", "container_1700000000000_0012_01_000001")
    monkeypatch.setenv("LOG_DIRS", str(tmp_path))
    monkeypatch.setattr(logs, "LOG_BYTES", 1_000)
    try:
        logs.configure_logs("json", "info")
        for number in range(200):
            structlog.get_logger("weir.test").info("micro-batch", number=number)
        structlog.get_logger("weir.test").debug("not written")
    finally:
        for handler in structlog.get_config()["logger_factory"]().handlers:
            handler.close()
        structlog.reset_defaults()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["weir.log", *(f"weir.log.{n}" for n in range(1, 5))]
    assert all(path.stat().st_size <= 1_000 for path in tmp_path.iterdir())
    assert json.loads((tmp_path / "weir.log").read_text().splitlines()[-1])["number"] == 199
