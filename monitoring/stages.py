"""What is known of each stage of a domain's pipeline? Put together from lags, states and polls, for `objectives.py` to judge."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lakehouse.domain import Domain
from monitoring.freshness import TableFacts
from monitoring.lag import Lag, TopicLag, whole_of
from monitoring.objectives import SourceFacts, StageFacts


@dataclass(frozen=True, slots=True)
class ReadTimes:
    """When lags were read. An age counts until then: what was on its way at that moment may have arrived since.

    Attributes:
        topics: those of bronze.
        rows: those of silver and gold.
    """

    topics: datetime
    rows: datetime


def stage_facts(
    domain: Domain,
    topics: Sequence[TopicLag] | None,
    rows: Sequence[Lag] | None,
    is_up: Mapping[str, bool],
    tables: Iterable[TableFacts],
    sources: Iterable[SourceFacts],
    read_ts: ReadTimes,
) -> StageFacts:
    """Put together what is known of a domain.

    Args:
        domain: which.
        topics: lag of bronze by topic; None where the broker cannot be asked.
        rows: lag of silver and gold by source; None where the checkpoint cannot be read.
        is_up: by query, whether it runs and holds no source back; empty without a driver.
        tables: of all domains.
        sources: of all domains.
        read_ts: when the lags were read.
    """
    facts = {f"lh.{one.name}": one for one in tables}
    silver = _newest(facts, (source.silver.name for source in domain.sources))
    gold = _newest(facts, (one.table.name for one in domain.derived))
    return StageFacts(
        sources=[one for one in sources if one.domain == domain.name],
        is_kafka_known=topics is not None,
        bronze_age=None if topics is None else whole_of(one.whole for one in topics).seconds(read_ts.topics),
        is_bronze_up=is_up.get(domain.bronze_query),
        silver_age=None if rows is None else whole_of(rows).seconds(read_ts.rows),
        is_silver_up=is_up.get(domain.refine_query),
        is_gold_behind=silver is not None and (gold is None or gold < silver),
    )


def delays(domain: Domain, topics: Sequence[TopicLag] | None, rows: Sequence[Lag] | None, read_ts: ReadTimes) -> dict[str, float | None]:
    """Return by topic the age of the oldest message that gold lacks [s]; None where it is not known.

    A row of bronze counts from its commit there, which is some second after its message arrived.
    """
    found: dict[str, float | None] = {}
    for number, topic in enumerate(source.contract.topic for source in domain.sources):
        behind = None if topics is None else next((one for one in topics if one.topic == topic), None)
        in_kafka = None if behind is None else behind.whole.seconds(read_ts.topics)
        ages = [in_kafka, None if rows is None else rows[number].seconds(read_ts.rows)]
        known = [age for age in ages if age is not None]
        found[topic] = max(known) if len(known) == len(ages) else None
    return found


def _newest(facts: Mapping[str, TableFacts], names: Iterable[str]) -> datetime | None:
    commits = [facts[name].last_commit_ts for name in names if name in facts]
    return max((one for one in commits if one is not None), default=None)
