"""Rounds of maintenance beside a stream under load, which fights for the very files that are rewritten."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from batch.maintain.maintain import Round, chosen_tables
from batch.maintain.maintenance_table import keep, known_of, renewed
from tests.support.faults import BRONZE, SILVER, Stand

# Those that the stream writes; the load is of months long past, which count as closed.
TABLES = (BRONZE, SILVER, "gold.fact_air_quality_hourly", "gold.fact_city_daily", "gold.fact_episode", "ops.rejects")


@dataclass
class Beside:
    """What came of the rounds: files that were joined, snapshots that went, steps that were left, and the load."""

    delivered: int = 0
    rounds: int = 0
    seconds: float = 0.0
    joined: int = 0
    expired: int = 0
    left: int = 0
    repeated: int = 0
    longest: float = 0.0


def maintain_beside_a_stream(stand: Stand, rounds: int) -> Beside:
    """Maintain so many times while a driver takes what a load publishes; see that nothing failed, was lost or doubled."""
    found, session = Beside(), stand.pipeline.spark
    driver = stand.start()
    driver.until_ready()
    with stand.load() as load:
        driver.until(lambda: stand.rows(SILVER) > 0)
        began = time.monotonic()
        while found.rounds < rounds or not found.expired:
            stand.until_commit(driver, SILVER)
            known, now = known_of(session), datetime.now(UTC)
            one = Round(stand.settings, [stand.pipeline.domain], session, known, now)
            results = one.run(chosen_tables(session, TABLES))
            keep(session, results, renewed(known, results, one.searched, now), now)
            assert [(result.table, result.failed) for result in results if result.failed] == []
            found.rounds += 1
            found.joined += sum(max(0, result.before.files - result.after.files) for result in results)
            found.expired += sum(max(0, result.before.snapshots - result.after.snapshots) for result in results)
            found.left += sum(len(result.left) for result in results)
            found.longest = max(found.longest, sum(result.seconds for result in results))
        found.seconds = time.monotonic() - began
        assert driver.all_run()
        found.delivered = load.end()
        driver.until(lambda: stand.has_all(load.delivered), every=1)
        assert {query: state.restarts for query, state in driver.queries().items()} == {BRONZE: 0, SILVER: 0}, driver.queries()
        assert driver.stop() == 0
    found.repeated = driver.said().count("repeated after another writer's commit")
    stand.drain()  # and a new driver goes on from what was left of the snapshots
    stand.assert_right(load.delivered)
    assert found.joined and found.expired, "nothing was maintained"
    return found
