"""Which rows lie in a span, against asking each row about each span."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.spans import Spans, Times
from lakehouse.write.small_batches.recent_rows import rows_in

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
    kept = rows_in(table, span, Times("place", "first", "last"))["n"].to_pylist()
    assert kept == [n for n, (e, a, b) in enumerate(rows) if any(e == who and a <= until and b >= since for who, since, until in span.rows)]
