"""How fresh must which table be, and which stage is late when it is not? The one judgement that `weir status`, metrics and alerts share.

The objectives are declared in `objectives.toml` beside this file, or in the file that WEIR_OBJECTIVES_PATH names.

**Which stage is late?** Data goes upstream -> producer -> kafka -> bronze -> silver -> gold. The first stage that is not as it should be is
named, since those behind it wait for it. It is found from what the tables, the broker and the polls say, so it is known while a driver
hangs or is dead.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lakehouse.errors import Fatal, LakehouseError
from lakehouse.settings import Settings

Stage = Literal["upstream", "producer", "kafka", "bronze", "silver", "gold"]
STAGES: tuple[Stage, ...] = ("upstream", "producer", "kafka", "bronze", "silver", "gold")
# A message that waits longer than this before a stage takes it: that stage is late.
LATE_SECONDS = 20.0
SHIPPED = Path(__file__).with_name("objectives.toml")


class BadObjectives(LakehouseError, Fatal):
    """The file of objectives cannot be read."""

    def __init__(self, file: Path, problem: str) -> None:
        super().__init__(f"{file}: {problem}. {SHIPPED.name} of weir shows the form; WEIR_OBJECTIVES_PATH names another file.")


class Objective(BaseModel):
    """One entry of the file; see there for what each field means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    domain: str
    kind: Literal["delay", "entity"]
    table: str
    topics: tuple[str, ...] = ()
    within_seconds: float = Field(gt=0)
    target: float = Field(gt=0, lt=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    objective: tuple[Objective, ...] = ()


def read_objectives(settings: Settings) -> tuple[Objective, ...]:
    """Read the objectives.

    Raises:
        BadObjectives: the file is not there, or holds something else.
    """
    file = Path(settings.objectives_path) if settings.objectives_path else SHIPPED
    try:
        found = _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))).objective
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadObjectives(file, str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise BadObjectives(file, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    names = [one.name for one in found]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise BadObjectives(file, f"two objectives have the name {min(doubled)!r}")
    return found


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of a source that is polled.

    Attributes:
        domain: whose data it has.
        is_upstream_late: whether its next run is overdue by its timetable.
        is_late: whether no poll has succeeded for two intervals.
        failing: entities that the last poll could not get.
        every_seconds: between two polls; None where none was noted.
        upstream_changed: when a poll saw a change of its values; None where none did.
        cursor: the oldest instant up to which one of its watched entities was published; None without one.
    """

    domain: str
    is_upstream_late: bool = False
    is_late: bool = False
    failing: int = 0
    every_seconds: float | None = None
    upstream_changed: datetime | None = None
    cursor: datetime | None = None


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What is known of a domain's pipeline. Ages in seconds; None where they are not known.

    Attributes:
        sources: that are polled for it.
        is_kafka_known: whether the broker answers.
        bronze_age: of the oldest message that bronze lacks.
        is_bronze_up: whether its query runs; None without a driver.
        silver_age: of the oldest row that silver and gold lack.
        is_silver_up: whether their query runs and holds no source back; None without a driver.
        is_gold_behind: whether silver has committed something that gold has not.
    """

    sources: Sequence[SourceFacts] = ()
    is_kafka_known: bool = True
    bronze_age: float | None = 0.0
    is_bronze_up: bool | None = True
    silver_age: float | None = 0.0
    is_silver_up: bool | None = True
    is_gold_behind: bool = False


def late_stage(facts: StageFacts) -> Stage | None:
    """Return the first stage that is not as it should be; None where all are.

    A broker that does not answer makes polls fail too, so it comes before the producer. A query that does not run is late at once, since
    whatever arrives waits for it.
    """
    if not facts.is_kafka_known:
        return "kafka"
    if any(one.is_late or one.failing for one in facts.sources):
        return "producer"
    if facts.is_bronze_up is False or _is_old(facts.bronze_age):
        return "bronze"
    if facts.is_silver_up is False:
        return "silver"
    if _is_old(facts.silver_age):
        return "gold" if facts.is_gold_behind else "silver"
    return "upstream" if any(one.is_upstream_late for one in facts.sources) else None


def _is_old(age: float | None) -> bool:
    return age is not None and age > LATE_SECONDS


@dataclass(frozen=True, slots=True)
class Judged:
    """An objective as it stands.

    Attributes:
        objective: which.
        seconds: the value that is compared with its bound; None where it is not known.
        late: the stage that is late in its domain, whether the objective is missed yet or not.
    """

    objective: Objective
    seconds: float | None
    late: Stage | None

    @property
    def is_met(self) -> bool | None:
        """Whether the value is within the bound; None where it is not known."""
        return None if self.seconds is None else self.seconds <= self.objective.within_seconds


def judge(
    objectives: Iterable[Objective],
    delays: Mapping[str, Mapping[str, float | None]],
    entities: Mapping[str, float],
    late: Mapping[str, Stage | None],
) -> list[Judged]:
    """Judge all objectives.

    Args:
        objectives: of the file; those of a domain that is not there are left out.
        delays: by domain and topic, the age of the oldest message that gold lacks [s].
        entities: by table without `lh.`, the age of the newest hour of the entity that is most behind [s].
        late: by domain, the stage that is late.
    """
    return [
        Judged(one, entities.get(one.table) if one.kind == "entity" else _delay(one, delays[one.domain]), late.get(one.domain))
        for one in objectives
        if one.domain in delays
    ]


def _delay(objective: Objective, by_topic: Mapping[str, float | None]) -> float | None:
    ages = [age for topic, age in by_topic.items() if not objective.topics or topic in objective.topics]
    known = [age for age in ages if age is not None]
    # Of one topic that cannot be read the delay is not known, however small the others' are.
    return max(known) if known and len(known) == len(ages) else None
