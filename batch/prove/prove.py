"""Is gold as streamed correct? It is recomputed in two ways from the rows that arrived, and compared key by key.

One way is a single batch pass with weir's own transforms; the other is the domain's SQL in DuckDB, which shares nothing with them
(`oracle/`). Both use only the bronze rows that silver and gold contain, so a stream may run meanwhile: rows that it has not applied yet are
not differences. No other part has to run, since only the tables are read.
"""

import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyspark.sql import DataFrame, SparkSession

from batch.bronze_since import whole_from
from batch.compare import Comparison, compare
from batch.consistent_snapshots import Heads
from batch.prove.oracle.avro_json import as_json
from batch.prove.oracle.recompute import BRONZE_COLUMNS, recompute
from batch.prove.proofs_table import WAYS, Proof, Way, keep, why_not_kept
from lakehouse.codecs.avro_codec import known_versions, schema
from lakehouse.codecs.parse import retyped
from lakehouse.days import Days
from lakehouse.derive import to_gold, to_silver
from lakehouse.domain import Domain, Source
from lakehouse.errors import Fatal, LakehouseError
from lakehouse.phases import Phases
from lakehouse.settings import Settings
from lakehouse.spans import Times
from lakehouse.storage.folders import arrow_place
from lakehouse.storage.paths import local_path, location_of
from lakehouse.tables.references import look_at_references
from lakehouse.write.plain_rows import in_arrow
from lakehouse.write.small_batches.session_tuning import conf_for_many, session_conf


class NoWitness(LakehouseError, Fatal):
    """A domain cannot be proved in the way that was asked for."""

    def __init__(self, domain: str) -> None:
        super().__init__(f"{domain} has no SQL of its own for DuckDB, so it can be proved by Spark's batch pass alone: --witness spark.")


def prove(settings: Settings, domain: Domain, spark: SparkSession | None, days: Days = None, ways: Collection[Way] = WAYS) -> Proof:
    """Prove a domain's gold by the edition by which it was computed, and store the result in `lh.ops.proofs`.

    The result is not stored if the tables are on a read-only mount, or if only Spark could store it and none is given.

    Args:
        settings: with the catalog.
        domain: the domain to prove.
        spark: for the batch pass, and to create `lh.ops.proofs`; None where neither is needed.
        days: compare only rows that overlap these UTC days, both included. All rows are recomputed in any case, since an episode or a mean
            also depends on hours outside these days.
        ways: in which gold is recomputed; a domain without SQL of its own is recomputed by the batch pass alone.

    Raises:
        NoWitness: gold would be recomputed in none of these ways.
        NoTables, NoGold: nothing has been written yet.
        NotWhole: bronze no longer has the rows from which these days are computed.
        OtherEdition: gold is of an edition that this version can no longer compute, and must be rebuilt.
    """
    phases, began = Phases(), time.monotonic()
    with Heads.look(settings, domain) as looked:
        heads, proved_ts, asked = looked.by_own_edition(), datetime.now(UTC), dict(domain.edition)
        domain = heads.domain
        names = [source.bronze.name for source in domain.sources]
        since = [first for name in names if (first := whole_from(name, heads.tables[name].properties, days)) is not None]
        provable = max(since) if since else None
        if provable is not None:
            days = days or (provable, max(provable, proved_ts.date()))
        with phases.timed("read"):
            gold = {one.table.name: heads.rows(one.table.name) for one in domain.derived}
        chosen = [way for way in WAYS if way in ways and (way == "batch" or domain.oracle)]
        if not chosen:
            raise NoWitness(domain.name)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="weir-independent") as beside:
            # DuckDB and Spark each wait for files and, at the end, for one task: side by side they take less time.
            independent = beside.submit(_timed, phases, "independent", lambda: _independent(heads)) if "independent" in chosen else None
            by_way: dict[Way, Mapping[str, pa.Table]] = {}
            if "batch" in chosen:
                assert spark is not None  # the caller gives one for this way
                with phases.timed("batch"):
                    by_way["batch"] = _batch_pass(heads, spark, settings.warehouse_uri)
            if independent is not None:
                by_way["independent"] = independent.result()
        compared: list[tuple[Way, Comparison]] = []
        with phases.timed("compare"):
            for derived in domain.derived:
                name, times = derived.table.name, derived.times
                for way, tables in by_way.items():
                    rows, wanted = (_begun(one, times, provable) for one in (gold[name], tables[name]))
                    compared.append((way, compare(derived.table, rows, wanted, days, times)))
        took = time.monotonic() - began
        snapshots = {name: heads.snapshot_id(name) for name in (*names, *gold)}
        applied, edition, not_kept = dict(heads.applied), dict(domain.edition), why_not_kept(settings, spark)
        proof = Proof(domain.name, proved_ts, days, tuple(compared), applied, snapshots, edition, asked, phases.seconds, took, not_kept)
    if not proof.is_equal:
        proof = replace(proof, advice=look_at_references(settings, domain).advice)
    if proof.is_kept:
        keep(settings, spark, proof, domain.sources[0].bronze.name, version("weir"))
    return proof


