"""Is each way to start measured that the settings know?"""

import pytest
from pydantic.fields import FieldInfo

from bench.first_batch import variants
from lakehouse.settings import Settings


def test_ways_to_start_follow_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {name: field for name, field in Settings.model_fields.items() if "cds" not in name}
    monkeypatch.setattr(Settings, "__pydantic_fields__", without)
    assert variants() == {"cold": {}}
    monkeypatch.setattr(Settings, "__pydantic_fields__", without | {"spark_cds": FieldInfo(annotation=bool, default=True)})
    assert variants() == {"cold": {"SPARK_CDS": "false"}, "with the archive": {"SPARK_CDS": "true"}}
    monkeypatch.setattr(Settings, "__pydantic_fields__", without | {"cds_archive": FieldInfo(annotation=str, default="auto")})
    assert variants() == {"cold": {"CDS_ARCHIVE": ""}, "with the archive": {}}
