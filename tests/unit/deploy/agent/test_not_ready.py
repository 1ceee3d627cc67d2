"""Does `weir up` leave out a source that cannot be polled, and say why, rather than start it again and again?"""

import os
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner

from deploy.local.agent.run_files import not_ready
from deploy.local.stack import wanted_parts
from deploy.local.status import collect
from lakehouse.settings import Settings
from producers import cli
from producers.publish import NotReadyError

LOCAL = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_source_without_credentials_is_left_out_and_one_with_them_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path / "home")
    assert wanted_parts(settings, services_only=False) == ("kafka", "stream", "producer", "metrics")
    assert list(not_ready(settings)) == ["producer-kaggle"]
    monkeypatch.setenv("KAGGLE_USERNAME", "ann")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    assert "producer-kaggle" in wanted_parts(settings, services_only=False)


def test_server_of_this_machine_needs_none(tmp_path: Path) -> None:
    assert "producer-kaggle" in wanted_parts(Settings(home=tmp_path / "home", kaggle_url=LOCAL), services_only=False)


def test_status_repeats_why(tmp_path: Path) -> None:
    parts = {part["part"]: part for part in collect(Settings(home=tmp_path / "home"))["parts"]}
    assert parts["producer-kaggle"]["state"] == "off"
    assert "no credentials for Kaggle" in parts["producer-kaggle"]["says"]
    assert parts["producer"]["says"] is None


def test_command_says_so_before_it_looks_for_kafka(tmp_path: Path) -> None:
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(cli.produce)
    try:
        done = CliRunner().invoke(app, ["kaggle", "--once"], obj=Settings(home=tmp_path / "home"))
    finally:
        structlog.reset_defaults()  # the command's logs go to what is stderr while it runs
    assert isinstance(done.exception, NotReadyError)
    assert "no credentials for Kaggle" in str(done.exception)
