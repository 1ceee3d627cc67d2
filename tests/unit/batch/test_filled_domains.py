"""Which domains are proved and checked where none is named? Those of which something has arrived."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog

from batch.filled_domains import filled_domains
from lakehouse.domain import Domain
from lakehouse.settings import Settings
from lakehouse.tables.catalog import NoTables
from tests.toy.tables import BRONZE_ITEMS, BRONZE_MAKERS, TOY

OTHER = replace(
    TOY,
    name="other",
    sources=tuple(replace(one, bronze=replace(one.bronze, name=f"{one.bronze.name}_other")) for one in TOY.sources),
)


def names(domains: list[Domain]) -> list[str]:
    return [domain.name for domain in domains]


def test_a_domain_without_a_message_is_left_out_unless_none_has_any(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(NoTables):
        filled_domains(settings, [TOY, OTHER])
    catalog = SqlCatalog("lh", uri=settings.catalog_uri, warehouse=settings.warehouse_uri)
    catalog.create_namespace("bronze")
    rows = pa.table({"value": [b"x"]})
    makers, _ = (catalog.create_table(one.name.removeprefix("lh."), rows.schema) for one in (BRONZE_MAKERS, BRONZE_ITEMS))
    assert names(filled_domains(settings, [TOY, OTHER])) == ["toy", "other"], "neither has any"
    makers.append(rows)
    assert names(filled_domains(settings, [OTHER, TOY])) == ["toy"]
    catalog.close()
