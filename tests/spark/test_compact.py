from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import SparkSession

from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from lakehouse.spans import Spans
from lakehouse.tables.catalog import open_catalog
from lakehouse.tables.create import ensure_tables
from lakehouse.write.compaction import Compactor
from monitoring.freshness import table_facts

FIRST = datetime(2024, 3, 1, tzinfo=UTC)


def test_many_small_files_become_few_and_hold_the_same_rows(session: SparkSession, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    domain = build_domain("air_quality", settings)
    ensure_tables(session, domain)
    name = domain.sources[0].silver.name
    table = open_catalog(settings).load_table(name.removeprefix("lh."))
    compactor = Compactor(domain, every=10)
    compacted = []
    for n in range(10):
        hour = FIRST + timedelta(hours=n)
        session.sql(f"INSERT INTO {name} (location_key, ts_utc) VALUES ('hanoi', TIMESTAMP '{hour:%Y-%m-%d %H:%M:%S}+00:00')")
        # A delete file for one of two rows, which belongs to nothing once the files are joined.
        session.sql(f"INSERT INTO {name} (location_key, ts_utc) VALUES ('gone', TIMESTAMP '{hour:%Y-%m-%d %H:%M:%S}+00:00')")
        session.sql(f"UPDATE {name} SET location_key = 'hue' WHERE location_key = 'gone'")
        before = session.table(name).orderBy("ts_utc", "location_key").collect()
        compacted.append(compactor.after(session, domain, {name: Spans.of([("hanoi", hour, hour)])}))
        assert session.table(name).orderBy("ts_utc", "location_key").collect() == before
    # Each table once, no two after one micro-batch, silver last: it began at nought.
    assert sorted(filter(None, compacted)) == sorted([name, *(gold.table.name for gold in domain.derived)])
    assert compacted[-1] == name
    assert len(table.refresh().inspect.data_files()) == 1
    assert table_facts(table, name).rows == len(before) == 20


def test_nothing_is_compacted_without_rows_or_where_it_is_switched_off(spark: SparkSession, tmp_path: Path) -> None:
    domain = build_domain("air_quality", Settings(home=tmp_path))
    name = domain.sources[0].silver.name
    span = {name: Spans.of([("hanoi", FIRST, FIRST)])}
    assert [Compactor(domain, every=0).after(spark, domain, span) for _ in range(3)] == [""] * 3
    assert [Compactor(domain, every=1).after(spark, domain, {name: Spans(())}) for _ in range(3)] == [""] * 3
