from datetime import date, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from producers.sources.open_meteo.splitting import DAYS_OF_A_REQUEST, FIRST_DAY, LAST_DAY_AHEAD, Days, split_days, split_places
from tests.support.producers import place

TODAY = date(2026, 3, 1)
days = st.dates(date(2012, 1, 1), date(2026, 6, 1))


@settings(deadline=None)
@given(days, days)
def test_range_is_cut_without_gap_or_overlap_and_asked_with_its_edges(since: date, until: date) -> None:
    end_of_api = TODAY + timedelta(days=LAST_DAY_AHEAD)
    spans = split_days(since, until, TODAY)
    first, last = max(since, FIRST_DAY), min(until, end_of_api)
    kept = [span.first + timedelta(days=i) for span in spans for i in range((span.last - span.first).days + 1)]
    assert kept == [first + timedelta(days=i) for i in range((last - first).days + 1)]
    for span in spans:
        assert (span.asked_last - span.asked_first).days + 1 <= DAYS_OF_A_REQUEST
        assert span.asked_first == max(span.first - timedelta(days=1), FIRST_DAY)
        assert span.asked_last == min(span.last + timedelta(days=1), end_of_api)
    assert len(spans) <= len(kept) / (DAYS_OF_A_REQUEST - 2) + 1


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(1, 90))
def test_places_are_cut_in_order_and_within_what_the_api_takes_a_minute(count: int, asked: int) -> None:
    places = [place(f"p{i}", 0, 0) for i in range(count)]
    groups = split_places(places, Days(TODAY, TODAY, TODAY, TODAY + timedelta(days=asked - 1)))
    assert [one for group in groups for one in group] == places
    assert all(1 <= len(group) <= 50 and (len(group) * asked <= 1_500 or len(group) == 1) for group in groups)
