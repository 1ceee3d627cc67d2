"""What is in a table's metadata? Its snapshots, references and properties at one moment, in one read."""

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
    """One snapshot; `summary` is without the operation."""

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
        """Return a number from the summary, 0 where it is missing."""
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
        snapshots: all that have not expired, by id.
        refs: {branch or tag other than main: id of its snapshot}.
        branches: the names of the branches among them.
        properties: of the table.
        fields: its partitioning.
        metadata_bytes: size of its metadata file, which every commit rewrites.
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
        """Read the table's current state."""
        jvm: Any = spark._jvm
        table = iceberg_table(spark, name)
        current = table.operations().current()
        # As one text, since asking the JVM for each snapshot takes some thousand calls.
        metadata = json.loads(jvm.org.apache.iceberg.TableMetadataParser.toJson(current))
        length = 0
        if (location := current.metadataFileLocation()) is not None:
            length = table.io().newInputFile(location).getLength()
        return cls._of(name, metadata, int(length))

    @classmethod
    def _of(cls, name: str, metadata: Mapping[str, Any], metadata_bytes: int) -> "TableState":
        snapshots = {}
        for one in metadata.get("snapshots", ()):
            summary = dict(one.get("summary", {}))
            operation = summary.pop("operation", "")
            snapshots[one["snapshot-id"]] = Snapshot(
                one["snapshot-id"], one.get("parent-snapshot-id"), one["timestamp-ms"], operation, summary
            )
        head = metadata.get("current-snapshot-id")
        refs = {ref: one for ref, one in metadata.get("refs", {}).items() if ref != MAIN}
        current = metadata["current-schema-id"]
        columns = {c["id"]: c for schema in metadata["schemas"] if schema["schema-id"] == current for c in schema["fields"]}
        (spec,) = (one for one in metadata["partition-specs"] if one["spec-id"] == metadata["default-spec-id"])
        fields = tuple(
            PartitionField(f["name"], columns[f["source-id"]]["name"], f["transform"], str(columns[f["source-id"]]["type"]))
            for f in spec["fields"]
            if f["source-id"] in columns
        )
        return cls(
            name,
            metadata["location"],
            head if head in snapshots else None,
            snapshots,
            {ref: one["snapshot-id"] for ref, one in refs.items()},
            frozenset(ref for ref, one in refs.items() if one["type"] == "branch"),
            metadata.get("properties", {}),
            fields,
            metadata_bytes,
        )

    def ancestors(self) -> Iterator[Snapshot]:
        """Yield the snapshots from the head back to the oldest that has not expired."""
        one = self.snapshots.get(self.head) if self.head is not None else None
        while one is not None:
            yield one
            one = self.snapshots.get(one.parent) if one.parent is not None else None

    def newest(self, property_: str) -> Snapshot | None:
        """Return the newest ancestor with a property in its summary."""
        return next((one for one in self.ancestors() if property_ in one.summary), None)

    def last_change(self) -> Snapshot | None:
        """Return the newest ancestor that changed rows; an append without rows only notes how far a topic was read."""
        return next((one for one in self.ancestors() if one.operation != REPLACE and not one.is_empty), None)
