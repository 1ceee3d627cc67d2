"""What tables are there, with which columns, and how is one created? Specifications as data; DDL derives from them."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from lakehouse.contract import Contract
from lakehouse.tables.properties import COLUMNS_PROPERTY, GRAIN_PROPERTY, KEY_PROPERTY

# Merge-on-read keeps a MERGE of a few rows from rewriting whole files; metadata of old commits is bounded, snapshots themselves
# are expired only by `weir maintain`.
TABLE_PROPERTIES = {
    "write.merge.mode": "merge-on-read",
    "write.update.mode": "merge-on-read",
    "write.delete.mode": "merge-on-read",
    # A delete file of each data file, so that those that read one data file do not read the deletes of all.
    "write.delete.granularity": "file",
    "write.merge.isolation-level": "serializable",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}

# For the small tables that weir keeps about itself, but rejects: they have no deletes, so every engine reads them, whatever their format.
COPY_ON_WRITE = {f"write.{what}.mode": "copy-on-write" for what in ("merge", "update", "delete")}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its type as Spark SQL writes it, and what it means (with the unit) for people."""

    name: str
    type: str
    about: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the lakehouse.

    Attributes:
        name: `lh.<layer>.<noun>`.
        grain: "one row per …".
        key: the columns that identify a row; empty where rows are only appended.
        columns: in order.
        partitioned_by: transforms as Iceberg's DDL writes them.
        properties: over TABLE_PROPERTIES.
        run_column: the column that names the run that wrote a row; empty for none. No transform computes it, no comparison looks at it, and
            no row is written again because of it.
    """

    name: str
    grain: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    partitioned_by: tuple[str, ...] = ()
    properties: dict[str, str] = field(default_factory=dict)
    run_column: str = ""

    @property
    def computed(self) -> "Table":
        """The table as transforms compute it and comparisons see it: without the column of the run."""
        if not self.run_column:
            return self
        return replace(self, columns=tuple(c for c in self.columns if c.name != self.run_column), run_column="")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(c.name for c in self.columns)

    @property
    def namespace(self) -> str:
        """Catalog and layer, such as `lh.gold`."""
        return self.name.rpartition(".")[0]

    @property
    def all_properties(self) -> dict[str, str]:
        """The properties that the table has: everybody's, what weir notes of it, and its own, of which the last wins."""
        noted = {
            GRAIN_PROPERTY: self.grain,
            KEY_PROPERTY: ",".join(self.key),
            COLUMNS_PROPERTY: ",".join(self.names),
        }
        # Merged tables have the catalog's default (`WEIR_DELETE_FORMAT`); without deletes there is nothing to choose.
        fixed = {} if self.key else {"format-version": "2"}
        small = COPY_ON_WRITE if self.namespace == "lh.ops" else {}
        return TABLE_PROPERTIES | small | fixed | noted | self.properties

    def ddl(self) -> str:
        """Write the statement that creates the table where it is missing."""
        columns = ",\n  ".join(f"{c.name} {c.type} COMMENT {quote(c.about)}" for c in self.columns)
        partitioning = f"\nPARTITIONED BY ({', '.join(self.partitioned_by)})" if self.partitioned_by else ""
        pairs = ", ".join(f"{quote(k)} = {quote(v)}" for k, v in self.all_properties.items())
        return (
            f"CREATE TABLE IF NOT EXISTS {self.name} (\n  {columns}\n) USING iceberg{partitioning}\n"
            f"COMMENT {quote(self.grain)}\nTBLPROPERTIES ({pairs})"
        )


def quote(text: str) -> str:
    """Write a SQL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(name: str) -> str:
    """Write a name as DuckDB reads it, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """Write a string literal as DuckDB reads it, to which a backslash stands for itself."""
    return "'" + text.replace("'", "''") + "'"


def contract_columns(contract: Contract, names: Iterable[str] | None = None) -> tuple[Column, ...]:
    """Turn the fields of a contract into columns; all of them, or those named, in the order named."""
    fields = contract.fields if names is None else tuple(contract.field(name) for name in names)
    return tuple(Column(f.name, f.kind.sql, f"{f.about} [{f.unit}]" if f.unit else f.about) for f in fields)


# The columns that bronze adds to the contract's: where the row came from, and its untouched bytes.
SOURCE_COLUMNS = (
    Column("source_run", "STRING", "the backfill chunk that wrote the row; null for a row that came through Kafka"),
    Column("source_row", "BIGINT", "row number within the chunk; null for a row that came through Kafka"),
    Column("value", "BINARY", "the message as it arrived"),
    Column("topic", "STRING", "Kafka topic; null for a backfilled row, like the next three"),
    Column("partition", "INT", "Kafka partition"),
    Column("kafka_offset", "BIGINT", "offset within the partition; unique with topic and partition"),
    Column("kafka_ts", "TIMESTAMP", "when Kafka took the message: the time of arrival; null where only its producer stamped it"),
    Column(
        "wire_version",
        "INT",
        "version of the schema that an Avro message was written by; null where it does not say, and for JSON from Kafka",
    ),
)

REJECTS = Table(
    name="lh.ops.rejects",
    grain="one row per rejected message of any domain",
    key=("topic", "partition", "kafka_offset"),
    columns=(
        Column("domain", "STRING", "the domain whose rule rejected it"),
        Column("topic", "STRING", "Kafka topic, or the backfill chunk"),
        Column("partition", "INT", "Kafka partition, or 0"),
        Column("kafka_offset", "BIGINT", "offset, or the row within the chunk"),
        Column("kafka_ts", "TIMESTAMP", "time of arrival; null where it is not known, as for a backfilled row"),
        Column("rule", "STRING", "the first rule that the row breaks"),
        Column("reason", "STRING", "what was found against what is allowed"),
        Column("value", "BINARY", "the message as it arrived"),
    ),
    # A rebuild MERGEs into a branch of it, and Spark cannot plan that copy-on-write ("No plan for TableReference").
    properties={f"write.{what}.mode": "merge-on-read" for what in ("merge", "update", "delete")},
)
