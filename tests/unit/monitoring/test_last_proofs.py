"""The last proof of each domain, from snapshots alone."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse.settings import Settings
from lakehouse.tables.properties import PROOF_PROPERTY
from monitoring.last_proofs import TABLE, LastProof, last_proofs


def proof(domain: str, hour: int, number: int) -> LastProof:
    return LastProof(domain, datetime(2026, 1, 1, hour, tzinfo=UTC), {"lh.gold.t": {"batch": number, "independent": 0}})


def test_the_newest_of_each_domain(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert last_proofs(settings) == [], "nothing was written yet"
    catalog = SqlCatalog("lh", uri=settings.catalog_uri, warehouse=settings.warehouse_uri)
    try:
        catalog.create_namespace("ops")
        assert last_proofs(settings) == [], "nothing was proved yet"
        rows = pa.table({"domain": ["x"]})
        table = catalog.create_table(TABLE, schema=rows.schema)
        for one in (proof("air_quality", 1, 7), proof("market", 2, 0), proof("air_quality", 3, 0)):
            table.append(rows, snapshot_properties={PROOF_PROPERTY: one.to_json()})
        table.append(rows)  # somebody else's commit says nothing of proofs
    finally:
        catalog.close()
    assert sorted(last_proofs(settings), key=lambda one: one.domain) == [proof("air_quality", 3, 0), proof("market", 2, 0)]
