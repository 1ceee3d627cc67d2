"""What were the results of proofs? The table `lh.ops.proofs`, and the form of one result."""

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pyspark.sql import SparkSession

from batch.compare import Comparison
from lakehouse.days import Days
from lakehouse.locks.conflicts import until_accepted
from lakehouse.settings import Settings
from lakehouse.tables.catalog import cannot_be_written, only_spark_writes, open_catalog
from lakehouse.tables.create import create_missing
from lakehouse.tables.notes import applied_note
from lakehouse.tables.properties import PROOF_PROPERTY
from lakehouse.tables.schema import Column, Table
from lakehouse.write.plain_rows import append_rows, in_arrow, relation
from monitoring.last_proofs import LastProof

Way = Literal["batch", "independent"]
WAYS: tuple[Way, ...] = ("batch", "independent")
# As the command line names them.
WITNESSES: Mapping[str, tuple[Way, ...]] = {"both": WAYS, "spark": ("batch",), "duckdb": ("independent",)}
_NAME = ("ops", "proofs")

PROOFS = Table(
    name="lh.ops.proofs",
    grain="one row per proof, gold table and way in which it was computed again",
    key=(),
    columns=(
        Column("proof_id", "STRING", "one proof of one domain; its rows were made from the same snapshots"),
        Column("domain", "STRING", "the domain"),
        Column("table_name", "STRING", "the gold table that was proved"),
        Column("against", "STRING", "batch: one pass by weir's own transforms; independent: DuckDB's SQL, which shares nothing with them"),
        Column("since", "DATE", "first UTC day that was compared; null for all"),
        Column("until", "DATE", "last UTC day that was compared; null for all"),
        Column("rows_found", "BIGINT", "rows that the table had"),
        Column("rows_expected", "BIGINT", "rows that it should have"),
        Column("missing", "BIGINT", "keys that it lacked"),
        Column("extra", "BIGINT", "keys that it should not have"),
        Column("doubled", "BIGINT", "rows beyond the first of their key"),
        Column("different", "BIGINT", "keys with other values"),
        Column("columns_different", "STRING", "JSON: column -> keys in which it differs"),
        Column("is_equal", "BOOLEAN", "whether there was no difference at all"),
        Column("snapshot_id", "BIGINT", "the table's snapshot"),
        Column("bronze_snapshot_id", "BIGINT", "bronze's snapshot, of which the table was computed again"),
        Column("applied", "STRING", "JSON: topic -> partition -> last offset that silver and gold held"),
        Column("edition", "STRING", "JSON: what gold was computed by"),
        Column("seconds", "DOUBLE", "time that the whole proof took [s]"),
        Column("proved_ts", "TIMESTAMP", "when its snapshots were taken"),
        Column("code_version", "STRING", "version of weir"),
    ),
)


@dataclass(frozen=True, slots=True)
class Proof:
    """The result of proving one domain.

    Attributes:
        domain: its name.
        proved_ts: when the snapshots were taken.
        days: the UTC days that were compared, both included; None for all.
        compared: a comparison per gold table and way.
        applied: by topic and partition, the last offset that silver and gold contained.
        snapshots: {table: id of its snapshot}.
        edition: the edition by which gold was computed and is proved.
        asked: the edition that the settings name.
        seconds: time by part: `read`, `independent`, `batch`, `compare`; the two in the middle run side by side.
        took: the time of the whole proof [s].
        advice: what to do about rows computed with older reference data; empty where there are none.
        not_kept: why it is not stored in `lh.ops.proofs`; empty where it is.
    """

    domain: str
    proved_ts: datetime
    days: Days
    compared: tuple[tuple[Way, Comparison], ...]
    applied: dict[tuple[str, int], int]
    snapshots: dict[str, int]
    edition: dict[str, str]
    asked: dict[str, str]
    seconds: dict[str, float]
    took: float = 0.0
    not_kept: str = ""
    advice: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether it is stored in `lh.ops.proofs`."""
        return not self.not_kept

    @property
    def is_equal(self) -> bool:
        """Whether gold as streamed has no difference."""
        return not any(comparison.differences for _, comparison in self.compared)

    @property
    def would_change(self) -> dict[str, tuple[str, str]]:
        """The parts of the edition that the settings would change: {part: (current value, value of the settings)}."""
        return {what: (current, self.asked[what]) for what, current in self.edition.items() if self.asked[what] != current}

    def applied_json(self) -> str:
        """Return `applied` in the form of the table and of --json."""
        return applied_note(self.applied)


def keep(settings: Settings, spark: SparkSession | None, proof: Proof, bronze: str, code_version: str) -> None:
    """Append a proof to `lh.ops.proofs`.

    Args:
        settings: with the catalog.
        spark: creates the table where it is missing, and writes where Spark alone can; None where neither is needed (`why_not_kept`).
        proof: the proof.
        bronze: name of the bronze table whose snapshot is noted.
        code_version: version of weir.
    """
    if spark is not None:
        create_missing(spark, [PROOFS])
    differences: dict[str, dict[str, int]] = {}
    for way, one in proof.compared:
        differences.setdefault(one.table, {})[way] = one.differences
    summary = LastProof(proof.domain, proof.proved_ts, differences).to_json()
    rows = list(_rows(proof, bronze, code_version))
    if only_spark_writes(settings):
        assert spark is not None  # else it is not kept
        append_rows(relation(spark, PROOFS, rows), PROOFS, {PROOF_PROPERTY: summary})
        return
    with closing(open_catalog(settings)) as catalog:
        until_accepted(lambda: catalog.load_table(_NAME).append(in_arrow(PROOFS, rows), snapshot_properties={PROOF_PROPERTY: summary}))


def why_not_kept(settings: Settings, spark: SparkSession | None) -> str:
    """Return why a proof cannot be stored; empty where it can.

    Args:
        settings: with the catalog.
        spark: of the program; None where it has none.
    """
    if cannot_be_written(settings):
        return "the tables are on a read-only mount"
    if spark is None and only_spark_writes(settings):
        return "a hadoop catalog is written by Spark alone; `weir submit -- prove` stores the result"
    if spark is None and not is_there(settings):
        return "lh.ops.proofs is not there yet; `weir submit -- prove` makes it"
    return ""


def is_there(settings: Settings) -> bool:
    """Return whether `lh.ops.proofs` has been created."""
    with closing(open_catalog(settings)) as catalog:
        return catalog.table_exists(_NAME)


def _rows(proof: Proof, bronze: str, code_version: str) -> Iterable[tuple[Any, ...]]:
    since, until = proof.days or (None, None)
    for way, one in proof.compared:
        yield (
            f"{proof.domain}-{proof.proved_ts:%Y%m%dT%H%M%S.%fZ}",
            proof.domain,
            one.table,
            way,
            since,
            until,
            one.rows,
            one.expected,
            one.missing,
            one.extra,
            one.doubled,
            one.different,
            json.dumps(dict(one.columns)),
            not one.differences,
            proof.snapshots[one.table],
            proof.snapshots[bronze],
            proof.applied_json(),
            json.dumps(proof.edition),
            round(proof.took, 3),
            proof.proved_ts,
            code_version,
        )
