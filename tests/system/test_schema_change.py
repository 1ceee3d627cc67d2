"""Does a field come in without a stop? Producers of two versions of the contract on one topic, the real driver on real Kafka."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
from pyspark.sql import SparkSession

from deploy.local.status import collect
from lakehouse.contract import Contract, Field, Value
from lakehouse.domain import Domain
from lakehouse.domains.air_quality import transforms
from lakehouse.engine.relation import Relation
from lakehouse.settings import Settings
from lakehouse.tables.catalog import open_catalog
from lakehouse.tables.evolution import NarrowedSchema
from lakehouse.tables.schema import Column, Table, contract_columns
from producers.kafka_writer import KafkaWriter, connect
from streaming.batch_report import BatchReport
from streaming.driver import Driver
from tests.support.pipeline import START, Pipeline, reading, write_locations
from tests.support.services import Kafka

pytestmark = pytest.mark.timeout(600)
AMMONIA = Field("nh3", "double", about="ammonia", unit="µg/m³", low=0, high=10_000)
BRONZE, SILVER, FACT = "bronze.open_meteo_hourly", "silver.air_quality_hourly_clean", "gold.fact_air_quality_hourly"


def with_ammonia(domain: Domain) -> Domain:
    """The domain's next version: one more optional field, handed on to the hourly fact behind the source's own indices."""
    contract = replace(domain.sources[0].contract, fields=(*domain.sources[0].contract.fields, AMMONIA))
    (column,) = contract_columns(contract, ["nh3"])

    def handing_on(to_rows: Callable[[Relation], Relation]) -> Callable[[Relation], Relation]:
        def wrapped(rows: Relation) -> Relation:
            with patch.object(transforms, "PROVIDER_NAMES", (*transforms.PROVIDER_NAMES, "nh3")):
                return to_rows(rows)

        return wrapped

    source = domain.sources[0]
    silver = longer(source.silver, column)
    hourly, *others = domain.derived
    fact = longer(hourly.table, column)
    longer_source = replace(
        source, contract=contract, bronze=longer(source.bronze, column), silver=silver, to_silver=handing_on(source.to_silver)
    )
    return replace(
        domain,
        sources=(longer_source,),
        derived=(
            replace(hourly, table=fact, reads=(replace(hourly.reads[0], table=silver),), to_rows=handing_on(hourly.to_rows)),
            *(replace(one, reads=(replace(one.reads[0], table=fact),)) for one in others),
        ),
    )


def longer(table: Table, column: Column) -> Table:
    at = table.names.index("us_aqi_co") + 1
    return replace(table, columns=(*table.columns[:at], column, *table.columns[at:]))


def publish(settings: Settings, records: Iterable[tuple[Contract, dict[str, Value]]]) -> None:
    """Send each record by the producer of its version; both are there at once."""
    writers: dict[int, KafkaWriter] = {}
    for contract, record in records:
        version = len(contract.fields)
        if version not in writers:
            writers[version] = KafkaWriter(connect(settings.kafka_bootstrap, f"v{version}"), contract, "open-meteo", f"v{version}")
        assert writers[version].send(record)
    for writer in writers.values():
        writer.flush()


def drain(pipeline: Pipeline) -> list[BatchReport]:
    reports: list[BatchReport] = []
    driver = Driver("air_quality", pipeline.settings, reports.append, build=lambda: pipeline.domain, spark=pipeline.spark)
    driver.run(available_now=True)
    return reports


def checkpoints(settings: Settings) -> dict[str, tuple[str, int]]:
    """The id of each query, which a new checkpoint would change, and its last micro-batch."""
    folder = settings.home / "checkpoints"
    return {
        one.name: ((one / "metadata").read_text(), max(int(file.name) for file in (one / "commits").glob("[0-9]*")))
        for one in folder.iterdir()
    }


def test_additive_version_comes_in_under_both_producers_and_taking_it_back_is_refused(
    spark: SparkSession, kafka: Kafka, tmp_path: Path
) -> None:
    write_locations(tmp_path, ["a", "b"])
    settings = Settings(home=tmp_path, kafka_bootstrap=kafka.bootstrap)
    pipeline = Pipeline.open(spark, settings, topic="schema-change.hourly.v1")
    first = pipeline.domain
    second = with_ammonia(first)
    old, new = first.sources[0].contract, second.sources[0].contract

    # The driver of the first version meets messages of the second.
    publish(settings, ((new, reading("a", h, nh3=1.0 + h)) if h % 2 else (old, reading("a", h)) for h in range(30)))
    reports = drain(pipeline)
    assert sum(report.rows_out for report in reports if report.query == SILVER) == 30
    assert [report.unknown for report in reports if report.unknown] == [{"nh3": 15}]
    (named,) = collect(settings)["unknown_fields"]
    assert (named["domain"], named["field"], named["messages"]) == ("air_quality", "nh3", 15)
    values = pipeline.table(BRONZE)["value"].to_pylist()
    assert sum(b'"nh3":' in value for value in values) == 15 and len(values) == 30
    assert pipeline.table("ops.rejects").num_rows == 0
    pipeline.assert_gold_is_right()
    before = checkpoints(settings)

    # The driver of the second version goes on where the first stopped; a later word on an hour may come from either producer.
    pipeline.domain = second
    publish(settings, ((new, reading("a", h, nh3=1.0 + h)) if h % 2 else (old, reading("b", h)) for h in range(30, 60)))
    publish(settings, [(new, reading("a", 0, version=1, nh3=7.0)), (old, reading("a", 31, version=1)), (new, reading("a", 33, version=1))])
    reports = drain(pipeline)
    assert sum(report.rows_out for report in reports if report.query == SILVER) == 33
    after = checkpoints(settings)
    assert {name: (identity, last > before[name][1]) for name, (identity, last) in after.items()} == {
        name: (identity, True) for name, (identity, _) in before.items()
    }
    pipeline.assert_bronze_holds_the_topic()
    ammonia = {START + timedelta(hours=h): 1.0 + h for h in range(35, 60, 2)} | {START: 7.0}
    for name in (SILVER, FACT):
        rows = pipeline.table(name)
        assert rows.num_rows == 60
        assert {r["ts_utc"]: r["nh3"] for r in rows.to_pylist() if r["nh3"] is not None} == ammonia
        field = open_catalog(settings).load_table(name).schema().find_field("nh3")
        assert (field.doc, field.required) == ("ammonia [µg/m³]", False)
    # What came before has no value there, whatever its bytes hold; what came after has.
    assert sum(value is not None for value in pipeline.table(BRONZE)["nh3"].to_pylist()) == 16
    assert collect(settings)["unknown_fields"] == []
    pipeline.assert_gold_is_right(beyond=["nh3"])

    # Back to the first version: refused, and nothing is written.
    pipeline.domain = first
    publish(settings, [(old, reading("b", 70))])
    heads = {name: open_catalog(settings).load_table(name).metadata_location for name in (BRONZE, SILVER, FACT)}
    with pytest.raises(
        NarrowedSchema, match=r"field nh3: found an optional double before, expected none.*column nh3: found DOUBLE, expected none"
    ):
        drain(pipeline)
    assert {name: open_catalog(settings).load_table(name).metadata_location for name in heads} == heads
    assert checkpoints(settings) == after
    pipeline.domain = second
    drain(pipeline)
    pipeline.assert_bronze_holds_the_topic()
