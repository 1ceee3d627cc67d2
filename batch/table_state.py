"""What does a table's metadata say? Its snapshots, references and properties at one moment, read in one piece."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import SparkSession

from lakehouse.pending import REPLACE
from lakehouse.spark import iceberg_table
from lakehouse.write.publishing import MAIN


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot; `summary` is its summary without the operation."""

    id: int
    parent: int | None
    millis: int
    operation: str
    summary: Mapping[str, str]

    @property
    def at(self) -> datetime:
        """When it was committed."""
        return datetime.fromtimestamp(self.millis / 1000, UTC)

    @property
    def is_empty(self) -> bool:
        """Whether it is an append that added nothing."""
        return self.operation == "append" and not self.number("added-data-files")

    def number(self, name: str) -> int:
        """Give a number of the summary, 0 where it has none."""
        return int(self.summary.get(name, 0))


@dataclass(frozen=True, slots=True)
class PartitionField:
    """How a table is partitioned by one column: Iceberg's transform, and the field's name in the metadata tables."""

    name: str
    column: str
    transform: str
    type: str


@dataclass(frozen=True, slots=True)
class TableState:
    """A table at one moment.

    Attributes:
        name: with `lh.`.
        location: URI of its folder.
        head: id of its current snapshot, None for a table without one.
        snapshots: all that are kept, by id.
        refs: id of the snapshot of each branch and tag but main.
        branches: the names of the branches among them.
        properties: of the table.
        fields: its partitioning.
        metadata_bytes: length of its metadata file, which every commit writes anew.
    """

    name: str
    location: str
    head: int | None
    snapshots: Mapping[int, Snapshot]
    refs: Mapping[str, int]
    branches: frozenset[str]
    properties: Mapping[str, str]
    fields: tuple[PartitionField, ...]
    metadata_bytes: int

    @classmethod
    def read(cls, spark: SparkSession, name: str) -> "TableState":
        """Read it as it is now."""
        jvm: Any = spark._jvm
        table = iceberg_table(spark, name)
        current = table.operations().current()
        # One text: asking the JVM for each snapshot is some thousand calls.
        held = json.loads(jvm.org.apache.iceberg.TableMetadataParser.toJson(current))
        length = 0
        if (location := current.metadataFileLocation()) is not None:
            length = table.io().newInputFile(location).getLength()
        return cls._of(name, held, int(length))

    @classmethod
    def _of(cls, name: str, held: Mapping[str, Any], metadata_bytes: int) -> "TableState":
        snapshots = {}
        for one in held.get("snapshots", ()):
            summary = dict(one.get("summary", {}))
            operation = summary.pop("operation", "")
            snapshots[one["snapshot-id"]] = Snapshot(
                one["snapshot-id"], one.get("parent-snapshot-id"), one["timestamp-ms"], operation, summary
            )
        head = held.get("current-snapshot-id")
        refs = {ref: one for ref, one in held.get("refs", {}).items() if ref != MAIN}
        columns = {c["id"]: c for schema in held["schemas"] if schema["schema-id"] == held["current-schema-id"] for c in schema["fields"]}
        (spec,) = (one for one in held["partition-specs"] if one["spec-id"] == held["default-spec-id"])
        fields = tuple(
            PartitionField(f["name"], columns[f["source-id"]]["name"], f["transform"], str(columns[f["source-id"]]["type"]))
            for f in spec["fields"]
            if f["source-id"] in columns
        )
        return cls(
            name,
            held["location"],
            head if head in snapshots else None,
            snapshots,
            {ref: one["snapshot-id"] for ref, one in refs.items()},
            frozenset(ref for ref, one in refs.items() if one["type"] == "branch"),
            held.get("properties", {}),
            fields,
            metadata_bytes,
        )

    def ancestors(self) -> Iterator[Snapshot]:
        """Walk from the head back to the oldest snapshot that is kept."""
        one = self.snapshots.get(self.head) if self.head is not None else None
        while one is not None:
            yield one
            one = self.snapshots.get(one.parent) if one.parent is not None else None

    def newest(self, property_: str) -> Snapshot | None:
        """Find the newest ancestor that says something under a name."""
        return next((one for one in self.ancestors() if property_ in one.summary), None)

    def last_change(self) -> Snapshot | None:
        """Find the newest ancestor that changed rows; an append without a row says only how far a topic was read."""
        return next((one for one in self.ancestors() if one.operation != REPLACE and not one.is_empty), None)
