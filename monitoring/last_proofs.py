"""What was the result of each domain's last proof? Read from properties of the snapshots of `lh.ops.proofs`, without reading rows."""

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

from pyiceberg.exceptions import NoSuchTableError

from lakehouse.settings import Settings
from lakehouse.tables.catalog import NoTables, ancestors, open_catalog
from lakehouse.tables.properties import PROOF_PROPERTY

TABLE = "ops.proofs"
# The snapshot property of a proof: {"domain", "proved_ts", "differences": {table: {against: number}}}.


@dataclass(frozen=True, slots=True)
class LastProof:
    """The newest proof of a domain: when its snapshots were taken, and the differences by table and by what it was compared with."""

    domain: str
    proved_ts: datetime
    differences: Mapping[str, Mapping[str, int]]

    def to_json(self) -> str:
        """Write it as a snapshot property."""
        return json.dumps({"domain": self.domain, "proved_ts": self.proved_ts.isoformat(), "differences": self.differences})

    @classmethod
    def from_json(cls, text: str) -> "LastProof":
        """Read a snapshot property."""
        proof = json.loads(text)
        return cls(proof["domain"], datetime.fromisoformat(proof["proved_ts"]), proof["differences"])


def last_proofs(settings: Settings) -> list[LastProof]:
    """Read the newest proof of each domain that has one.

    Raises:
        UnsupportedCatalog, UnreadableCatalog: the catalog cannot be read without Spark, or not now.
    """
    try:
        with closing(open_catalog(settings)) as catalog:
            table = catalog.load_table(TABLE)
    except (NoTables, NoSuchTableError):
        return []
    newest: dict[str, LastProof] = {}
    for snapshot in ancestors(table):
        text = snapshot.summary.additional_properties.get(PROOF_PROPERTY) if snapshot.summary else None
        if text is not None:
            proof = LastProof.from_json(text)
            newest.setdefault(proof.domain, proof)
    return list(newest.values())
