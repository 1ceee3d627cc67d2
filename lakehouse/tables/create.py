"""How are tables created, and altered when their specification changes? Every alteration is logged; narrowing is refused."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from lakehouse.domain import Domain
from lakehouse.spark import iceberg_table
from lakehouse.tables.editions import check_edition, edition_properties
from lakehouse.tables.evolution import NarrowedSchema, Present, Refusal, compare_contract, compare_table, contract_property
from lakehouse.tables.properties import CONTRACT_PROPERTY, edition_property
from lakehouse.tables.schema import REJECTS, Column, Table

log = structlog.get_logger("weir.tables")


def ensure_tables(spark: SparkSession, domain: Domain) -> None:
    """Create the domain's tables where they are missing, and alter existing ones to match their specification.

    Raises:
        OtherEdition: gold was made by another edition of its rules. Nothing was written.
        NarrowedSchema: the specification or the contract holds less than a table does. Nothing was written.
    """
    derived = [_with_properties(one.table, edition_properties(domain)) for one in domain.derived]
    if derived and not spark.catalog.tableExists(derived[0].name):
        # A new table agrees with the current reference data (`references.py`).
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
    """Create tables, and their namespaces, where they are missing; alter existing ones to match their specification.

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
    """Refuse, or create and alter; each alteration is logged."""
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
