"""How are a few rows in memory written as data files of an Iceberg table? With Arrow, without a Spark job; the caller commits them.

For a hundred rows Spark spends several times as long on planning, scheduling and committing as on the rows (docs/benchmarks.md).
"""

import io
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.sql import SparkSession

from lakehouse.locks.conflicts import REFUSED
from lakehouse.spark import java_list

EPOCH_YEAR = 1970
# Iceberg's names of the partition transforms that `_ordinal` knows.
_TRANSFORMS = ("year", "month", "day", "hour")
MICROS_PER_HOUR = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Written:
    """A data file that is not part of a snapshot yet.

    Attributes:
        path: where.
        spec: Iceberg's partition spec.
        file: Iceberg's object, as a commit takes it.
        rows: its rows, in order.
    """

    path: str
    spec: Any
    file: Any
    rows: pa.Table


class DataFileWriter:
    """Writes data files of one table.

    Args:
        spark: any session of the driver.
        handle: Iceberg's object of the table.
        order: the columns by which rows are sorted in a file; unsorted when empty.
    """

    def __init__(self, spark: SparkSession, handle: Any, order: Sequence[str]) -> None:  # noqa: ANN401 - the JVM's objects
        jvm: Any = spark._jvm
        self._iceberg = jvm.org.apache.iceberg
        self._handle, self._order = handle, order
        # Schema and partition spec by their ids, since asking column by column takes some hundred calls into the JVM.
        self._field_ids: tuple[int, dict[str, int]] = (-1, {})
        self._partitioning: tuple[int, list[tuple[str, str]]] = (-1, [])

    def ids(self) -> dict[str, int]:
        """Return the id of each column, in order."""
        schema = self._handle.schema()
        if schema.schemaId() != self._field_ids[0]:
            self._field_ids = (schema.schemaId(), {column.name(): column.fieldId() for column in java_list(schema.columns())})
        return self._field_ids[1]

    def unfit(self, columns: Sequence[str]) -> str:
        """Return why Spark must write rows with these columns into the table; empty where `write` can."""
        if unknown := [name for name in columns if name not in self.ids()]:
            return f"the table has no column {', '.join(unknown)}"
        if others := [transform for _, transform in self._fields() if transform not in _TRANSFORMS]:
            return f"rows are not split by the partition transform {others[0]}"
        return ""

    def write(self, rows: pa.Table) -> Iterator[Written]:
        """Write one file per partition; see `unfit`."""
        ids = self.ids()
        spec, io_ = self._handle.spec(), self._handle.io()
        metrics = self._iceberg.MetricsConfig.forTable(self._handle)
        for value, part in _partitions(rows, self._fields()):
            ordered = part.sort_by([(name, "ascending") for name in self._order]) if self._order else part
            content = _parquet(ordered, ids)
            partition = self._iceberg.PartitionData(spec.partitionType())
            for n, field in enumerate(value):
                if field is not None:
                    partition.set(n, field)
            path = self._handle.locationProvider().newDataLocation(spec, partition, f"{uuid.uuid4()}.parquet")
            with closing(io_.newOutputFile(path).create()) as stream:
                stream.write(content)
            file = (
                self._iceberg.DataFiles.builder(spec)
                .withPath(path)
                .withFormat("parquet")
                .withFileSizeInBytes(len(content))
                .withPartition(partition)
                .withMetrics(self._iceberg.parquet.ParquetUtil.fileMetrics(io_.newInputFile(path), metrics))
                .build()
            )
            yield Written(path, spec, file, ordered)

    def append(self, rows: pa.Table, properties: Mapping[str, str]) -> int:
        """Append rows, or none, in one commit with the given snapshot properties; return the number of its files.

        Raises:
            Py4JJavaError: as for `commit`.
        """
        written = list(self.write(rows)) if rows.num_rows else []
        pending = self._handle.newAppend()
        for one in written:
            pending.appendFile(one.file)
        for name, value in properties.items():
            pending.set(name, value)
        self.commit(pending, [one.path for one in written])
        return len(written)

    def commit(self, pending: Any, paths: Iterable[str]) -> None:  # noqa: ANN401 - the JVM's object
        """Commit a change of the table; remove its new files if Iceberg refuses it.

        Raises:
            Py4JJavaError: it failed. Unless Iceberg refused it, it is unknown whether it was committed, and the files stay.
        """
        try:
            pending.commit()
        except Py4JJavaError as error:
            if error.java_exception.getClass().getName() in REFUSED:
                for path in paths:
                    with suppress(Py4JError):  # a file that stays is an orphan, which maintenance removes
                        self._handle.io().deleteFile(path)
            raise

    def _fields(self) -> list[tuple[str, str]]:
        """Return column and transform of each partition field."""
        spec = self._handle.spec()
        if spec.specId() != self._partitioning[0]:
            schema = self._handle.schema()
            fields = [(schema.findColumnName(field.sourceId()), str(field.transform())) for field in java_list(spec.fields())]
            self._partitioning = (spec.specId(), fields)
        return self._partitioning[1]


def _parquet(rows: pa.Table, ids: Mapping[str, int]) -> bytes:
    """Write a file as Iceberg requires, with a field id for every column."""
    schema = pa.schema([field.with_metadata({"PARQUET:field_id": str(ids[field.name])}) for field in rows.schema])
    content = io.BytesIO()
    # Short decimals are stored as integers, as Iceberg's specification says (Appendix A, Parquet).
    options = {"compression": "zstd", "store_schema": False, "coerce_timestamps": "us", "store_decimal_as_integer": True}
    pq.write_table(rows.combine_chunks().cast(schema), content, **options)
    return content.getvalue()


def _partitions(rows: pa.Table, fields: list[tuple[str, str]]) -> Iterator[tuple[tuple[int | None, ...], pa.Table]]:
    """Split rows by the values of partition fields, given as (column, Iceberg's name of the transform); null is a value."""
    if not fields:
        yield (), rows
        return
    ordinals = [_ordinal(rows[column], transform) for column, transform in fields]
    names = [f"_partition_{n}" for n in range(len(fields))]
    values = pa.table(ordinals, names)
    for value in values.group_by(names).aggregate([]).to_pylist():
        mask = None
        for name, part in value.items():
            alike = pc.is_null(values[name]) if part is None else pc.fill_null(pc.equal(values[name], part), False)
            mask = alike if mask is None else pc.and_(mask, alike)
        yield tuple(value.values()), rows.filter(mask)


def _ordinal(column: pa.ChunkedArray, transform: str) -> pa.ChunkedArray:
    """Return Iceberg's value of a time transform, counted from 1970. Source: Iceberg specification, partition transforms."""
    if transform == "year":
        found = _years(column)
    elif transform == "month":
        found = pc.add(pc.multiply(_years(column), 12), pc.subtract(pc.month(column), 1))
    elif transform == "day":
        found = column.cast(pa.date32()).cast(pa.int32())
    elif transform == "hour":
        found = pc.floor(pc.divide(column.cast(pa.int64()).cast(pa.float64()), MICROS_PER_HOUR))
    else:
        raise ValueError(f"rows are not split by the partition transform {transform}")
    return found.cast(pa.int32())


def _years(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.subtract(pc.year(column), EPOCH_YEAR)
