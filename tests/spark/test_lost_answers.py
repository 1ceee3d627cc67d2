"""Two faults that other systems lost or doubled rows by: a commit whose answer is lost, and a restart from an older checkpoint.

The first is iceberg#16008, the second iceberg#10892. Whoever repeats the rows, with the same engine or the other one, changes nothing.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse.apply import ApplyOptions, apply
from lakehouse.domains.air_quality.tables import BRONZE
from lakehouse.engine.engine import Engine
from lakehouse.engine.on_duckdb import DuckEngine
from lakehouse.write.fenced_append import FencedAppend
from lakehouse.write.small_batches.data_files import DataFileWriter
from lakehouse.write.small_batches.memory_store import Memory
from streaming import refine
from tests.spark.test_maintain import PLACES, Stand

SILVER = "silver.air_quality_hourly_clean"


class AnswerLost(Exception):
    """The catalog committed, but its answer did not arrive."""


@pytest.fixture
def duckdb() -> Iterator[Engine]:
    """Give DuckDB as the engine."""
    yield DuckEngine("1GB")


@pytest.mark.parametrize("lost", range(1, 4), ids=["silver", "hours", "days"])
@pytest.mark.parametrize("duckdb_repeats", [True, False], ids=["repeated by DuckDB", "repeated by Spark"])
def test_a_commit_whose_answer_is_lost_is_found_by_whoever_repeats_it(
    session: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duckdb: Engine, lost: int, duckdb_repeats: bool
) -> None:
    stand = Stand(session, tmp_path)
    stand.arrive(range(0, 12))
    domain, (source,) = stand.pipe.domain, stand.pipe.domain.sources
    rows, commits, commit = session.table(BRONZE.name), [0], DataFileWriter.commit

    def and_lose_the_answer(self: DataFileWriter, pending: Any, paths: Any) -> None:  # noqa: ANN401 - as it is
        commit(self, pending, paths)
        commits[0] += 1
        if commits[0] == lost:
            raise AnswerLost

    with monkeypatch.context() as patched:
        patched.setattr(DataFileWriter, "commit", and_lose_the_answer)
        with pytest.raises(AnswerLost):
            apply(rows, source, domain, ApplyOptions(memory=Memory(domain, engine=None if duckdb_repeats else duckdb)))
    apply(rows, source, domain, ApplyOptions(memory=Memory(domain, engine=duckdb if duckdb_repeats else None)))
    assert stand.pipe.table(SILVER).num_rows == 12 * len(PLACES)
    stand.pipe.assert_gold_is_right()


def test_an_append_whose_answer_is_lost_is_not_repeated(session: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand, commit = Stand(session, tmp_path), DataFileWriter.commit

    def and_lose_the_answer(self: DataFileWriter, pending: Any, paths: Any) -> None:  # noqa: ANN401 - as it is
        commit(self, pending, paths)
        raise AnswerLost

    with monkeypatch.context() as patched:
        patched.setattr(DataFileWriter, "commit", and_lose_the_answer)
        with pytest.raises(AnswerLost):
            stand.arrive(range(0, 4))
    assert session.table(BRONZE.name).count() == 4 * len(PLACES) and stand.offset == 0
    stand.arrive(range(0, 4))  # the same offsets, by the driver that goes on
    stand.append = FencedAppend(BRONZE, stand.append._topic_ids)
    stand.offset = 0
    stand.arrive(range(0, 4))  # and by one that has started again
    assert session.table(BRONZE.name).count() == 4 * len(PLACES)


@pytest.mark.parametrize("duckdb_repeats", [True, False], ids=["repeated by DuckDB", "repeated by Spark"])
def test_a_restart_from_an_older_checkpoint_repeats_and_changes_nothing(
    session: SparkSession, tmp_path: Path, duckdb: Engine, duckdb_repeats: bool
) -> None:
    stand = Stand(session, tmp_path)
    checkpoints, older = tmp_path / "checkpoints", tmp_path / "older"

    def run(engine: Engine | None) -> None:
        body = refine.refine_body(lambda: stand.pipe.domain, lambda _: None, engine=engine)
        bronze = refine.read_bronze(session, stand.pipe.domain, stand.settings)
        refine.start_refine(bronze, stand.pipe.domain, stand.settings, body, available_now=True).awaitTermination()

    first, second = (None, duckdb) if duckdb_repeats else (duckdb, None)
    stand.arrive(range(0, 8))
    run(first)
    shutil.copytree(checkpoints, older)
    for version in (1, 2):  # later micro-batches revise what the older checkpoint knows
        stand.arrive(range(2, 12), version=version)
        run(first)
    before = stand.rows()
    shutil.rmtree(checkpoints)
    older.rename(checkpoints)
    run(second)
    assert stand.rows() == before, "repeated, and nothing changed"
    stand.arrive(range(10, 14), version=3)
    run(second)
    assert stand.pipe.table(SILVER).num_rows == 14 * len(PLACES)
    stand.pipe.assert_gold_is_right()
