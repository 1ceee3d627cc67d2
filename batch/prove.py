"""Is streamed gold what it should be? Computed again in two ways from the rows that arrived, and compared key by key.

One way is a single batch pass by weir's own transforms, the other the domain's SQL in DuckDB, which shares nothing with them
(`oracle/`). Both start from bronze as far as silver and gold hold it, so a stream may run meanwhile: what it has not applied yet is no
difference. Nothing else has to run: the tables are all there is to it.
"""

import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import DataFrame, SparkSession

from batch.compare import Comparison, compare
from batch.heads import Heads
from batch.oracle.recompute import BRONZE_COLUMNS, recompute
from batch.proofs import Proof, Way, keep
from lakehouse.apply import to_gold, to_silver
from lakehouse.days import Days
from lakehouse.domain import Domain
from lakehouse.few_rows import COMPILED, session_conf
from lakehouse.phases import Phases
from lakehouse.settings import Settings
from lakehouse.sinks.tables import in_arrow


def prove(settings: Settings, domain: Domain, spark: SparkSession, days: Days = None) -> Proof:
    """Prove a domain's gold, and keep the result in `lh.ops.proofs`.

    Args:
        settings: name the catalog.
        domain: whose gold.
        spark: for the batch pass.
        days: compare only rows that touch these UTC days, both included; all is computed again either way, since what an episode
            or a mean is made of reaches out of them.

    Raises:
        NoTables, NoGold: nothing has been written yet.
    """
    phases = Phases()
    with Heads.look(settings, domain) as heads:
        proved_ts = datetime.now(UTC)
        with phases.timed("read"):
            found = {gold.table.name: heads.rows(gold.table.name) for gold in domain.gold}
        with phases.timed("independent"):
            bronze = heads.bronze_files(BRONZE_COLUMNS)
            independent = recompute(domain.name, bronze, dimensions_of(domain), domain.edition)
        with phases.timed("batch"):
            by_batch = _batch_pass(heads, spark, settings.warehouse_uri)
        compared: list[tuple[Way, Comparison]] = []
        with phases.timed("compare"):
            for gold in domain.gold:
                name, between = gold.table.name, (gold.starts, gold.ends or gold.starts)
                compared.append(("batch", compare(gold.table, found[name], by_batch[name], days, between)))
                compared.append(("independent", compare(gold.table, found[name], independent[_bare(name)], days, between)))
        snapshots = {name: heads.snapshot_id(name) for name in (domain.bronze.name, *found)}
        proof = Proof(domain.name, proved_ts, days, tuple(compared), dict(heads.applied), snapshots, dict(domain.edition), phases.seconds)
    keep(spark, proof, domain.bronze.name, version("weir"))
    return proof


def dimensions_of(domain: Domain) -> dict[str, pa.Table]:
    """Give the rows of a domain's dimensions as the configuration has them, by name without layer."""
    return {_bare(table.name): in_arrow(table, rows) for table, rows in domain.dimensions}


def _batch_pass(heads: Heads, spark: SparkSession, warehouse_uri: str) -> Mapping[str, pa.Table]:
    """Compute gold in one pass, each table once: the next is made of the files of the one before."""
    domain = heads.domain
    bronze = f"SELECT * FROM {domain.bronze.name} VERSION AS OF {heads.snapshot_id(domain.bronze.name)} WHERE {heads.is_applied()}"
    conf = COMPILED | {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"}
    with session_conf(spark, conf), _scratch(spark, warehouse_uri) as folder:

        def keep(name: str, rows: DataFrame) -> DataFrame:
            rows.write.parquet(f"{folder}/{name}")
            return spark.read.parquet(f"{folder}/{name}")

        made = to_gold(domain, to_silver(spark.sql(bronze), domain), keep)
        return {name: ds.dataset(f"{folder}/{name}", format="parquet").to_table() for name in made}


@contextmanager
def _scratch(spark: SparkSession, warehouse_uri: str) -> Iterator[str]:
    """Give a folder that every task of Spark can write to: on one machine a temporary one, else one in the warehouse."""
    if urlsplit(warehouse_uri).scheme == "file":
        with tempfile.TemporaryDirectory(prefix="weir-prove-") as folder:
            yield Path(folder).as_uri()
        return
    uri = f"{warehouse_uri.rstrip('/')}/_prove-{uuid.uuid4()}"
    try:
        yield uri
    finally:
        jvm: Any = spark._jvm
        path = jvm.org.apache.hadoop.fs.Path(uri)
        path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf()).delete(path, True)


def _bare(name: str) -> str:
    return name.rpartition(".")[2]
