"""Two writers, and silver is ahead of gold: a backfill has written hours whose gold it still owes, and a stream writes beside it."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from lakehouse.apply import ApplyOptions, apply, refresh_derived
from lakehouse.changes import ChangedSpans
from lakehouse.counts import Applied
from lakehouse.domains.air_quality.contract import HOURLY
from lakehouse.engine.choose import memory_engine
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spans import Spans, Times
from lakehouse.write.append_chunk import append_chunk, typed
from lakehouse.write.small_batches.memory_store import Memory
from tests.support.pipeline import START, Pipeline, reading, write_locations

PLACE = "a"
TIMES = Times("location_key", "ts_utc")


class Writers:
    """A stream and a backfill over the tables of one home, each with what it remembers of them."""

    def __init__(self, session: SparkSession, home: Path) -> None:
        write_locations(home, (PLACE,))
        settings = Settings(home=home)
        self.pipeline = Pipeline(settings, session, build_domain("air_quality", settings)).prepare()
        self.domain = self.pipeline.domain
        self.session = session
        self.stream, self.backfill = Memory(self.domain, engine=memory_engine(settings)), Memory(self.domain)
        self._pending: list[tuple[str, datetime, datetime]] = []
        self._written = 0

    def streams(self, *readings: dict[str, Any], memory: bool = True) -> Applied:
        return self._apply(readings, self.stream if memory else None, with_gold=True)

    def backfills(self, *readings: dict[str, Any], memory: bool = True) -> None:
        met = self._apply(readings, self.backfill if memory else None, with_gold=False)
        self._pending.extend(met.touched.rows)

    def makes_gold(self, parts: int = 1, memory: bool = True) -> None:
        """As a backfill does at its end: span by span, in some parts."""
        held = Memory(self.domain, looks_ahead=False) if memory else None
        for number in range(parts):
            if part := self._pending[number::parts]:
                changed = ChangedSpans(Spans.of(part), TIMES)
                refresh_derived(self.session, self.domain, {self.domain.sources[0].silver.name: changed}, ApplyOptions(memory=held))
        self._pending.clear()

    def episodes(self) -> list[tuple[int, int]]:
        """First and last hour of each episode."""
        rows = self.pipeline.table("gold.fact_episode").to_pylist()
        return sorted((_hour(row["start_ts"]), _hour(row["end_ts"])) for row in rows)

    def assert_episodes_lie_apart(self) -> None:
        """Whatever gold lacks yet: no episode stands twice, none overlaps another or follows it without an hour between."""
        episodes = self.episodes()
        for (_, end), (start, _) in pairwise(episodes):
            assert start > end + 1, episodes

    def _apply(self, readings: Sequence[dict[str, Any]], memory: Memory | None, with_gold: bool) -> Applied:
        self._written += 1
        rows = typed(self.session, [HOURLY.encode(one) for one in readings], HOURLY, f"part {self._written}")
        append_chunk(self.session, self.domain.sources[0].bronze, rows, {})
        deferred = "" if with_gold else "a backfill"
        options = ApplyOptions(memory=memory, deferred=deferred)
        return apply(self.session.createDataFrame(rows), self.domain.sources[0], self.domain, options)


def _hour(instant: datetime) -> int:
    return int((instant.astimezone(UTC) - START) / timedelta(hours=1))


def hours(first: int, last: int, flagged: bool = True, version: int = 0) -> list[dict[str, Any]]:
    """Hours of the place; NO2 alone, whose index is of the hour itself, says whether an hour is flagged."""
    return [reading(PLACE, hour, version=version, no2=1000.0 if flagged else 20.0) for hour in range(first, last + 1)]


@pytest.mark.parametrize("memory", [True, False], ids=["from memory", "by MERGE"])
def test_an_episode_that_the_stream_ends_has_its_middle_from_a_backfill(session: SparkSession, tmp_path: Path, memory: bool) -> None:
    writers = Writers(session, tmp_path)
    writers.streams(*hours(0, 5), memory=memory)
    assert writers.episodes() == [(0, 5)]
    writers.backfills(*hours(6, 22), memory=memory)
    writers.streams(*hours(23, 23), memory=memory)
    assert writers.episodes() == [(0, 23)], "all hours were there: one episode, not two of one key"
    writers.makes_gold(memory=memory)
    writers.pipeline.assert_gold_is_right()


def test_a_run_of_days_that_gold_knows_the_ends_of(session: SparkSession, tmp_path: Path) -> None:
    writers = Writers(session, tmp_path)
    writers.streams(*hours(0, 5), *hours(400, 403))
    writers.backfills(*hours(6, 300), *hours(302, 399))
    writers.streams(*hours(301, 301))
    assert writers.episodes() == [(0, 403)]
    writers.makes_gold(parts=2)
    writers.pipeline.assert_gold_is_right()


# 10: an episode stood twice, with the end it had had and with the one it had got.
@pytest.mark.parametrize("seed", [4, 10])
def test_whatever_two_writers_do_gold_is_that_of_one_pass(session: SparkSession, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    writers = Writers(session, tmp_path)

    def some(least: int, most: int) -> list[dict[str, Any]]:
        version = chance.randrange(100)
        first = chance.randrange(48)
        length = chance.randint(least, most)
        return [one for hour in range(first, first + length) for one in hours(hour, hour, chance.random() < 0.97, version)]

    for _ in range(12):
        in_memory = chance.random() < 0.8
        match chance.randrange(7):
            case 0 | 1:
                writers.backfills(*some(4, 24), memory=in_memory)
            case 2:
                writers.streams(*some(4, 8), memory=in_memory)
            case 3 | 4 | 5:
                writers.streams(*some(1, 2), *some(1, 2), memory=in_memory)
            case _:
                writers.makes_gold(chance.randint(1, 3), in_memory)
        writers.assert_episodes_lie_apart()
    writers.makes_gold(2)
    writers.pipeline.assert_gold_is_right()
