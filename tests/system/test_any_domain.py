"""Two topics, two codecs, one bronze query and one refine query: a domain of several sources through real Kafka, killed and extended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from confluent_kafka import Producer
from pyspark.sql import SparkSession

from batch.maintain.maintain import Round
from batch.prove.prove import prove
from lakehouse.broker.topics import ensure_topic
from lakehouse.contract import WIRE_VERSION_HEADER, Value
from lakehouse.domain import Domain, Source
from lakehouse.rules import contract_rules
from lakehouse.settings import Settings
from lakehouse.storage.folders import LocalFolder
from lakehouse.tables.catalog import open_catalog
from monitoring.lag import bronze_lag, silver_lag
from streaming.driver import Driver
from streaming.errors import RejectRateExceeded
from streaming.query_states import read_states
from streaming.resume import Request, ask
from tests.support.pipeline import session_of
from tests.support.running import Running
from tests.support.services import Kafka
from tests.toy.home import item, maker
from tests.toy.tables import BRONZE_MAKERS, SILVER_MAKERS, TOY

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]
MAKERS, ITEMS = TOY.sources
ONE = replace(TOY, sources=(ITEMS,), derived=TOY.derived[4:], oracle="")
_VISITS = replace(MAKERS.contract, topic="toy.visits.v1")
VISITS = Source(
    _VISITS,
    replace(BRONZE_MAKERS, name="lh.bronze.toy_visits"),
    replace(SILVER_MAKERS, name="lh.silver.toy_visits"),
    contract_rules(_VISITS),
    MAKERS.to_silver,
)
THREE = replace(TOY, sources=(*TOY.sources, VISITS))


def publish(broker: Kafka, source: Source, records: Iterable[Mapping[str, Value] | bytes]) -> None:
    contract = source.contract
    ensure_topic(broker.bootstrap, contract, 2)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"})
    for one in records:
        key, value = (None, one) if isinstance(one, bytes) else (contract.encode_key(one), contract.encode(one))
        producer.produce(contract.topic, value, key=key, headers={WIRE_VERSION_HEADER: str(contract.wire_version)})
    assert producer.flush(30) == 0


def drain(settings: Settings, session: SparkSession, domain: Domain) -> dict[str, str]:
    """Let a driver run to the end of what is there; give the note of each query that has one."""
    notes: dict[str, str] = {}

    def ready() -> None:
        notes.update({state.query: state.note for state in read_states(LocalFolder(settings.home / "state"), "toy") if state.note})

    Driver("toy", settings, lambda _: None, build=lambda: domain, spark=session).run(available_now=True, ready=ready)
    return notes


def held(settings: Settings, table: str) -> list[tuple[int, int]]:
    """Where the messages of a bronze table lie, sorted."""
    rows = open_catalog(settings).load_table(f"bronze.{table}").scan(selected_fields=("partition", "kafka_offset")).to_arrow().to_pylist()
    return sorted((row["partition"], row["kafka_offset"]) for row in rows)


def assert_right(settings: Settings, session: SparkSession, domain: Domain) -> None:
    proof = prove(settings, domain, session)
    assert proof.is_equal, [(way, one) for way, one in proof.compared if one.differences]
    for source in domain.sources:
        offsets = held(settings, source.name)
        assert len(set(offsets)) == len(offsets), "each message once"
        assert bronze_lag(settings, source).whole.messages == 0
    assert silver_lag(settings, domain).messages == 0


def test_sources_are_added_and_taken_away_while_the_home_goes_on(spark: SparkSession, broker: Kafka, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", kafka_bootstrap=broker.bootstrap)
    session = session_of(spark, settings)
    publish(broker, ITEMS, [item(n, n % 3, hour=n) for n in range(20)])
    publish(broker, MAKERS, [maker(n) for n in range(2)])
    assert drain(settings, session, ONE) == {}
    assert sorted(path.name for path in (settings.home / "checkpoints").iterdir()) == ["bronze.toy_items", "silver.toy_items"]

    # From one source to two the queries get the domain's name: they begin behind each table's mark.
    publish(broker, ITEMS, [item(n, 1, hour=n, version=1) for n in range(5)])
    drain(settings, session, TOY)
    assert len(held(settings, "toy_items")) == 25 and len(held(settings, "toy_makers")) == 2
    assert_right(settings, session, TOY)

    publish(broker, VISITS, [maker(n) for n in range(4)])
    publish(broker, ITEMS, [b"no Avro", *(item(n, 2, hour=n, version=2) for n in range(3))])
    drain(settings, session, THREE)
    assert len(held(settings, "toy_visits")) == 4 and len(held(settings, "toy_items")) == 29
    assert session.table("lh.silver.toy_visits").count() == 4
    assert_right(settings, session, THREE)

    publish(broker, MAKERS, [maker(2, country="NP"), maker(0, 1, is_gone=True)])
    notes = drain(settings, session, TOY)
    assert "began a new checkpoint, since it read toy.makers.v1, toy.items.v1, toy.visits.v1" in notes["bronze.toy"]
    assert session.table("lh.ops.rejects").count() == 1
    assert_right(settings, session, TOY)
    assert drain(settings, session, TOY) == {}, "what is the same goes on"


@pytest.mark.parametrize("failpoint", ["bronze.table", "silver.merged"])
def test_sigkill_with_an_owner_change_on_its_way_loses_and_doubles_nothing(
    spark: SparkSession, broker: Kafka, tmp_path: Path, failpoint: str
) -> None:
    settings = Settings(home=tmp_path / "home", kafka_bootstrap=broker.bootstrap)
    session = session_of(spark, settings)
    publish(broker, MAKERS, [maker(n) for n in range(3)])
    publish(broker, ITEMS, [item(n, n % 3, hour=n, price=Decimal("1.10")) for n in range(12)])
    drain(settings, session, TOY)
    publish(broker, ITEMS, [item(n, (n + 1) % 3, hour=n + 50, version=1) for n in range(6)])
    publish(broker, MAKERS, [maker(1, 1, maker_name="renamed"), maker(3)])
    environment = os.environ | {
        "WEIR_HOME": str(settings.home),
        "WEIR_KAFKA_BOOTSTRAP": broker.bootstrap,
        "WEIR_FAILPOINT": failpoint,
        "PYTHONPATH": str(ROOT),
    }
    killed = subprocess.Popen([sys.executable, "-m", "tests.toy.run_driver"], env=environment, cwd=ROOT, start_new_session=True)
    try:
        assert killed.wait(300) == -signal.SIGKILL
    finally:
        if killed.poll() is None:
            os.killpg(killed.pid, signal.SIGKILL)
    drain(settings, session, TOY)
    assert session.table("lh.gold.toy_makers").selectExpr("sum(items)").collect()[0][0] == 12
    assert_right(settings, session, TOY)


def test_a_refused_source_waits_while_the_other_goes_on_through_a_restart_and_maintenance(
    spark: SparkSession, broker: Kafka, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home", kafka_bootstrap=broker.bootstrap, trigger_seconds=0.1, silver_trigger_seconds=0.1)
    session = session_of(spark, settings)
    query, makers = TOY.refine_query, TOY.sources[0].silver.name

    def running() -> Running:
        return Running(Driver("toy", settings, lambda _: None, build=lambda: TOY, spark=session), settings, "toy")

    def is_held(stream: Running) -> bool:
        return query in stream.states() and "toy_items" in stream.states()[query].held

    def names() -> list[str]:
        return [row[0] for row in session.table(makers).select("maker_name").orderBy("maker_id").collect()]

    publish(broker, MAKERS, [maker(n) for n in range(3)])
    publish(broker, ITEMS, [item(n, n % 3, hour=n) for n in range(3)])
    drain(settings, session, TOY)
    good = [item(n, n % 3, hour=n, version=1) for n in range(60)]
    publish(broker, ITEMS, [record for pair in zip(good, [b"no Avro"] * 60, strict=True) for record in pair])
    # Drained, the refused source is an error; what the other has is applied.
    publish(broker, MAKERS, [maker(0, 1, maker_name="first")])
    with pytest.raises(RejectRateExceeded, match="toy_items"):
        drain(settings, session, TOY)
    assert names() == ["first", "maker 1", "maker 2"]
    with running() as stream:
        stream.until(lambda: is_held(stream))
        publish(broker, MAKERS, [maker(1, 1, maker_name="second")])
        stream.until(lambda: names()[1] == "second")
        assert stream.states()[query].state == "running" and stream.states()[query].restarts == 0
        publish(broker, ITEMS, [item(100, 0, hour=9)])
        stream.until(lambda: silver_lag(settings, TOY).messages == 121)
        assert session.table("lh.silver.toy_items").count() == 3
    # What is held back is not gold's yet, and maintenance keeps it.
    assert prove(settings, TOY, session).is_equal
    later = datetime.now(UTC) + timedelta(days=400)
    tables = [table.name for table in (*(source.bronze for source in TOY.sources), *TOY.merged)]
    assert [result.failed for result in Round(settings, [TOY], session, {}, later).run(tables) if result.failed] == []
    with running() as stream:
        stream.until(lambda: is_held(stream))
        state = LocalFolder(settings.home / "state")
        ask(state, "toy", Request())  # judged again, and held again
        stream.until(lambda: stream.states()[query].restarts == 1 and is_held(stream))
        ask(state, "toy", Request(accept=True))
        stream.until(lambda: session.table("lh.silver.toy_items").count() == 61)
        publish(broker, MAKERS, [maker(2, 1, maker_name="third")])
        stream.until(lambda: names()[2] == "third")
        assert not stream.states()[query].held
    assert session.table("lh.ops.rejects").count() == 60
    assert_right(settings, session, TOY)
