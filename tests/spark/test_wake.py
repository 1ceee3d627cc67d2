"""A refine query that would look at bronze again in an hour takes what its own driver appends, at once and to the last micro-batch."""

import time
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from typing_extensions import override

from streaming import refine
from streaming.wake import Waker, can_wake
from tests.spark.test_maintain import PLACES, Stand
from tests.support.faults import wait_until

SILVER = "silver.air_quality_hourly_clean"
HOUR_SECONDS = 3600.0


class CountingWaker(Waker):
    """One that notes when it looked."""

    def __init__(self, *given: Any, **named: Any) -> None:  # noqa: ANN401 - as it is
        super().__init__(*given, **named)
        self.looked: list[float] = []

    @override
    def wake(self) -> None:
        self.looked.append(time.monotonic())
        super().wake()


def test_a_query_that_found_nothing_for_a_while_looks_seldom_until_it_finds_rows(session: SparkSession, tmp_path: Path) -> None:
    waker = CountingWaker(session, 0.05, HOUR_SECONDS, idle_after=1.0)
    stand = Stand(session, tmp_path)
    looked = waker.looked
    rows = refine.read_bronze(session, stand.pipe.domain, stand.settings)
    body = refine.refine_body(lambda: stand.pipe.domain, lambda _: None)
    query = refine.start_refine(rows, stand.pipe.domain, stand.settings, body, available_now=False, waker=waker)
    try:
        wait_until(lambda: len(looked) > 5 and time.monotonic() - looked[-1] > 0.5, query.exception)  # it waits for an hour now
        stand.arrive(range(0, 2))
        seen = len(looked)
        waker.found_rows()
        wait_until(lambda: len(looked) > seen + 5, query.exception)
        wait_until(lambda: stand.pipe.table(SILVER).num_rows == 2 * len(PLACES), query.exception)
    finally:
        query.stop()


def test_a_query_looks_when_it_is_woken_and_goes_on_while_there_is_more(session: SparkSession, tmp_path: Path) -> None:
    assert can_wake(session)
    stand = Stand(session, tmp_path)
    settings = stand.settings.model_copy(update={"max_offsets_per_trigger": 6})  # a file of bronze each
    waker = Waker(session, HOUR_SECONDS)
    body = refine.refine_body(lambda: stand.pipe.domain, lambda _: None, after=waker.wake)
    rows = refine.read_bronze(session, stand.pipe.domain, settings)
    waker.wake()  # before the start: nothing
    stand.arrive(range(0, 2))
    query = refine.start_refine(rows, stand.pipe.domain, settings, body, available_now=False, waker=waker)
    try:
        wait_until(lambda: stand.pipe.table(SILVER).num_rows == 2 * len(PLACES), query.exception)
        for n in range(1, 4):
            stand.arrive(range(2 * n, 2 * n + 2))
        waker.wake()
        wait_until(lambda: stand.pipe.table(SILVER).num_rows == 8 * len(PLACES), query.exception)
        query.processAllAvailable()  # gold as well
        assert query.isActive
    finally:
        query.stop()
    stand.pipe.assert_gold_is_right()
