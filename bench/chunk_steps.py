"""The seed's way of a backfill: what does each of its jobs do? One job a process, so that each has a JVM of its own.

    python -m bench.chunk_steps bronze|silver|gold RUN SINCE UNTIL
    python -m bench.chunk_steps whole RUN SINCE UNTIL

`bronze` fetches the days and appends them under the name RUN, `silver` brings these rows into silver, `gold` makes gold of the days.
`whole` is no job of the seed's: all of the range as one chunk, by the code of `weir backfill`.
"""

import json
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime

from pyspark.sql import SparkSession

from batch.backfill.chunks import Backfill
from batch.backfill.ledger import Ledger
from batch.backfill.periods import Part
from lakehouse.apply import ApplyOptions, apply, refresh_derived
from lakehouse.changes import ChangedSpans
from lakehouse.domain import ByTime, Domain
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spans import Spans
from lakehouse.spark import open_spark
from lakehouse.tables.create import ensure_tables
from lakehouse.write.append_chunk import append_chunk, chunk_rows, typed
from lakehouse.write.dimensions import write_dimensions
from producers.history import Lacking
from producers.sources.registry import histories
from producers.stopping import Stop

Job = Callable[[SparkSession, Domain, Settings, str, date, date], None]


def bronze(spark: SparkSession, domain: Domain, settings: Settings, run: str, since: date, until: date) -> None:
    """Job one: from the source into bronze."""
    ensure_tables(spark, domain)
    values: list[bytes] = []
    with Stop() as stop, histories()[domain.name](settings, stop) as history:
        for one in history.fetch(history.entities, since, until):
            if isinstance(one, Lacking):
                raise one.error
            values += [domain.sources[0].contract.encode(record) for record in one.records]
    append_chunk(spark, domain.sources[0].bronze, typed(spark, values, domain.sources[0].contract, run), {})


def silver(spark: SparkSession, domain: Domain, settings: Settings, run: str, since: date, until: date) -> None:
    """Job two: from bronze into silver."""
    source = domain.sources[0]
    apply(chunk_rows(spark, source.bronze, run), source, domain, ApplyOptions(deferred=run))


def gold(spark: SparkSession, domain: Domain, settings: Settings, run: str, since: date, until: date) -> None:
    """Job three: from silver into gold."""
    write_dimensions(spark, domain)
    first = datetime(since.year, since.month, since.day, tzinfo=UTC)
    last = datetime(until.year, until.month, until.day, 23, tzinfo=UTC)
    with Stop() as stop, histories()[domain.name](settings, stop) as history:
        source = domain.sources[0]
        assert isinstance(source.kind, ByTime)
        changed = ChangedSpans(Spans.of((place, first, last) for place in history.entities), source.kind.times)
        refresh_derived(spark, domain, {source.silver.name: changed}, ApplyOptions())


def whole(spark: SparkSession, domain: Domain, settings: Settings, run: str, since: date, until: date) -> None:
    """Do all as one chunk, and print what `weir backfill --json` prints."""
    with Stop() as stop, histories()[domain.name](settings, stop) as history:
        ledger = Ledger.plan(spark, domain.name, [(Part(since, until, tuple(history.entities)), 1, 1.0)], False, datetime.now(UTC))
        Backfill(settings, domain, domain.sources[0], spark, history, ledger).run()
    told = [{name: getattr(one, name) for name in ("state", "rows_fetched", "rows_in", "seconds")} for one in ledger.chunks]
    print(json.dumps({"backfill_id": ledger.name, "chunks": told}), flush=True)


JOBS: dict[str, Job] = {"bronze": bronze, "silver": silver, "gold": gold, "whole": whole}


def main(name: str, run: str, since: str, until: str) -> None:
    """Run one of them, with the settings of the environment."""
    settings = Settings()
    spark = open_spark(settings, f"weir bench {name}")
    try:
        JOBS[name](spark, build_domain("air_quality", settings), settings, run, date.fromisoformat(since), date.fromisoformat(until))
    finally:
        spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
