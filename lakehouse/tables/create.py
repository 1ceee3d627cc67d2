"""How do tables come into being, and keep up with their specification? Created where missing, never altered in silence."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import structlog
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.readwriter import DataFrameWriterV2
from pyspark.sql.types import StructType

from lakehouse.domain import Domain
from lakehouse.spark import iceberg_table
from lakehouse.tables.evolution import NarrowedSchema, Present, Refusal, compare_contract, compare_table, contract_property
from lakehouse.tables.properties import BATCH_ID_PROPERTY, CODE_VERSION_PROPERTY, CONTRACT_PROPERTY, QUERY_PROPERTY, edition_property
from lakehouse.tables.schema import REJECTS, Column, Table
from lakehouse.write.merge import merge_rows
from lakehouse.write.publishing import check_edition, edition_properties

log = structlog.get_logger("weir.tables")


def ensure_tables(spark: SparkSession, domain: Domain) -> None:
    """Create the domain's tables where they are missing, and bring those that are there to their specification.

    Raises:
        OtherEdition: gold was made by another edition of its rules. Nothing was written.
        NarrowedSchema: the specification or the contract holds less than a table does. Nothing was written.
    """
    derived = [_with_properties(one.table, edition_properties(domain)) for one in domain.derived]
    if derived and not spark.catalog.tableExists(derived[0].name):
        # A table that is made now agrees with the reference data in force (`references.py`).
        derived[0] = _with_properties(derived[0], {edition_property(name): release for name, release in domain.references.items()})
    bronze = [_with_properties(one.bronze, {CONTRACT_PROPERTY: contract_property(one.contract)}) for one in domain.sources]
    tables = [
        *bronze,
        *(one.silver for one in domain.sources),
        REJECTS,
        *derived,
        *(table for table, _ in domain.dimensions),
    ]
    present = look(spark, tables)
    check_edition(domain, lambda name: present[name].properties if name in present else {})
    narrowed = []
    for one in domain.sources:
        if (there := present.get(one.bronze.name)) is not None:
            narrowed += compare_contract(there.properties.get(CONTRACT_PROPERTY), one.contract, one.bronze.name)
    _bring(spark, tables, present, narrowed)


def create_missing(spark: SparkSession, tables: Iterable[Table]) -> None:
    """Create tables, and their namespaces, where they are missing; bring those that are there to their specification.

    Raises:
        NarrowedSchema: a specification holds less than its table does. Nothing was written.
    """
    wanted = list(tables)
    _bring(spark, wanted, look(spark, wanted), [])


def look(spark: SparkSession, tables: Iterable[Table]) -> dict[str, Present]:
    """Read columns and properties of those tables that are there, by name."""
    jvm: Any = spark._jvm
    to_spark = jvm.org.apache.iceberg.spark.SparkSchemaUtil
    found = {}
    for table in tables:
        if not spark.catalog.tableExists(table.name):
            continue
        held = iceberg_table(spark, table.name)
        fields = StructType.fromJson(json.loads(to_spark.convert(held.schema()).json())).fields
        columns = tuple(Column(f.name, f.dataType.simpleString(), f.metadata.get("comment", "")) for f in fields)
        version = {"format-version": str(held.operations().current().formatVersion())}
        not_null = frozenset(f.name for f in fields if not f.nullable)
        found[table.name] = Present(columns, dict(held.properties()) | version, not_null)
    return found


def _bring(spark: SparkSession, tables: Sequence[Table], present: Mapping[str, Present], narrowed: Iterable[Refusal]) -> None:
    """Refuse, or create and alter; never in silence."""
    compared = [compare_table(present[table.name], table) for table in tables if table.name in present]
    refusals = [*narrowed, *(refusal for _, refused in compared for refusal in refused)]
    if refusals:
        raise NarrowedSchema(refusals)
    missing = [table for table in tables if table.name not in present]
    for namespace in sorted({table.namespace for table in missing}):
        spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {namespace}")
    for table in missing:
        spark.sql(table.ddl())
    for alteration in (one for alterations, _ in compared for one in alterations):
        spark.sql(alteration.sql)
        log.info(
            "table altered",
            table=alteration.table,
            what=alteration.what,
            named=alteration.named,
            found=alteration.found,
            expected=alteration.expected,
        )


def _with_properties(table: Table, properties: Mapping[str, str]) -> Table:
    return replace(table, properties={**table.properties, **properties})


def write_dimensions(spark: SparkSession, domain: Domain) -> None:
    """Bring the static tables to the rows of the configuration; repeating it changes nothing and commits nothing."""
    for table, rows in domain.dimensions:
        held = spark.table(table.name).select(*table.names).toArrow()
        present = set(zip(*(column.to_pylist() for column in held.columns), strict=True))
        if present == set(rows):
            continue
        if table.name in domain.exact and present - set(rows):
            overwrite_rows(relation(spark, table, rows), table, batch_properties("dimensions", None))
        else:
            merge_rows(relation(spark, table, rows), table)


def batch_properties(query: str, batch_id: int | None) -> dict[str, str]:
    """Give what every snapshot of a micro-batch, or of a chunk, says of it; `lh.ops.batches` reads it back. None: of no batch."""
    of_batch = {} if batch_id is None else {BATCH_ID_PROPERTY: str(batch_id)}
    return {QUERY_PROPERTY: query, **of_batch, CODE_VERSION_PROPERTY: version("weir")}


def append_rows(rows: DataFrame, table: Table, said: Mapping[str, str]) -> None:
    """Append rows by Spark in one commit, whose snapshot says what is given."""
    _writer(rows, table, said).append()


def overwrite_rows(rows: DataFrame, table: Table, said: Mapping[str, str]) -> None:
    """Bring a table, or its branch, to these rows alone, by Spark in one commit, whose snapshot says what is given."""
    _writer(rows, table, said).overwrite(F.lit(True))


def _writer(rows: DataFrame, table: Table, said: Mapping[str, str]) -> DataFrameWriterV2:
    writer = rows.writeTo(table.name)
    for name, value in said.items():
        writer = writer.option(f"snapshot-property.{name}", value)
    return writer


def in_arrow(table: Table, rows: Iterable[tuple[object, ...]]) -> pa.Table:
    """Make rows of a table, at least one, into an Arrow table."""
    return pa.table([pa.array(values) for values in zip(*rows, strict=True)], names=list(table.names))


def relation(spark: SparkSession, table: Table, rows: Iterable[tuple[object, ...]]) -> DataFrame:
    """Make rows of a table, at least one, into a relation."""
    # By Arrow: Python rows would start Python workers, which nothing else in a driver needs.
    return spark.createDataFrame(in_arrow(table, rows), ", ".join(f"`{c.name}` {c.type}" for c in table.columns))
