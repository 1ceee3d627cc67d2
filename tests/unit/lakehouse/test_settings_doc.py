import shlex
from pathlib import Path

import pytest

from lakehouse.settings import SECRETS, Settings, load_settings
from lakehouse.settings_doc import ROOT, env_example, settings_page


@pytest.mark.parametrize(("file", "text"), [(".env.example", env_example()), ("docs/settings.md", settings_page())])
def test_written_list_of_settings_is_up_to_date(file: str, text: str) -> None:
    assert (ROOT / file).read_text() == text, "run: .venv/bin/python -m lakehouse.settings_doc"


def test_example_names_every_setting_with_its_meaning_and_changes_nothing_when_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # a home made by `make demo` beside the code has settings of its own
    plain = load_settings({})
    assigned = dict(line[2:].split("=", 1) for line in env_example().splitlines() if line.startswith("# WEIR_"))
    assert [name.removeprefix("WEIR_").lower() for name in assigned] == list(Settings.model_fields)
    for name, value in assigned.items():
        if value:
            monkeypatch.setenv(name, shlex.split(value)[0])
    assert load_settings({}) == plain
    assert all(field.description for field in Settings.model_fields.values())


def test_secrets_are_known_by_their_type() -> None:
    assert {"open_meteo_api_key"} <= SECRETS
