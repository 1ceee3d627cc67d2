"""Does the embedded catalog, one SQLite file, bear others? Held by another process, and written and read by several at once."""

import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.tables.catalog import open_catalog
from tests.long.conftest import NewStand
from tests.support.faults import BRONZE, SILVER, Stand

pytestmark = pytest.mark.timeout(1800)
Record = Callable[[str, object], None]
# Longer than a writer waits for the file (30 s), and than a lease lasts.
HELD_SECONDS = 45
TOGETHER_SECONDS = 300
HOLD = """
import sqlite3, sys, time
catalog = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
catalog.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
catalog.execute("ROLLBACK")
"""


def file_of(stand: Stand) -> Path:
    return Path(stand.settings.catalog_uri.removeprefix("sqlite:///"))


def entries(stand: Stand) -> dict[str, str]:
    """What the catalog says of each table: it changes with every commit."""
    return {str(name): str(open_catalog(stand.settings).load_table(name).metadata_location) for name in (BRONZE, SILVER)}


def test_catalog_held_by_another_process_is_waited_for(new_stand: NewStand, record_property: Record) -> None:
    stand = new_stand()
    driver = stand.start()
    with stand.load() as load:
        driver.until_ready()
        stand.until_commit(driver, SILVER)
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(file_of(stand)), str(HELD_SECONDS)], stdout=subprocess.PIPE, text=True
        ) as holder:
            try:
                assert holder.stdout is not None
                assert holder.stdout.readline() == "held\n"
                with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                    sqlite3.connect(file_of(stand), timeout=0).execute("DELETE FROM iceberg_tables")
                before, since = entries(stand), len(load.delivered)
                driver.live(HELD_SECONDS - 5)
                assert holder.poll() is None
                assert entries(stand) == before
                assert len(load.delivered) > since  # they wait in Kafka
            finally:
                if holder.poll() is None and sys.exc_info()[0]:
                    holder.kill()
        back = max(stand.until_commit(driver, query) for query in (BRONZE, SILVER))
        delivered = load.end()
    stand.until_all(driver, load.delivered)
    driver.until(driver.all_run)
    restarts = sum(query.restarts for query in driver.queries().values())
    assert driver.stop() == 0
    assert re.search(r"query will start again .*database is locked", driver.said())
    stand.assert_right(load.delivered)
    record_property("readings", delivered)
    record_property("held, s", HELD_SECONDS)
    record_property("restarts of queries", restarts)
    record_property("from its release to the next commits, s", round(back, 1))


def test_two_writers_and_a_reader_meet_no_locked_database(new_stand: NewStand, record_property: Record) -> None:
    """The stream's two queries in their process, a second Spark that appends to a table of its own, and a reader."""
    stand, over = new_stand(), threading.Event()
    spark = stand.pipeline.spark
    errors: list[BaseException] = []
    done: Counter[str] = Counter()

    def again_and_again(name: str, what: Callable[[], object]) -> threading.Thread:
        def run() -> None:
            while not over.is_set():
                try:
                    what()
                    done[name] += 1
                except BaseException as error:
                    errors.append(error)
                    return

        thread = threading.Thread(target=run, name=name)
        thread.start()
        return thread

    def read() -> None:
        for name in (SILVER, *(gold.table.name.removeprefix("lh.") for gold in stand.pipeline.domain.derived)):
            stand.pipeline.table(name)

    driver = stand.start()
    with stand.load() as load:
        driver.until_ready()
        stand.until_commit(driver, SILVER)
        spark.sql("CREATE TABLE lh.ops.beside (nth BIGINT) USING iceberg")
        before = stand.newest(BRONZE, "commits") + stand.newest(SILVER, "commits")
        threads = [
            again_and_again("appends", lambda: spark.range(1).toDF("nth").writeTo("lh.ops.beside").append()),
            again_and_again("reads", read),
        ]
        try:
            over_at = time.monotonic() + TOGETHER_SECONDS
            driver.until(lambda: errors or time.monotonic() >= over_at, seconds=2 * TOGETHER_SECONDS)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        batches = stand.newest(BRONZE, "commits") + stand.newest(SILVER, "commits") - before
        delivered = load.end()
    stand.until_all(driver, load.delivered)
    assert errors == []
    restarts = sum(query.restarts for query in driver.queries().values())
    assert driver.stop() == 0
    assert "database is locked" not in driver.said()
    assert "SQLITE_BUSY" not in driver.said()
    assert restarts == 0
    assert stand.rows("ops.beside") == done["appends"] > TOGETHER_SECONDS / 5
    assert min(done["reads"], batches) > TOGETHER_SECONDS / 10
    stand.assert_right(load.delivered)
    record_property("readings", delivered)
    record_property("micro-batches of the stream", batches)
    record_property("appends beside", done["appends"])
    record_property("reads of all tables", done["reads"])
