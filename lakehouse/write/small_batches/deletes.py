"""How does a commit say which rows of a data file are gone? By a delete file of each touched data file, as the table's format has it.

- Format 2: a Parquet file of positions, which every engine reads. This is the default.
- Format 3: a deletion vector, a bitmap in a Puffin file (`WEIR_DELETE_FORMAT=vectors`).

Either way a data file has at most one delete file: a new one also contains the positions of the one that it replaces. Format 2 allows a
delete file for several data files, as other engines write it; such a file stays, beside the new one.

A small data file gets none: its other rows are written again, and the file is removed (`row_delta.py`).
"""

import io
import uuid
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.table.deletion_vector import deletion_vectors_from_puffin_file
from pyiceberg.table.puffin import PuffinFile
from pyspark.sql import SparkSession

from lakehouse.spark import java_list

VECTORS_FORMAT = 3
# Columns and ids of a file of positions. Source: Iceberg specification, position delete files.
PATH, PLACE = "file_path", "pos"
_SCHEMA = pa.schema(
    [
        pa.field(PATH, pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"}),
        pa.field(PLACE, pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"}),
    ]
)


@dataclass(slots=True)
class DataFile:
    """A data file of the current snapshot, by Iceberg's objects.

    Attributes:
        file: the data file.
        spec: of its partition.
        deletes: its delete files.
    """

    file: Any
    spec: Any
    deletes: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Deletes:
    """Delete files that are written, and not committed.

    Attributes:
        added: Iceberg's objects, by the data file of each.
        kept: Iceberg's objects of earlier delete files that are for other data files too, by data file.
        removed: Iceberg's objects of those that the added ones replace.
    """

    added: Mapping[str, Any]
    kept: Mapping[str, list[Any]]
    removed: Iterable[Any]


class DeleteWriter:
    """Writes delete files of one table.

    Args:
        spark: any session of the driver.
        handle: Iceberg's object of the table.
    """

    def __init__(self, spark: SparkSession, handle: Any) -> None:  # noqa: ANN401 - the JVM's object
        jvm: Any = spark._jvm
        self._jvm, self._iceberg = jvm, jvm.org.apache.iceberg
        self._handle = handle

    def write(self, positions: Mapping[str, pa.Array], files: Mapping[str, DataFile]) -> Deletes:
        """Write the delete files of some data files.

        Args:
            positions: of the rows to delete, by data file.
            files: these data files, and maybe others.
        """
        gone: dict[str, pa.Array] = {}
        kept: dict[str, list[Any]] = {}
        removed: list[Any] = []
        contents: dict[str, Mapping[str, pa.Array]] = {}  # one Puffin file holds the vectors of several data files
        for path, of_file in positions.items():
            known = [of_file.cast(pa.int64())]
            kept[path] = []
            for delete in files[path].deletes:
                location = delete.location()
                if location not in contents:
                    contents[location] = read_deletes(location, self._content(location))
                known.append(contents[location].get(path, known[0][:0]))
                (removed if self.file_of(delete) == path else kept[path]).append(delete)
            everything = pc.unique(pa.concat_arrays(known))
            gone[path] = everything.take(pc.sort_indices(everything))
        is_vectors = self._handle.operations().current().formatVersion() >= VECTORS_FORMAT
        return Deletes(self._vectors(gone, files) if is_vectors else self._files(gone, files), kept, removed)

    def file_of(self, delete: Any) -> str | None:  # noqa: ANN401 - the JVM's object
        """Return the data file to which all positions in a delete file belong; None where it may be for several."""
        location = self._iceberg.util.ContentFileUtil.referencedDataFileLocation(delete)
        return None if location is None else str(location)

    def _content(self, location: str) -> bytes:
        with closing(self._handle.io().newInputFile(location).newStream()) as stream:
            return bytes(stream.readAllBytes())

    def _files(self, gone: Mapping[str, pa.Array], files: Mapping[str, DataFile]) -> Mapping[str, Any]:
        metrics = self._iceberg.MetricsConfig.forPositionDelete()
        return {path: self._file(path, files[path], positions, metrics) for path, positions in gone.items()}

    def _file(self, path: str, file: DataFile, gone: pa.Array, metrics: Any) -> Any:  # noqa: ANN401 - the JVM's objects
        content = io.BytesIO()
        rows = pa.table([pa.repeat(pa.scalar(path), len(gone)), gone], schema=_SCHEMA)
        pq.write_table(rows, content, compression="zstd", store_schema=False)
        location = self._handle.locationProvider().newDataLocation(file.spec, file.file.partition(), f"{uuid.uuid4()}-deletes.parquet")
        with closing(self._handle.io().newOutputFile(location).create()) as stream:
            stream.write(content.getvalue())
        return (
            self._iceberg.FileMetadata.deleteFileBuilder(file.spec)
            .ofPositionDeletes()
            .withPath(location)
            .withFormat("parquet")
            .withFileSizeInBytes(content.tell())
            .withPartition(file.file.partition())
            .withMetrics(self._iceberg.parquet.ParquetUtil.fileMetrics(self._handle.io().newInputFile(location), metrics))
            .withReferencedDataFile(path)
            .build()
        )

    def _vectors(self, gone: Mapping[str, pa.Array], files: Mapping[str, DataFile]) -> Mapping[str, Any]:
        iceberg, jvm = self._iceberg, self._jvm
        # A Scala map is a function, and the only kind that can be passed without calls from the JVM back into Python. Of no file does it
        # know earlier deletes, since these are among the positions.
        nothing = jvm.scala.jdk.javaapi.FunctionConverters.asJavaFunction(
            jvm.scala.jdk.javaapi.CollectionConverters.asScala(jvm.java.util.HashMap()).withDefaultValue(None)
        )
        names = iceberg.io.OutputFileFactory.builderFor(self._handle, 0, 0).format(iceberg.FileFormat.PUFFIN)
        writer = iceberg.deletes.BaseDVFileWriter(names.operationId(str(uuid.uuid4())).build(), nothing)
        for path, positions in gone.items():
            # All positions of a file in one call, as a set of bits: position by position takes a millisecond for each ten.
            listed = jvm.java.util.BitSet.valueOf(as_bits(positions)).stream().asLongStream().boxed().toList()
            index = iceberg.deletes.Deletes.toPositionIndex(iceberg.io.CloseableIterable.combine(listed, iceberg.io.CloseableGroup()))
            writer.delete(path, index, files[path].spec, files[path].file.partition())
        writer.close()
        return {one.referencedDataFile(): one for one in java_list(writer.result().deleteFiles())}


def read_deletes(location: str, content: bytes) -> Mapping[str, pa.Array]:
    """Return the deleted positions of each data file that a delete file names.

    Args:
        location: of the delete file.
        content: its bytes.
    """
    if location.endswith(".puffin"):
        vectors = deletion_vectors_from_puffin_file(PuffinFile(content))
        return {vector.referenced_data_file: vector.to_vector().combine_chunks().cast(pa.int64()) for vector in vectors}
    return by_file(pq.read_table(pa.BufferReader(content), columns=[PATH, PLACE]), PATH, PLACE)


def by_file(rows: pa.Table, path: str, position: str) -> dict[str, pa.Array]:
    """Return the positions in rows by the file that each row names."""
    if not rows.num_rows:
        return {}
    grouped = rows.select([path, position]).group_by(path, use_threads=False).aggregate([(position, "list")])
    positions = grouped[f"{position}_list"]
    return {name: positions[n].values for n, name in enumerate(grouped[path].to_pylist())}


def as_bits(positions: pa.Array) -> bytes:
    """Write a set of positions, at least one, as a byte for each eight of them, the least in the lowest bit."""
    # A whole number of bytes, since Arrow leaves open what follows the last bit.
    most = pc.max(positions).as_py()
    set_of_bits = pc.is_in(pa.arange(0, (most // 8 + 1) * 8), value_set=positions.cast(pa.int64()))
    return bytes(set_of_bits.buffers()[1].to_pybytes()[: most // 8 + 1])
