"""A backfill: whatever its chunks, failures and ends, the tables are those of one pass; and a proof of gold sees what differs."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from batch.backfill.ledger import Ledger, NothingToResume
from batch.lineage import CannotExplain, explain, offsets, sources_of
from batch.prove.proofs_table import WITNESSES
from batch.prove.prove import prove
from lakehouse.codecs.parse import retyped
from lakehouse.derive import to_silver
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from producers.history import SourceSpent
from tests.support.backfills import SINCE, UNTIL, MadeHistory, fill, go_on
from tests.support.pipeline import Pipeline, write_locations

PLACES = ("a", "b", "c")
BRONZE = "lh.bronze.open_meteo_hourly"


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    write_locations(tmp_path, PLACES)
    return Settings(home=tmp_path)


def pipeline(session: SparkSession, home: Settings) -> Pipeline:
    return Pipeline(home, session, build_domain("air_quality", home))


def rows(session: SparkSession, table: str) -> int:
    return session.table(table).count()


def states(ledger: Ledger) -> list[str]:
    return [one.state for one in ledger.chunks]


def test_chunks_in_any_order_are_one_pass(session: SparkSession, home: Settings) -> None:
    history = MadeHistory(PLACES)
    # Later days before earlier ones, in chunks of different lengths, the episode cut in two at a chunk's edge.
    fill(session, home, history, "day", date(2024, 3, 1), UNTIL)
    ledger = fill(session, home, history, "month", SINCE, date(2024, 2, 29))
    assert states(ledger) == ["done"]
    pipe = pipeline(session, home)
    pipe.assert_gold_is_right()
    edge = datetime(2024, 2, 29, 23, tzinfo=UTC)
    over = [row for row in pipe.table("gold.fact_episode", ["a"]).to_pylist() if row["start_ts"] <= edge < row["end_ts"]]
    assert [row["hours_flagged"] >= 30 for row in over] == [True], "one episode over the chunks' edge"
    fetched = sum(one.rows_fetched for one in ledger.chunks)
    assert fetched == sum(one.rows_in for one in ledger.chunks) == sum(one.rows_out for one in ledger.chunks) > 0


def test_a_second_one_writes_only_what_has_changed(session: SparkSession, home: Settings) -> None:
    fill(session, home, MadeHistory(PLACES))
    before = rows(session, BRONZE)
    again = fill(session, home, MadeHistory(PLACES, version=1))
    assert rows(session, BRONZE) == before, "the same values, retrieved later, are no news"
    assert sum(one.rows_fetched for one in again.chunks) == before
    assert {one.rows_in for one in again.chunks} == {0}
    changed = fill(session, home, MadeHistory(PLACES, version=2, changed=date(2024, 3, 9)))
    assert [one.rows_in > 0 for one in changed.chunks] == [False, False, True]
    fill(session, home, MadeHistory(PLACES, version=3, changed=date(2024, 3, 9)), override=True)
    assert rows(session, BRONZE) == 2 * before + sum(one.rows_in for one in changed.chunks)
    pipeline(session, home).assert_gold_is_right()


def test_what_was_cut_off_goes_on_and_asks_for_nothing_twice(session: SparkSession, home: Settings) -> None:
    history = MadeHistory(PLACES, spent_after=1)
    with pytest.raises(SourceSpent):
        fill(session, home, history)
    ledger = Ledger.unfinished(session, "air_quality")
    assert states(ledger) == ["done", "planned", "planned"]
    history.left = 10
    assert go_on(session, home, history, ledger)
    assert states(ledger) == ["done", "done", "done"]
    assert len(history.asked) == len(set(history.asked)) == 3 * len(PLACES)
    pipeline(session, home).assert_gold_is_right()
    with pytest.raises(NothingToResume):
        Ledger.unfinished(session, "air_quality")


def test_a_place_that_fails_stops_no_other_and_is_had_later(session: SparkSession, home: Settings) -> None:
    history = MadeHistory(PLACES, failing=["b"])
    ledger = fill(session, home, history)
    assert states(ledger) == ["failed"] * 3
    assert [one.lacking for one in ledger.chunks] == [{"b": "no answer"}] * 3
    there = pipeline(session, home)
    there.assert_gold_is_right()
    assert set(there.table("gold.fact_city_daily")["location_key"].to_pylist()) == {"a", "c"}
    history.failing.clear()
    history.asked.clear()
    retried = Ledger.failed(session, "air_quality")
    assert go_on(session, home, history, retried)
    assert {place for place, _, _ in history.asked} == {"b"}, "the others were had"
    assert states(retried) == ["done"] * 3
    there.assert_gold_is_right()
    assert set(there.table("gold.fact_city_daily")["location_key"].to_pylist()) == set(PLACES)
    bronze = there.table("bronze.open_meteo_hourly").select(["source_run", "source_row"]).to_pylist()
    assert len({tuple(row.values()) for row in bronze}) == len(bronze) == sum(one.rows_in for one in retried.chunks)


def test_a_proof_finds_what_is_wrong_and_where_it_comes_from(session: SparkSession, home: Settings) -> None:
    fill(session, home, MadeHistory(PLACES))
    domain = build_domain("air_quality", home)
    assert prove(home, domain, session).is_equal
    without_spark = prove(home, domain, None, ways=WITNESSES["duckdb"])
    assert without_spark.is_equal
    assert [way for way, _ in without_spark.compared] == ["independent"] * 3
    session.sql("UPDATE lh.gold.fact_city_daily SET max_aqi = max_aqi + 1 WHERE location_key = 'b' AND date_utc = DATE '2024-03-02'")
    session.sql("DELETE FROM lh.gold.fact_air_quality_hourly WHERE location_key = 'c' AND ts_utc = TIMESTAMP '2024-03-03 05:00:00+00:00'")
    proof = prove(home, domain, session)
    found = {(one.table, way): (one.missing, one.extra, one.doubled, one.different, dict(one.columns)) for way, one in proof.compared}
    for way in ("batch", "independent"):
        assert found["lh.gold.fact_city_daily", way] == (0, 0, 0, 1, {"max_aqi": 1})
        assert found["lh.gold.fact_air_quality_hourly", way] == (1, 0, 0, 0, {})
        assert found["lh.gold.fact_episode", way] == (0, 0, 0, 0, {})
    sources = sources_of(home, domain, proof)
    first = next(one.first[0] for _, one in proof.compared if one.table == "lh.gold.fact_city_daily")
    assert first.key == {"location_key": "b", "date_utc": date(2024, 3, 2)}
    assert all(place.startswith("air_quality-") for place in sources[id(first)]), "backfilled rows are named by their chunk"
    assert not prove(home, domain, session, (date(2024, 3, 2), date(2024, 3, 2))).is_equal
    assert prove(home, domain, session, (date(2024, 3, 5), date(2024, 3, 9))).is_equal
    kept = session.table("lh.ops.proofs").groupBy("proof_id").count().collect()
    assert sorted(row["count"] for row in kept) == [3, 6, 6, 6, 6]


def test_a_message_is_parsed_once_whatever_the_rules_ask_of_it(session: SparkSession, home: Settings) -> None:
    fill(session, home, MadeHistory(PLACES))
    domain = build_domain("air_quality", home)
    silver = to_silver(retyped(session.table(BRONZE), domain.sources[0].contract), domain.sources[0])
    plan_of: Any = silver._jdf
    optimized = plan_of.queryExecution().optimizedPlan().toString()
    assert optimized.count("from_json(StructField(location_key") == 1
    assert silver.count() == rows(session, domain.sources[0].silver.name)


def test_a_row_is_followed_down_to_its_messages(session: SparkSession, home: Settings) -> None:
    fill(session, home, MadeHistory(PLACES))
    levels = explain(home, "gold.fact_city_daily", {"location_key": "a", "date_utc": "2024-03-05"})
    assert [level.table.rpartition(".")[2] for level in levels] == [
        "fact_city_daily",
        "fact_air_quality_hourly",
        "air_quality_hourly_clean",
        "open_meteo_hourly",
    ]
    hours = levels[1].rows["ts_utc"].to_pylist()
    assert {hour.date() for hour in hours} == {date(2024, 3, 5)}
    assert {hour.date() for hour in levels[2].rows["ts_utc"].to_pylist()} == {date(2024, 3, 4), date(2024, 3, 5)}, "the means look back"
    assert levels[3].rows.num_rows == levels[2].rows.num_rows
    assert sum(last - first + 1 for runs in offsets(levels[3].rows).values() for first, last in runs) == levels[3].rows.num_rows
    for wrong in ({"location_key": "nowhere"}, {"no_column": "1"}, {"date_utc": "yesterday"}, {"location_key": "a"}):
        with pytest.raises(CannotExplain):
            explain(home, "gold.fact_air_quality_hourly", wrong)
