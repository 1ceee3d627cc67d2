from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.spans import JOIN_GAP, Spans

START = datetime(2024, 1, 1, tzinfo=UTC)
hours = st.integers(0, 24 * 400).map(lambda n: timedelta(hours=n))
rows = st.lists(
    st.tuples(st.sampled_from(["hanoi", "danang", "hcmc"]), hours, st.integers(0, 200)).map(
        lambda row: (row[0], START + row[1], START + row[1] + timedelta(hours=row[2]))
    ),
    max_size=40,
)
widths = st.integers(0, 100).map(lambda n: timedelta(hours=n))
Row = tuple[str, datetime, datetime]


def covers(spans: Spans, row: Row) -> bool:
    return any(entity == row[0] and start <= row[1] and row[2] <= end for entity, start, end in spans.rows)


@given(rows)
def test_spans_cover_their_rows_sorted_and_apart_within_an_entity(rows: list[Row]) -> None:
    spans = Spans.of(rows)
    assert all(covers(spans, row) for row in rows)
    assert list(spans.rows) == sorted(spans.rows)
    for (entity, _, end), (next_entity, start, _) in zip(spans.rows, spans.rows[1:], strict=False):
        assert entity != next_entity or start - end > JOIN_GAP
    assert bool(spans) == bool(rows)
    assert spans.entities == tuple(sorted({row[0] for row in rows}))


@given(rows, st.randoms())
def test_order_of_the_rows_does_not_matter(rows: list[Row], random: st.DrawFn) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Spans.of(shuffled) == Spans.of(rows) == Spans.of(Spans.of(rows).rows)


@given(rows, widths, widths)
def test_widened_covers_what_lies_before_and_after(rows: list[Row], before: timedelta, after: timedelta) -> None:
    wide = Spans.of(rows).widened(before, after)
    assert all(covers(wide, (entity, start - before, end + after)) for entity, start, end in rows)


@given(rows, rows)
def test_joined_covers_both(some: list[Row], others: list[Row]) -> None:
    both = Spans.of(some).joined(others)
    assert all(covers(both, row) for row in (*some, *others))


@given(rows, rows)
def test_crossed_by_gives_what_lies_partly_within_and_never_whole(some: list[Row], others: list[Row]) -> None:
    spans = Spans.of(some)
    found = spans.crossed_by(others)
    for row in others:
        overlaps = any(entity == row[0] and start <= row[2] and row[1] <= end for entity, start, end in spans.rows)
        assert (row in found) == (overlaps and not covers(spans, row))


@given(rows)
def test_whole_days_begin_at_midnight_and_end_with_the_last_microsecond(rows: list[Row]) -> None:
    days = Spans.of(rows).whole_days()
    for row in rows:
        assert covers(days, row)
    for _, start, end in days.rows:
        assert (start.hour, start.minute, start.second, start.microsecond) == (0, 0, 0, 0)
        assert (end + timedelta(microseconds=1)).time() == datetime.min.time()


def test_days_are_those_of_utc() -> None:
    hanoi = datetime(2024, 1, 2, 3, tzinfo=timezone(timedelta(hours=7)))  # the evening before, in UTC
    assert Spans.of([("hanoi", hanoi, hanoi)]).whole_days().rows == (("hanoi", START, START + timedelta(days=1, microseconds=-1)),)


@given(st.lists(st.tuples(st.sampled_from("abc"), hours), min_size=1, max_size=60))
def test_ranges_are_at_most_twelve_and_cover_everything(points: list[tuple[str, timedelta]]) -> None:
    spans = Spans.of((entity, START + at * 10, START + at * 10) for entity, at in points)
    assert 1 <= len(spans.ranges) <= 12
    assert all(any(first <= start and end <= last for first, last in spans.ranges) for _, start, end in spans.rows)


@given(rows)
def test_alike_puts_every_entity_in_one_group_with_its_own_times(rows: list[Row]) -> None:
    spans = Spans.of(rows)
    grouped = [entity for entities in spans.alike.values() for entity in entities]
    assert sorted(grouped) == list(spans.entities)
    for times, entities in spans.alike.items():
        for entity in entities:
            assert times == tuple((start, end) for name, start, end in spans.rows if name == entity)
