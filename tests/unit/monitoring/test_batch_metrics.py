"""What does a batch program tell of its end, and what can that disturb?"""

from pathlib import Path

import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families

from lakehouse.settings import Settings
from monitoring.batch_metrics import reported


def told(folder: Path) -> dict[str, float]:
    texts = [file.read_text() for file in sorted(folder.glob("*.prom"))]
    families = [family for text in texts for family in text_string_to_metric_families(text)]
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_success_and_failure_are_told_and_the_last_success_stays(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, metrics_textfile=str(tmp_path))
    with reported(settings, "prove", "kaggle"):
        pass
    first = told(tmp_path)
    assert first["weir_batch_succeeded"] == 1
    with pytest.raises(typer.Exit), reported(settings, "prove", "kaggle"):
        raise typer.Exit(1)
    second = told(tmp_path)
    assert second["weir_batch_succeeded"] == 0
    assert second["weir_batch_last_success_timestamp_seconds"] == first["weir_batch_last_success_timestamp_seconds"]
    assert second["weir_batch_last_run_timestamp_seconds"] >= second["weir_batch_last_success_timestamp_seconds"]


def test_an_exit_with_0_is_a_success_and_any_error_a_failure(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, metrics_textfile=str(tmp_path))
    with pytest.raises(typer.Exit), reported(settings, "maintain"):
        raise typer.Exit(0)
    assert told(tmp_path)["weir_batch_succeeded"] == 1
    with pytest.raises(KeyboardInterrupt), reported(settings, "maintain"):
        raise KeyboardInterrupt
    assert told(tmp_path)["weir_batch_succeeded"] == 0
    assert 'domain="all"' in (tmp_path / "weir-maintain-all.prom").read_text()


def test_what_takes_it_may_be_away(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, metrics_textfile=str(tmp_path / "none"), pushgateway="127.0.0.1:9")
    with reported(settings, "check", "kaggle"):
        pass
