"""What did the last proof of each domain say? Read from what the snapshots of `lh.ops.proofs` say of themselves, without a row."""

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
# What a proof writes into its snapshot: {"domain", "proved_ts", "differences": {table: {against: number}}}.


@dataclass(frozen=True, slots=True)
class LastProof:
    """The newest proof of a domain: when its snapshots were taken, and its differences by table and by what it was compared with."""

    domain: str
    proved_ts: datetime
    differences: Mapping[str, Mapping[str, int]]

    def to_json(self) -> str:
        """Write it as a snapshot property."""
        return json.dumps({"domain": self.domain, "proved_ts": self.proved_ts.isoformat(), "differences": self.differences})

    @classmethod
    def from_json(cls, text: str) -> "LastProof":
        """Read a snapshot property."""
        held = json.loads(text)
        return cls(held["domain"], datetime.fromisoformat(held["proved_ts"]), held["differences"])


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
        said = snapshot.summary.additional_properties.get(PROOF_PROPERTY) if snapshot.summary else None
        if said is not None:
            proof = LastProof.from_json(said)
            newest.setdefault(proof.domain, proof)
    return list(newest.values())
