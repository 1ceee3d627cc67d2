"""The rows of a micro-batch, read from files: they must be the rows that Spark's stream over the table gives."""

import random
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from lakehouse.storage.folders import LocalFolder
from lakehouse.tables.create import create_missing
from lakehouse.tables.schema import Column, Table
from lakehouse.tables.stream_positions import Position
from lakehouse.write.appended_rows import read_appended
from streaming.checkpoints import planned_positions

TABLE = Table(
    "lh.bronze.appended",
    "one row per message",
    (),
    (Column("n", "BIGINT"), Column("day", "DATE"), Column("value", "BINARY")),
    ("day",),
)


class Stand:
    """A table, a stream over it, and what each micro-batch had by Spark and by files."""

    def __init__(self, session: SparkSession, folder: Path) -> None:
        create_missing(session, [TABLE])
        self._session, self._folder, self._next = session, folder, 0
        self.batches: list[tuple[list[int], list[int] | None]] = []

    def append(self, rows: int, files: int) -> None:
        wanted = self._session.range(self._next, self._next + rows, 1, files)
        self._next += rows
        days = wanted.selectExpr(
            "id AS n", "date_add(DATE'2024-01-01', CAST(id % 3 AS INT)) AS day", "CAST(CAST(id AS STRING) AS BINARY) AS value"
        )
        days.writeTo(TABLE.name).option("distribution-mode", "none").option("fanout-enabled", "true").append()

    def compact(self) -> None:
        self._session.sql("CALL lh.system.rewrite_data_files(table => 'bronze.appended', options => map('rewrite-all', 'true'))").collect()

    def drop_a_day(self) -> None:
        self._session.sql(f"DELETE FROM {TABLE.name} WHERE day = DATE'2024-01-02'")

    def read_on(self, most_rows: int) -> None:
        """Read what is there now in micro-batches."""
        checkpoint = self._folder / "checkpoint"
        stream = (
            self._session.readStream.format("iceberg")
            .option("streaming-max-rows-per-micro-batch", most_rows)
            .option("streaming-skip-delete-snapshots", "true")
            .load(TABLE.name)
        )

        def compare(rows: DataFrame, batch_id: int) -> None:
            by_spark = sorted(row.n for row in rows.select("n").collect())
            positions = planned_positions(LocalFolder(checkpoint), batch_id, 1)
            read = None if positions is None else read_appended(self._session, TABLE, *positions[0], 1_000)
            self.batches.append((by_spark, None if read is None else sorted(read["n"].to_pylist())))

        query = stream.writeStream.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).foreachBatch(compare).start()
        assert query.awaitTermination(120)


@pytest.mark.parametrize("seed", range(3))
def test_files_hold_what_the_stream_gives_whatever_other_commits_lie_between(session: SparkSession, tmp_path: Path, seed: int) -> None:
    chance, stand = random.Random(seed), Stand(session, tmp_path)
    for _ in range(4):
        for _ in range(chance.randint(1, 3)):
            stand.append(chance.randint(1, 60), chance.randint(1, 3))
            if chance.random() < 0.3:
                stand.compact()
            if chance.random() < 0.3:
                stand.drop_a_day()
        stand.read_on(chance.choice([10, 25, 1_000]))
    assert len(stand.batches) >= 4 and sum(len(rows) for rows, _ in stand.batches) > 0
    assert [by_files for _, by_files in stand.batches] == [by_spark for by_spark, _ in stand.batches]


def test_what_cannot_be_known_is_left_to_spark(session: SparkSession, tmp_path: Path) -> None:
    stand = Stand(session, tmp_path)
    stand.append(10, 1)
    head = session.sql(f"SELECT snapshot_id FROM {TABLE.name}.snapshots ORDER BY committed_at DESC").first()
    assert head is not None
    end = Position(head[0], 3)
    rows = read_appended(session, TABLE, Position(-1, -1), end, 10)
    assert rows is not None and sorted(rows["n"].to_pylist()) == list(range(10))
    assert rows.column_names == list(TABLE.names)
    assert read_appended(session, TABLE, Position(-1, -1), end, 9) is None
    assert read_appended(session, TABLE, Position(1, 0), end, 10) is None  # that snapshot is gone
    assert read_appended(session, TABLE, Position(-1, -1), Position(1, 0), 10) is None
    session.sql(f"INSERT OVERWRITE {TABLE.name} SELECT * FROM {TABLE.name} WHERE n < 5")
    head = session.sql(f"SELECT snapshot_id FROM {TABLE.name}.snapshots ORDER BY committed_at DESC").first()
    assert head is not None and read_appended(session, TABLE, end, Position(head[0], 1), 10) is None  # Spark's source says why it stops
