"""Rebuilds beside a stream under load, and somebody who reads its tables all the time."""

import threading
from datetime import date

from batch.prove.prove import prove
from batch.rebuild.on_branches import Rebuild
from lakehouse.contract import Value
from lakehouse.days import Days
from tests.support.faults import BRONZE, SILVER, Stand, StreamProcess

HOURLY = "gold.fact_air_quality_hourly"
# The load's hours begin on 2024-03-01.
DAYS = (date(2024, 3, 2), date(2024, 3, 4))
KINDS: list[tuple[str, Days]] = [("silver", None), ("gold", None), ("gold", DAYS), ("silver", DAYS)]


class Reader(threading.Thread):
    """Reads tables all the time, as anybody would; under this load they only grow."""

    def __init__(self, stand: Stand) -> None:
        super().__init__(name="reader")
        self._stand, self._ending = stand, threading.Event()
        self.reads, self.wrong = 0, list[str]()

    def run(self) -> None:
        before = {SILVER: 0, HOURLY: 0}
        while not self._ending.wait(1.0):
            for name, least in before.items():
                try:
                    rows = self._stand.pipeline.table(name).select(["location_key", "ts_utc"])
                except Exception as error:  # whatever a reader meets is wrong
                    self.wrong.append(f"{name}: {error!r}")
                    continue
                if rows.num_rows < least or rows.group_by(rows.column_names).aggregate([]).num_rows < rows.num_rows:
                    self.wrong.append(f"{name}: {rows.num_rows} rows after {least}")
                before[name] = rows.num_rows
                self.reads += 1

    def end(self) -> None:
        self._ending.set()
        self.join()


def rebuild_beside_a_stream(stand: Stand, rounds: int) -> tuple[StreamProcess, list[dict[str, Value]]]:
    """Rebuild and prove so many times while a driver takes what a load publishes; see that nothing was lost, doubled, or half there.

    Returns:
        The driver, which runs on, and what was delivered.
    """
    settings, pipeline = stand.settings, stand.pipeline.prepare()
    driver = stand.start()
    driver.until_ready()
    reader = Reader(stand)
    with stand.load(rows_per_second=20) as load:
        driver.until(lambda: stand.rows(HOURLY) > 100, every=1)
        reader.start()
        try:
            for nth in range(rounds):
                layer, days = KINDS[nth % len(KINDS)]
                with Rebuild(settings, pipeline.domain, pipeline.spark, layer == "silver", days) as building:
                    building.build()
                    compared = building.compare()
                    differing = [(one.table, one.differences) for one in compared if one.differences]
                    assert differing == [], f"round {nth}: the rules are the same"
                    building.publish()
                proof = prove(settings, pipeline.domain, pipeline.spark)
                assert proof.is_equal, f"round {nth}, {layer} {days}: {[one for _, one in proof.compared if one.differences]}"
        finally:
            reader.end()
        load.end()
    stand.until_all(driver, load.delivered)
    assert {name: state.restarts for name, state in driver.queries().items()} == {SILVER: 0, BRONZE: 0}, driver.said()[-3000:]
    stand.assert_right(load.delivered)
    assert reader.reads > rounds
    assert reader.wrong == []
    return driver, load.delivered
