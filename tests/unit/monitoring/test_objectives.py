"""Which stage is late, and which objective is missed? Pure judgements, and the file that declares them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.domain_names import DOMAINS
from lakehouse.registry import build_domain
from lakehouse.settings import Settings
from monitoring.freshness import TableFacts
from monitoring.lag import Lag, TopicLag
from monitoring.objectives import (
    LATE_SECONDS,
    STAGES,
    BadObjectives,
    Objective,
    SourceFacts,
    Stage,
    StageFacts,
    judge,
    late_stage,
    read_objectives,
)
from monitoring.stages import ReadTimes, delays, stage_facts

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
AT = ReadTimes(NOW, NOW)
OLD = LATE_SECONDS + 1
AIR = build_domain("air_quality", Settings())


@pytest.mark.parametrize(
    ("facts", "stage"),
    [
        (StageFacts(), None),
        (StageFacts(sources=[SourceFacts("d", is_upstream_late=True)]), "upstream"),
        (StageFacts(sources=[SourceFacts("d"), SourceFacts("d", is_late=True)]), "producer"),
        (StageFacts(sources=[SourceFacts("d", failing=1)]), "producer"),
        (StageFacts(is_kafka_known=False, bronze_age=None), "kafka"),
        (StageFacts(sources=[SourceFacts("d", is_late=True)], is_kafka_known=False), "kafka"),
        (StageFacts(bronze_age=OLD), "bronze"),
        (StageFacts(is_bronze_up=False), "bronze"),
        (StageFacts(bronze_age=OLD, silver_age=OLD, is_gold_behind=True), "bronze"),
        (StageFacts(is_silver_up=False), "silver"),
        (StageFacts(silver_age=OLD), "silver"),
        (StageFacts(silver_age=OLD, is_gold_behind=True), "gold"),
        # What is committed in silver and not yet in gold is normal for a moment.
        (StageFacts(silver_age=1.0, is_gold_behind=True), None),
        (StageFacts(bronze_age=None, silver_age=None, is_bronze_up=None, is_silver_up=None), None),
        # Upstream explains nothing that waits on this side.
        (StageFacts(sources=[SourceFacts("d", is_upstream_late=True)], silver_age=OLD), "silver"),
    ],
)
def test_the_first_stage_that_is_not_as_it_should_be_is_late(facts: StageFacts, stage: Stage | None) -> None:
    assert late_stage(facts) == stage


@given(st.builds(StageFacts, bronze_age=st.floats(0, 60), silver_age=st.floats(0, 60), is_kafka_known=st.booleans()))
def test_a_stage_is_late_only_where_something_is(facts: StageFacts) -> None:
    is_fine = facts.is_kafka_known and facts.is_bronze_up and facts.is_silver_up
    is_fine = is_fine and (facts.bronze_age or 0) <= LATE_SECONDS and (facts.silver_age or 0) <= LATE_SECONDS and not facts.sources
    assert (late_stage(facts) is None) == bool(is_fine) or facts.sources


def test_facts_of_a_domain_come_from_lags_states_and_commits() -> None:
    silver, gold = (one.silver.name.removeprefix("lh.") for one in AIR.sources), AIR.derived[0].table.name.removeprefix("lh.")
    tables = [TableFacts(next(silver), 1, 1, NOW), TableFacts(gold, 1, 1, NOW - timedelta(minutes=1))]
    topics = [TopicLag(AIR.sources[0].contract.topic, "", {0: Lag(3, 0, NOW - timedelta(seconds=5))})]
    sources = [SourceFacts("air_quality"), SourceFacts("kaggle", is_late=True)]
    facts = stage_facts(AIR, topics, [Lag(0)], {AIR.bronze_query: True}, tables, sources, AT)
    assert (facts.bronze_age, facts.silver_age) == (5.0, 0.0)
    assert (facts.is_bronze_up, facts.is_silver_up, facts.is_gold_behind) == (True, None, True)
    assert facts.sources == [sources[0]]
    assert not stage_facts(AIR, None, None, {}, [], [], AT).is_kafka_known


def test_a_delay_is_the_older_of_what_bronze_and_gold_lack_and_not_known_where_one_is_not() -> None:
    topic = AIR.sources[0].contract.topic
    kafka, rows = [TopicLag(topic, "", {0: Lag(3, 0, NOW - timedelta(seconds=5))})], [Lag(9, 0, NOW - timedelta(seconds=50))]
    assert delays(AIR, kafka, rows, AT) == {topic: 50.0}
    assert delays(AIR, None, rows, AT) == {topic: None}
    assert delays(AIR, kafka, None, AT) == {topic: None}


def objective(**more: object) -> Objective:
    base = {"name": "o", "domain": "d", "kind": "delay", "table": "gold.t", "within_seconds": 60, "target": 0.99}
    return Objective.model_validate({**base, **more})


@pytest.mark.parametrize(
    ("one", "seconds", "is_met"),
    [
        (objective(), 90.0, False),
        (objective(topics=("fast",)), 5.0, True),
        (objective(topics=("unknown",)), None, None),
        (objective(kind="entity"), 30.0, True),
        (objective(kind="entity", table="gold.other"), None, None),
    ],
    ids=["all topics", "one topic", "not known", "entity", "no such table"],
)
def test_an_objective_is_met_within_its_bound(one: Objective, seconds: float | None, is_met: bool | None) -> None:
    ages: dict[str, float | None] = {"fast": 5.0, "slow": 90.0} if "unknown" not in one.topics else {"unknown": None}
    (found,) = judge([one], {"d": ages}, {"gold.t": 30.0}, {"d": "silver"})
    assert (found.seconds, found.is_met, found.late) == (seconds, is_met, "silver")


def test_an_objective_of_a_domain_that_is_not_there_is_left_out() -> None:
    assert judge([objective()], {}, {}, {}) == []


def test_the_shipped_objectives_are_about_tables_and_topics_that_exist() -> None:
    domains = {name: build_domain(name, Settings()) for name in DOMAINS}
    for one in read_objectives(Settings()):
        domain = domains[one.domain]
        assert f"lh.{one.table}" in {derived.table.name for derived in domain.derived}
        assert set(one.topics) <= set(domain.topics)
        if one.kind == "entity":
            assert f"lh.{one.table}" in {fresh.table.name for fresh in domain.fresh}
    assert {one.domain for one in read_objectives(Settings())} == set(DOMAINS)
    assert len(STAGES) == 6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[objective]\n", "Expected"),
        ("[[objective]]\nname = 'a'\n", "objective.0.domain: Field required"),
        ("[[goal]]\n", "goal: Extra inputs are not permitted"),
        (
            "[[objective]]\nname = 'a'\ndomain = 'd'\nkind = 'delay'\ntable = 't'\nwithin_seconds = 1\ntarget = 1.5\n",
            "less than 1",
        ),
        (
            2 * "[[objective]]\nname = 'a'\ndomain = 'd'\nkind = 'delay'\ntable = 't'\nwithin_seconds = 1\ntarget = 0.5\n",
            "two objectives have the name 'a'",
        ),
    ],
    ids=["no TOML", "a field is missing", "another table", "a target of more than all", "two of one name"],
)
def test_a_file_that_cannot_be_read_is_said_with_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(BadObjectives, match=says):
        read_objectives(Settings(home=tmp_path, objectives_path=str(file)))
    with pytest.raises(BadObjectives, match="No such file"):
        read_objectives(Settings(home=tmp_path, objectives_path=str(tmp_path / "none")))
