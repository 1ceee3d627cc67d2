"""Does the page tell what is true now, also of parts that are dead, and at a bounded cost?"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pyiceberg.catalog.sql import SqlCatalog

from lakehouse.broker.topics import NoTopicYet
from lakehouse.domain_names import DOMAINS
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from monitoring import watch
from monitoring.freshness import CityHour, most_behind, read_cities, read_facts
from monitoring.lag import TopicLag
from monitoring.metrics import WATCHED
from monitoring.objectives import SourceFacts
from monitoring.watch import LEAST_SECONDS, MOST_SECONDS, REST, Look, Watch
from tests.support.pipeline import write_locations

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
INSTANT = pa.timestamp("us", tz="UTC")

DOMAIN = build_domain("air_quality", Settings())
FRESH = {one.table.name.removeprefix("lh.") for one in DOMAIN.fresh}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_locations(tmp_path, ["hue", "hanoi", "danang"])
    return Settings(home=tmp_path, metrics_cities=1)


@pytest.fixture
def catalog(settings: Settings) -> Iterator[SqlCatalog]:
    catalog = SqlCatalog("lh", uri=settings.catalog_uri, warehouse=settings.warehouse_uri)
    for layer in ("silver", "gold"):
        catalog.create_namespace(layer)
    yield catalog
    catalog.close()


def fill(catalog: SqlCatalog) -> None:
    def hour(before: int) -> datetime:
        return NOW - timedelta(hours=before)

    cities = ["hue", "hue", "hanoi", "atlantis"]
    columns = {
        "location_key": cities,
        "ts_utc": pa.array([hour(5), hour(3), hour(1), hour(99)], INSTANT),
        "retrieved_ts": pa.array([hour(2), hour(2), hour(1), hour(1)], INSTANT),
    }
    days = {"location_key": cities, "date_utc": pa.array([date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 2), date(2025, 1, 1)])}
    rows = {
        "silver.air_quality_hourly_clean": pa.table({**columns, "is_forecast": [False, True, False, False]}),
        "gold.fact_air_quality_hourly": pa.table(columns),
        "gold.fact_city_daily": pa.table(days),
    }
    for name, one in rows.items():
        catalog.create_table(name, schema=one.schema).append(one)


def page(watch: Watch) -> dict[tuple[str, frozenset[str]], float]:
    """Give what the page says, as a scraper reads it: name and label values."""
    registry = CollectorRegistry()
    registry.register(watch)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(sample.name, frozenset(sample.labels.values())): sample.value for family in families for sample in family.samples}


def of(found: dict[tuple[str, frozenset[str]], float], name: str) -> dict[frozenset[str], float]:
    return {labels: value for (one, labels), value in found.items() if one == name}


def test_freshness_is_the_age_of_the_newest_measured_hour_of_each_city(settings: Settings, catalog: SqlCatalog) -> None:
    fill(catalog)
    hours = read_cities(settings, DOMAIN, read_facts(settings))
    assert set(hours) == FRESH
    newest = {name: {one.city: one.newest_ts for one in found} for name, found in hours.items()}
    assert newest["silver.air_quality_hourly_clean"]["hue"] == NOW - timedelta(hours=5)  # a forecast is not measured
    assert newest["gold.fact_air_quality_hourly"]["hue"] == NOW - timedelta(hours=3)
    assert newest["gold.fact_city_daily"]["hue"] == datetime(2026, 1, 2, tzinfo=UTC)
    assert {one.city: one.retrieved_ts for one in hours["gold.fact_air_quality_hourly"]}["hanoi"] == NOW - timedelta(hours=1)


def test_page_names_the_cities_that_are_most_behind_and_counts_those_that_are_missing(settings: Settings, catalog: SqlCatalog) -> None:
    fill(catalog)
    found = page(Watch(settings, lambda: None, lambda: NOW))
    fact = "lh.gold.fact_air_quality_hourly"
    # danang has no row; atlantis is watched no more.
    assert of(found, "weir_city_freshness_seconds")[frozenset({fact, "hue"})] == 3 * 3600
    assert len(of(found, "weir_city_freshness_seconds")) == len(FRESH)
    assert of(found, "weir_table_freshness_seconds")[frozenset({fact})] == 3600
    assert of(found, "weir_table_worst_freshness_seconds")[frozenset({fact})] == 3 * 3600
    assert of(found, "weir_table_missing_cities")[frozenset({fact})] == 1
    assert of(found, "weir_table_rows")[frozenset({fact})] == 4


def test_ages_grow_between_two_looks(settings: Settings, catalog: SqlCatalog) -> None:
    fill(catalog)
    clock = [NOW]
    watch = Watch(settings, lambda: None, lambda: clock[-1])
    name = "weir_table_freshness_seconds"
    before = of(page(watch), name)
    clock.append(NOW + timedelta(hours=1))
    after = of(page(watch), name)
    assert [after[table] - before[table] for table in before] == [3600] * len(FRESH)


def test_upstream_grows_older_while_nobody_polls(settings: Settings) -> None:
    clock = [NOW]
    sources = {"open-meteo": SourceFacts("air_quality", upstream_changed=NOW - timedelta(hours=1)), "new": SourceFacts("kaggle")}
    watch = Watch(settings, lambda: None, lambda: clock[-1], lambda: sources)
    name, source = "weir_producer_upstream_age_seconds", frozenset({"open-meteo"})
    assert of(page(watch), name) == {source: 3600}
    clock.append(NOW + timedelta(hours=30))
    assert of(page(watch), name) == {source: 31 * 3600}


def test_a_topic_that_is_not_there_yet_is_no_broker_that_does_not_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_topic(*_: object) -> TopicLag:
        raise NoTopicYet("127.0.0.1:9", "x")

    monkeypatch.setattr(watch, "bronze_lag", no_topic)
    found = page(Watch(settings, lambda: "127.0.0.1:9", lambda: NOW))
    assert of(found, "weir_watch_known")[frozenset({"kafka"})] == 1
    assert of(found, "weir_query_lag_messages")[frozenset({DOMAIN.bronze_query})] == 0
    assert of(found, "weir_late_stage")[frozenset({"air_quality", "kafka"})] == 0


def test_what_is_not_known_has_no_sample_and_is_said(settings: Settings) -> None:
    found = page(Watch(settings, lambda: "127.0.0.1:9", lambda: NOW))
    known = of(found, "weir_watch_known")
    of_tables = ("kafka", "checkpoint", "tables", "cities", "proofs", "health")
    looks = (*of_tables, "cluster", "backfills", "sources", "states", "objectives")
    assert known == {frozenset({what}): int(what != "kafka") for what in looks}
    assert of(found, "weir_partition_lag_messages") == {}
    assert set(of(found, "weir_query_lag_messages")) == {frozenset({build_domain(name, settings).refine_query}) for name in DOMAINS}


def test_registering_looks_at_nothing_and_names_every_metric(settings: Settings) -> None:
    def never() -> str:
        raise AssertionError("was asked")

    watch = Watch(settings, never)
    assert {family.name for family in watch.describe()} == {watched.name for watched in WATCHED}
    CollectorRegistry().register(watch)


def test_of_a_thousand_cities_the_most_behind_are_told() -> None:
    hours = [CityHour(f"city{n:04}", NOW - timedelta(minutes=n)) for n in range(1000)]
    told = most_behind(hours, [one.city for one in hours if one.city != "city0999"], 3)
    assert [one.city for one in told] == ["city0998", "city0997", "city0996"]


def test_a_look_that_costs_much_is_still_repeated_soon_enough_for_an_alert() -> None:
    now, used, looks = 0.0, 0.0, []

    def ask() -> int:
        nonlocal now, used
        now, used = now + 5, used + 5
        looks.append(now)
        return len(looks)

    look = Look("tables", ask, lambda: now, lambda: used)
    while now < 300:
        look.found()
        now += 1
    assert max(later - earlier for earlier, later in pairwise(looks)) <= MOST_SECONDS + 6


def test_a_look_takes_a_bounded_share_of_the_processor() -> None:
    now, used, looks = 0.0, 0.0, 0

    def ask() -> int:
        nonlocal now, used, looks
        looks += 1
        now, used = now + 0.02, used + 0.02
        return looks

    look = Look("tables", ask, lambda: now, lambda: used)
    while now < 1000:
        look.found()
        now += 1
    assert used <= now / (1 + REST) + 0.04
    assert looks > 40


def test_a_look_that_fails_forgets_and_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    now, answers = 0.0, iter([1, None, 3])

    def ask() -> int:
        if (one := next(answers)) is None:
            raise OSError("gone")
        return one

    look = Look("tables", ask, lambda: now, lambda: 0.0)
    seen = []
    for _ in range(3):
        seen.append((look.found(), look.is_known))
        now += LEAST_SECONDS
    assert seen == [(1, True), (None, False), (3, True)]
