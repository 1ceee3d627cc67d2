"""Which rows belong to a part, in memory and in a file, against asking each row about each span or tuple."""

from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.parts import Keys
from lakehouse.spans import Spans, Times
from lakehouse.write.small_batches import local_rows
from lakehouse.write.small_batches.select_rows import rows_of, selection_of

START = datetime(2024, 1, 1, tzinfo=UTC)
places = st.sampled_from(["danang", "hanoi", "hcmc", "đà lạt"])
lengths = st.integers(0, 30).map(lambda n: timedelta(hours=n))
times = st.integers(-500, 500).map(lambda n: START + timedelta(hours=n))
ranges = st.lists(st.tuples(places, times, lengths).map(lambda row: (row[0], row[1], row[1] + row[2])), max_size=30)


@given(ranges, ranges, st.sampled_from([timedelta(0), timedelta(hours=72)]))
def test_rows_that_overlap_a_span_of_their_entity_are_kept_in_order(
    rows: list[tuple[str, datetime, datetime]], wanted: list[tuple[str, datetime, datetime]], gap: timedelta
) -> None:
    span = Spans.of(wanted, gap)
    instant = pa.timestamp("us", tz="UTC")
    table = pa.table(
        [
            pa.array([r[0] for r in rows], pa.string()),
            *(pa.array([r[n] for r in rows], instant) for n in (1, 2)),
            pa.array(range(len(rows))),
        ],
        names=["place", "first", "last", "n"],
    )
    kept = rows_of(table, span, Times("place", "first", "last"))["n"].to_pylist()
    assert kept == [n for n, (e, a, b) in enumerate(rows) if any(e == who and a <= until and b >= since for who, since, until in span.rows)]


values = st.one_of(st.none(), st.integers(-3, 3))
codes = st.one_of(st.none(), st.sampled_from(["a", "b", "quoted'name"]))
key_rows = st.lists(st.tuples(values, codes), max_size=40)


@given(key_rows, st.sets(st.tuples(values, codes), max_size=4), st.sets(values, max_size=3))
def test_rows_with_one_of_the_values_are_kept_and_null_equals_null(
    rows: list[tuple[int | None, str | None]], pairs: set[tuple[int | None, str | None]], alone: set[int | None]
) -> None:
    part = Keys.of(("id", "code"), pairs).joined(Keys.of(("id",), {(value,) for value in alone}))
    kept = rows_of(of_keys(rows), part)["n"].to_pylist()
    assert kept == [n for n, row in enumerate(rows) if row in pairs or row[0] in alone]


@given(key_rows, st.sets(st.tuples(values, codes), min_size=1, max_size=4), st.integers(1, 7), st.sets(st.integers(0, 39)), st.booleans())
def test_selected_rows_of_a_file_keep_their_positions_whatever_its_row_groups(
    rows: list[tuple[int | None, str | None]], pairs: set[tuple[int | None, str | None]], size: int, gone: set[int], is_large: bool
) -> None:
    part, table = Keys.of(("id", "code"), pairs), of_keys(rows)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if is_large:
            patch.setattr(local_rows, "_READ_AT_ONCE", 0)
        path = f"{folder}/rows.parquet"
        ids = {name: n for n, name in enumerate(table.column_names, start=1)}
        schema = pa.schema([field.with_metadata({"PARQUET:field_id": str(ids[field.name])}) for field in table.schema])
        pq.write_table(table.cast(schema), path, row_group_size=size)
        deletes = f"{folder}/deletes.parquet"
        pq.write_table(pa.table({"file_path": [path] * len(gone), "pos": pa.array(sorted(gone), pa.int64())}), deletes)
        found = local_rows.read_local({path: [deletes]}, table.schema, ids, selection_of(part, None))
    assert found is not None
    expected = [n for n, row in enumerate(rows) if row in pairs and n not in gone]
    assert found["n"].to_pylist() == found["_pos"].to_pylist() == expected
    assert set(found["_file"].to_pylist()) <= {path}


def of_keys(rows: list[tuple[int | None, str | None]]) -> pa.Table:
    columns = [pa.array([row[0] for row in rows], pa.int64()), pa.array([row[1] for row in rows], pa.string())]
    return pa.table([*columns, pa.array(range(len(rows)), pa.int64())], names=["id", "code", "n"])


def test_files_on_hdfs_that_cannot_be_reached_are_left_to_spark() -> None:
    schema = pa.schema([("a", pa.int64())])
    assert local_rows.read_local({"hdfs://127.0.0.1:9/x.parquet": []}, schema, {"a": 1}) is None
    with pytest.raises(FileNotFoundError):
        local_rows.read_local({"/nonexistent/x.parquet": []}, schema, {"a": 1})
    assert local_rows.read_local({"s3://bucket/x.parquet": []}, schema, {"a": 1}) is None