def _timed(phases: Phases, name: str, work: Callable[[], Mapping[str, pa.Table]]) -> Mapping[str, pa.Table]:
    with phases.timed(name):
        return work()


def _independent(heads: Heads) -> Mapping[str, pa.Table]:
    """Compute the derived tables with the domain's SQL."""
    domain = heads.domain
    bronze = {source.name: arrived(heads, source) for source in domain.sources}
    made = recompute(domain.oracle, bronze, dimensions_of(domain), domain.edition)
    return {one.table.name: made[_bare(one.table.name)] for one in domain.derived}


def arrived(heads: Heads, source: Source) -> Any:  # noqa: ANN401 - all that DuckDB can register
    """Return the rows of a source's bronze that are in silver, in the form that the independent SQL reads."""
    rows = heads.bronze_files(source, BRONZE_COLUMNS)
    if source.contract.codec != "avro":
        return rows
    schemas = {version: schema(fields) for version, fields in known_versions(source.contract).items()}
    return as_json(rows if isinstance(rows, pa.Table) else rows.to_table(), schemas)


def _begun(rows: pa.Table, times: Times | None, provable: date | None) -> pa.Table:
    """Return only rows that begin on or after bronze's first complete day, since an earlier episode cannot be recomputed from its start."""
    if provable is None or times is None:
        return rows
    return rows.filter(pc.greater_equal(rows[times.starts].cast(pa.date32()), pa.scalar(provable)))


def dimensions_of(domain: Domain) -> dict[str, pa.Table]:
    """Return the configured rows of a domain's dimensions, by name without layer."""
    return {_bare(table.name): in_arrow(table, rows) for table, rows in domain.dimensions}


def _batch_pass(heads: Heads, spark: SparkSession, warehouse_uri: str) -> Mapping[str, pa.Table]:
    """Compute gold in one pass, each table once and from the files of those before it."""
    domain = heads.domain
    arrived = sum(heads.row_count(source.bronze.name) for source in domain.sources)
    conf = {**conf_for_many(arrived), "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"}
    with session_conf(spark, conf), _scratch(spark, warehouse_uri) as folder:

        def keep(name: str, rows: DataFrame) -> DataFrame:
            rows.write.parquet(f"{folder}/{name}")
            # By default Spark reads a path as a pattern and would not find a folder named [2026].
            return spark.read.option("__globPaths__", "false").parquet(f"{folder}/{name}")

        silver = {}
        for source in domain.sources:
            snapshot = heads.snapshot_id(source.bronze.name)
            at = f" VERSION AS OF {snapshot}" if snapshot else ""
            bronze = spark.sql(f"SELECT * FROM {source.bronze.name}{at} WHERE {heads.is_applied()}")
            # Parsed again from the bytes, as the other way does, so that fields added to the contract later are read from old messages too.
            silver[source.silver.name] = to_silver(retyped(bronze, source.contract), source)
        tables = to_gold(domain, silver, keep)
        return {name: _read(f"{folder}/{name}") for name in tables}


@contextmanager
def _scratch(spark: SparkSession, warehouse_uri: str) -> Iterator[str]:
    """Yield a folder that all of Spark's tasks can write to: a temporary one if the warehouse is local, else one in the warehouse."""
    if local_path(warehouse_uri) is not None:
        with tempfile.TemporaryDirectory(prefix="weir-prove-") as folder:
            yield location_of(Path(folder))
        return
    uri = f"{warehouse_uri.rstrip('/')}/_prove-{uuid.uuid4()}"
    try:
        yield uri
    finally:
        jvm: Any = spark._jvm
        path = jvm.org.apache.hadoop.fs.Path(uri)
        path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf()).delete(path, True)


def _read(folder: str) -> pa.Table:
    files, path = arrow_place(folder)
    return ds.dataset(path, format="parquet", filesystem=files).to_table()


def _bare(name: str) -> str:
    return name.rpartition(".")[2]
